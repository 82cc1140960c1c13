"""The steps of the published lip-sync systems, one after another with NumPy and OpenCV, in 8-bit BGR.

What our own path is compared with and measured against. From the facts known of Ultralight-Digital-Human and Wav2Lip:
cut out the box, resize, stack, run, write back, resize, overwrite.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from kernels.reference import Picture, nv12_to_rgb, rgb_to_nv12
from models.facts import Rectangle

__all__ = ["Box", "Network", "bgr_of", "nv12_of", "ultralight_step", "wav2lip_step"]

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 px, ends excluded
Network = Callable[[F32, F32], F32]  # (pictures [1, 6, S, S], what was heard) -> picture [1, 3, S, S]

CROP_PX, INNER_PX, RIM_PX = 168, 160, 4
HIDDEN: Rectangle = (5, 5, 150, 145)


def ultralight_step(bgr: U8, box: Box, heard: F32, network: Network) -> F32:
    """One frame in place, as Ultralight-Digital-Human does it; returns the network's input."""
    x0, y0, x1, y1 = box
    crop = cv2.resize(bgr[y0:y1, x0:x1], (CROP_PX, CROP_PX))
    inner = crop[RIM_PX : RIM_PX + INNER_PX, RIM_PX : RIM_PX + INNER_PX]
    masked = cv2.rectangle(inner.copy(), HIDDEN, (0, 0, 0), -1)
    pictures = np.concatenate([inner.transpose(2, 0, 1), masked.transpose(2, 0, 1)])[None].astype(np.float32) / 255
    made = network(np.asarray(pictures, np.float32), heard)[0].transpose(1, 2, 0) * 255
    crop[RIM_PX : RIM_PX + INNER_PX, RIM_PX : RIM_PX + INNER_PX] = made.astype(np.uint8)
    bgr[y0:y1, x0:x1] = cv2.resize(crop, (x1 - x0, y1 - y0))
    return np.asarray(pictures, np.float32)


def wav2lip_step(bgr: U8, box: Box, heard: F32, network: Network, size_px: int = 96) -> F32:
    """One frame in place, as Wav2Lip does it; returns the network's input."""
    x0, y0, x1, y1 = box
    face = cv2.resize(bgr[y0:y1, x0:x1], (size_px, size_px))
    masked = face.copy()
    masked[size_px // 2 :] = 0
    pictures = np.concatenate([masked, face], axis=2).transpose(2, 0, 1)[None].astype(np.float32) / 255
    made = network(np.asarray(pictures, np.float32), heard)[0].transpose(1, 2, 0) * 255
    bgr[y0:y1, x0:x1] = cv2.resize(made.astype(np.uint8), (x1 - x0, y1 - y0))
    return np.asarray(pictures, np.float32)


def bgr_of(picture: Picture) -> U8:
    """A frame as these systems have it; colour and chroma by the twins of our own kernels, so that steps compare."""
    return np.ascontiguousarray(np.round(nv12_to_rgb(picture)).astype(np.uint8)[..., ::-1])


def nv12_of(bgr: U8, picture: Picture) -> Picture:
    """Back into the frame's own colour description."""
    return rgb_to_nv12(np.ascontiguousarray(bgr[..., ::-1]), picture.colour)
