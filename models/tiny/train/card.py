"""Writes CARD.md from card.json, so that no figure in it is typed by hand: python -m models.tiny.train.card."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from models.tiny.pack import FOLDER
from models.tiny.train.card_rows import GROUPS, MS, Card, reached, rows, value_of
from models.tiny.train.crops import REFINER_TEMPLATE

_HEAD = """# {title}

Small networks that find, align, recognise, swap, label and sharpen **drawn faces only**, and make them speak. They were
trained from scratch on faces that `models/tiny/renderer` draws and on synthetic voices; no photograph, no person's
likeness and no published weights went into them. Nothing here was tried on a photograph, and nothing should be expected
of it there. They exist so that tests, demos and benchmarks can run the published contracts end to end on any machine,
with exact truth to compare with.

| file `tiny_*.onnx` | contract | input, RGB | output | size |
|---|---|---|---|---|
{files}

Detector: scores after the sigmoid, boxes and points in units of the stride, two anchors a cell, anchor centre
(x * stride, y * stride), letterbox at the top left with zeros. Refiner: the crop is the least-squares similarity of the
five rough points to this template of a 96-pixel square (0.7 of the ArcFace template about its point (56, 66)):
{template}.
Embedder: least-squares similarity to the ArcFace 112 template. Swapper: the same template 8 pixels further right in
128; `source` = normalise(normalise(embedding) @ emap), `emap` being the last initializer, which no node reads (a fixed
rotation: leaving it out shows). {labels}Restorer: the swapper's template at twice its size. Lip-sync: the
lower face, by the template `tiny_lipsync`; its voices are synthetic.
Weights are stored in FP16 behind a Cast (`emap` without); arithmetic, inputs and outputs are FP32.

Thresholds that fit: detector score 0.5, suppression at IoU 0.4{same}.
"""
_LABELS = """Occluder: the swapper's template at twice its size; parser: at four times.
Points68: a crop in which the longer side of the face's box takes 195 of 256 pixels; x and y on a grid of 64 cells.
"""

_FIGURES = """
## Figures

Held-out drawings of the same renderer: other seeds, other identities, same ranges of pose, light, hair, glasses and
passing objects. Written by `python -m models.tiny.train.evaluate` into `card.json`, one group alone by `--only` and
{groups}.
`tests/unit/test_tiny_pack.py` measures a fixed part of them again and holds them to the bars; what was wanted of the
pack stands beside them.

| what | figure | bar | wanted | conditions |
|---|---|---|---|---|
"""

_PICTURES = """
## Pictures

Written by `python -m models.tiny.train.picture_file`; held-out drawings, the first of their seeds, not picked.

![Thirty-two people as the renderer draws them](sheet.jpg)

Source, target, output and truth of the first twelve pairs:

![Source, target, output and truth of twelve pairs](pairs.jpg)

Found faces (boxes of the truth white) and refined points:

![Scenes with found faces](scenes.jpg)

What the labelling networks see:

![Face, true and found classes, mask, 68 points](labels.jpg)

Soft, restored and true:

![Soft, restored and true faces](restored.jpg)

The losses of all runs:

![Loss of each network over the minutes of its last run](curves.png)
"""

_TRAINING = """
## Training

Data: drawn by `models/tiny/train/crops.py` and its neighbours, seeded by (seed, index), kept in the user's cache
folder, never committed. {machine}

| network | command | device | runs in order: minutes (steps; seed) | minutes in all |
|---|---|---|---|---|
{runs}

A run by the clock ends at another step on another machine, so weights are not bit-for-bit reproducible; data, network
and figures are. `--steps` makes a run independent of the clock; `--resume` and `--rate` continue one.

- Detector: anchors of about a face's size near its middle; quality-focal, distance-IoU and smooth-L1 losses.
- Refiner: five heat maps, soft argmax, smooth L1; crops shaken by up to a tenth of the eye distance a point.
- Embedder: regresses what shows of the identity parameters from a face and from its mirror picture, then a fixed random
  map of their mean (192 linear, 320 Fourier features), in which what is read well counts more.
  The judge is a second one, of other pictures and another start, that no loss ever asked; it is not part of the pack.
