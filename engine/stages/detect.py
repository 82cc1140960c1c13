"""detect: NV12 frame -> letterbox -> network -> Detections, with a second pass for faces that fill the frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.backends.base import Backend, Session
from engine.errors import ModelError, explain
from engine.frame import Buffer, Frame
from kernels.launch import (
    CANDIDATES_MAX,
    Candidates,
    CutState,
    Detections,
    cut_score_into,
    letterbox_into,
    letterbox_size,
    nms_into,
    reset_into,
    scrfd_decode_into,
)
from models.spec import Spec
from profiles.profile import Detect as DetectOptions

__all__ = ["Detect"]

# Cuts are seen in a picture of this side where the inputs of no pass are the same at every size.
_CUT_PX = 128


@dataclass(frozen=True, eq=False)
class _Place:
    """The network's input, the size of the picture in it, and input px for a frame px."""

    size_px: tuple[int, int]
    fit_px: tuple[int, int]
    scale: float


@dataclass(frozen=True, eq=False)
class _Pass(_Place):
    """One run of the network: its input and its outputs; without outputs, a picture that no network sees."""

    image: Buffer
    outputs: dict[str, Buffer]


class Detect:
    """Boxes and points of one frame's faces, in pixels of the frame, and whether the frame begins a new scene.

    The input is trimmed to the picture: rows that would only hold padding, beyond the next multiple the
    contract asks for, are not computed. The second pass exists because SCRFD scores faces that fill the frame
    low at 640 px; both passes share one suppression.

    It runs at the profile's size, or at one of `other_px`, as each call says: everything that follows is shared, and
    cuts are seen in a picture that all sizes have in common, so that going from one to another is no cut.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        options: DetectOptions,
        frame_px: tuple[int, int],
        cut_threshold: float,
        other_px: Sequence[int] = (),
    ) -> None:
        facts = session.contract.detector
        assert facts is not None  # the contract's loader refuses a detector without them
        self.backend, self.session, self.facts = backend, session, facts
        self.spec = session.contract.inputs["image"]
        self.threshold = options.score_threshold or facts.score_threshold
        self.iou_threshold = options.iou_threshold or facts.iou_threshold
        self.cut_threshold = cut_threshold
        self._planned: dict[tuple[int, int], _Pass] = {}
        self.size_px = options.size_px
        self.passes = self._plan_all((options.size_px, options.second_pass_px), frame_px)
        self._passes_at = {options.size_px: self.passes}
        for size in other_px:
            if size not in self._passes_at:
                self._passes_at[size] = self._plan_all((size, options.second_pass_px), frame_px, exact=True)
        self._cut_pass = self._in_common(frame_px)
        self.candidates = Candidates(
            scores=backend.allocate(Spec("float32", (CANDIDATES_MAX,))),
            indices=backend.allocate(Spec("int32", (CANDIDATES_MAX,))),
            boxes=backend.allocate(Spec("float32", (CANDIDATES_MAX, 4))),
            points=backend.allocate(Spec("float32", (CANDIDATES_MAX, 5, 2))),
            counters=backend.allocate(Spec("int32", (4,))),
        )
        rows = options.max_detections
        self.box_px = backend.allocate(Spec("float32", (rows, 4)))
        self.points_px = backend.allocate(Spec("float32", (rows, 5, 2)))
        self.score = backend.allocate(Spec("float32", (rows,)))
        self.count = backend.allocate(Spec("int32", (1,)))
        self.best_score = backend.allocate(Spec("float32", (1,)))
        self.detections = Detections(self.box_px, self.points_px, self.score, self.count, self.best_score)
        self._cut_words = backend.allocate(Spec("int32", (4,)))
        self.cut = CutState(backend.allocate(Spec("uint8", (64, 64))), self._cut_words)

    @property
    def other_bytes(self) -> int:
        """Bytes of inputs and outputs that only the other sizes use."""
        others = {one for one in (*self._planned.values(), self._cut_pass) if one not in self.passes}
        return sum(one.image.nbytes + sum(output.nbytes for output in one.outputs.values()) for one in others)

    def prepare(self) -> None:
        """Bind every pass of every size ahead."""
        for one in self._planned.values():
            self.session.prepare({"image": one.image}, one.outputs)

    def __call__(self, frame: Frame, size_px: int = 0) -> None:
        """Fill `detections` and `cut` from one frame, at the profile's size or another that was planned for."""
        facts = self.facts
        passes = self._passes_at[size_px or self.size_px]
        reset_into(self.backend, self.candidates)
        if self._cut_pass not in passes:
            self._letterbox(frame, self._cut_pass)
            self._score_cut(self._cut_pass)
        for index, one in enumerate(passes):
            self._letterbox(frame, one)
            if one is self._cut_pass:
                self._score_cut(one)
            self.session.run({"image": one.image}, one.outputs)
            scrfd_decode_into(
                self.backend,
                [one.outputs[f"score_{stride}"] for stride in facts.strides],
                [one.outputs[f"bbox_{stride}"] for stride in facts.strides],
                [one.outputs[f"kps_{stride}"] for stride in facts.strides],
                self.candidates,
                strides=facts.strides,
                anchors_per_cell=facts.anchors,
                input_size=one.size_px,
                threshold=self.threshold,
                det_scale=one.scale,
                pass_index=index,
            )
        nms_into(self.backend, self.candidates, self.detections, iou_threshold=self.iou_threshold)

    def forget(self) -> None:
        """Forget the last picture, so that the next frame is the first again."""
        self.backend.upload(np.zeros(4, dtype=np.int32), self._cut_words)

    def _letterbox(self, frame: Frame, one: _Pass) -> None:
        letterbox_into(
            self.backend,
            frame.view,
            one.image,
            fit=one.fit_px,
            mean=self.spec.mean_by_channel,
            std=self.spec.std_by_channel,
            order=self.spec.colour or "rgb",
            pad=(self.facts.pad_value,) * 3,
        )

    def _score_cut(self, one: _Pass) -> None:
        cut_score_into(
            self.backend,
            one.image,
            self.cut,
            fit=one.fit_px,
            mean=self.spec.mean_by_channel,
            std=self.spec.std_by_channel,
            order=self.spec.colour or "rgb",
            threshold_levels=self.cut_threshold,
        )

    def _plan_all(self, sizes_px: Iterable[int], frame_px: tuple[int, int], *, exact: bool = False) -> list[_Pass]:
        """A pass for each size but 0. `exact`: the first must be the size that was asked for, or ModelError."""
        passes: list[_Pass] = []
        for at, size in enumerate(sizes_px):
            # a file or plan of one size runs at that size, and a second pass at the same size finds nothing new
            if not size or (place := self._fit(size, frame_px)).size_px in [one.size_px for one in passes]:
                continue
            if exact and at == 0:
                self._refuse_other_size(size, frame_px, place.size_px)
            if place.size_px not in self._planned:
                self._planned[place.size_px] = self._plan(place)
            passes.append(self._planned[place.size_px])
        return passes

    def _refuse_other_size(self, size_px: int, frame_px: tuple[int, int], got_px: tuple[int, int]) -> None:
        step = self.spec.multiple_of
        fit_width, fit_height, _ = letterbox_size(*frame_px, size_px, size_px)
        wanted = (-(-fit_width // step) * step, -(-fit_height // step) * step)
        if got_px != wanted:
            raise ModelError(
                explain(
                    f"governor.rungs, detect_size_px = {size_px}",
                    f"{self.session.contract.name} at {wanted[0]}x{wanted[1]} px",
                    f"a file or plans for {got_px[0]}x{got_px[1]} px",
                    "build the rung's plans (python -m build_engines, with --size of the input), or leave the rung out",
                )
            )

    def _in_common(self, frame_px: tuple[int, int]) -> _Pass:
        """The first pass that every size has; failing that a small picture of its own."""
        for one in self.passes:
            if all(one in passes for passes in self._passes_at.values()):
                return one
        width, height, scale = letterbox_size(*frame_px, _CUT_PX, _CUT_PX)
        image = self.backend.allocate(self.spec.at(h=_CUT_PX, w=_CUT_PX))
        return _Pass((_CUT_PX, _CUT_PX), (width, height), scale, image, {})

    def _fit(self, size_px: int, frame_px: tuple[int, int]) -> _Place:
        """Where a frame scaled to this size lies in the network's input, trimmed to what the session runs."""
        step = self.spec.multiple_of
        fit_width, fit_height, scale = letterbox_size(*frame_px, size_px, size_px)
        width, height = (-(-side // step) * step for side in (fit_width, fit_height))
        shape = self.session.fit("image", (1, 3, height, width))
        if shape[2:] != (height, width):
            height, width = shape[2:]
            fit_width, fit_height, scale = letterbox_size(*frame_px, width, height)
        return _Place((width, height), (fit_width, fit_height), scale)

    def _plan(self, place: _Place) -> _Pass:
        width, height = place.size_px
        image = self.backend.allocate(self.spec.at(h=height, w=width))
        outputs = {
            name: self.backend.allocate(spec.at(**{f"rows_{stride}": self._rows(width, height, stride)}))
            for stride in self.facts.strides
            for name, spec in self.session.contract.outputs.items()
            if name.endswith(f"_{stride}")
        }
        return _Pass(place.size_px, place.fit_px, place.scale, image, outputs)

    def _rows(self, width: int, height: int, stride: int) -> int:
        return -(-width // stride) * -(-height // stride) * self.facts.anchors
