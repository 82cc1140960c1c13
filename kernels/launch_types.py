"""What every launcher takes: a target, tensors, frames; and the by-value structures that kernels read.

Nothing here knows a model, a backend or an allocator. A pointer is an integer address that is valid on the
target's device; who owns the memory keeps it alive until the target has run the launch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

Matrix: TypeAlias = Literal["bt601", "bt709", "bt2020"]
Siting: TypeAlias = Literal["left", "center"]
Order: TypeAlias = Literal["rgb", "bgr"]
Triple: TypeAlias = tuple[float, float, float]
Arg: TypeAlias = "ctypes._SimpleCData[Any] | ctypes.Structure"

LANES = 256  # threads a block on a GPU; the host build runs one, so every kernel strides by blockDim
LUMA_WEIGHTS: dict[str, tuple[float, float]] = {  # (Kr, Kb) of ITU-R BT.601-7, BT.709-6, BT.2020-2
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}


class Target(Protocol):
    """A device, or a stream of one, that runs kernels by name in the order in which they are launched."""

    def launch(self, kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], args: Sequence[Arg]) -> None:
        """Start one kernel; the arguments are copied before this returns, as by cuLaunchKernel."""


class Tensor(Protocol):
    """A dense row-major array in the target's memory."""

    @property
    def ptr(self) -> int:
        """Address of the first element."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents, slowest first."""

    @property
    def dtype(self) -> str:
        """The NumPy name of the element type: ``float32``, ``int32``, ``uint8``."""

    @property
    def nbytes(self) -> int:
        """Size of the whole array."""


@dataclass(frozen=True)
class Colour:
    """How luma and chroma codes of 8 bits stand for R'G'B'.

    ``siting`` is where a chroma sample lies: ``left`` on the even luma column, ``center`` between two;
    both lie between two luma rows.
    """

    matrix: Matrix = "bt709"
    full_range: bool = False
    siting: Siting = "left"


@dataclass(frozen=True)
class Nv12:
    """A frame: a luma plane, and a plane of interleaved U and V at half size, rounded up for odd sizes.

    ``y_pitch_bytes`` >= width, ``uv_pitch_bytes`` >= 2 * ceil(width / 2). Bytes between the end of a row and
    the pitch are never touched.
    """

    y_ptr: int
    uv_ptr: int
    y_pitch_bytes: int
    uv_pitch_bytes: int
    width_px: int
    height_px: int
    colour: Colour = field(default_factory=Colour)


@dataclass(frozen=True)
class I420:
    """Three planes as software decoders and encoders hold them; U and V have ceil(w/2) x ceil(h/2) samples."""

    y_ptr: int
    u_ptr: int
    v_ptr: int
    y_pitch_bytes: int
    u_pitch_bytes: int
    v_pitch_bytes: int
    width_px: int
    height_px: int


class ColourArg(ctypes.Structure):
    """``struct Colour`` of device.cuh: the coefficients in both directions, on codes and RGB of 0..255."""

    _fields_ = [
        (name, ctypes.c_float)
        for name in ("ky", "y0", "rv", "gu", "gv", "bu", "kr", "kg", "kb", "y_of", "u_of", "v_of", "cx0")
    ]


