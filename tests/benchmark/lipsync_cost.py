"""What a talking frame costs on one core: every stage of ours beside the published steps in OpenCV, in one run.

    python -m tests.benchmark.lipsync_cost [--frames N] [--only NAME,...] [--write NAME]

Generators are twins at real size (random weights: for cost only), frames are the sample clip's at 1280 x 720, one
thread each. NV12 goes in and NV12 comes out, as decoders and encoders have it, so the published way pays for its BGR,
which is a row of its own. Both ways run the same networks by ONNX Runtime and hear the same arrays, in turns. A row is
CPU time of this process, which works on one thread alone, so that other work on the machine counts little: the median,
and the least beside it. `wall` is what the whole frame took by the clock at its fastest.

`look_ahead_ms`: the sound behind a frame's instant that it waits for. `max_difference`: of any code of any output frame
between the whole sound at once and the same sound cut into pieces of one sample, primes, and 10, 20 and 40 ms.
With --write the figures go to profiles/measured/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from engine.backends import open_backend
from engine.frame import Buffer
from engine.lipsync import LipsyncPipeline, open_lipsync, open_listen
from engine.stages.listen import Listen
from kernels.launch import PLACE_FLOATS, PLACE_RECTANGLE, Values, mouth_crop_into, mouth_paste_into
from models.contract import load_contract
from models.spec import Spec
from profiles.profile import load_profile
from tests.benchmark.conditions import conditions
from tests.clips import decoded
from tests.lipsync_flow import Network, ultralight_step, wav2lip_step
from tests.lipsync_parts import CLIP, SIZE, files_in_place, lipsync_profile, sample_template, twin_path
from tests.unit.test_audio_encoders import listening_convolution
from tests.unit.voice import voice

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
MEASURED = Path(__file__).parents[2] / "profiles" / "measured"
RATE_HZ = 16000
PIECES = (1, 7, 487, 1009, 160, 320, 640)
TURN_FRAMES = 4


@dataclass(frozen=True)
class Case:
    """One generator with the files that serve it. `original_ms`: what its makers' own runs look ahead, by their code.

    `step` is the published way of one frame, where it is known.
    """

    name: str
    contract: str
    twin: str
    encoder: str = ""
    step: Callable[[U8, tuple[int, int, int, int], F32, Network], F32] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    original_ms: str = ""
    note: str = ""


# as the profiles that come with the project have them
SPAN = {name: {"span": load_profile(name).lipsync.span} for name in ("ultralight_720p25", "heygem_720p25")}
HUBERT = "its encoder is a stand-in of one layer: not in the costs"
CASES = (
    Case(
        "ultralight_half", "ultralight_hubert", "ultralight_half", "hubert_large", ultralight_step,
        SPAN["ultralight_720p25"], original_ms="about 520 to the first lip, with wenet", note=HUBERT,
    ),
    Case(
        "ultralight_hubert", "ultralight_hubert", "ultralight_hubert", "hubert_large", ultralight_step,
        SPAN["ultralight_720p25"], original_ms="about 520 to the first lip, with wenet", note=HUBERT,
    ),
    Case(
        "ultralight_wenet", "ultralight_wenet", "ultralight_wenet", "wenet_encoder", ultralight_step,
        original_ms="about 520 to the first lip",
    ),
    Case("wav2lip_96", "wav2lip_96", "wav2lip_96", "", wav2lip_step, original_ms="200, the whole file in its own code"),
    Case(
        "heygem_dinet_v1", "heygem_dinet_v1", "dinet_3_3_256", "heygem_wenet", None, SPAN["heygem_720p25"],
        original_ms="400",
        note="a contract twin, not the vendor's network, at the plain DINet's cost; its encoder is a stand-in",
    ),
)  # fmt: skip


@contextmanager
def files_of(case: Case) -> Iterator[dict[str, Path]]:
    """The case's files in their place: twins, and a layer for an encoder that has none."""
    with tempfile.TemporaryDirectory(prefix="lipsync-cost-") as folder:
        paths = {case.contract: twin_path(case.twin)}
        if case.encoder == "hubert_large":
            paths[case.encoder] = listening_convolution(Path(folder) / "hubert.onnx", case.encoder, 400, 320, 1024)
        elif case.encoder == "heygem_wenet":
            paths[case.encoder] = listening_convolution(Path(folder) / "wenet.onnx", case.encoder, 7, 4, 256)
        elif case.encoder:
            paths[case.encoder] = twin_path(case.encoder)
        with files_in_place(paths):
            yield paths


