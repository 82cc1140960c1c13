"""The oracle: every kernel in plain NumPy, float64, one thing after another.

Pictures go through ``Picture``, faces through ``Rows`` and ``Tracker``. Slow on purpose; for tests only. The tests
check these twins in turn against OpenCV and FFmpeg where those define the same thing.
"""

from kernels.reference_faces import (
    Rows,
    Smoother,
    Track,
    Tracker,
    box_matrix,
    cut_levels,
    gather_rows,
    invert,
    iou_plus_one,
    nms,
    refine_points,
    scrfd_decode,
    similarity,
)
from kernels.reference_pixels import (
    Picture,
    box_mask,
    copy_planar,
    crop,
    ellipse_mask,
    erode_blur_mask,
    gaussian_blur,
    letterbox,
    min_masks,
    nv12_to_planar,
    nv12_to_rgb,
    paste,
    rectangle,
    rgb_to_nv12,
    ycc_from_rgb,
)

__all__ = [
    "Picture",
    "Rows",
    "Smoother",
    "Track",
    "Tracker",
    "box_mask",
    "box_matrix",
    "copy_planar",
    "crop",
    "cut_levels",
    "ellipse_mask",
    "erode_blur_mask",
    "gather_rows",
    "gaussian_blur",
    "invert",
    "iou_plus_one",
    "letterbox",
    "min_masks",
    "nms",
    "nv12_to_planar",
    "nv12_to_rgb",
    "paste",
    "rectangle",
    "refine_points",
    "rgb_to_nv12",
    "scrfd_decode",
    "similarity",
    "ycc_from_rgb",
]
