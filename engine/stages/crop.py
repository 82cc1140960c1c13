"""crop: five points -> similarity to a contract's template -> k aligned inputs, sampled straight from NV12."""

from __future__ import annotations

from typing import Literal

from engine.backends.base import Backend
from engine.frame import Buffer, Frame
from kernels.launch import Tensor, Triple, crop_into, similarity_into
from models.contract import Contract, load_template
from models.spec import Spec

__all__ = ["Crop"]


class Crop:
    """Aligned crops of a frame's faces in the input of one network.

    `crop_from_frame` and `frame_from_crop` float32 [K, 2, 3] hold the matrices of the last call; `inputs[k]` is
    the network's input [k, 3, S, S] for k faces. `template` is another than the contract's; `border` what lies
    outside the frame, an RGB of 0..255 or by name.
    """

    def __init__(
        self,
        backend: Backend,
        contract: Contract,
        input_name: str,
        capacity: int,
        *,
        template: str = "",
        border: Literal["black", "replicate"] | Triple = "black",
    ) -> None:
        self.backend, self.border = backend, border
        self.spec = contract.inputs[input_name]
        self.size_px = int(self.spec.shape[-1])
        points = load_template(template or contract.template)
        scale = self.size_px / points.size_px
        self.template_px = [(x * scale, y * scale) for x, y in points.points_px]
        memory = backend.allocate(Spec("float32", (capacity, 3, self.size_px, self.size_px), layout="nchw"))
        self.inputs: list[Buffer] = [memory.rows(0, k) for k in range(capacity + 1)]
        self.crop_from_frame = backend.allocate(Spec("float32", (capacity, 2, 3)))
        self.frame_from_crop = backend.allocate(Spec("float32", (capacity, 2, 3)))
        self.flags = backend.allocate(Spec("int32", (capacity,)))

    def __call__(self, frame: Frame, k: int) -> Buffer:
        """Crop the first k faces of the frame; returns the network's input [k, 3, S, S]."""
        return self.at(frame, frame.faces.points, frame.faces.count, k)

    def at(self, frame: Frame, points_px: Tensor, count: Tensor, k: int) -> Buffer:
        """Crop at other points float32 [K, 5, 2] of the same frame."""
        self.fit(points_px, count)
        crops = self.inputs[k]
        crop_into(
            self.backend,
            frame.view,
            self.frame_from_crop,
            crops,
            mean=self.spec.mean_by_channel,
            std=self.spec.std_by_channel,
            order=self.spec.colour or "rgb",
            border=self.border,
        )
        return crops

    def fit(self, points_px: Tensor, count: Tensor) -> None:
        """Find the matrices for points float32 [K, 5, 2], and crop nothing."""
        similarity_into(
            self.backend,
            points_px,
            count,
            self.crop_from_frame,
            self.frame_from_crop,
            self.flags,
            template_px=self.template_px,
        )