class FrameArg(ctypes.Structure):
    """``struct Frame`` of device.cuh."""

    _fields_ = [
        ("y", ctypes.c_void_p),
        ("uv", ctypes.c_void_p),
        ("y_pitch", ctypes.c_int),
        ("uv_pitch", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("colour", ColourArg),
    ]


class PlanesArg(ctypes.Structure):
    """``struct Planes`` of device.cuh."""

    _fields_ = [
        ("y", ctypes.c_void_p),
        ("u", ctypes.c_void_p),
        ("v", ctypes.c_void_p),
        ("y_pitch", ctypes.c_int),
        ("u_pitch", ctypes.c_int),
        ("v_pitch", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
    ]


class NormArg(ctypes.Structure):
    """``struct Norm`` of device.cuh: channel c holds rgb[source[c]] * mul[c] + add[c]."""

    _fields_ = [("mul", ctypes.c_float * 3), ("add", ctypes.c_float * 3), ("swap", ctypes.c_int)]


def colour_arg(colour: Colour) -> ColourArg:
    """The coefficients of one colour description; limited range is 16..235 and 16..240, full is 0..255."""
    if colour.matrix not in LUMA_WEIGHTS:
        raise ValueError(
            f"colour matrix: wanted one of {', '.join(LUMA_WEIGHTS)}, got {colour.matrix!r}; convert the frame"
        )
    kr, kb = LUMA_WEIGHTS[colour.matrix]
    kg = 1.0 - kr - kb
    ky = 1.0 if colour.full_range else 255.0 / 219.0
    kc = 1.0 if colour.full_range else 255.0 / 224.0
    rv, bu = 2.0 * (1.0 - kr) * kc, 2.0 * (1.0 - kb) * kc
    y0 = 0.0 if colour.full_range else 16.0
    cx0 = 0.0 if colour.siting == "left" else -0.25
    return ColourArg(ky, y0, rv, bu * kb / kg, rv * kr / kg, bu, kr, kg, kb, 1.0 / ky, 1.0 / bu, 1.0 / rv, cx0)


def frame_arg(where: str, frame: Nv12) -> FrameArg:
    """Check the pitches of a frame and pack it for a kernel."""
    width, height = frame.width_px, frame.height_px
    if width < 1 or height < 1:
        raise ValueError(f"{where}: wanted a frame of at least 1x1 px, got {width}x{height}; pass a real frame")
    if frame.y_pitch_bytes < width or frame.uv_pitch_bytes < 2 * ((width + 1) // 2):
        raise ValueError(
            f"{where}: wanted pitches of at least {width} and {2 * ((width + 1) // 2)} bytes, "
            f"got {frame.y_pitch_bytes} and {frame.uv_pitch_bytes}; pass the strides of the planes"
        )
    return FrameArg(
        frame.y_ptr,
        frame.uv_ptr,
        frame.y_pitch_bytes,
        frame.uv_pitch_bytes,
        width,
        height,
        colour_arg(frame.colour),
    )


def planes_arg(where: str, planes: I420) -> PlanesArg:
    """Check the pitches of three planes and pack them for a kernel."""
    half = (planes.width_px + 1) // 2
    if planes.y_pitch_bytes < planes.width_px or min(planes.u_pitch_bytes, planes.v_pitch_bytes) < half:
        raise ValueError(
            f"{where}: wanted pitches of at least {planes.width_px} and {half} bytes, got "
            f"{planes.y_pitch_bytes}, {planes.u_pitch_bytes} and {planes.v_pitch_bytes}; pass the strides"
        )
    return PlanesArg(
        planes.y_ptr,
        planes.u_ptr,
        planes.v_ptr,
        planes.y_pitch_bytes,
        planes.u_pitch_bytes,
        planes.v_pitch_bytes,
        planes.width_px,
        planes.height_px,
    )


def normalise_arg(where: str, mean: Triple, std: Triple, order: Order) -> NormArg:
    """RGB of 0..255 to network values: (rgb - mean) / std, mean and std in the tensor's channel order."""
    _check_order(where, order)
    if min(std) <= 0.0:
        raise ValueError(f"{where}: wanted std above 0, got {std}; mean and std are on the scale 0..255")
    mul = [1.0 / s for s in std]
    add = [-m / s for m, s in zip(mean, std, strict=True)]
    return NormArg((ctypes.c_float * 3)(*mul), (ctypes.c_float * 3)(*add), int(order == "bgr"))


def denormalise_arg(where: str, mean: Triple, std: Triple, order: Order) -> NormArg:
    """Network values to RGB of 0..255: value * std + mean, mean and std in the tensor's channel order."""
    _check_order(where, order)
    return NormArg((ctypes.c_float * 3)(*std), (ctypes.c_float * 3)(*mean), int(order == "bgr"))


def _check_order(where: str, order: str) -> None:
    if order not in ("rgb", "bgr"):
        raise ValueError(f"{where}: wanted channel order rgb or bgr, got {order!r}; name the network's order")


def pointer(where: str, tensor: Tensor, dtype: str, shape: tuple[int | None, ...]) -> ctypes.c_void_p:
    """The address of a tensor whose type and shape fit; None in ``shape`` stands for any extent."""
    fits = len(tensor.shape) == len(shape) and all(
        want is None or want == got for want, got in zip(shape, tensor.shape, strict=True)
    )
    if tensor.dtype != dtype or not fits:
        wanted = ", ".join("any" if extent is None else str(extent) for extent in shape)
        raise ValueError(
            f"{where}: wanted {dtype} [{wanted}], got {tensor.dtype} {list(tensor.shape)}; "
            "size the buffer from the contract"
        )
    return ctypes.c_void_p(tensor.ptr)


def same_size(where: str, wanted: tuple[int, int], got: tuple[int, int]) -> None:
    """Refuse two pictures of different width and height."""
    if wanted != got:
        raise ValueError(f"{where}: wanted {wanted[0]}x{wanted[1]} px, got {got[0]}x{got[1]}; size the frame at open")
