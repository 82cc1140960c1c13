"""What tests and the soak of running lip-sync share: a generator whose mouth is as bright as the sound is loud.

The network is Wav2Lip's in its tensors alone: it gives the reference back, but for a light whose brightness is the
level of its mel window's first column. So what a picture shows tells which instant of the sound it was made for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.audio.stream import features_of
from engine.template.template import Template
from engine.video.source import open_source
from models.contract import load_contract
from models.model_files import find, installed
from profiles.profile import Lipsync, Models, Profile
from tests.lipsync_parts import files_in_place

__all__ = [
    "av_offset_ms",
    "brightness",
    "bursts",
    "light_files",
    "light_profile",
    "light_template",
    "lit_clip",
    "write_light",
]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
SIZE = (128, 96)
CONTRACT = "wav2lip_96"


def write_light(path: Path) -> Path:
    """The network: output = reference + (level - reference) with the level 0..1 of the window's first column."""
    image = helper.make_tensor_value_info("target", TensorProto.FLOAT, ["n", 6, 96, 96])
    mel = helper.make_tensor_value_info("mel", TensorProto.FLOAT, ["n", 1, 80, 16])
    out = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 3, 96, 96])

    def numbers(name: str, *values: float, dtype: Any = np.int64) -> Any:
        return numpy_helper.from_array(np.array(values, dtype), name)

    nodes = [
        helper.make_node("Slice", ["mel", "zero", "one", "axis_3"], ["column"]),
        helper.make_node("ReduceMean", ["column"], ["level"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Add", ["level", "four"], ["raised"]),
        helper.make_node("Mul", ["raised", "eighth"], ["light"]),
        helper.make_node("Slice", ["target", "three", "six", "axis_1"], ["reference"]),
        helper.make_node("Mul", ["reference", "nothing"], ["dark"]),
        helper.make_node("Add", ["dark", "light"], ["output"]),
    ]
    weights = [
        *(numbers(name, value) for name, value in (("zero", 0), ("one", 1), ("three", 3), ("six", 6))),
        numbers("axis_1", 1), numbers("axis_3", 3),
        *(numbers(name, value, dtype=np.float32) for name, value in (("four", 4), ("eighth", 0.125), ("nothing", 0))),
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "light", [mel, image], [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@contextmanager
def light_files(path: Path, *, with_tiny: bool = False) -> Iterator[None]:
    """While this is open, the network serves the contract; `with_tiny`: beside the tiny pack, to prepare with."""
    tiny = [name for name in installed() if name.startswith("tiny_")] if with_tiny else []
    beside = {name: find(name).path for name in tiny}
    with files_in_place({CONTRACT: path, **beside}):
        yield


def light_profile(**changes: Any) -> Profile:
    """A profile on the CPU for it; texture is not restored, so that the light is seen as it is."""
    options: dict[str, Any] = {
        "name": "light", "task": "lipsync", "says": "a test", "backend": "cpu", "slots": 6, "threads": 2,
        "models": Models(detector="tiny_detector", lipsync=CONTRACT), "lipsync": Lipsync(texture=0.0),
    }  # fmt: skip
    return Profile(**{**options, **changes})


def lit_clip(path: Path, count: int = 20, *, size: tuple[int, int] = SIZE, rate: int = 25) -> Path:
    """A grey clip whose left edge tells the frame's number by its brightness."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "0", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(count):
            planes = np.full((size[1] * 3 // 2, size[0]), 128, np.uint8)
            planes[: size[1]] = 60
            planes[: size[1], :16] = 16 + number * 10 % 220
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def light_template(path: Path, *, rate: Fraction = Fraction(25), idle: range = range(0)) -> Template:
    """A template of all frames, with a mouth of 48 px in the middle of each."""
    with open_source(path, threads=1) as source:
        info = source.info
        count = sum(hasattr(item, "av_frame") for item in source)
    width, height = info.width_px, info.height_px
    left, top = (width - 48) // 2, (height - 48) // 2
    crop = np.tile(np.array([[2, 0, -2 * left], [0, 2, -2 * top]], np.float32), (count, 1, 1))
    back = np.tile(np.array([[0.5, 0, left], [0, 0.5, top]], np.float32), (count, 1, 1))
    return Template(
        path=path, video=info, rate=rate, source_frame=np.arange(count), has_face=np.ones(count, bool),
        crop_from_frame=crop, frame_from_crop=back, raw_crop_from_frame=crop,
        points=np.zeros((count, 5, 2), np.float32), boxes=np.zeros((count, 4), np.float32), idle=idle,
    )  # fmt: skip


def brightness(path: Path) -> tuple[F64, F64, F64]:
    """(stamps in s, luma of the mouth's middle, luma of the left edge) of a written video."""
    stamps, mouths, edges = [], [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            luma = frame.to_ndarray(format="gray")
            stamps.append(float(frame.pts * frame.time_base))  # type: ignore[operator]
            down, right = luma.shape[0] // 2, luma.shape[1] // 2
            mouths.append(float(luma[down + 4 : down + 20, right - 8 : right + 8].mean()))
            edges.append(float(luma[:, :8].mean()))
    return np.array(stamps), np.array(mouths), np.array(edges)


def bursts(seconds: float, *, rate_hz: int = 16000, seed: int = 0) -> F32:
    """Bursts of noise of 80 to 400 ms, 200 to 700 ms apart, at places that repeat nowhere; silence between."""
    random = np.random.default_rng(seed)
    sound = np.zeros(round(seconds * rate_hz), np.float32)
    at = 0.3
    while at < seconds:
        long = float(random.uniform(0.08, 0.4))
        first, last = round(at * rate_hz), min(round((at + long) * rate_hz), len(sound))
        sound[first:last] = 0.2 * random.standard_normal(last - first)
        at += long + float(random.uniform(0.2, 0.7))
    return sound


def av_offset_ms(stamps: F64, mouths: F64, sound: F32, most_ms: int = 60) -> float:
    """How much later the mouth is than the sound that it shows, in ms: above 0 the picture is late.

    `sound` is mono at 16 kHz, from the instant 0 of `stamps`. The light of a picture is that of the sound around the
    instant it was made for; of all shifts in steps of 1 ms the one is taken at which the two go together best. Pictures
    that are darker than any light of speech don't count: in silence the mouth is the template's own.
    """
    lights = _lights(sound)
    # the last windows slide back to end with the sound
    lit = (mouths > 75.0) & (stamps < len(sound) / 16000 - 0.3)
    # Wav2Lip's window begins with the last column of 12.5 ms that is not behind the picture's instant
    start = stamps[0]
    made_for_ms = np.floor((stamps - start) * 80 + 1e-6) * 12.5 + 1000 * start
    likeness = []
    for shift_ms in range(-most_ms, most_ms + 1):
        at = np.clip(np.round(made_for_ms[lit] - shift_ms).astype(int), 0, len(lights) - 1)
        likeness.append(float(np.corrcoef(mouths[lit], lights[at])[0, 1]))
    return float(np.argmax(likeness) - most_ms)


def _lights(sound: F32) -> F64:
    """The network's light for every ms of a sound, by the engine's front end on the sound moved by 0 to 12 ms."""
    facts = load_contract(CONTRACT).lipsync
    assert facts is not None
    assert facts.features is not None
    hop = facts.features.hop_samples
    lights = np.zeros(len(sound) // 16 + 1)
    known = np.zeros(len(lights), bool)
    for moved in range(0, hop, 8):  # half ms
        rows = features_of(facts.features, sound[moved:]).mean(axis=1)
        at = np.round((np.arange(len(rows)) * hop + moved) / 16).astype(int)
        at = at[at < len(lights)]
        lights[at], known[at] = rows[: len(at)], True
    return np.interp(np.arange(len(lights)), np.flatnonzero(known), lights[known])
