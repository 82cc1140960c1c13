"""enhance: a restorer on the pasted faces of every n-th frame; between them, what it changed is added again.

It looks at the frame behind paste, as the known systems do: its template shows more of the head than a swapper's
crop holds, one way serves every swapper and lip-sync generator, and it restores what is seen, the seam included. It
writes no picture back but the change alone (the restored crop less the crop, under the restorer's own mask): a frame
keeps its own detail where a large face was cropped small, and a frame that is restored and one that is not go through
the same last kernel, so that no step shows between them.

With an occlusion mask it restores, as facefusion does, only what is seen of the face: what a hand hides has no change
of its own, and a change of the hand's must not be added where the hand no longer is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Session
from engine.frame import Buffer, Frame, held_buffer
from engine.stages.crop import Crop
from engine.stages.seen import Occlusion
from kernels.launch import (
    Pixels,
    Placed,
    Residuals,
    Triple,
    add_residual_into,
    box_mask_into,
    keep_residual_into,
    min_masks_into,
    weigh_residual_into,
)
from models.facts import PasteFacts
from models.spec import Spec

__all__ = ["Enhance"]


class Enhance:
    """Restores the faces of a frame, or adds what the last restored frame changed on the same tracks.

    `way` says how the restorer's crop is cut and pasted, `blend` (0..1) how much of its change is added. `track_slots`
    is the number of track slots: 16 S^2 bytes are kept for each, S the side of the crop. `rectangles[k]` int32 [k, 4]
    holds x0, y0, x1, y1 px of the last call, ends excluded; `weights[k]` float32 [k] how much of the change held.
    `occluder` is the network of the occlusion mask, where the profile has one.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        way: PasteFacts,
        blend: float,
        capacity: int,
        track_slots: int,
        occluder: Session | None = None,
    ) -> None:
        self.backend, self.session, self.blend = backend, session, blend
        border = _border(way)
        self.crop = Crop(backend, session.contract, "image", capacity, template=way.template, border=border)
        size_px, output = self.crop.size_px, session.contract.outputs["output"]
        made = backend.allocate(Spec("float32", (capacity, 3, *output.shape[-2:]), layout="nchw"))
        self.outputs = [made.rows(0, k) for k in range(capacity + 1)]
        self.mask = _mask(backend, way, size_px)
        self.occlusion = Occlusion(backend, occluder, self.crop, capacity) if occluder is not None else None
        self.residuals = Residuals(
            kept=backend.allocate(Spec("float32", (track_slots, size_px, size_px, 4))),
            poses=backend.allocate(Spec("float32", (track_slots, 12))),
            owners=backend.allocate(Spec("int32", (track_slots,))),
        )
        weights = backend.allocate(Spec("float32", (capacity,)))
        rectangles = backend.allocate(Spec("int32", (capacity, 4)))
        self.weights = [weights.rows(0, k) for k in range(capacity + 1)]
        self.rectangles = [rectangles.rows(0, k) for k in range(capacity + 1)]
        self._before, self._after = _pixels(self.crop.spec), _pixels(output)

    def prepare(self, face_counts: Sequence[int]) -> None:
        """Bind these face counts ahead."""
        for k in face_counts:
            self.session.prepare({"image": self.crop.inputs[k]}, {"output": self.outputs[k]})
        if self.occlusion is not None:
            self.occlusion.prepare(face_counts)

    def forget(self) -> None:
        """What is kept belongs to nobody any more."""
        owners = held_buffer(self.residuals.owners)
        self.backend.upload(np.zeros(owners.shape, np.int32), owners)

    def __call__(self, frame: Frame, k: int, *, restore: bool) -> None:
        """Run the restorer on the first k faces and keep what it changes; else take what is kept. Add it."""
        faces, crop = frame.faces, self.crop
        placed = Placed(
            faces.points, faces.slots, faces.track_ids, faces.count, crop.crop_from_frame, crop.frame_from_crop
        )
        if restore:
            image = crop(frame, k)
            self.session.run({"image": image}, {"output": self.outputs[k]})
            keep_residual_into(
                self.backend,
                image,
                self.outputs[k],
                self._masks(frame, k),
                placed,
                self.residuals,
                colour=frame.view.colour,
                before=self._before,
                after=self._after,
            )
        else:
            crop.fit(faces.points, faces.count)
        weigh_residual_into(
            self.backend,
            frame.view,
            placed,
            self.residuals,
            self.weights[k],
            template_px=crop.template_px,
            fresh=restore,
        )
        add_residual_into(
            self.backend, frame.view, placed, self.residuals, self.weights[k], self.rectangles[k], blend=self.blend
        )

    def _masks(self, frame: Frame, k: int) -> Buffer:
        """The restorer's own mask for all faces, or [k, S, S] with what is seen of each."""
        if self.occlusion is None:
            return self.mask
        seen = self.occlusion(frame, k)
        min_masks_into(self.backend, [self.mask, seen], seen)
        return seen


def _border(way: PasteFacts) -> Literal["replicate"] | Triple:
    if way.border != "constant":
        return "replicate"
    blue, green, red = way.border_bgr
    return red, green, blue


def _pixels(spec: Spec) -> Pixels:
    return Pixels(spec.mean_by_channel, spec.std_by_channel, spec.colour or "rgb")


def _mask(backend: Backend, way: PasteFacts, size_px: int) -> Buffer:
    mask = backend.allocate(Spec("float32", (size_px, size_px), layout="hw"))
    if way.mask == "ramp":
        backend.upload(_ramp(size_px, way.width), mask)
    else:
        box_mask_into(backend, mask, blur=way.width)
    return mask


def _ramp(size_px: int, width: float) -> npt.NDArray[np.float32]:
    """0 at each edge, rising by a line over `width` of the side; the two directions are multiplied."""
    rim_px = max(1, int(width * size_px))
    at = np.arange(size_px)
    side = np.clip(np.minimum(at, size_px - 1 - at) / rim_px, 0.0, 1.0)
    return np.asarray(np.outer(side, side), np.float32)
