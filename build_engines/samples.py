"""Real inputs for every role of a profile: frames of a clip, through the same kernels as in production.

What a network is calibrated on and verified with must be what it will see: letterboxed frames for the detector,
aligned crops at detected points for the rest, latents of detected faces for the swapper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import onnxruntime

from build_engines.flavour import BuildError
from build_engines.media import Reader, read_frames
from kernels.compile import HostTarget, HostTensor
from kernels.launch import (
    CANDIDATES_MAX,
    Candidates,
    Detections,
    Nv12,
    copy_nv12_into,
    crop_into,
    ellipse_mask_into,
    letterbox_into,
    letterbox_size,
    nms_into,
    paste_into,
    reset_into,
    scrfd_decode_into,
    similarity_into,
)
from models.contract import load_template
from models.model_files import ModelFile
from models.spec import Spec
from profiles.profile import Detect

__all__ = ["Inputs", "Samples", "clip_size", "sample_clip"]

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Inputs = list[dict[str, F32]]

_FACES = 64
_CALIBRATION_LEAST = 8  # fewer frames of their own say less than those that are verified on


def sample_clip() -> Path:
    """The clip that comes with the project: drawn faces only."""
    import models

    return Path(str(models.__file__)).parent / "tiny" / "sample" / "clip.mp4"


def clip_size(clip: Path) -> tuple[int, int]:
    """(width, height) in px of a clip's first video stream, without decoding; raises BuildError."""
    try:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            return stream.width, stream.height
    except IndexError as error:
        raise BuildError(f"{clip}: wanted a video to calibrate and verify on, got none in it; name another") from error
    except (av.FFmpegError, OSError) as error:
        raise BuildError(f"{clip}: wanted a video to calibrate and verify on, got {error}; name another") from error


def _floats(*shape: int) -> HostTensor:
    return HostTensor(np.zeros(shape, dtype=np.float32))


def _integers(*shape: int) -> HostTensor:
    return HostTensor(np.zeros(shape, dtype=np.int32))


@dataclass(frozen=True)
class _Cropped:
    """One aligned crop [1, 3, S, S], its matrices, and a count of one."""

    picture: F32
    there: HostTensor
    back: HostTensor
    one: HostTensor


