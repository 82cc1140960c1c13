"""What a camera does to a drawn picture: motion blur, sensor noise, block compression."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tiny.renderer.build import film_library

Bytes = npt.NDArray[np.uint8]
_U8 = ctypes.POINTER(ctypes.c_uint8)


def _bytes(image: Bytes) -> ctypes._Pointer[ctypes.c_uint8]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.flags.c_contiguous:
        raise ValueError(
            f"camera: wanted a contiguous RGB picture [h,w,3] of bytes, got {image.dtype} {list(image.shape)}; "
            "copy it first"
        )
    return image.ctypes.data_as(_U8)


def smear(image: Bytes, dx_px: float, dy_px: float) -> Bytes:
    """Motion blur: the mean of the light while the picture moves by (dx_px, dy_px). At most 32 px long."""
    out = np.empty_like(image)
    film_library().film_smear(_bytes(image), _bytes(out), image.shape[1], image.shape[0], dx_px, dy_px)
    return out


def sensor_noise(seed: int, read: float, shot: float, image: Bytes) -> None:
    """Noise in place, in levels of 255: `read` everywhere, `shot` at white and less in the dark; partly coloured."""
    film_library().film_sensor(seed & 0xFFFFFFFF, read, shot, _bytes(image), image.shape[1], image.shape[0])


def compress(strength: float, image: Bytes) -> None:
    """Loss of 8x8 block transforms with colour at half size, in place: 0 none, 1 a poor video call."""
    film_library().film_compress(strength, _bytes(image), image.shape[1], image.shape[0])


@dataclass(frozen=True)
class Camera:
    """One camera's state, the same for all pictures of a sample. move_px: motion during the exposure."""

    move_px: tuple[float, float]
    seed: int
    read: float
    shot: float
    loss: float

    def shoot(self, image: Bytes) -> Bytes:
        """The picture as this camera records it; the input is left alone."""
        out = smear(image, *self.move_px) if np.hypot(*self.move_px) > 0.5 else image.copy()
        if self.read + self.shot > 0.0:
            sensor_noise(self.seed, self.read, self.shot, out)
        if self.loss > 0.0:
            compress(self.loss, out)
        return out


def random_camera(rng: np.random.Generator, most_move_px: float = 5.0) -> Camera:
    """A third of the cameras move, two thirds have noise, half compress."""
    length, way = rng.uniform(1.0, most_move_px), rng.uniform(0.0, np.pi)
    moving, noisy, lossy = rng.random() < 0.33, rng.random() < 0.66, rng.random() < 0.5
    return Camera(
        (float(length * np.cos(way)), float(length * np.sin(way))) if moving else (0.0, 0.0),
        int(rng.integers(1 << 31)),
        rng.uniform(0.3, 2.5) if noisy else 0.0,
        rng.uniform(0.5, 4.5) if noisy else 0.0,
        rng.uniform(0.08, 0.8) ** 1.5 if lossy else 0.0,
    )
