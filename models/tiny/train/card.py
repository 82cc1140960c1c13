"""Writes CARD.md from card.json, so that no figure in it is typed by hand: python -m models.tiny.train.card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.tiny.pack import FOLDER
from models.tiny.train.crops import REFINER_TEMPLATE

_HEAD = """# The tiny pack: model card

Small networks that find, align, recognise, swap and sharpen **drawn faces only**, and make them speak. They were
trained from scratch on faces that `models/tiny/renderer` draws and on synthetic voices; no photograph, no person's
likeness and no published weights went into them. Nothing here was tried on a photograph, and nothing should be expected
of it there. They exist so that tests, demos and benchmarks can run the published contracts end to end on any machine,
with exact truth to compare with.

| file `tiny_*.onnx` | contract | input, RGB | output |
|---|---|---|---|
| `detector` | SCRFD, five points | `input.1` [1,3,H,W], multiples of 32, (x - 127.5) / 128 | {nine} |
| `refiner` | our own | `input` [N,3,96,96], (x - 127.5) / 128 | `points` [N,5,2], pixels of the crop |
| `embedder` | ArcFace | `input.1` [N,3,112,112], (x - 127.5) / 127.5 | `683` [N,512], not normalised |
| `swapper` | inswapper | `target` [N,3,128,128] 0..1; `source` [N,512] | `output` [N,3,128,128] 0..1 |
| `restorer` | GFPGAN, at 256 | `input` [N,3,256,256], (x - 127.5) / 127.5 | `output` of the same shape and range |
| `lipsync` | Wav2Lip | `mel` [N,1,80,16]; `image` [N,6,96,96] 0..1, BGR | `output` [N,3,96,96] 0..1, BGR |

Detector: scores after the sigmoid, boxes and points in units of the stride, two anchors a cell, anchor centre
(x * stride, y * stride), letterbox at the top left with zeros. Refiner: the crop is the least-squares similarity of the
five rough points to this template of a 96-pixel square (0.7 of the ArcFace template about its point (56, 66)):
{template}.
Embedder: least-squares similarity to the ArcFace 112 template. Swapper: the same template 8 pixels further right in
128; `source` = normalise(normalise(embedding) @ emap), `emap` being the last initializer, which no node reads (a fixed
rotation: leaving it out shows). Restorer: the swapper's template at twice its size. Lip-sync: the
lower face, by the template `tiny_lipsync`; its voices are synthetic.
Weights are stored in FP16 behind a Cast; arithmetic, inputs and outputs are FP32.

Thresholds that fit: detector score 0.5, suppression at IoU 0.4; same person above a cosine of {level:.2f}.
"""

_FIGURES = """
## Figures

Held-out drawings of the same renderer: other seeds, other identities, same ranges of pose, light, hair, glasses and
passing objects. Written by `python -m models.tiny.train.evaluate` into `card.json`; `tests/unit/test_tiny_pack.py`
measures a fixed part of them again and holds them to the bars.

| what | figure | bar | conditions |
|---|---|---|---|
"""

_TAIL = """
## Training

Data: drawn by `models/tiny/train/crops.py`, seeded by (seed, index), kept in the user's cache folder, never committed.
{machine}

| network | command | runs in order (steps, minutes, seed) |
|---|---|---|
{runs}

A run by the clock ends at another step on another machine, so weights are not bit-for-bit reproducible; data, network
and figures are. `--steps` makes a run independent of the clock; `--resume` and `--rate` continue one.

- Detector: anchors of about a face's size near its middle; quality-focal, distance-IoU and smooth-L1 losses.
- Refiner: five heat maps, soft argmax, smooth L1; crops shaken by up to a tenth of the eye distance a point.
- Embedder: regresses what shows of 26 identity parameters, then a fixed random map (192 linear, 320 Fourier features).
- Swapper: predicts a gain and an offset for each pixel of the target and areas coloured from the source; L1, L1 of
  detail and of local means, and the embedder's reading of the result against the source's true parameters. The same
  embedder measures it, which flatters that figure; the distance to the exact truth and the pose and mouth figures do
  not depend on it. Several runs, each from the last one's average: the loss and the network grew between them.
- Restorer: a correction found at a quarter of the side; L1 of pixels, of detail and of slopes. A third of what it
  saw is of the other look. Most swaps that it saw carry the target's own identity, whose sharp picture is exact.
- Lip-sync: an ear that tells six mouth shapes and a face that draws them learn apart, each from exact shapes; squares
  of the shapes and of their steps, L1 of pixels, of detail and of local means. Its runs: both halves; the face on from
  there; the ear anew with another window, and twice on from the run before.

## Limits

