"""paste: k faces under their masks into the working NV12 frame, only inside their rectangles."""

from __future__ import annotations

from engine.backends.base import Backend
from engine.frame import Buffer, Frame
from engine.stages.crop import Crop
from kernels.launch import paste_into
from models.spec import Spec

__all__ = ["Paste"]


class Paste:
    """Writes faces back. `rectangles[k]` int32 [k, 4] holds x0, y0, x1, y1 px of the last call, ends excluded."""

    def __init__(self, backend: Backend, crop: Crop, output: Spec, opacity: float, capacity: int) -> None:
        self.backend, self.crop, self.output, self.opacity = backend, crop, output, opacity
        rectangles = backend.allocate(Spec("int32", (capacity, 4)))
        self.rectangles = [rectangles.rows(0, k) for k in range(capacity + 1)]

    def __call__(self, frame: Frame, faces_nchw: Buffer, mask: Buffer) -> None:
        """Blend the faces into the frame."""
        paste_into(
            self.backend,
            faces_nchw,
            mask,
            self.crop.crop_from_frame,
            self.crop.frame_from_crop,
            frame.faces.count,
            frame.view,
            self.rectangles[faces_nchw.shape[0]],
            mean=self.output.mean_by_channel,
            std=self.output.std_by_channel,
            order=self.output.colour or "rgb",
            opacity=self.opacity,
        )
