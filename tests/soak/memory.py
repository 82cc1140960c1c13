"""Memory over a long 1080p run, from file to file: peak, and whether it grows.

    python -m tests.soak.memory [--frames 3000] [--write FILE.json]

The sample clip is enlarged to 1080p once and its packets are repeated; the run is a process of its own, whose
resident memory is read after every 50th frame.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from tests.benchmark.conditions import conditions

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"

_CHILD = """
import resource, sys
import psutil
import engine
process, seen = psutil.Process(), []
def watch(at):
    if at.done % 50 == 0:
        seen.append(process.memory_info().rss)
result = engine.run("tiny", sys.argv[1], sys.argv[2], sys.argv[3], on_progress=watch)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(result.frames, result.faces, round(result.wall_s, 1), peak, *seen)
"""


def long_clip(target: Path, frames: int) -> Path:
    """An H.264 file of 1920 x 1080 and `frames` frames: the sample, enlarged, over and over."""
    once = target.with_suffix(".once.mp4")
    with av.open(str(SAMPLE / "clip.mp4")) as source, av.open(str(once), "w") as output:
        options = {"preset": "veryfast", "crf": "20"}
        stream = output.add_stream("libx264", rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for index, frame in enumerate(source.decode(video=0)):
            large = frame.reformat(width=1920, height=1080)
            large.pts, large.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(large))
        output.mux(stream.encode(None))
    written = rounds = 0
    with av.open(str(target), "w") as output:
        copy: av.VideoStream | None = None
        while written < frames:
            with av.open(str(once)) as source:
                template = source.streams.video[0]
                if copy is None:
                    copy = output.add_stream_from_template(template)
                tick = round(Fraction(1, 25) / cast(Fraction, template.time_base))
                for packet in source.demux(template):
                    if packet.dts is None or packet.pts is None or written == frames:
                        continue
                    packet.dts += rounds * 250 * tick
                    packet.pts += rounds * 250 * tick
                    packet.stream = copy
                    output.mux(packet)
                    written += 1
            rounds += 1
    once.unlink()
    return target


def measure(frames: int) -> dict[str, Any]:
    """Peak and growth of resident memory in bytes over one run."""
    with tempfile.TemporaryDirectory() as folder:
        clip = long_clip(Path(folder) / "long.mp4", frames)
        command = [sys.executable, "-c", _CHILD, str(SAMPLE / "source_1.png"), str(clip), str(Path(folder) / "out.mp4")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    done_frames, faces, wall_s, peak, *seen = done.stdout.split()
    held = np.array([int(value) for value in seen], dtype=np.float64)
    # the first fifth warms up codecs and allocator arenas; after it a line is fitted
    late = held[len(held) // 5 :]
    slope = float(np.polyfit(np.arange(len(late)) * 50, late, 1)[0]) if len(late) > 1 else 0.0
    return {
        "what": "resident memory of one run, 1920x1080, file to file, tiny profile",
        "frames": int(done_frames),
        "faces": int(faces),
        "wall_s": float(wall_s),
        "peak_mb": round(int(peak) / 1e6, 1),
        "first_mb": round(float(late[0]) / 1e6, 1),
        "last_mb": round(float(late[-1]) / 1e6, 1),
        "growth_bytes_per_frame": round(slope, 1),
    }


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    figures = {**measure(chosen.frames), "conditions": conditions()}
    if chosen.write:
        chosen.write.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
