"""The README's figures, written from profiles/measured/*.json: python -m tests.benchmark.readme_table

No number in the README is typed by hand; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "profiles" / "measured"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def load(name: str) -> dict[str, Any]:
    """One committed measurement."""
    loaded: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def table() -> str:
    """The README's block between its two markers."""
    flow, identity, memory = load("reference_flow"), load("sample_identity"), load("memory_1080p")
    overhead = load("profiler_overhead")
    at = flow["conditions"]
    ours = flow["ours_ms"]
    steps = ", ".join(f"{name} {ours[name]:.2f}" for name in ours)
    return "\n".join(
        [
            BEGIN,
            "| what | figure |",
            "|---|---|",
            f"| everything around the networks, 1080p, one face of {at['face_px']} px | "
            f"{flow['ours_total_ms']:.1f} ms ({steps}); the reference flow of roop and insightface takes "
            f"{flow['reference_total_ms']:.0f} ms, {flow['ratio']:.0f} times as long |",
            f"| sample clip, mean cosine to the source | {identity['before_to_source']:.2f} before, "
            f"{identity['after_to_source']:.2f} after |",
            f"| sample clip, mean cosine to the person who was there | {identity['before_to_target']:.2f} before, "
            f"{identity['after_to_target']:.2f} after |",
            f"| sample clip, faces nearer to the source than to the person | {identity['nearer_to_source']:.1%} |",
            f"| peak memory, 1080p, {memory['frames']} frames | {memory['peak_mb']:.0f} MB, "
            f"{memory['growth_bytes_per_frame']:.0f} bytes a frame of growth |",
            f"| profiling a frame, {overhead['spans_a_frame']} spans | {overhead['frame_us']:.0f} us; percentiles "
            f"right to {max(overhead['percentile_error'].values()):.1%} |",
            "",
            f"Medians of {at['frames']} frames, {at['threads']} shared cores ({at['processor']}), ONNX Runtime "
            f"{at['onnxruntime']}, OpenCV {at['opencv']}, {at['weights']}, commit {at['commit']}.",
            *yardsticks(),
            END,
        ]
    )


def yardsticks() -> list[str]:
    """Ours against the two ways of the open systems, by size and face count."""
    lines = [
        "",
        "| frame | ms around the networks: ours, (a), (b) | CPU ms of the whole frame: ours, (a), (b) |",
        "|---|---|---|",
    ]
    files = [load(name) for name in ("yardstick_tiny", "yardstick_twins")]
    for held, what in zip(files, ("", ", twins"), strict=True):
        for case in held["cases"]:
            faces = "1 face" if case["faces"] == 1 else f"{case['faces']} faces"
            cells = [f"{case['size_px'][1]}p, {faces}{what}"]
            for name, digits in (("around", 1), ("whole_cpu", 0)):
                told = ", ".join(f"{case[way]['sum'][name]:.{digits}f}" for way in ("ours", "a", "b"))
                times = [case[f"ours_faster_than_{way}"][name] for way in ("a", "b")]
                cells.append(f"{told}: {times[0]:.1f} and {times[1]:.1f} times ours")
            lines.append(f"| {' | '.join(cells)} |")
    at, twins = (held["conditions"] for held in files)
    return [
        *lines,
        "",
        "(a) the way of roop and facefusion, (b) the best open way known: same frames, faces, weights and threads, in "
        "one process; `python -m tests.benchmark.yardstick` says what each does, and what was left out in its favour. "
        f"The least of {at['frames']} frames (of {twins['frames']} for twins of det_10g and inswapper_128), at a load "
        f"of {at['load']:.0f} on {at['threads']} shared cores ({at['processor']}), ONNX Runtime {at['onnxruntime']}, "
        f"OpenCV {at['opencv']}, commit {at['commit']}.",
    ]


def main() -> None:
    """Rewrite the README's block."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(before + table() + after, encoding="utf-8")


if __name__ == "__main__":
    main()
