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
            *live(),
            *talking(),
            END,
        ]
    )


def live() -> list[str]:
    """What holds a live run, and what keeps a restored face still."""
    soak, governor, flicker = load("soak_live"), load("governor_response"), load("flicker")
    sound, memory = soak["av_offset"]["sound_early_ms"], soak["memory"]
    cases = {name: case["flicker_levels"] for name, case in flicker["cases"].items()}
    at, load_of = soak["conditions"], governor["conditions"]
    return [
        "",
        "| live | figure |",
        "|---|---|",
        f"| {soak['wall_s'] / 60:.0f} minutes of 720p25 over UDP, tiny pack, a stall of {soak['stall']['for_s']:.0f} s:"
        f" sound before picture at the output, least, median, most | {sound[0]:.1f}, {sound[1]:.1f}, {sound[2]:.1f} ms "
        f"(EBU R37: +5 to -15) |",
        f"| ... pictures out, dropped, missing but for the stall | {soak['frames']}, "
        f"{sum(soak['dropped'].values()) if isinstance(soak['dropped'], dict) else soak['dropped']}, "
        f"{soak['missing']['else']} |",
        f"| ... memory's slope | {memory['slope_kb_per_min']:.1f} kB a minute |",
        f"| the governor, load doubled | first step down after {governor['steps_down_after_frames'][0]} frames, within "
        f"the budget after {governor['within_budget_after_frames']} ({governor['within_budget_after_s']:.2f} s) |",
        f"| a still, restored face under noise: flicker, grey levels rms | {cases['no restorer']:.2f} without, "
        f"{cases['every frame']:.2f} in every frame, {cases['every 5th, with reuse']:.2f} in every 5th with reuse, "
        f"{cases['every 5th, without reuse']:.2f} without |",
        "",
        f"`python -m tests.soak.live --minutes 30 --stall 4` (load {at['load']:.0f}, commit {at['commit']}), `python "
        f"-m tests.benchmark.governor_response` (load {load_of['load']:.0f}), `python -m tests.benchmark.flicker`; "
        f"{at['threads']} shared cores ({at['processor']}), tiny pack (drawn faces only).",
    ]


def talking() -> list[str]:
    """Whether the mouth says what is heard, how soon, and for how long."""
    meaning, spoken, template = load("lipsync_meaning"), load("speak_10min"), load("template_cost")
    file, cost, jitter = spoken["file"], template["cost"], template["jitter"]["tiny_lipsync"]
    told = ", ".join(
        f"{one['language']} {one['correlation']:.3f} (lag {one['best_lag']})" for one in meaning["languages"]
    )
    silent = sum(one["silent_frames"] for one in meaning["languages"])
    shut = sum(one["shut_frames"] for one in meaning["languages"])
    soon = "; ".join(
        f"{name.partition(':')[0]} {one['first_moving_picture_ms']['median']:.0f} and "
        f"{one['picture_of_the_first_sample_ms']['median']:.0f} of {one['look_ahead_ms']:.0f}"
        for name, one in spoken["live"].items()
    )
    late = file["picture_late_by_minute_ms"]
    return [
        "",
        "| talking | figure |",
        "|---|---|",
        f"| mouth opening in the output against the true one, held-out languages, tiny pack: correlation, best lag in "
        f"frames | {told} |",
        f"| mouth shut in silence | {shut} of {silent} frames |",
        f"| frames with a px changed outside of the mouth's rectangle | {meaning['outside']['touched_outside']} of "
        f"{meaning['outside']['frames']} |",
        f"| {file['frames'] / 25 / 60:.0f} minutes on a template of 10 s: picture after sound by minute, least and "
        f"most | {min(late):.1f}, {max(late):.1f} ms |",
        f"| ... memory's growth | {file['memory_growth_bytes_a_frame']:.0f} bytes a frame |",
        f"| live, ms from a sentence's first sample: the mouth moves, the picture of that sample; of the model's "
        f"look-ahead | {soon} |",
        f"| preparing a template, CPU ms a picture of 1280 x 720; a still face's crop from frame to frame, raw and "
        f"smoothed | {cost['prepare_cpu_ms_a_picture']:.0f}; {jitter['still_raw_step_px']:.3f} and "
        f"{jitter['still_smoothed_step_px']:.3f} px |",
        "",
        f"The opening is read by a linear fit to drawings, whose own correlation is "
        f"{meaning['reader']['correlation']:.3f}. `python -m tests.benchmark.lipsync_meaning`, `python -m "
        f"tests.soak.speak` (load {spoken['conditions']['load']:.0f}), `python -m tests.benchmark.template_cost`.",
    ]


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
    from tests.benchmark import lipsync_table  # which loads by this module

    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for begin, end, block in (
        (BEGIN, END, table()),
        (lipsync_table.BEGIN, lipsync_table.END, lipsync_table.table()),
    ):
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + block + after
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