class Samples:
    """Frames spread evenly over a clip, and what the networks of a profile would be given for them.

    `count` frames to verify on, and as many others to calibrate on; a clip that has too few for both gives the same
    to both (`apart` is then False). Raises BuildError for a clip that does not decode, and when no face is in it.
    """

    def __init__(
        self,
        clip: Path,
        models: Mapping[str, ModelFile],
        *,
        count: int = 32,
        size_px: int = 640,
        reader: Reader = "pyav",
    ) -> None:
        self.models, self.size_px = models, size_px
        self.target = HostTarget(1)
        frames, self.colour = read_frames(clip, 2 * count, reader)
        self.frames, self._to_calibrate_on = _halves(frames, count)
        self.apart = self.frames is not self._to_calibrate_on
        height, width = self.frames[0].shape[0] * 2 // 3, self.frames[0].shape[1]
        self.frame_px = (width, height)
        self._points: list[tuple[Nv12, F32]] = []
        self._other_half: Samples | None = None

    def sized(self, size_px: int) -> Samples:
        """The same frames and faces for another size of the detector's input."""
        other = copy(self)
        other.size_px, other._other_half = size_px, None
        return other

    def calibration(self, role: str) -> Inputs:
        """Like `inputs`, from the frames that nothing is verified on."""
        if not self.apart:
            return self.inputs(role)
        if self._other_half is None:
            self._other_half = copy(self)
            self._other_half.frames, self._other_half._points = self._to_calibrate_on, []
        return self._other_half.inputs(role)

    def faces(self) -> list[tuple[Nv12, F32]]:
        """(frame, points [5, 2]) of the faces that inputs are made of; frames live as long as this does."""
        if not self._points:
            self._points = _thinned(list(self._detected()), 2 * len(self.frames))
            if not self._points:
                raise BuildError("samples: wanted faces in the clip, got none; name a clip that shows some")
        return self._points

    def detector_px(self) -> tuple[int, int]:
        """(width, height) of the detector's input for these frames, trimmed to the contract's multiple."""
        step = self.models["detector"].contract.inputs["image"].multiple_of
        return Detect(size_px=self.size_px, second_pass_px=0).inputs_px(self.frame_px, step)[0]

    def inputs(self, role: str) -> Inputs:
        """Feeds by the contract's input names, batch 1, for the network of a role, to verify on."""
        if role == "detector":
            return [{"image": image} for image, _ in self._letterboxed()]
        self.faces()
        if role == "swapper":
            return self._swapper_inputs()
        if role == "restorer" and "swapper" in self.models:
            restorer = self.models["restorer"].contract
            return self._swapped_inputs(restorer.inputs["image"], restorer.template)
        if role == "parser":  # it looks at swapped faces, cut as the swapper's are
            return self._swapped_inputs(self.models[role].contract.inputs["image"], self._swap_template())
        if role == "occluder":
            spec = self.models[role].contract.inputs["image"]
            return [
                {"image": self._crop(view, points, spec, self._swap_template()).picture}
                for view, points in self._points
            ]
        return [{"image": crop} for crop in self._crops(role, "image")]

    def _letterboxed(self) -> Iterator[tuple[F32, Nv12]]:
        contract = self.models["detector"].contract
        spec = contract.inputs["image"]
        width, height = self.detector_px()
        fit_width, fit_height, _ = letterbox_size(*self.frame_px, self.size_px, self.size_px)
        pad = contract.detector.pad_value if contract.detector else 0.0
        for frame in self.frames:
            image = _floats(1, 3, height, width)
            view = self._view(frame)
            letterbox_into(
                self.target, view, image, fit=(fit_width, fit_height), pad=(pad,) * 3, **_normalisation(spec)
            )
            yield image.array, view

    def _detected(self) -> Iterator[tuple[Nv12, F32]]:
        """(frame, points [5, 2]) of every face that the profile's detector finds."""
        model = self.models["detector"]
        facts = model.contract.detector
        if facts is None:
            raise BuildError(f"{model.contract.name}: wanted a detector's facts, got none; correct the profile")
        session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
        scale = letterbox_size(*self.frame_px, self.size_px, self.size_px)[2]
        candidates = Candidates(
            _floats(CANDIDATES_MAX), _integers(CANDIDATES_MAX), _floats(CANDIDATES_MAX, 4),
            _floats(CANDIDATES_MAX, 5, 2), _integers(4),
        )  # fmt: skip
        points, count = _floats(_FACES, 5, 2), _integers(1)
        found = Detections(_floats(_FACES, 4), points, _floats(_FACES), count, _floats(1))
        names = list(model.contract.outputs)
        for image, view in self._letterboxed():
            raw = session.run([model.tensors[name] for name in names], {model.tensors["image"]: image})
            out = {name: HostTensor(np.ascontiguousarray(value)) for name, value in zip(names, raw, strict=True)}
            reset_into(self.target, candidates)
            scrfd_decode_into(
                self.target,
                [out[f"score_{stride}"] for stride in facts.strides],
                [out[f"bbox_{stride}"] for stride in facts.strides],
                [out[f"kps_{stride}"] for stride in facts.strides],
                candidates,
                strides=facts.strides,
                anchors_per_cell=facts.anchors,
                input_size=self.detector_px(),
                threshold=facts.score_threshold,
                det_scale=scale,
            )
            nms_into(self.target, candidates, found, iou_threshold=facts.iou_threshold)
            for row in range(int(count.array[0])):
                yield view, points.array[row].copy()

    def _crops(self, role: str, name: str) -> list[F32]:
        contract = self.models[role].contract
        spec = contract.inputs[name]
        return [self._crop(view, points, spec, contract.template).picture for view, points in self._points]

    def _swap_template(self) -> str:
        if "swapper" not in self.models:
            raise BuildError("samples: wanted a swapper, whose crops masks look at, got none; name one in the profile")
        return self.models["swapper"].contract.template

    def _crop(self, view: Nv12, points: F32, spec: Spec, template_name: str) -> _Cropped:
        size, template = int(spec.shape[-2]), load_template(template_name)
        scaled = [(x * size / template.size_px, y * size / template.size_px) for x, y in template.points_px]
        there, back, flags, one = _floats(1, 2, 3), _floats(1, 2, 3), _integers(1), _integers(1)
        one.array[0] = 1
        similarity_into(self.target, HostTensor(points[None]), one, there, back, flags, template_px=scaled)
        crop = _floats(1, 3, size, size)
        crop_into(self.target, view, back, crop, **_normalisation(spec))
        picture = np.ascontiguousarray(crop.array.transpose(0, 2, 3, 1)) if spec.layout == "nhwc" else crop.array
        return _Cropped(picture, there, back, one)

    def _swapped_inputs(self, image: Spec, template: str) -> Inputs:
        """Crops of frames with another's face pasted on: softer than the frames, and all that a restorer looks at."""
        swapper = self.models["swapper"]
        session = onnxruntime.InferenceSession(str(swapper.path), providers=["CPUExecutionProvider"])
        spec, output = swapper.contract.inputs["target"], swapper.contract.outputs["output"]
        mask = _floats(int(output.shape[-1]), int(output.shape[-1]))
        ellipse_mask_into(self.target, mask)
        height, width = self.frame_px[1] * 3 // 2, self.frame_px[0]
        made: Inputs = []
        for (view, points), feed in zip(self._points, self._swapper_inputs(), strict=True):
            named = {swapper.tensors[name]: value for name, value in feed.items()}
            face = np.ascontiguousarray(session.run([swapper.tensors["output"]], named)[0])
            own = np.zeros((height, width), np.uint8)
            copy_nv12_into(self.target, view, self._view(own))
            cut = self._crop(view, points, spec, swapper.contract.template)
            paste_into(
                self.target, HostTensor(face), mask, cut.there, cut.back, cut.one, self._view(own), _integers(1, 4),
                **_normalisation(output),
            )  # fmt: skip
            made.append({"image": self._crop(self._view(own), points, image, template).picture})
        return made

    def _swapper_inputs(self) -> Inputs:
        """Each face with the latent of another one, so that the network has something to change."""
        embedder, swapper = self.models["embedder"], self.models["swapper"]
        session = onnxruntime.InferenceSession(str(embedder.path), providers=["CPUExecutionProvider"])
        raw = [session.run(None, {embedder.tensors["image"]: crop})[0][0] for crop in self._crops("embedder", "image")]
        emap = swapper.emap()
        if emap is None:
            raise BuildError(f"{swapper.path}: wanted a stored emap, got none; add the published file again")
        embeddings = np.stack([embedding / np.linalg.norm(embedding) for embedding in raw])
        units = embeddings @ emap
        latents = (units / np.linalg.norm(units, axis=1, keepdims=True)).astype(np.float32)
        targets = self._crops("swapper", "target")
        shift = _farthest_turn(embeddings @ embeddings.T)
        return [{"target": crop, "source": latents[None, (i + shift) % len(targets)]} for i, crop in enumerate(targets)]

    def _view(self, nv12: U8) -> Nv12:
        width, height = self.frame_px
        address, pitch = int(nv12.ctypes.data), nv12.strides[0]
        return Nv12(address, address + pitch * height, pitch, pitch, width, height, self.colour)


