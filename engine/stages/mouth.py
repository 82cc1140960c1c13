"""mouth: a frame's mouth into the generator's pictures, through it with what was heard, and back into the frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Session
from engine.errors import ModelError, explain
from engine.frame import Buffer, Frame
from engine.stages.mouth_layout import layout_of, rim_mask, values_of
from kernels.launch import (
    PLACE_BACK,
    PLACE_FLOATS,
    PLACE_OPACITY,
    PLACE_RECTANGLE,
    PLACE_THERE,
    gather_rows_into,
    mouth_crop_into,
    mouth_join_into,
    mouth_paste_into,
)
from models.contract import Contract
from models.spec import Spec
from profiles.profile import Lipsync

__all__ = ["Mouth", "Places", "places_of"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Places:
    """Where the mouth is in each frame of a template: `values` float32 [count, PLACE_FLOATS], see launch_mouth."""

    values: F32

    def __len__(self) -> int:
        return len(self.values)


def places_of(
    crop_from_frame: F32, has_face: npt.NDArray[np.bool_], frame_px: tuple[int, int], changed_xywh_px: Sequence[float],
    *, boxes: bool,
) -> Places:  # fmt: skip
    """The places of matrices [count, 2, 3]. `changed_xywh_px`: the part of the crop that may change, in crop px.

    With `boxes` that is the whole crop, which is moved to the nearest edges of whole px inside the frame, as the
    originals cut it out; raises ModelError for a matrix that turns.
    """
    values = np.zeros((len(crop_from_frame), PLACE_FLOATS), np.float32)
    rows = np.flatnonzero(has_face)
    there = crop_from_frame[rows].astype(np.float64)
    if boxes and np.abs(there[:, (0, 1), (1, 0)]).max(initial=0.0) > 1e-6:
        raise ModelError(
            explain("lipsync.like", "upright boxes for original", "crops that turn with the face", "set it to ours")
        )
    back = _inverse(there)
    x, y, width, height = changed_xywh_px
    corners = np.array([[u, v, 1] for u in (x - 0.5, x + width - 0.5) for v in (y - 0.5, y + height - 0.5)])
    edges = corners @ back.transpose(0, 2, 1) + 0.5  # of px: px i reaches from i to i + 1
    low, high = edges.min(1), edges.max(1)
    if boxes:
        low = np.clip(np.floor(low + 0.5), 0, np.array(frame_px) - 1)
        high = np.clip(np.floor(high + 0.5), low + 1, frame_px)
        scale = (width, height) / (high - low)
        there = np.zeros_like(there)
        there[:, (0, 1), (0, 1)] = scale
        there[:, :, 2] = (0.5 - low) * scale - 0.5
        back = _inverse(there)
    else:
        # bilinear taps reach a px of the crop further, chroma a px of the frame; then whole pairs for chroma
        reach = np.sqrt(np.abs(np.linalg.det(back[:, :, :2])))[:, None] + 1.0
        low, high = np.floor((low - reach) / 2) * 2, np.ceil((high + reach) / 2) * 2
    values[rows, PLACE_BACK : PLACE_BACK + 6] = back.reshape(-1, 6)
    values[rows, PLACE_THERE : PLACE_THERE + 6] = there.reshape(-1, 6)
    values[rows, PLACE_RECTANGLE : PLACE_RECTANGLE + 2] = np.clip(low, 0, frame_px)
    values[rows, PLACE_RECTANGLE + 2 : PLACE_RECTANGLE + 4] = np.clip(high, 0, frame_px)
    return Places(values)


def _inverse(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of affine matrices [n, 2, 3]."""
    linear = np.linalg.inv(matrices[:, :, :2])
    return np.concatenate([linear, -linear @ matrices[:, :, 2:]], axis=2)