- Swapper: finds the target's 98 points (a rough guess of all, then the middle of a heat map around each: cross-entropy
  of cells, smooth L1), reads the colours at them, and from both where the source's identity would have them; that last
  part is learnt from exact points before any picture. It is told who the target is too, its pose, expression and light.
  Each drawn pair is learnt both ways, as the truth of a swap is also a target, and in a mirror.
  For the first part of a run it only reads. Then it paints, with the points drawn as lines and spread as coordinates
  of the face: a gain and an offset for each pixel, and areas that share one of each. L1, squares, the distance in
  decibels that the card tells, L1 of detail and of local means; late in a run also the energy of detail, of a whole
  face and three quarters of the truth's, the detail of colour and the embedder's reading of the result, through a lens
  of any softness lest it make grain, against the source's true parameters. That embedder's own figures flatter the
  swap; those by the judge, the distance to the exact truth and the pose and mouth figures do not depend on it.
  The packaged file's earlier runs, five on the classic look and five on this one, were of networks that read less; each
  took over what fitted of the one before. The last four are of the recipe's network. The first of them read alone in
  8 of its 84 minutes and learnt pairs one way; the slower losses joined in its 61st minute (the recipe says 0.55 of a
  run). The second learnt pairs both ways; the distance in decibels joined in its 8th minute, the slower losses in its
  75th, the mirror in its 105th; a pause ended it. In both, energy was asked of each small part of a face, with more
  weight in the first's last 12 minutes. The third is of three times the pairs; the slower losses joined in its 73rd
  minute, the lens in its 89th. The fourth goes on with less weight of the reading and more of energy and decibels, the
  recipe's weights.
  Detector, refiner and restorer began on the classic look too. The recipe that
  `python -m models train` follows, from nothing to the end, was not run as one.
- The matrices below their last layers are trained by Muon in the parser, in the 68 points, and in the last runs of
  swapper, embedder, restorer and occluder; everything else, and the other networks, by AdamW.
- Occluder, parser, 68 points: one small pyramid each; cross-entropy of pixels, the parser's rare classes weighted, and
  the overlap (Dice) of its classes; soft argmax of heat maps, smooth L1.
- Restorer: a correction found at a quarter of the side; L1 of pixels, of detail and of slopes. Most swaps that it saw
  carry the target's own identity, whose sharp picture is exact.
- Lip-sync: an ear that tells six mouth shapes and a face that draws them learn apart, each from exact shapes; squares
  of the shapes and of their steps, L1 of pixels, of detail and of local means. Its runs: both halves; the face on from
  there; the ear anew with another window, and twice on from the run before.
"""

_LIMITS = """
- Drawn faces of this renderer only. Another renderer, a photograph or a cartoon is outside what was measured.
- Detector figures are at 640 x 640; faces under 16 pixels at the network's scale are not counted by size at all.
- The swap is measured on single pictures. Point noise of about 4 % of the eye distance was part of its training.
- Swaps are soft where the two people differ most: freckles and moles arrive weakly, a target's full beard leaves a
  shadow, brows and beards are smooth where the truth has hairs, lashes and lids blur, and enlarged a fine grid shows in
  irises and the whites around them. A beard smears some pixels over the face's edge, which an occlusion mask
  (profiles `tiny_masked` and `tiny_sharp`) keeps off the background.
- The occlusion mask can take a thing of the colour of skin beside a face for an ear, such as a book of the sample clip.
- Lips follow sounds of synthetic voices; a real voice was not tried. Teeth and the edge of an open chin are soft.
- The restorer sharpens what is there; edges that a swap has in the wrong place stay there.
"""

_FILES = {
    "detector": (
        "SCRFD, five points",
        "`input.1` [1,3,H,W], multiples of 32, (x - 127.5) / 128",
        "`score_8 score_16 score_32` [n,1], `bbox_*` [n,4], `kps_*` [n,10]",
    ),
    "refiner": ("our own", "`input` [N,3,96,96], (x - 127.5) / 128", "`points` [N,5,2], pixels of the crop"),
    "embedder": ("ArcFace", "`input.1` [N,3,112,112], (x - 127.5) / 127.5", "`683` [N,512], not normalised"),
    "swapper": ("inswapper", "`target` [N,3,128,128] 0..1; `source` [N,512]", "`output` [N,3,128,128] 0..1"),
    "occluder": ("XSeg", "`input` [N,256,256,3] 0..1, BGR", "`output` [N,256,256,1], 1 where the face is seen"),
    "parser": (
        "BiSeNet, 19 classes",
        "`input` [N,3,512,512], ImageNet's mean and deviation",
        "`output` [N,19,512,512], logits",
    ),
    "points68": (
        "2dfan4",
        "`input` [N,3,256,256] 0..1, BGR",
        "`landmarks_xyscore` [N,68,3], `heatmaps` [N,68,64,64]",
    ),
    "restorer": (
        "GFPGAN, at 256",
        "`input` [N,3,256,256], (x - 127.5) / 127.5",
        "`output` of the same shape and range",
    ),
    "lipsync": (
        "Wav2Lip",
        "`mel` [N,1,80,16]; `image` [N,6,96,96] 0..1, BGR",
        "`output` [N,3,96,96] 0..1, BGR",
    ),
}
_CPU = """Machine class: two shared cores of a server CPU with AVX-512 BF16, PyTorch 2.13, bfloat16
autocast, one or two threads, while other jobs ran on the same cores. No GPU was used."""


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that appears under its name complete or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(card: Card) -> str:
    bars, wanted = card.get("bars", {}), card.get("wanted", {})
    lines = []
    for row in rows(card):
        figure = row.form.figure(value_of(card, row.name) or 0.0)
        bar, want = row.form.bar(bars.get(row.name)), row.form.bar(wanted.get(row.name))
        lines.append(_line((row.what, figure, bar, want, row.conditions)))
    for key, value in card.get("timings_1_thread", {}).items():
        what, how = f"{key.removesuffix('_ms')}: time", "batch 1, one thread, ONNX Runtime, shared CPU"
        lines.append(_line((what, MS.figure(value), "-", "-", how)))
    return "\n".join(lines)


def _classes(card: Card) -> str:
    """The parser's IoU by class, the worst first."""
    told = card["figures"].get("labelling", {})
    each = {key.removeprefix("parser_iou_"): value for key, value in told.items() if key.startswith("parser_iou_")}
    if not each:
        return ""
    words = ", ".join(
        f"{name.replace('_', ' ')} {each[name]:.2f}" for name in sorted(each, key=lambda name: each[name])
    )
    return "\n" + textwrap.fill(f"The parser's IoU by class, the worst first: {words}.", 120) + "\n"


