"""The three ways with a frame that yardstick.py measures: ours, (a) and (b); what they are stands there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from engine.bench.input import BenchInput, Truth
from engine.pipeline import Pipeline
from models.contract import load_template
from models.model_files import ModelFile, find
from profiles.profile import Profile
from tests import oracle
from tests.benchmark.reference_flow import Clock, TimedSession

__all__ = ["BestOpenWay", "Ours", "RoopWay", "Way"]

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

DETECTOR_PX = (640, 640)
CROP_PX = 128


class Way(Protocol):
    """Somebody's way with a frame. `around` and `networks` hold ms by row; `frame` returns NV12."""

    around: Clock
    networks: Clock

    def frame(self, index: int) -> U8:
        """Put the source's face on the faces of the index-th frame."""
        ...


class _Host:
    """What (a) and (b) share: BGR on the host, and where the faces are."""

    def __init__(self, profile: Profile, source: BenchInput, latent: F32, threads: int, *, with_truth: bool) -> None:
        cv2.setNumThreads(threads)
        self.source, self.latent, self.with_truth = source, latent, with_truth
        self.detector, self.swapper = find(profile.models.detector), find(profile.models.swapper)
        self.template = np.array(load_template("arcface_128").points_px, dtype=np.float32)
        self.around, self.networks = Clock(), Clock()
        self.threads = threads

    def bgr_in(self, index: int) -> U8:
        with self.around.span("in and out"):
            bgr: U8 = cv2.cvtColor(self.source.frames[self.source.at(index)], cv2.COLOR_YUV2BGR_NV12)
        return bgr

    def nv12_out(self, bgr: U8) -> U8:
        with self.around.span("in and out"):
            height, width = bgr.shape[:2]
            yuv = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
            chroma = yuv[height:].reshape(2, height // 2, width // 2)
            nv12 = np.empty((height * 3 // 2, width), dtype=np.uint8)
            nv12[:height] = yuv[:height]
            cv2.merge([chroma[0], chroma[1]], nv12[height:].reshape(height // 2, width // 2, 2))
        return nv12

    def faces_of(self, index: int, found: oracle.Found) -> F32:
        """Points [k, 5, 2]: what was found, or the truth in its place."""
        if not self.with_truth:
            return found.points
        truth: list[Truth] = self.source.truth or []
        return truth[self.source.at(index)].points


class RoopWay(_Host):
    """(a): arrays in, arrays out, the whole frame warped, masked and merged for every face."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._detect, self._swap = (_plain(model, self.threads) for model in (self.detector, self.swapper))

    def frame(self, index: int) -> U8:
        """One frame; see the module."""
        around, networks = self.around, self.networks
        bgr = self.bgr_in(index)
        with around.span("detect"):
            blob, scale = oracle.letterbox(bgr, DETECTOR_PX)
        with networks.span("detect"):
            outputs = self._detect({"image": blob})
        with around.span("detect"):
            found = oracle.suppress(oracle.decode_scrfd(outputs, DETECTOR_PX, scale, 0.5), 0.4)
            points = self.faces_of(index, found)
        for face in points:
            with around.span("crop"):
                matrix = oracle.similarity(face, self.template)
                crop = oracle.blob(oracle.aligned(bgr, matrix, CROP_PX), 0.0, 255.0)
            with networks.span("generate"):
                swapped = self._swap({"target": crop, "source": self.latent})["output"][0]
            with around.span("paste"):
                bgr = oracle.paste(bgr, swapped, matrix)
        return self.nv12_out(bgr)


class BestOpenWay(_Host):
    """(b): bound memory, and a paste inside the rectangle of the face's crop."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._detect = _Bound(self.detector, self.threads, {"image": (1, 3, *DETECTOR_PX[::-1])})
        shapes = {"target": (1, 3, CROP_PX, CROP_PX), "source": self.latent.shape}
        self._swap = _Bound(self.swapper, self.threads, shapes)
        self._swap.inputs["source"][...] = self.latent
        self._canvas = np.zeros((*DETECTOR_PX[::-1], 3), dtype=np.uint8)
        alpha = np.zeros((CROP_PX, CROP_PX), dtype=np.uint8)
        radius = int(0.44 * CROP_PX)
        cv2.ellipse(alpha, (CROP_PX // 2, CROP_PX // 2), (radius, radius), 0, 0, 360, 255, -1)
        self._alpha = cv2.GaussianBlur(alpha, (31, 31), 12)

    def frame(self, index: int) -> U8:
        """One frame; see the module."""
        around, networks = self.around, self.networks
        bgr = self.bgr_in(index)
        with around.span("detect"):
            scale = self._letterbox(bgr)
        with networks.span("detect"):
            self._detect.run()
        with around.span("detect"):
            found = oracle.suppress(oracle.decode_scrfd(self._detect.outputs, DETECTOR_PX, scale, 0.5), 0.4)
            points = self.faces_of(index, found)
        for face in points:
            with around.span("crop"):
                matrix = oracle.similarity(face, self.template)
                crop = cv2.warpAffine(bgr, matrix, (CROP_PX, CROP_PX))
                target = self._swap.inputs["target"][0]
                np.multiply(crop[:, :, ::-1].transpose(2, 0, 1), np.float32(1 / 255), out=target)
            with networks.span("generate"):
                self._swap.run()
            with around.span("paste"):
                self._paste(bgr, self._swap.outputs["output"][0], matrix)
        return self.nv12_out(bgr)

    def _letterbox(self, bgr: U8) -> float:
        scale = min(DETECTOR_PX[0] / bgr.shape[1], DETECTOR_PX[1] / bgr.shape[0])
        width, height = int(bgr.shape[1] * scale), int(bgr.shape[0] * scale)
        cv2.resize(bgr, (width, height), dst=self._canvas[:height, :width])
        image = self._detect.inputs["image"][0]
        np.subtract(self._canvas[:, :, ::-1].transpose(2, 0, 1), np.float32(127.5), out=image)
        image *= np.float32(1 / 128)
        return float(height / bgr.shape[0])

    def _paste(self, bgr: U8, swapped_rgb: F32, matrix: F32) -> None:
        back = cv2.invertAffineTransform(matrix)
        corners = np.array([[0, 0], [CROP_PX, 0], [CROP_PX, CROP_PX], [0, CROP_PX]], np.float32) @ back[:, :2].T
        corners += back[:, 2]
        x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 2, 0)
        x1, y1 = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 2, (bgr.shape[1], bgr.shape[0]))
        if x1 <= x0 or y1 <= y0:
            return
        back[:, 2] -= (x0, y0)
        size = (int(x1 - x0), int(y1 - y0))
        fake = cv2.convertScaleAbs(swapped_rgb.transpose(1, 2, 0)[:, :, ::-1], alpha=255)
        fake = cv2.warpAffine(fake, back, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.cvtColor(cv2.warpAffine(self._alpha, back, size), cv2.COLOR_GRAY2BGR)
        region = bgr[y0:y1, x0:x1]
        kept = cv2.multiply(region, cv2.bitwise_not(alpha), scale=1 / 255)
        cv2.add(cv2.multiply(fake, alpha, scale=1 / 255), kept, dst=region)


class Ours:
    """Our pipeline, with its networks timed apart."""

    def __init__(self, pipeline: Pipeline, source: BenchInput) -> None:
        self.pipeline, self.source = pipeline, source
        self.around, self.networks = Clock(), Clock()
        self.faces = 0
        stages: dict[str, Any] = {"detect": pipeline.detect, "generate": pipeline.generate}
        if pipeline.refine is not None:
            stages["refine"] = pipeline.refine
        self._timed: dict[str, TimedSession] = {}
        for name, stage in stages.items():
            # what stands in for detect keeps the stage that runs
            stage = getattr(stage, "_detect", stage)
            self._timed[name] = stage.session = TimedSession(stage.session)

    def frame(self, index: int) -> U8:
        """One frame, as a program that embeds the engine would pass it."""
        held = self.pipeline.timings.stages
        before = {name: one.total_ms for name, one in held.items()}
        networks = {name: session.total_ms for name, session in self._timed.items()}
        start = time.perf_counter()
        frame = self.pipeline.step(self.source.frames[self.source.at(index)])
        wall_ms = (time.perf_counter() - start) * 1e3
        self.faces = frame.face_count
        spent = {name: one.total_ms - before.get(name, 0.0) for name, one in held.items()}
        told = {name: session.total_ms - networks[name] for name, session in self._timed.items()}
        rows = {
            "in and out": wall_ms - spent["frame"],
            "paste": spent.get("mask", 0.0) + spent.get("paste", 0.0),
            **{
                name: spent.get(name, 0.0) - told.get(name, 0.0)
                for name in ("detect", "track", "refine", "crop", "generate")
            },
        }
        for name, ms in rows.items():
            self.around.steps.setdefault(name, []).append(ms)
        for name, ms in told.items():
            self.networks.steps.setdefault(name, []).append(ms)
        luma, chroma = frame.planes()
        return np.vstack([luma, chroma])


class _Bound:
    """A session whose inputs and outputs are arrays that stay; they are written and read in place."""

    def __init__(self, model: ModelFile, threads: int, shapes: dict[str, tuple[int, ...]]) -> None:
        self._session = _session(model, threads)
        self.inputs = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
        fed = {model.tensors[name]: array for name, array in self.inputs.items()}
        wanted = list(model.contract.outputs)
        shown = self._session.run([model.tensors[name] for name in wanted], fed)
        self.outputs = dict(zip(wanted, (np.zeros_like(array) for array in shown), strict=True))
        self._binding = self._session.io_binding()
        for name, array in self.inputs.items():
            place = (model.tensors[name], "cpu", 0, np.float32, array.shape, array.ctypes.data)
            self._binding.bind_input(*place)
        for name, array in self.outputs.items():
            place = (model.tensors[name], "cpu", 0, np.float32, array.shape, array.ctypes.data)
            self._binding.bind_output(*place)

    def run(self) -> None:
        """Inputs to outputs."""
        self._session.run_with_iobinding(self._binding)


def _session(model: ModelFile, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # as our own sessions: where cores are shared, threads that spin cost their owner most
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])


def _plain(model: ModelFile, threads: int) -> Callable[[dict[str, F32]], dict[str, F32]]:
    session, names = _session(model, threads), list(model.contract.outputs)

    def run(inputs: dict[str, F32]) -> dict[str, F32]:
        fed = {model.tensors[key]: value for key, value in inputs.items()}
        return dict(zip(names, session.run([model.tensors[key] for key in names], fed), strict=True))

    return run
