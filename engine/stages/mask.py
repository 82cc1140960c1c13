"""mask: soft masks in crop space, combined by minimum; what does not change is computed once."""

from __future__ import annotations

from engine.backends.base import Backend
from engine.frame import Buffer
from engine.stages.crop import Crop
from kernels.launch import box_mask_into, ellipse_mask_into, erode_blur_mask_into, min_masks_into
from models.spec import Spec
from profiles.profile import Mask as MaskOptions

__all__ = ["Mask"]


class Mask:
    """The mask under which a face is pasted: [S, S] for all faces, or [k, S, S] when it depends on the face."""

    def __init__(
        self, backend: Backend, options: MaskOptions, crop: Crop, frame_px: tuple[int, int], capacity: int
    ) -> None:
        self.backend, self.crop, self.frame_px = backend, crop, frame_px
        size = crop.size_px
        fixed: list[Buffer] = []
        for kind in options.kinds:
            if kind == "erode_blur":
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
        if "erode_blur" in options.kinds:
            memory = backend.allocate(Spec("float32", (capacity, size, size)))
            self._own = [memory.rows(0, k) for k in range(capacity + 1)]

    def __call__(self, k: int) -> Buffer:
        """The mask for the k faces whose matrices the crop stage holds."""
        if not self._own:
            assert self._fixed is not None  # a profile names at least one kind
            return self._fixed
        masks = self._own[k]
        erode_blur_mask_into(self.backend, self.crop.frame_from_crop, masks, frame_size_px=self.frame_px)
        if self._fixed is not None:
            min_masks_into(self.backend, [masks, self._fixed], masks)
        return masks
