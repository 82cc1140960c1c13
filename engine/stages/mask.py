"""mask: soft masks in crop space, combined by minimum; what does not change is computed once."""

from __future__ import annotations

from collections.abc import Sequence

from engine.backends.base import Backend
from engine.frame import Buffer, Frame
from engine.stages.crop import Crop
from engine.stages.seen import Occlusion, Regions
from kernels.launch import box_mask_into, ellipse_mask_into, erode_blur_mask_into, min_masks_into
from models.spec import Spec
from profiles.profile import Mask as MaskOptions

__all__ = ["Mask"]


class Mask:
    """The mask under which a face is pasted: [S, S] for all faces, or [k, S, S] when it depends on the face.

    `occlusion` and `regions` are the networks of the mask kinds of these names, where the profile asks for them.
    """

    def __init__(
        self,
        backend: Backend,
        options: MaskOptions,
        crop: Crop,
        frame_px: tuple[int, int],
        capacity: int,
        occlusion: Occlusion | None = None,
        regions: Regions | None = None,
    ) -> None:
        self.backend, self.crop, self.frame_px = backend, crop, frame_px
        self.occlusion, self.regions = occlusion, regions
        self._erodes = "erode_blur" in options.kinds
        size = crop.size_px
        fixed: list[Buffer] = []
        for kind in options.kinds:
            if kind not in ("ellipse", "box"):
                continue
            mask = backend.allocate(Spec("float32", (size, size), layout="hw"))
            if kind == "ellipse":
                ellipse_mask_into(backend, mask, axis_fraction=options.ellipse, sigma_px=options.ellipse_blur * size)
            else:
                box_mask_into(backend, mask, blur=options.box_blur)
            fixed.append(mask)
        if len(fixed) > 1:
            min_masks_into(backend, fixed, fixed[0])
        self._fixed = fixed[0] if fixed else None
        self._own: list[Buffer] = []
        if self._erodes or occlusion is not None or regions is not None:
            memory = backend.allocate(Spec("float32", (capacity, size, size)))
            self._own = [memory.rows(0, k) for k in range(capacity + 1)]

    def prepare(self, face_counts: Sequence[int]) -> None:
        """Bind these face counts of the networks ahead."""
        for network in (self.occlusion, self.regions):
            if network is not None:
                network.prepare(face_counts)

    def __call__(self, frame: Frame, faces_nchw: Buffer) -> Buffer:
        """The mask for the k faces whose matrices the crop stage holds; the frame is as it came in."""
        if not self._own:
            assert self._fixed is not None  # a profile names at least one kind
            return self._fixed
        k = faces_nchw.shape[0]
        masks, parts = self._own[k], [self._fixed] if self._fixed is not None else []
        if self._erodes:
            erode_blur_mask_into(self.backend, self.crop.frame_from_crop, masks, frame_size_px=self.frame_px)
            parts.append(masks)
        if self.occlusion is not None:
            parts.append(self.occlusion(frame, k))
        if self.regions is not None:
            parts.append(self.regions(faces_nchw))
        if parts != [masks]:
            min_masks_into(self.backend, parts, masks)
        return masks