def opened(case: Case, count: int, like: Literal["ours", "original"] = "ours") -> LipsyncPipeline:
    """Ours on one thread."""
    contract = load_contract(case.contract)
    profile = lipsync_profile(case.contract, encoder=case.encoder, threads=1, like=like, **case.options)
    return open_lipsync(profile, template=sample_template(contract, count))


def network_of(path: Path) -> Network:
    """A file as the published systems call it: arrays in, arrays out, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {item.shape[1]: item.name for item in session.get_inputs()}
    image = inputs.pop(6)
    [heard] = inputs.values()

    def run(pictures: F32, condition: F32) -> F32:
        out: F32 = session.run(None, {image: pictures, heard: condition})[0]
        return out

    return run


class Published:
    """The published steps of one generator on one NV12 frame, timed."""

    def __init__(self, case: Case, path: Path) -> None:
        assert case.step is not None
        self._step, self._network = case.step, network_of(path)
        self.ms: dict[str, list[float]] = {
            "in and out": [],
            "crop and paste": [],
            "generate": [],
            "whole": [],
            "wall": [],
        }

    def __call__(self, nv12: U8, box: tuple[int, int, int, int], heard: F32) -> None:
        """One frame; the network's time is taken apart from the steps around it."""
        spent = 0.0

        def run(pictures: F32, condition: F32) -> F32:
            nonlocal spent
            begin = time.process_time()
            out = self._network(pictures, condition)
            spent = time.process_time() - begin
            return out

        began, start = time.perf_counter(), time.process_time()
        bgr = cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)
        there = time.process_time()
        self._step(np.asarray(bgr, np.uint8), box, heard, run)
        made = time.process_time()
        cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
        end = time.process_time()
        for name, seconds in (
            ("in and out", there - start + end - made),
            ("crop and paste", made - there - spent),
            ("generate", spent),
            ("whole", end - start),
            ("wall", time.perf_counter() - began),
        ):
            self.ms[name].append(1000 * seconds)


