"""A live run over UDP with everything real: the sample clip sent at 25 fps, swapped, sent on, received.

    python -m tests.soak.live [--seconds 60 | --minutes 30] [--stall 4] [--profile tiny] [--bare] [--write NAME]

Sender, engine and receiver are processes of their own on this machine; numbers drawn into the pictures tell which came
out, and a flash and a chirp every two seconds how far sound and picture lie apart (tests/av_marks.py). With --stall the
sender sends nothing for so many seconds in the middle of the run, and then all that it owes at once. With --bare the
networks are left out: what decoding, handing over, encoding and sending cost by themselves.

Figures: frames in and out, misses of the budget, drops by reason, packet in to packet out, A/V offset over time,
resident memory and its slope, what the governor did. With --write they go to profiles/measured/NAME.json, or to a path.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.av_marks import Offset, offsets_ms
from tests.benchmark.conditions import conditions
from tests.live_peer import Received, Receiver, free_port

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "models" / "tiny" / "sample"
RATE = 25
# EBU R37 for production: sound at most 5 ms before its picture, and 15 ms after it
EARLY_MS, LATE_MS = 5.0, 15.0
# what catches up after a stall comes as fast as it can be sent
_UDP = "?fifo_size=200000&overrun_nonfatal=1"

_ENGINE = """
import dataclasses, json, sys, time
import psutil
import engine
from profiles.profile import load_profile
profile, source, uri, target, bare, timeout_s = sys.argv[1:7]
if bare == "bare":
    from engine.pipeline import Pipeline
    Pipeline.begin = Pipeline.finish = lambda self, frame: frame
chosen = load_profile(profile)
live = dataclasses.replace(chosen.live, read_timeout_s=float(timeout_s), reconnect_s=0.0)
chosen = dataclasses.replace(chosen, live=live)
process, seen, last = psutil.Process(), [], 0.0
def watch(at):
    global last
    if time.monotonic() - last > 0.5:
        last = time.monotonic()
        seen.append((last, process.memory_info().rss))
result = engine.run(chosen, source, uri, target, on_progress=watch)
misses = {name: held.misses for name, held in result.timings.stages.items() if held.budget_ms}
print(json.dumps({"result": result.to_json(), "memory": seen, "misses": misses}))
"""


def measure(seconds: float, profile: str, bare: bool, stall_s: float = 0.0) -> dict[str, Any]:
    """One run; raises where a process fails."""
    source, target = (f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}" for _ in range(2))
    receiver = Receiver(target + _UDP, quiet_s=5 + stall_s, marks_at=RATE)
    receiver.start()
    stall_at_s = seconds // 2
    send = [sys.executable, "-m", "tests.live_peer", "send", source, "--clip", str(SAMPLE / "clip.mp4"), "--marks"]
    send += ["--seconds", str(seconds), "--stall", str(stall_s), "--at", str(stall_at_s)]
    load = os.getloadavg()[0]
    sender = subprocess.Popen(send, stdout=subprocess.PIPE, text=True)
    run = [sys.executable, "-c", _ENGINE, profile, str(SAMPLE / "source_1.png"), source + _UDP, target]
    run += ["bare" if bare else "whole", str(1.0 + stall_s)]
    try:
        done = subprocess.run(run, capture_output=True, text=True, check=False)
    finally:
        sender.kill()
        sender.communicate()
    if done.returncode:
        raise RuntimeError(f"live run: wanted exit code 0, got {done.returncode}; it said: {done.stderr[-2000:]}")
    receiver.join()
    told = json.loads(done.stdout.splitlines()[-1])
    return {
        "what": f"live run, UDP in and out, 1280x720 at {RATE} fps, {profile} profile",
        "sent_s": seconds,
        "stall": {"at_s": stall_at_s, "for_s": stall_s} if stall_s else None,
        "load_before": round(load, 2),
    } | figures(told, receiver.received, (stall_at_s, stall_s))


def figures(told: dict[str, Any], received: Received, stall: tuple[float, float]) -> dict[str, Any]:
    """What is kept of a run: from the engine's own account, and from what came out at the other end."""
    result, facts = told["result"], told["result"]["live"]
    numbers = received.numbers
    pictures_s = [stamp - number / RATE for number, stamp, _ in received.pictures]
    return {
        "fps_in": round(facts["pictures_in"] / result["wall_s"], 2),
        "fps_out": round(result["frames"] / result["wall_s"], 2),
        "wall_s": round(result["wall_s"], 1),
        "frames": result["frames"],
        "failed": result["failed"],
        "faces": result["faces"],
        "cuts": result["cuts"],
        "misses": told["misses"],
        "dropped": facts["dropped"],
        "missing": _missing(numbers, stall),
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
        "av_offset": av_offset(received),
        "governor": facts["governor"],
        "memory": memory(told["memory"]),
    }


