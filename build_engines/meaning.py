"""What a precision does to meaning: recall, equal error rate and identity of the tiny pack in FP32, FP16 and INT8.

    python -m build_engines.meaning [--precision int8] [--share 0.1]

The networks run as a plan would compute them: every rounding in its place, by ONNX Runtime without optimisations. All
figures but those of the clip are measured on drawings that no training and no calibration saw. Drawn faces only. A
swapper is judged by the embedder in FP32, so that it does not answer for what the embedder lost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from build_engines.flavour import BuildError
from build_engines.judge import Candidate, Precision
from build_engines.media import spread
from build_engines.samples import Samples, sample_clip
from build_engines.simulate import open_model
from build_engines.surgery import static_shapes
from models.model_files import ModelFile, find
from models.tiny import measure
from models.tiny.pack import Pack, overlaps

__all__ = [
    "PRECISIONS", "Measured", "Rounded", "all_of", "apart_from_calibration", "main", "meaning_of", "recall_on_clip",
    "rounded_pack",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Figures = dict[str, float]

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
ROLES = ("detector", "refiner", "embedder", "swapper")
_FRAMES = 32  # of the clip, to verify on; as many others to calibrate on
_DETECTOR_PX = 640  # the square that the pack letterboxes into
_VISIBLE = 0.5  # of a face, from which a person counts as there
_OVERLAP = 0.5
# samples at --share 1: half of the model card's and more
_SCENES, _IDENTITIES, _PAIRS = 300, 100, 200
# what is told of each measurement
_TOLD = {
    "detection": ("faces_32", "recall_32", "precision_32", "point_error_48"),
    "embedding": ("identities", "eer", "same_mean", "other_mean"),
    "swapping": ("pairs", "nearer_source", "cosine_source", "cosine_target", "face_psnr_db"),
}


@dataclass(frozen=True)
class Measured:
    """One precision: figures of meaning, and by role the worst output's PSNR, node counts and notes of the search."""

    precision: Precision
    figures: Figures
    drift_db: Figures
    layers: dict[str, dict[str, int]]
    notes: dict[str, dict[str, str | float]]


class Rounded:
    """A simulated network of batch 1 that answers like the pack's sessions, whatever the batch."""

    def __init__(self, model: Any) -> None:
        self.session = open_model(model)

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, F32]) -> list[F32]:
        """Outputs, in order, of each sample of the batch in turn; a detector's rows come from its one picture."""
        count = len(next(iter(feeds.values())))
        rows = [
            self.session.run(names, {name: value[i : i + 1] for name, value in feeds.items()}) for i in range(count)
        ]
        return [np.concatenate(outputs) for outputs in zip(*rows, strict=True)]


def rounded_pack(precision: Precision, say: Callable[[str], None]) -> tuple[Pack, Measured]:
    """(the tiny pack in this precision, what finding it told; its figures are still empty)."""
    files = {role: find(f"tiny_{role}") for role in ROLES}
    samples = Samples(sample_clip(), files, count=_FRAMES)
    pack, told = Pack(), Measured(precision, {}, {}, {}, {})
    for role, file in files.items():
        candidate = Candidate(role, file, precision, samples, say)
        own = candidate.typed({name: value.shape for name, value in samples.inputs(role)[0].items()})
        told.drift_db[role] = min(one.psnr_db for one in own.drift.values())
        told.layers[role], told.notes[role] = own.layers, own.notes
        setattr(pack, role, Rounded(candidate.simulated(_pack_shapes(file))))
    return pack, told


def meaning_of(precision: Precision, *, share: float = 1.0, say: Callable[[str], None] = lambda line: None) -> Measured:
    """All figures of one precision; `share` scales the number of samples."""

    def n(count: int) -> int:
        return max(8, round(count * share))

    pack, told = rounded_pack(precision, say)
    exact = Pack()
    found = {
        **_some(measure.detection(pack, n(_SCENES)), "detection"),
        **_some(measure.embedding(pack, n(_IDENTITIES)), "embedding"),
    }
    # the swapper of this precision, between an embedder that lost nothing
    exact.swapper = pack.swapper
    found.update(_some(measure.swapping(exact, n(_PAIRS), 2), "swapping"))
    found.update(recall_on_clip(pack, *_clip(n(100))))
    return Measured(precision, found, told.drift_db, told.layers, told.notes)


def recall_on_clip(pack: Pack, frames: Sequence[U8], truth: Sequence[F32]) -> Figures:
    """Share of the visible people whose box a detection meets with half its area; boxes [k, 4] in px for each frame."""
    hits = there = 0
    for frame, boxes in zip(frames, truth, strict=True):
        found = pack.detect(frame)
        there += len(boxes)
        hits += sum(bool(len(found.scores) and overlaps(box, found.boxes_xyxy).max() >= _OVERLAP) for box in boxes)
    return {"clip_frames": float(len(frames)), "clip_faces": float(there), "clip_recall": hits / max(there, 1)}


def all_of(
    precisions: Sequence[Precision] = PRECISIONS, *, share: float = 1.0, say: Callable[[str], None] = lambda line: None
) -> list[Measured]:
    """Each precision in turn."""
    return [meaning_of(precision, share=share, say=say) for precision in precisions]


def _pack_shapes(file: ModelFile) -> dict[str, tuple[int, ...]]:
    return static_shapes(file, {"n": 1, "w": _DETECTOR_PX, "h": _DETECTOR_PX})


def _some(figures: Figures, group: str) -> Figures:
    return {name: figures[name] for name in _TOLD[group]}


def apart_from_calibration(total: int, count: int) -> list[int]:
    """Numbers of frames of a clip of `total`, evenly spread over those that nothing was calibrated on."""
    left = sorted(set(range(total)) - set(spread(total, 2 * _FRAMES)[1::2]))
    return [left[index] for index in spread(len(left), count)]


def _clip(count: int) -> tuple[list[U8], list[F32]]:
    """(frames of the sample clip in RGB, boxes in px of who is visible in each)."""
    clip = sample_clip()
    known = np.load(clip.with_name("clip_truth.npz"))
    wanted = set(apart_from_calibration(len(known["box"]), count))
    frames, truth = [], []
    with av.open(str(clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
                truth.append(known["box"][index][known["visible"][index].reshape(-1) >= _VISIBLE])
    return frames, truth


def _table(measured: Sequence[Measured]) -> Table:
    table = Table(header_style="bold")
    table.add_column("tiny pack, drawn faces only")
    for one in measured:
        table.add_column(one.precision, justify="right")
    for name in measured[0].figures:
        table.add_row(name, *(f"{one.figures[name]:.4g}" for one in measured))
    for role in measured[0].drift_db:
        table.add_row(f"{role} dB", *(f"{one.drift_db[role]:.1f}" for one in measured))
        shares = (one.notes[role].get("int8_share_of_macs", 0.0) for one in measured)
        table.add_row(f"{role} INT8 of MACs", *(f"{float(share):.3f}" for share in shares))
    return table


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and the figures as one line of JSON; 2 where a precision drifts past a contract."""
    parser = argparse.ArgumentParser(
        prog="python -m build_engines.meaning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the samples; 1 takes minutes")
    chosen = parser.parse_args(arguments)
    console = Console()
    try:
        measured = all_of(
            chosen.precision or PRECISIONS,
            share=chosen.share,
            say=lambda line: console.print(line, highlight=False),
        )
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    console.print(_table(measured))
    print(json.dumps([vars(one) for one in measured]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
