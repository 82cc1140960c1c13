"""The README's figures of lip-sync, from profiles/measured: python -m tests.benchmark.lipsync_table

No number is typed by hand. The block stands between two markers, as the one of readme_table does.
"""

from __future__ import annotations

from tests.benchmark.readme_table import load

__all__ = ["BEGIN", "END", "table"]

BEGIN, END = "<!-- lipsync: begin -->", "<!-- lipsync: end -->"
NAMES = {
    "ultralight_half": "Ultralight, half width, HuBERT (*)",
    "ultralight_hubert": "Ultralight, HuBERT (*)",
    "ultralight_wenet": "Ultralight, WeNet with its encoder",
    "wav2lip_96": "Wav2Lip, 96 px",
    "heygem_dinet_v1": "HeyGem's by its contract, at DINet's cost (*)",
    "dinet_mini_2": "the work of DH_live's DINet_mini 2.0 (not a pipeline)",
}
WAYS = ("without texture", "difference everywhere", "by agreement 24..96")


def table() -> str:
    """The block with both tables."""
    held, texture = load("lipsync_cost"), load("mouth_texture")
    at = held["conditions"]
    lines = [
        BEGIN,
        "| one core, ms of CPU time a frame | listen | in, crop, paste | network | whole | "
        "published steps: around the network, whole | a frame has | sound ahead; the original's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, one in held["pipelines"].items():
        ours = {name: values["p50"] for name, values in one["ours_ms"].items()}
        around = sum(ours.get(part, 0.0) for part in ("in and out", "crop", "paste"))
        published = {name: values["p50"] for name, values in one.get("published_ms", {}).items()}
        theirs = ""
        if published:
            theirs = f"{published['in and out'] + published['crop and paste']:.1f}, {published['whole']:.1f}"
        row = (
            NAMES[key], f"{ours['listen']:.1f}", f"{around:.1f}", f"{ours['generate']:.1f}", f"{ours['whole']:.1f}",
            theirs, f"{1000 / one['fps']:.0f} ms",
            f"{one['look_ahead_ms']:.0f} ms; {one['look_ahead_of_the_original_ms']}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(row)} |")
    cut = max(one.get("max_difference", 0) for one in held["pipelines"].values())
    lines += [
        "",
        f"Medians at 1280 x 720 with twins (published topology, random weights), {held['threads']} thread each, "
        f"{at['processor']}, ONNX Runtime {at['onnxruntime']}, OpenCV {at['opencv']}, load {at['load']:.0f}, commit "
        f"{at['commit']}; `python -m tests.benchmark.lipsync_cost`. (*) Without its speech encoder, which has no twin. "
        f"Largest difference of any code of any frame between sound at once and sound in pieces: {cut}.",
        "",
        "| PSNR of the mouth's rectangle, dB, drawn faces | " + " | ".join(WAYS) + " |",
        "|---|" + "---|" * len(WAYS),
    ]
    for case, ways in texture["psnr_db"].items():
        cells = [
            f"{ways[way]['all']:.1f} (skin {ways[way]['skin']:.1f}, mouth {ways[way]['mouth']:.1f})" for way in WAYS
        ]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    lines += [
        "",
        f"The truth is known there: {texture['people']} people with an open mouth, pasted into the same with a shut "
        "one; `python -m tests.benchmark.mouth_texture`.",
        END,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
