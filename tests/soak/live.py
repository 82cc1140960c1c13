"""A live run over UDP with everything real: the sample clip sent at 25 fps, swapped, sent on, received.

    python -m tests.soak.live [--seconds 60] [--profile tiny] [--bare] [--write FILE.json]

Sender, engine and receiver are processes of their own on this machine; numbers drawn into the pictures tell which came
out. With --bare the networks are left out: what decoding, handing over, encoding and sending cost by themselves.
Figures: frames in and out, drops by reason, packet in to packet out, sound against picture, resident memory.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmark.conditions import conditions
from tests.live_peer import Received, Receiver, free_port

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
RATE = 25

_ENGINE = """
import dataclasses, json, sys, time
import psutil
import engine
from profiles.profile import load_profile
profile, source, uri, target, bare = sys.argv[1:6]
if bare == "bare":
    from engine.pipeline import Pipeline
    Pipeline.begin = Pipeline.finish = lambda self, frame: frame
chosen = load_profile(profile)
chosen = dataclasses.replace(chosen, live=dataclasses.replace(chosen.live, read_timeout_s=1.0, reconnect_s=0.0))
process, seen, last = psutil.Process(), [], 0.0
def watch(at):
    global last
    if time.monotonic() - last > 0.5:
        last = time.monotonic()
        seen.append((last, process.memory_info().rss))
result = engine.run(chosen, source, uri, target, on_progress=watch)
print(json.dumps({"result": result.to_json(), "memory": seen}))
"""


def measure(seconds: float, profile: str, bare: bool) -> dict[str, Any]:
    """One run; raises where a process fails."""
    source, target = (f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}" for _ in range(2))
    receiver = Receiver(target, quiet_s=5)
    receiver.start()
    send = [sys.executable, "-m", "tests.live_peer", "send", source, "--clip", str(SAMPLE / "clip.mp4")]
    sender = subprocess.Popen([*send, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
    run = [sys.executable, "-c", _ENGINE, profile, str(SAMPLE / "source_1.png"), source, target]
    run.append("bare" if bare else "whole")
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    sender.communicate()
    receiver.join()
    told = json.loads(done.stdout.splitlines()[-1])
    return {
        "what": f"live run, UDP in and out, 1280x720 at {RATE} fps, {profile} profile",
        "sent_s": seconds,
    } | figures(told, receiver.received)


def figures(told: dict[str, Any], received: Received) -> dict[str, Any]:
    """What is kept of a run: from the engine's own account, and from what came out at the other end."""
    result, facts = told["result"], told["result"]["live"]
    at_s, held = np.array(told["memory"], dtype=np.float64).T
    late = len(held) // 5  # the first fifth warms up codecs and allocator arenas
    slope = _slope(at_s, held, late)
    numbers = received.numbers
    pictures_s = [stamp - number / RATE for number, stamp, _ in received.pictures]
    return {
        "fps_in": round(facts["pictures_in"] / result["wall_s"], 2),
        "fps_out": round(result["frames"] / result["wall_s"], 2),
        "wall_s": round(result["wall_s"], 1),
        "frames": result["frames"],
        "failed": result["failed"],
        "faces": result["faces"],
        "dropped": facts["dropped"],
        "decoder_errors": facts["decoder_errors"],
        "latency": result["stages"]["latency"],
        "stages": {
            name: result["stages"][name] for name in ("decode", "frame", "encode", "queue") if name in result["stages"]
        },
        "sound_leads_ms": facts["sound_leads_ms"],
        "packets": [facts["packets_in"], facts["packets_out"]],
        "received": len(numbers),
        "received_in_order": numbers == sorted(set(numbers)),
        "received_numbers_off": sum(number < 0 for number in numbers),
        # how far pictures lie from where their numbers say: 0 where no drop shifted anything
        "picture_stamp_spread_ms": round(1e3 * (max(pictures_s) - min(pictures_s)), 3),
        "memory_mb": round(float(held[-1]) / 1e6, 1),
        "memory_growth_bytes_per_s": round(slope, 1),
        "memory_growth_last_half_bytes_per_s": round(_slope(at_s, held, len(held) // 2), 1),
    }


def _slope(at_s: npt.NDArray[np.float64], held: npt.NDArray[np.float64], start: int) -> float:
    return float(np.polyfit(at_s[start:], held[start:], 1)[0]) if len(held) - start > 2 else 0.0


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    measured = measure(chosen.seconds, chosen.profile, chosen.bare) | {"conditions": conditions()}
    if chosen.write:
        chosen.write.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