def _failures(card: Card) -> str:
    """What was wanted and is not there, from the figures; then what no figure says."""
    wanted, lines = card.get("wanted", {}), []
    for row in rows(card):
        value = value_of(card, row.name)
        if row.name in wanted and value is not None and not reached(value, wanted[row.name]):
            lines.append(f"- {row.what}: {row.form.figure(value)}, wanted {row.form.bar(wanted[row.name])}.")
    if wanted:
        head = "Wanted and not reached:" if lines else "Every figure that was wanted is reached."
        lines = [head, *([""] if lines else []), *lines, "", "Beyond the figures:"]
    return "\n".join(["", "## Failures and limits", "", *lines]) + "\n" * bool(lines) + _LIMITS


def _files(card: Card) -> str:
    """One line a network of the pack, and their sizes where the card tells them."""
    sizes: Mapping[str, int] = card.get("sizes_bytes", {})
    there = [name for name in _FILES if name in (sizes or card["training"])]
    lines = [_line((f"`{name}`", *_FILES[name], f"{sizes[name] / 1e6:.2f} MB" if sizes else "-")) for name in there]
    if sizes:
        lines.append(_line(("all", "", "", "", f"{sum(sizes.values()) / 1e6:.2f} MB")))
    return "\n".join(lines)


def _machine(card: Card) -> str:
    devices = sorted({str(run["device"]) for runs in card["training"].values() for run in runs})
    if devices == ["cpu"]:
        return _CPU
    return f"Machines: {', '.join(devices)}; bfloat16 autocast; networks trained at the same time shared one."


def _runs(card: Card) -> str:
    lines = []
    for name, runs in card["training"].items():
        told = "; ".join(f"{run['minutes']} ({run['steps']}; {run['seed']})" for run in runs)
        devices = ", ".join(sorted({str(run["device"]) for run in runs}))
        lines.append(
            _line(
                (name, f"`python -m models train {name}`", devices, told, f"{sum(run['minutes'] for run in runs):.1f}")
            )
        )
    return "\n".join(lines)


def text(card: Card) -> str:
    """The whole of CARD.md."""
    title = f"The tiny pack, {card['look']} look: model card" if "look" in card else "The tiny pack: model card"
    level = value_of(card, "embedding.eer_threshold")
    head = _HEAD.format(
        title=title,
        files=_files(card),
        template=", ".join(f"({x:.4f}, {y:.4f})" for x, y in REFINER_TEMPLATE),
        labels=_LABELS if "labelling" in card["figures"] else "",
        same="" if level is None else f"; same person above a cosine of {level:.2f}",
    )
    pictures = _PICTURES if card.get("look") == "film" else ""
    training = _TRAINING.format(machine=_machine(card), runs=_runs(card))
    figures = _FIGURES.format(groups=", ".join(f"`{name}`" for name in GROUPS))
    return head + figures + _table(card) + "\n" + _classes(card) + pictures + training + _failures(card)


def write(folder: Path = FOLDER) -> None:
    """Reads card.json in a folder and writes CARD.md beside it."""
    write_whole(folder / "CARD.md", text(json.loads((folder / "card.json").read_text())).encode())


def main() -> None:
    """python -m models.tiny.train.card [--folder F]"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.train.card")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where card.json is")
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