class Ours:
    """Our pipeline's stages on one NV12 frame, each in CPU time."""

    def __init__(self, pipeline: LipsyncPipeline) -> None:
        self.pipeline = pipeline
        names = ("in and out", "crop", "generate", "paste", "whole", "wall")
        self.ms: dict[str, list[float]] = {name: [] for name in names}
        backend: Any = pipeline.backend
        backend.span = self._span

    @contextmanager
    def _span(self, stage: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        self.ms[stage].append(1000 * (time.process_time() - begin))

    def __call__(self, nv12: U8, row: int, heard: F32) -> None:
        """One frame."""
        began, start = time.perf_counter(), time.process_time()
        frame = self.pipeline.take(nv12)
        there = time.process_time()
        self.pipeline.finish(self.pipeline.begin(frame, row, heard))
        frame.planes()
        end = time.process_time()
        self.ms["in and out"].append(1000 * (there - start))
        self.ms["whole"].append(1000 * (end - start))
        self.ms["wall"].append(1000 * (time.perf_counter() - began))


def summary(ms: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and least of each row, without the first turn."""
    kept = {name: values[TURN_FRAMES:] or values for name, values in ms.items()}
    return {name: {"p50": round(float(np.median(v)), 3), "least": round(min(v), 3)} for name, v in kept.items()}


def heard_by(pipeline: LipsyncPipeline, count: int) -> tuple[list[F32], float]:
    """What `count` frames hear of a voice, and the ms of listening for each."""
    listen, rate_hz = pipeline.listen, pipeline.listen.rate_hz
    sound = voice(int(rate_hz * (count + 30) / float(pipeline.fps)), seed=1)
    found: list[F32] = []
    begin = time.process_time()
    for at in range(0, len(sound), rate_hz // 25):
        found += [one.condition for one in listen.push(sound[at : at + rate_hz // 25])]
    spent_ms = 1000 * (time.process_time() - begin)
    frames = len(found)
    listen.reset()
    return found[:count], spent_ms / frames


def cost_of(case: Case, frames: int) -> dict[str, Any]:
    """Ours and the published way on the same frames, in turns."""
    pictures = decoded(CLIP, 25)
    with files_of(case) as paths, opened(case, len(pictures)) as pipeline:
        heard, listen_ms = heard_by(pipeline, len(pictures))
        ours = Ours(pipeline)
        published = Published(case, paths[case.contract]) if case.step is not None else None
        matrices = pipeline.template.raw_crop_from_frame
        for turn in range(-(-frames // TURN_FRAMES)):
            rows = [(turn * TURN_FRAMES + i) % len(pictures) for i in range(TURN_FRAMES)]
            for row in rows:
                ours(pictures[row], row, heard[row])
            for row in rows if published is not None else ():
                assert published is not None
                published(pictures[row], box_of(matrices[row], case.contract), heard[row][None])
        told: dict[str, Any] = {"fps": float(pipeline.fps), "ours_ms": summary(ours.ms)}
        told["ours_ms"]["listen"] = {"p50": round(listen_ms, 3)}
        told["look_ahead_ms"] = pipeline.listen.look_ahead_ms
    told["look_ahead_of_the_original_ms"] = case.original_ms
    if published is not None:
        theirs = summary(published.ms)
        around = sum(told["ours_ms"][name]["p50"] for name in ("in and out", "crop", "paste"))
        told["published_ms"] = theirs
        told["around_the_network_faster"] = round(
            (theirs["in and out"]["p50"] + theirs["crop and paste"]["p50"]) / around, 1
        )
    if case.note:
        told["note"] = case.note
    return told


def box_of(crop_from_frame: F32, contract: str) -> tuple[int, int, int, int]:
    """The box of whole px whose crop this matrix makes."""
    facts = load_contract(contract).lipsync
    assert facts is not None
    sx, sy = float(crop_from_frame[0, 0]), float(crop_from_frame[1, 1])
    x0 = round(0.5 - (float(crop_from_frame[0, 2]) + 0.5) / sx)
    y0 = round(0.5 - (float(crop_from_frame[1, 2]) + 0.5) / sy)
    return x0, y0, x0 + round(facts.crop_px[0] / sx), y0 + round(facts.crop_px[1] / sy)


def difference_of(case: Case, seconds: float = 0.8) -> int:
    """The largest difference of any code between a sound at once and the same sound in pieces."""
    sound = voice(int(seconds * RATE_HZ), seed=2)
    with files_of(case):
        pictures = decoded(CLIP, 25)
        with opened(case, len(pictures)) as pipeline:

            def spoken(size: int) -> list[U8]:
                found: list[U8] = []
                for at in range(0, len(sound), size):
                    found += [made(one.n, one.condition) for one in pipeline.listen.push(sound[at : at + size])]
                return found + [made(one.n, one.condition) for one in pipeline.listen.flush()]

            def made(n: int, condition: F32) -> U8:
                frame = pipeline.take(pictures[n])
                pipeline.finish(pipeline.begin(frame, n, condition))
                return np.concatenate([plane.copy() for plane in frame.planes()])

            whole = spoken(len(sound))
            worst = 0
            for size in PIECES:
                pieces = spoken(size)
                assert len(pieces) == len(whole)
                worst = max(worst, *(int(np.abs(a.astype(int) - b).max()) for a, b in zip(pieces, whole, strict=True)))
    return worst


def mini_sized(frames: int) -> dict[str, Any]:
    """The work of DINet_mini 2.0 for a frame: its ear, its network behind the kept style, a crop and a paste.

    Not a pipeline: its mouth is drawn from 478 points of MediaPipe, for which there is no contract.
    """
    path = twin_path("dinet_mini_2", part="frame")
    contract = load_contract("dinet_mini_2")
    session = onnxruntime.InferenceSession(str(path), _one_thread(), providers=["CPUExecutionProvider"])
    profile = lipsync_profile("dinet_mini_2", encoder="dh_live_audio2bs", threads=1)
    rows: dict[str, list[float]] = {name: [] for name in ("crop", "generate", "paste", "whole")}
    with (
        closing(open_backend("cpu", threads=1, say=lambda _: None)) as backend,
        files_in_place({"dh_live_audio2bs": twin_path("dh_live_audio2bs")}),
    ):
        listen = open_listen(profile, fps=Fraction(25), backend=backend)
        listen_ms = _ms_a_frame(listen)
        template = sample_template(contract, 25)
        place = backend.allocate(Spec("float32", (PLACE_FLOATS,)))
        values = np.zeros(PLACE_FLOATS, np.float32)
        values[:6], values[6:12] = template.frame_from_crop[0].ravel(), template.crop_from_frame[0].ravel()
        values[12], values[PLACE_RECTANGLE : PLACE_RECTANGLE + 4] = 1.0, (380, 380, 560, 500)
        backend.upload(values, place)
        source, whole, out = (backend.allocate(Spec("float32", (1, 3, 80, 112))) for _ in range(3))
        room = backend.allocate(Spec("float32", (6, 80, 112)))
        nv12 = backend.allocate_nv12(*SIZE)
        backend.take(decoded(CLIP, 1)[0], nv12)
        style = np.zeros((1, 64), np.float32)
        for _ in range(max(frames, 100)):
            marks = [time.process_time()]
            mouth_crop_into(backend, nv12.view(template.colour), place, masked=source, whole=whole,
                            crop_px=(184, 184), offset_px=(36, 52), values=Values())  # fmt: skip
            marks.append(time.process_time())
            _fill(out, session.run(None, {"source": source.owner, "style": style})[0])
            marks.append(time.process_time())
            mouth_paste_into(backend, out, place, nv12.view(template.colour), room, whole=whole, offset_px=(36, 52))
            marks.append(time.process_time())
            for name, begin, end in zip(rows, marks[:-1], marks[1:], strict=False):
                rows[name].append(1000 * (end - begin))
            rows["whole"].append(1000 * (marks[-1] - marks[0]))
    told = {**summary(rows), "listen": {"p50": round(listen_ms, 3)}}
    note = "its networks, and a crop and a paste of its size; not a pipeline: its prompt can't be drawn here"
    return {"fps": 25.0, "ours_ms": told, "look_ahead_ms": listen.look_ahead_ms, "note": note,
            "look_ahead_of_the_original_ms": "160 to 200"}  # fmt: skip


def _fill(buffer: Buffer, values: F32) -> None:
    buffer.owner[...] = values


def _one_thread() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


def _ms_a_frame(listen: Listen) -> float:
    sound = voice(4 * RATE_HZ, seed=1)
    begin = time.process_time()
    count = sum(len(listen.push(sound[at : at + 640])) for at in range(0, len(sound), 640))
    return 1000 * (time.process_time() - begin) / count


def main() -> None:
    """Print the figures; with --write also keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", default="")
    chosen = parser.parse_args()
    only = set(filter(None, chosen.only.split(",")))
    told: dict[str, Any] = {}
    for case in CASES:
        if only and case.name not in only:
            continue
        frames = chosen.frames if case.step is not None else 4 * TURN_FRAMES
        told[case.name] = cost_of(case, frames)
        if case.step is not None:
            told[case.name]["max_difference"] = difference_of(case)
        print(case.name, json.dumps(told[case.name]), flush=True)
    if not only or "dinet_mini_2" in only:
        told["dinet_mini_2"] = mini_sized(chosen.frames)
        print("dinet_mini_2", json.dumps(told["dinet_mini_2"]), flush=True)
    for name, one in told.items():
        rows = one["ours_ms"]
        a_frame_ms = rows["whole"]["p50"] + rows["listen"]["p50"]
        one["frame_with_listening_ms"] = round(a_frame_ms, 3)
        one["holds_its_rate_on_one_core"] = a_frame_ms <= 1000 / one["fps"]
        print(f"{name:20} {a_frame_ms:8.2f} ms a frame of {1000 / one['fps']:.0f}")
    report = {
        "conditions": conditions(weights="twins: published topology, random weights", input="sample clip, 1280 x 720"),
        "threads": 1,
        "pipelines": told,
    }
    if chosen.write:
        path = MEASURED / f"{chosen.write}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        part.replace(path)


if __name__ == "__main__":
    main()