def _missing(numbers: list[int], stall: tuple[float, float]) -> dict[str, int]:
    """Pictures that did not come out, between the first and the last that did: by the stall, and else."""
    at_s, for_s = stall
    gone = set(range(min(numbers), max(numbers) + 1)) - set(numbers)
    # a second longer than it took: what was owed comes in a burst
    by_stall = {number for number in gone if for_s and at_s - 1 <= number / RATE <= at_s + for_s + 1}
    return {"by_the_stall": len(by_stall), "else": len(gone - by_stall)}


def av_offset(received: Received) -> dict[str, Any]:
    """By how many ms sound comes before its picture at the output, over the run and minute by minute."""
    assert received.flashes is not None  # the receiver was asked to look for marks
    assert received.beeps is not None
    received.beeps.finish()
    found = offsets_ms(received.flashes.onsets_s, received.beeps.onsets_s)
    if not found:
        return {"flashes": 0, "flashes_dropped": received.flashes.lost, "beeps": len(received.beeps.onsets_s)}
    first = found[0].at_s
    minutes: dict[int, list[Offset]] = {}
    for one in found:
        minutes.setdefault(int((one.at_s - first) // 60), []).append(one)
    within = [-LATE_MS <= one.sound_early_ms <= EARLY_MS for one in found]
    return {
        "sound_early_ms": _spread(found),
        "by_minute_ms": {str(minute): _spread(held) for minute, held in minutes.items()},
        "within_r37": f"{sum(within)} of {len(within)}",
        "flashes": len(found),
        "flashes_dropped": received.flashes.lost,
        "beeps": len(received.beeps.onsets_s),
    }


def _spread(found: list[Offset]) -> list[float]:
    """[least, median, most]."""
    values = [one.sound_early_ms for one in found]
    return [round(value, 2) + 0.0 for value in (min(values), float(np.median(values)), max(values))]


def memory(seen: list[tuple[float, float]]) -> dict[str, float]:
    """Resident memory of the engine's process and its slope by least squares, once a fifth of the run has warmed up
    codecs and allocator arenas, and over the last half."""
    at_s, held = np.array(seen, dtype=np.float64).T
    return {
        "first_mb": round(float(held[len(held) // 5]) / 1e6, 1),
        "last_mb": round(float(held[-1]) / 1e6, 1),
        "most_mb": round(float(held.max()) / 1e6, 1),
        "slope_kb_per_min": round(_slope(at_s, held, len(held) // 5) * 60 / 1e3, 1),
        "slope_of_last_half_kb_per_min": round(_slope(at_s, held, len(held) // 2) * 60 / 1e3, 1),
    }


def _slope(at_s: npt.NDArray[np.float64], held: npt.NDArray[np.float64], start: int) -> float:
    return float(np.polyfit(at_s[start:], held[start:], 1)[0]) if len(held) - start > 2 else 0.0


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--minutes", type=float, help="instead of --seconds")
    parser.add_argument("--stall", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--write", metavar="NAME")
    chosen = parser.parse_args()
    seconds = 60 * chosen.minutes if chosen.minutes else chosen.seconds
    measured = measure(seconds, chosen.profile, chosen.bare, chosen.stall) | {"conditions": conditions()}
    if chosen.write:
        is_path = chosen.write.endswith(".json")
        path = Path(chosen.write) if is_path else ROOT / "profiles" / "measured" / f"{chosen.write}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