class Mouth:
    """The stages of one generator over `slots` frames, up to `batch` of them at once.

    `places` and the template's pictures are constants of the run. A frame brings one upload: its place, its opacity
    and what was heard (`condition_shape`), in memory of its slot.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        options: Lipsync,
        places: Places,
        condition_shape: tuple[int, ...],
        *,
        slots: int,
        batch: int = 1,
    ) -> None:
        contract = session.contract
        self.backend, self.session, self.options, self.places, self.batch = backend, session, options, places, batch
        self.layout = layout_of(contract)
        self.original = options.like == "original"
        self._allocate_pictures(contract)
        shape = condition_shape
        size = prod(shape)
        own = [backend.allocate(Spec("float32", (PLACE_FLOATS + size,))) for _ in range(slots)]
        self.place = [memory.rows(0, PLACE_FLOATS) for memory in own]
        self.heard = [_shaped(memory.rows(PLACE_FLOATS, size), (1, *shape)) for memory in own]
        self._own, self._brought = own, [np.zeros(PLACE_FLOATS + size, np.float32) for _ in own]
        if batch > 1:
            heard = backend.allocate(Spec("float32", (batch, *shape)))
            self._heard_rows = [heard.rows(0, count) for count in range(batch + 1)]
            self._first = backend.allocate(Spec("int32", (1,)))
        self.mask = self._mask(contract)

    def _allocate_pictures(self, contract: Contract) -> None:
        backend, (width, height) = self.backend, self.layout.size_px
        self.inputs: dict[str, Buffer] = {}
        self._pictures: dict[str, Buffer] = {}
        for name, held in self.layout.pictures.items():
            memory = backend.allocate(Spec("float32", (self.batch * len(held), 3, height, width)))
            self._pictures[name] = memory
            self.inputs[name] = _shaped(memory, (self.batch, 3 * len(held), height, width))
        self.outputs = backend.allocate(Spec("float32", (self.batch, 3, height, width)))
        self._made_values = values_of(contract.outputs[self.layout.output])
        self._values = {name: values_of(contract.inputs[name]) for name in self.layout.pictures}
        self._whole_values = values_of(contract.inputs[self._own_inputs()[0]])
        # the frame's own crop, where no input holds it; with the rim that the network does not see, in the original
        self._whole: Buffer | None = None
        if self.has_rim or not any("reference" in held for held in self.layout.pictures.values()):
            size = self.layout.crop_px if self.has_rim else (width, height)
            self._whole = backend.allocate(Spec("float32", (self.batch, 3, size[1], size[0])))
        pasted = self.layout.crop_px if self.has_rim else (width, height)
        self._weighed = backend.allocate(Spec("float32", (6, pasted[1], pasted[0])))

    @property
    def has_rim(self) -> bool:
        """Whether the crop's rim is pasted too: the original writes over all of it."""
        return self.original and self.layout.size_px != self.layout.crop_px

    def _own_inputs(self) -> list[str]:
        return [name for name, held in self.layout.pictures.items() if {"masked", "reference"} & set(held)]

    def _mask(self, contract: Contract) -> Buffer | None:
        """Where the picture counts; None for all of it to the last px, as the original has it."""
        facts, layout, width_height = contract.lipsync, self.layout, self.layout.size_px
        if facts is None or (self.original and facts.paste == "hard"):
            return None
        if self.original and facts.paste != "feather":
            wanted = "a published way to paste for lipsync.like original"
            raise ModelError(explain(contract.name, wanted, facts.paste, "set lipsync.like to ours"))
        drawn = layout.blank_xywh_px if layout.blank_xywh_px[2] else (0, 0, *width_height)
        feather = facts.feather_px or self.options.feather * min(drawn[2:])
        values = rim_mask(width_height, drawn, feather)
        mask = self.backend.allocate(Spec("float32", values.shape, layout="hw"))
        self.backend.upload(values, mask)
        return mask

    def bring(self, frame: Frame, row: int, condition: F32, opacity: float) -> None:
        """The frame's one upload: place `row` of the template, what was heard, how much of the mouth counts."""
        brought = self._brought[frame.slot]
        brought[:PLACE_FLOATS] = self.places.values[row]
        brought[PLACE_OPACITY] = opacity
        brought[PLACE_FLOATS:] = condition.reshape(-1)
        self.backend.upload(brought, self._own[frame.slot])

    def crop(self, frame: Frame, at: int = 0) -> None:
        """Fill entry `at` of the generator's inputs from the frame, sampled once."""
        for name in self._own_inputs():
            held = self.layout.pictures[name]
            halves = {one: self._pictures[name].rows(at * len(held) + i, 1) for i, one in enumerate(held)}
            whole = halves.get("reference")
            if whole is None and self._whole is not None and not self.has_rim:
                whole = self._whole.rows(at, 1)
            self._crop(frame, self.place[frame.slot], halves.get("masked"), whole, name)
        if self.has_rim and self._whole is not None:
            mouth_crop_into(
                self.backend, frame.view, self.place[frame.slot], whole=self._whole.rows(at, 1),
                crop_px=self.layout.crop_px, values=self._whole_values, bounded=True,
            )  # fmt: skip
        if self.batch > 1:
            size = prod(self.heard[0].shape)
            table, out = self.heard[frame.slot], self._heard_rows[self.batch].rows(at, 1)
            gather_rows_into(self.backend, _shaped(table, (1, size)), self._first, _shaped(out, (1, size)))

    def _crop(self, frame: Frame, place: Buffer, masked: Buffer | None, whole: Buffer | None, name: str) -> None:
        mouth_crop_into(
            self.backend,
            frame.view,
            place,
            masked=masked,
            whole=whole,
            crop_px=self.layout.crop_px,
            offset_px=self.layout.offset_px,
            blank_xywh_px=self.layout.blank_xywh_px,
            values=self._values[name],
            bounded=self.original and self.mask is None,
        )

    def keep(self, frame: Frame, number: int) -> None:
        """Keep the frame's crop as the template's picture `number`, counted from 1, for the whole run."""
        for name, held in self.layout.pictures.items():
            for i, one in enumerate(held):
                if one == f"picture {number}":
                    for at in range(self.batch):
                        whole = self._pictures[name].rows(at * len(held) + i, 1)
                        self._crop(frame, self.place[frame.slot], None, whole, name)

    def generate(self, frame: Frame, count: int = 1) -> None:
        """`count` mouths from the inputs; alone, with what the frame's own slot heard."""
        inputs, outputs = self._bound(frame.slot, count)
        self.session.run(inputs, outputs)

    def prepare(self, frame: Frame, counts: Sequence[int]) -> None:
        """Bind these counts ahead."""
        for count in counts:
            self.session.prepare(*self._bound(frame.slot, count))

    def _bound(self, slot: int, count: int) -> tuple[Mapping[str, Buffer], Mapping[str, Buffer]]:
        heard = self.heard[slot] if self.batch == 1 else self._heard_rows[count]
        pictures = {name: memory.rows(0, count) for name, memory in self.inputs.items()}
        return {**pictures, self.layout.condition: heard}, {self.layout.output: self.outputs.rows(0, count)}

    def paste(self, frame: Frame, at: int = 0) -> None:
        """Entry `at` of the mouths into the frame."""
        made, values, offset, whole = self.outputs.rows(at, 1), self._made_values, self.layout.offset_px, None
        if self.has_rim and self._whole is not None:
            made = self._whole.rows(at, 1)
            mouth_join_into(
                self.backend, self.outputs.rows(at, 1), made, offset_px=offset,
                generated_values=values, values=self._whole_values,
            )  # fmt: skip
            values, offset = self._whole_values, (0, 0)
        elif not self.original:
            whole = self._crop_of(at)
        mouth_paste_into(
            self.backend,
            made,
            self.place[frame.slot],
            frame.view,
            self._weighed,
            mask=self.mask,
            whole=whole,
            offset_px=offset,
            hard=self.mask is None,
            generated_values=values,
            whole_values=self._whole_values,
            texture=self.options.texture,
            alike=self.options.alike,
            unlike=self.options.unlike,
        )

    def _crop_of(self, at: int) -> Buffer:
        """The crop that entry `at` was made from."""
        if self._whole is not None:
            return self._whole.rows(at, 1)
        name = next(name for name, held in self.layout.pictures.items() if "reference" in held)
        held = self.layout.pictures[name]
        return self._pictures[name].rows(at * len(held) + held.index("reference"), 1)


def _shaped(buffer: Buffer, shape: tuple[int, ...]) -> Buffer:
    """The same memory under another shape."""
    return replace(buffer, spec=Spec(buffer.spec.dtype, shape), owner=buffer.owner.reshape(shape))