- Drawn faces of this renderer only. Another renderer, a photograph or a cartoon is outside what was measured.
- Detector figures are at 640 x 640 for faces from 32 pixels at the network's scale; smaller ones are found less often.
- The swap is measured on single pictures. Point noise of about 4 % of the eye distance was part of its training.
- Swapped faces are soft: tint, beard and brows arrive; freckles, moles, lip colour and eye size arrive weakly, and
  edges of brows and beards smear. Loss was still falling when the time was over.
- Teeth and the edge of an open chin are soft; the training of both halves ended long before its loss did. Lips follow
  sounds of synthetic voices; a real voice was not tried.
- The restorer sharpens what is there; +3 dB over soft drawings was wanted and is not reached, and edges that a swap
  has in the wrong place stay there. Its training began on swaps of an unfinished pack, which cost it half of its time.
- The embedder hardly reads the lightness of the iris and the tip of the nose; it was not asked to tell hair apart.
"""


def _rows(card: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What, figure, bar and conditions of every line of the table."""
    f = card["figures"]
    d, e, s, c, full = f["detection"], f["embedding"], f["swapping"], f["chain"], f["filling"]
    scenes = f"{d['scenes']:.0f} scenes, a third 1280x720 letterboxed to 640, a fifth indoors; score 0.5"
    people = f"{e['identities']:.0f} unseen identities x {e['images_each']:.0f} pictures"
    points = f"{d['points_48']:.0f} faces >= 48 px; of the projected eye distance, which shrinks with yaw"
    probed = f"nearest drawing of the truth; {s['probed']:.0f} pairs"
    return [
        (
            "detector: recall, faces >= 32 px",
            f"{d['recall_32']:.3f}",
            ">= 0.98",
            f"{d['faces_32']:.0f} faces; {scenes}",
        ),
        ("detector: precision, >= 32 px", f"{d['precision_32']:.3f}", ">= 0.97", "the same scenes; IoU 0.5"),
        ("detector: precision, all sizes", f"{d['precision_all']:.3f}", "-", "the same scenes"),
        ("detector: recall, 16 to 32 px", f"{d['recall_16_32']:.3f}", "-", f"{d['faces_16_32']:.0f} faces"),
        ("detector: recall, >= 200 px", f"{d['recall_200']:.3f}", "-", f"{d['faces_200']:.0f} faces"),
        ("detector: recall, face fills 640x480", f"{full['recall_640']:.3f}", "-", f"{full['pictures']:.0f} pictures"),
        ("the same, with a pass at 128", f"{full['recall_640_128']:.3f}", "-", "both passes pooled"),
        ("detector + refiner: mean point error", f"{100 * d['point_error_48']:.1f} %", "<= 8 %", points),
        ("detector + refiner: 95 % below", f"{100 * d['point_error_p95_48']:.1f} %", "-", "the same faces"),
        ("embedder: equal error rate", f"{100 * e['eer']:.2f} %", "<= 2 %", people),
        ("embedder: equal-error level", f"{e['eer_threshold']:.2f}", "-", "cosine"),
        ("embedder: cosine, same person", f"{e['same_mean']:.2f}", "-", f"5 % below {e['same_p5']:.2f}"),
        ("embedder: cosine, other person", f"{e['other_mean']:.2f}", "-", f"0.1 % above {e['other_p99_9']:.2f}"),
        ("chain: cosine, found to exact crop", f"{c['cosine_mean']:.3f}", "-", f"{c['faces']:.0f} faces >= 64 px"),
        ("swapper: nearer to source", f"{100 * s['nearer_source']:.1f} %", ">= 85 %", f"{s['pairs']:.0f} unseen pairs"),
        ("swapper: cosine to source", f"{s['cosine_source']:.2f}", "-", f"exact truth: {s['cosine_truth']:.2f}"),
        ("swapper: cosine to target", f"{s['cosine_target']:.2f}", "-", "the same pairs"),
        (
            "swapper: face PSNR to truth",
            f"{s['face_psnr_db']:.1f} dB",
            "-",
            f"no swap: {s['unswapped_psnr_db']:.1f} dB",
        ),
        ("swapper: change outside the face", f"{s['outside_mean_level']:.2f}", "-", "mean, levels of 255"),
        ("swapper: yaw error", f"{s['yaw_error_deg']:.2f} deg", "<= 1", f"grid of 0.5 deg; {probed}"),
        ("swapper: mouth opening, correlation", f"{s['mouth_correlation']:.3f}", ">= 0.75", f"grid of 0.1; {probed}"),
    ]