def _normalisation(spec: Spec) -> dict[str, Any]:
    return {"mean": spec.mean_by_channel, "std": spec.std_by_channel, "order": spec.colour or "rgb"}


def _farthest_turn(alike: F32) -> int:
    """By how many places [n,n] cosines of faces have to turn for each face to meet another that is least like it.

    The same faces come again in every frame, so a fixed number of places may give each to itself; 0 of a single face.
    """
    count = len(alike)
    rows = np.arange(count)
    return min(range(1, count), key=lambda turn: float(alike[rows, (rows + turn) % count].mean()), default=0)


def _thinned(points: list[tuple[Nv12, F32]], most: int) -> list[tuple[Nv12, F32]]:
    """At most so many, spread evenly: a crowd, or a twin that sees faces everywhere, shall not cost hours."""
    if len(points) <= most:
        return points
    return [points[index] for index in np.linspace(0, len(points), most, endpoint=False).astype(int)]


def _halves(frames: list[U8], count: int) -> tuple[list[U8], list[U8]]:
    """(frames to verify on, frames to calibrate on), neighbours in turn; twice the same where they are too few."""
    if len(frames) >= 2 * count:
        return frames[0::2], frames[1::2]
    if len(frames) < count + _CALIBRATION_LEAST:
        return frames, frames
    verify = set(np.linspace(0, len(frames), count, endpoint=False).astype(int).tolist())
    return (
        [frame for index, frame in enumerate(frames) if index in verify],
        [frame for index, frame in enumerate(frames) if index not in verify],
    )