def _restored(card: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    r = card["figures"].get("restoring")
    if r is None:
        return []
    rows = []
    for key, words in (("soft", "soft drawings"), ("swap", "own swaps"), ("other_look", "soft, the other look")):
        bar = {"soft": ">= +1.2 dB", "swap": ">= +0.8 dB"}.get(key, "-")
        gain = f"+{r[f'{key}_gain_db']:.1f} dB" if r[f"{key}_gain_db"] >= 0 else f"{r[f'{key}_gain_db']:.1f} dB"
        before = f"{r[f'{key}_psnr_before_db']:.1f} to {r[f'{key}_psnr_after_db']:.1f} dB; {r['pictures']:.0f} pictures"
        rows.append((f"restorer: face PSNR, {words}", gain, bar, before))
        sharp = f"{r[f'{key}_sharpness_before']:.2f} to {r[f'{key}_sharpness_after']:.2f}"
        rows.append((f"restorer: sharpness, {words}", sharp, "-", "Laplacian's energy, of the truth's; medians"))
    for key, words, of in (("soft", "soft drawings", "the truth"), ("changed", "swaps", "the source")):
        moved = f"{r[f'{key}_cosine_before']:.3f} to {r[f'{key}_cosine_after']:.3f}"
        rows.append((f"restorer: cosine to {of}, {words}", moved, "-", "the same pictures"))
    kept = f"{r['changed_cosine_kept']:.3f}"
    rows.append(("restorer: cosine of before and after, swaps", kept, ">= 0.93", "the same pictures"))
    return rows


def _talking(card: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    t = card["figures"].get("talking")
    if t is None:
        return []
    read = f"read with an error of {t['reader_error']:.3f} eye distances, correlation {t['reader_correlation']:.3f}"
    each = ", ".join(f"{key[-2:]} {t[key]:.2f}" for key in sorted(t) if key.startswith("correlation_"))
    lags = sorted({round(t[key]) for key in t if key.startswith("lag_")})
    return [
        ("lip-sync: mouth opening, correlation", f"{t['correlation']:.3f}", ">= 0.85", f"unheard languages: {each}"),
        ("lip-sync: best lag, frames", ", ".join(map(str, lags)), "-", f"{t['frames']:.0f} frames at 25/s; {read}"),
        ("lip-sync: shut in silence", f"{100 * t['shut_in_silence']:.1f} %", ">= 99 %", "network alone, no gate"),
        ("lip-sync: step in a held vowel", f"{t['held_vowel_step']:.4f}", "-", "eye distances a frame; truth 0"),
        (
            "lip-sync: PSNR to the drawn mouth",
            f"{t['psnr_db']:.1f} dB",
            "-",
            f"the reference as it is: {t['reference_psnr_db']:.1f} dB",
        ),
        (
            "lip-sync: sharpness",
            f"{t['sharpness']:.2f}",
            "-",
            "energy of the Laplacian, of the truth's",
        ),
    ]


def _judged(card: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    s = card["figures"]["swapping"]
    if "judge_source" not in s:
        return []
    told = "by a second embedder that was in no loss"
    return [
        ("swapper: cosine to source, judged", f"{s['judge_source']:.2f}", "-", told),
        ("swapper: nearer to source, judged", f"{100 * s['judge_nearer_source']:.1f} %", "-", told),
    ]


_CPU = """Machine class: two shared cores of a server CPU with AVX-512 BF16, PyTorch 2.13, bfloat16
autocast, one or two threads, while other jobs ran on the same cores. No GPU was used."""


def _machine(card: dict[str, Any]) -> str:
    devices = sorted({str(run["device"]) for runs in card["training"].values() for run in runs})
    if devices == ["cpu"]:
        return _CPU
    return f"Machines: {', '.join(devices)}; bfloat16 autocast; the networks trained at the same time on one GPU."


def _runs(card: dict[str, Any]) -> str:
    rows = []
    for name, runs in card["training"].items():
        told = "; ".join(f"{r['steps']}, {r['minutes']}, {r['seed']}" for r in runs)
        rows.append(f"| {name} | `python -m models.tiny.train.{name}` | {told} |")
    return "\n".join(rows)


def text(card: dict[str, Any]) -> str:
    """The whole of CARD.md."""
    nine = "`score_8 score_16 score_32` [n,1], `bbox_*` [n,4], `kps_*` [n,10]"
    template = ", ".join(f"({x:.4f}, {y:.4f})" for x, y in REFINER_TEMPLATE)
    level = card["figures"]["embedding"]["eer_threshold"]
    rows = _rows(card) + _judged(card) + _restored(card) + _talking(card)
    for key, value in card["timings_1_thread"].items():
        rows.append(
            (
                f"{key.removesuffix('_ms')}: time",
                f"{value:.1f} ms",
                "-",
                "batch 1, one thread, ONNX Runtime, shared CPU",
            )
        )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    head = _HEAD.format(nine=nine, template=template, level=level)
    if "look" in card:
        head = head.replace("# The tiny pack: model card", f"# The tiny pack, {card['look']} look: model card")
    return head + _FIGURES + table + "\n" + _TAIL.format(runs=_runs(card), machine=_machine(card))


def write(folder: Path = FOLDER) -> None:
    """Reads card.json in a folder and writes CARD.md beside it."""
    (folder / "CARD.md").write_text(text(json.loads((folder / "card.json").read_text())))


if __name__ == "__main__":
    write()
