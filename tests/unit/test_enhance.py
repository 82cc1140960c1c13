"""The enhance stage: when it restores, what it adds again, what it leaves alone, and which ways it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import engine
from build_engines.samples import Samples
from engine.__main__ import main
from engine.backends.base import Backend
from engine.backends.cuda import CudaBackend
from engine.errors import ModelError
from engine.frame import Frame, held_buffer
from engine.pipeline import Pipeline, open_backend_for, open_pipeline
from engine.request import restorer_way
from engine.stages.enhance import Enhance
from engine.stages.track import allocate_faces
from engine.video.pictures import read_picture
from kernels.launch import Colour
from kernels.reference import Picture, nv12_to_rgb
from models.contract import load_contract
from models.model_files import ModelFile, find
from models.tiny.pack import Pack
from models.tiny.train.restore_pictures import own_source
from profiles.profile import Enhance as Options
from profiles.profile import Profile, load_profile
from tests.clips import U8, decoded
from tests.discipline import broken_by
from tests.recording.driver import RecordingDriver
from tests.recording.flows import file_mode, to_i420, to_nv12
from tests.recording.sessions import open_backend
from tests.recording.trt import write_played_plan
from tests.unit.test_trt_session import Rig

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
SIZE = (1280, 720)
WHEEL = "tensorrt-10.16.1.11"
CUT = 150  # first frame of the sample's second shot


@pytest.fixture(scope="module")
def clip() -> list[U8]:
    return decoded(SAMPLE / "clip.mp4", CUT + 6)


def tiny(restorer: str = "tiny_restorer", *, refiner: bool = True, slots: int = 3, **options: Any) -> Profile:
    """The tiny profile with a restorer."""
    profile = load_profile("tiny")
    models = dataclasses.replace(profile.models, restorer=restorer)
    models = models if refiner else dataclasses.replace(models, refiner="")
    return dataclasses.replace(profile, models=models, slots=slots, enhance=Options(**options))


def opened(profile: Profile, **options: Any) -> Pipeline:
    """On the cpu backend."""
    return engine.open_pipeline(profile, source=SAMPLE / "source_1.png", size=SIZE, **options)


def shown(frame: Frame) -> bytes:
    """All pixels of a frame."""
    return b"".join(plane.tobytes() for plane in frame.planes())


class Counted:
    """Stands for a restorer's session and counts what it is asked for."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, inputs: Any, outputs: Any) -> None:
        self.batches.append(inputs["image"].shape[0])
        self.session.run(inputs, outputs)


@pytest.fixture
def counted() -> Iterator[tuple[Pipeline, Counted]]:
    with opened(tiny(every=3)) as pipeline:
        assert pipeline.enhance is not None
        counter: Any = Counted(pipeline.enhance.session)
        pipeline.enhance.session = counter
        yield pipeline, counter


def test_every_third_frame_is_restored_and_the_others_get_its_change(
    counted: tuple[Pipeline, Counted], clip: list[U8]
) -> None:
    pipeline, session = counted
    weights = []
    with opened(tiny("")) as plain:
        for i, picture in enumerate(clip[85:92]):  # a head turns
            frame = pipeline.step(picture)
            assert len(session.batches) == i // 3 + 1
            assert pipeline.enhance is not None
            weights.append(pipeline.backend.to_host(pipeline.enhance.weights[2]).tolist())
            assert shown(frame) != shown(plain.step(picture))
    assert session.batches == [2, 2, 2]
    assert weights[0::3] == [[1.0, 1.0]] * 3
    between = np.array([held for i, held in enumerate(weights) if i % 3])
    assert 0.3 < between.min() < 0.98
    assert between.max() <= 1.0


def test_a_cut_drops_what_was_kept_and_new_faces_are_restored_at_once(
    counted: tuple[Pipeline, Counted], clip: list[U8]
) -> None:
    pipeline, session = counted
    for picture in clip[CUT - 2 : CUT]:
        pipeline.step(picture)
    assert len(session.batches) == 1
    assert pipeline.step(clip[CUT]).is_cut
    assert len(session.batches) == 2
    pipeline.step(clip[CUT + 1])
    pipeline.step(clip[CUT + 2])
    assert len(session.batches) == 2  # counted from the cut on
    pipeline.step(clip[CUT + 3])
    assert len(session.batches) == 3


def test_without_faces_nothing_runs_and_the_next_face_is_restored(
    counted: tuple[Pipeline, Counted], clip: list[U8]
) -> None:
    pipeline, session = counted
    pipeline.step(clip[0])
    grey = np.full((1080, 1280), 90, np.uint8)
    for _ in range(9):  # tracks coast, then end
        frame = pipeline.step(grey)
    before, launches = len(session.batches), pipeline.backend.counters.launches
    frame = pipeline.step(grey)
    assert frame.face_count == 0
    assert shown(frame) == grey.tobytes()
    per_frame = pipeline.backend.counters.launches - launches
    pipeline.step(clip[1])
    assert len(session.batches) == before + 1
    assert pipeline.backend.counters.launches - launches > 2 * per_frame


def test_frames_without_faces_use_up_no_turn(clip: list[U8]) -> None:
    with opened(tiny("")) as plain, opened(tiny(every=1000, reuse=False)) as pipeline:
        pipeline.step(np.full((1080, 1280), 90, np.uint8))
        plain.step(np.full((1080, 1280), 90, np.uint8))
        assert shown(pipeline.step(clip[0])) != shown(plain.step(clip[0]))
        assert shown(pipeline.step(clip[1])) == shown(plain.step(clip[1]))


def test_what_is_added_moves_with_the_face(clip: list[U8]) -> None:
    with opened(tiny(every=9)) as pipeline:
        assert pipeline.enhance is not None
        pipeline.step(clip[0])
        before = pipeline.backend.to_host(pipeline.enhance.rectangles[2]).copy()
        pipeline.step(np.roll(clip[0], 24, axis=1))
        moved = pipeline.backend.to_host(pipeline.enhance.rectangles[2]) - before
    assert (np.abs(moved[:, [0, 2]] - 24) <= 6).all()
    assert (np.abs(moved[:, [1, 3]]) <= 4).all()


def test_without_reuse_frames_between_are_as_without_a_restorer(clip: list[U8]) -> None:
    with opened(tiny("")) as plain, opened(tiny(every=3, reuse=False)) as pipeline:
        alike = [shown(plain.step(picture)) == shown(pipeline.step(picture)) for picture in clip[:5]]
    assert alike == [False, True, True, False, True]


def test_a_blend_of_nothing_changes_no_bit(clip: list[U8]) -> None:
    with opened(tiny("")) as plain, opened(tiny(every=2, blend=0.0)) as pipeline:
        assert all(shown(plain.step(picture)) == shown(pipeline.step(picture)) for picture in clip[:3])


def test_only_the_rectangles_of_the_restorer_change(clip: list[U8]) -> None:
    with opened(tiny("")) as plain, opened(tiny(every=2)) as pipeline:
        for picture in clip[:2]:
            before, after = (step.step(picture).planes()[0].astype(int) for step in (plain, pipeline))
            assert pipeline.enhance is not None
            free = np.ones(before.shape, bool)
            for x0, y0, x1, y1 in pipeline.backend.to_host(pipeline.enhance.rectangles[2]):
                assert 100 < x1 - x0 < 600
                free[y0:y1, x0:x1] = False
            assert np.array_equal(before[free], after[free])
            changed = np.abs(before - after)[~free]
            assert 0.02 < (changed > 0).mean() < 1.0
            assert changed.mean() < 8  # sharper, not another picture


def test_faces_get_sharper_and_stay_themselves(clip: list[U8]) -> None:
    """On restored frames and on those between: more fine detail, the same identity by the pack's own embedder."""
    pack = Pack(threads=2)
    with opened(tiny("")) as plain, opened(tiny(every=2)) as pipeline:
        for picture in clip[20:22]:
            frames = [step.step(picture) for step in (plain, pipeline)]
            points = pipeline.backend.to_host(held_buffer(frames[1].faces.points))[:2].astype(np.float64)
            whole = [frame.planes()[0] for frame in frames]
            colour = [_rgb(frame) for frame in frames]
            for face in points:
                x, y = face.mean(0).astype(int)
                eye = int(np.hypot(*(face[1] - face[0])))
                inner = np.s_[y - eye : y + eye, x - eye : x + eye]
                energy = [_laplacian(luma[inner]) for luma in whole]
                assert energy[1] > 1.3 * energy[0]
                before, after = (pack.embed_at(image, face) for image in colour)
                assert float(before @ after) > 0.9


def _laplacian(luma: U8) -> float:
    one = luma.astype(np.float32)
    sides = one[:-2, 1:-1] + one[2:, 1:-1] + one[1:-1, :-2] + one[1:-1, 2:]
    return float(((sides - 4 * one[1:-1, 1:-1]) ** 2).mean())


def _rgb(frame: Frame) -> U8:
    luma, chroma = frame.planes()
    rgb = nv12_to_rgb(Picture(luma, chroma.reshape(chroma.shape[0], -1, 2), frame.view.colour))
    return np.asarray(np.clip(rgb + 0.5, 0, 255)).astype(np.uint8)


def test_a_warm_frame_allocates_nothing_and_waits_once(clip: list[U8]) -> None:
    with opened(tiny(every=2)) as pipeline:
        for picture in clip[:4]:
            pipeline.step(picture)
        before = dataclasses.replace(pipeline.backend.counters)
        for picture in clip[:8]:
            pipeline.step(picture)
        after = pipeline.backend.counters
    for name in ("allocations", "uploads", "downloads", "sessions"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.waits - before.waits == after.frame_copies - before.frame_copies == 8


CASES: dict[str, tuple[Profile, str, dict[str, Any]]] = {
    "find before make": (tiny(refiner=False, every=3), "all", {}),
    "with a refiner": (tiny(every=2), "leftmost", {}),
    "without reuse, by likeness": (tiny(every=2, reuse=False), f"like={SAMPLE / 'person_1.png'}", {}),
    "networks outside the graphs": (tiny(refiner=False, every=2), "all", {"in_graph": False}),
    "under an occlusion mask": (load_profile("tiny_sharp"), "all", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_on_the_recording_device_every_byte_is_the_cpus_and_nothing_races(case: str, clip: list[U8]) -> None:
    profile, faces, options = CASES[case]
    pictures = [to_i420(picture, i) for i, picture in enumerate(clip[:9])]
    with opened(profile, faces=faces) as cpu:
        wanted = list(file_mode(cpu, pictures, ahead=1))
    with on_recorder(profile, faces, **options) as pipeline:
        got = list(file_mode(pipeline, pictures))
        assert [out == other for (_, out), (_, other) in zip(got, wanted, strict=True)] == [True] * 9
        assert driver_of(pipeline).races.found == []


def on_recorder(profile: Profile, faces: str = "all", **options: Any) -> Pipeline:
    """A pipeline on the cuda backend over the recording driver."""
    return open_pipeline(
        profile, sources=[SAMPLE / "source_1.png"], size=SIZE, colour=Colour(), faces=[faces],
        backend=open_backend(**options),
    )  # fmt: skip


def driver_of(pipeline: Pipeline) -> RecordingDriver:
    """The driver under it."""
    assert isinstance(pipeline.backend, CudaBackend)
    assert isinstance(pipeline.backend.driver, RecordingDriver)
    return pipeline.backend.driver


def test_restored_or_not_a_warm_frame_is_two_graph_launches_and_one_wait(clip: list[U8]) -> None:
    with on_recorder(tiny(refiner=False, every=3)) as pipeline:
        pictures = [to_nv12(picture, i) for i, picture in enumerate(clip[:9])]
        list(file_mode(pipeline, pictures, ahead=1))
        before, waits = driver_of(pipeline).calls.copy(), pipeline.backend.counters.waits
        list(file_mode(pipeline, pictures, ahead=1))
        assert broken_by(driver_of(pipeline).calls - before, 9) == []
        assert pipeline.backend.counters.waits - waits == 9
        session: Any = pipeline.enhance.session if pipeline.enhance else None
        assert set(session.batches) == {1, 2, 4}
        assert driver_of(pipeline).races.found == []


def network(name: str, path: Path, nodes: list[Any], inputs: dict[str, tuple[int, list[int]]], side: int) -> ModelFile:
    """A restorer's file of a few nodes, under a published contract."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, kind, shape) for key, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, side, side])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    tensors = {"image": "input", "output": "output", **({"fidelity": "weight"} if "weight" in inputs else {})}
    return ModelFile(load_contract(name), path, "0" * 64, tensors)


def one_face(backend: Backend, points: Any, level: int = 100) -> Frame:
    """A grey frame of 640 x 480 with one tracked face."""
    nv12 = backend.allocate_nv12(640, 480)
    luma, chroma = np.full((480, 640), level, np.uint8), np.full((240, 640), 128, np.uint8)
    backend.load_planes((luma, chroma), nv12)
    faces = allocate_faces(backend, 2)
    for tensor, value in (
        (faces.points, np.stack([points, np.zeros((5, 2))]).astype(np.float32)),
        (faces.track_ids, np.array([7, 0], np.int32)),
        (faces.slots, np.array([1, 0], np.int32)),
        (faces.count, np.array([1], np.int32)),
    ):
        backend.upload(value, held_buffer(tensor))
    return Frame(0, nv12, nv12.view(Colour("bt601", True, "center")), faces)


POINTS = np.array([(280, 200), (360, 200), (320, 245), (290, 290), (350, 290)], np.float32)
PICTURE = (TensorProto.FLOAT, [1, 3, 512, 512])


@pytest.fixture
def cpu() -> Iterator[Backend]:
    backend = open_backend_for(dataclasses.replace(load_profile("tiny"), backend="cpu"))
    yield backend
    backend.close()


def test_codeformers_weight_is_bound_by_name_to_the_contracts_value(cpu: Backend, tmp_path: Path) -> None:
    """The output is the weight everywhere: 0.5 of -1..1 is 191."""
    nodes = [
        helper.make_node("Cast", ["weight"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["input", "input"], ["zero"]),
        helper.make_node("Add", ["zero", "w"], ["output"]),
    ]
    model = network(
        "codeformer", tmp_path / "c.onnx", nodes, {"input": PICTURE, "weight": (TensorProto.DOUBLE, [1])}, 512
    )
    session = cpu.open_session(model)
    way = restorer_way(model.contract, Options())
    stage = Enhance(cpu, session, way, way.blend, 2, 4)
    stage.prepare([1, 2])
    frame = one_face(cpu, POINTS)
    stage(frame, 2, restore=True)  # two rows, of which one is a face; the file takes one at a time
    assert abs(int(frame.planes()[0][245, 320]) - (100 + 0.8 * 91.25)) <= 1
    assert cpu.to_host(held_buffer(stage.residuals.owners)).tolist() == [0, 7, 0, 0]


def test_a_plans_constant_is_bound_once_and_shared_by_all_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan keeps CodeFormer's weight as an FP32 input; here it takes one face at a time."""
    monkeypatch.setenv("FACE_ENGINE_PLANS", str(tmp_path / "plans"))
    nodes = [
        helper.make_node("Sub", ["input", "input"], ["zero"]),
        helper.make_node("Add", ["zero", "weight"], ["output"]),
    ]
    inputs = {"input": PICTURE, "weight": (TensorProto.FLOAT, [1])}
    model = network("codeformer", tmp_path / "c.onnx", nodes, inputs, 512)
    write_played_plan(model, {"image": (1, 3, 512, 512), "fidelity": (1,)}, WHEEL)
    rig = Rig(WHEEL)
    session = rig.open(model)
    image, output = rig.buffer(2, 3, 512, 512, fill=0.1), rig.buffer(2, 3, 512, 512)
    session.prepare({"image": image}, {"output": output})
    allocations = rig.backend.counters.allocations
    session.run({"image": image}, {"output": output})
    assert (rig.backend.to_host(output) == 0.5).all()
    assert rig.backend.counters.allocations == allocations
    assert rig.driver.races.found == []


def test_an_output_of_twice_the_side_is_averaged_and_the_border_has_the_ways_colour(
    cpu: Backend, tmp_path: Path
) -> None:
    """Deep-Live-Cam's GFPGAN-1024: the face stands in the frame's corner, half of its crop outside."""
    scales = helper.make_node("Constant", [], ["scales"], value_floats=[1.0, 1.0, 2.0, 2.0])
    nodes = [scales, helper.make_node("Resize", ["input", "", "scales"], ["output"], mode="nearest")]
    model = network("gfpgan_1024", tmp_path / "g.onnx", nodes, {"input": PICTURE}, 1024)
    way = restorer_way(model.contract, Options())
    stage = Enhance(cpu, cpu.open_session(model), way, 1.0, 2, 2)
    frame = one_face(cpu, POINTS - (300.0, 180.0))
    stage(frame, 1, restore=True)
    crop = cpu.to_host(stage.crop.inputs[1])[0] * 127.5 + 127.5
    assert np.abs(crop[:, 0, 0] - way.border_bgr[::-1]).max() < 0.1  # RGB of what lies outside
    assert np.abs(crop[:, 500, 500] - 100).max() < 0.6
    assert (frame.planes()[0] == 100).all()  # the network changes nothing, so nothing is added
    mask = cpu.to_host(stage.mask)
    assert (mask[0, 256], mask[256, 511], mask[256, 256]) == (0.0, 0.0, 1.0)
    assert abs(mask[256, 10] - 10 / 25) < 1e-6  # 5 % of 512 are 25 px


def test_under_an_occlusion_mask_only_what_is_seen_is_restored(cpu: Backend, tmp_path: Path) -> None:
    """A mask network that sees the left half of every crop, and a restorer that brightens all of it."""
    brighter = helper.make_node("Constant", [], ["more"], value_floats=[0.4])
    model = network(
        "gfpgan_1.4", tmp_path / "g.onnx", [brighter, helper.make_node("Add", ["input", "more"], ["output"])],
        {"input": PICTURE}, 512,
    )  # fmt: skip
    left = np.zeros((1, 256, 256, 1), np.float32)
    left[:, :, :128] = 1.0
    halves = helper.make_node("Constant", [], ["left"], value=numpy_helper.from_array(left))
    nothing = [helper.make_node("Sub", ["input", "input"], ["zero"]), helper.make_node("ReduceSum", ["zero"], ["none"])]
    graph = helper.make_graph(
        [halves, *nothing, helper.make_node("Add", ["left", "none"], ["output"])],
        "xseg",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 256, 256, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 256, 256, 1])],
    )
    file = tmp_path / "x.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    occluder = ModelFile(load_contract("xseg_1"), file, "0" * 64, {"image": "input", "mask": "output"})
    way = restorer_way(model.contract, Options())
    stage = Enhance(cpu, cpu.open_session(model), way, 1.0, 2, 4, cpu.open_session(occluder))
    stage.prepare([1, 2])
    frame = one_face(cpu, POINTS)
    stage(frame, 2, restore=True)
    row = frame.planes()[0][245].astype(int)
    assert row[290] - 100 > 25
    assert (row[335:400] == 100).all()
    stage(frame, 2, restore=False)
    assert (frame.planes()[0][245, 335:400] == 100).all()


def test_ways_that_do_not_run_are_refused_by_name() -> None:
    gfpgan, gpen = load_contract("gfpgan_1.4"), load_contract("gpen_bfr_512")
    for contract, like, words in (
        (gfpgan, "gfpganer", "wanted a box or ramp mask and a known border, got a mask of the kind parse; say like"),
        (gfpgan, "heygem", "got a mask of the kind unknown"),
        (gpen, "deep_live_cam", "got a border that nobody published"),
        (gfpgan, "roop", "enhance.like: wanted one of facefusion, gfpganer, heygem for gfpgan_1.4, got roop"),
        (load_contract("det_10g"), "", "det_10g: wanted a restorer, got a detector"),
    ):
        with pytest.raises(ModelError, match=words):
            restorer_way(contract, Options(like=like))
    for name in ("gfpgan_1.4", "gfpgan_1024", "gpen_bfr_256", "gpen_bfr_2048", "codeformer", "tiny_restorer"):
        assert restorer_way(load_contract(name), Options()).mask in ("box", "ramp")


def test_a_model_of_another_role_and_options_out_of_range_are_refused() -> None:
    with pytest.raises(ModelError, match=r"profile tiny: wanted a restorer, got tiny_embedder, a embedder"):
        opened(tiny("tiny_embedder"))
    with pytest.raises(ValueError, match=r"^enhance.every: wanted 1 to 1000, got 0"):
        tiny(every=0)
    with pytest.raises(ValueError, match=r"^enhance.blend: wanted 0 to 1, got 1.5"):
        tiny(blend=1.5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--enhance-every", "2"], "--enhance-every: wanted a restorer, got profile tiny without one; name one with"),
        (["--restorer", "tiny_restorer", "--enhance-every", "0"], "options: enhance.every: wanted 1 to 1000, got 0"),
        (["--restorer", "tiny_restorer", "--enhance-blend", "2"], "options: enhance.blend: wanted 0 to 1, got 2.0"),
        (["--restorer", "none_such"], "contract none_such: wanted one of"),
    ],
)
def test_wrong_flags_end_with_code_2_and_a_sentence(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--profile", "tiny", *flags, "--source", str(SAMPLE / "source_1.png")]
    assert main([*command, str(SAMPLE / "person_1.png"), str(tmp_path / "out.png")]) == 2
    assert words in capsys.readouterr().err


def test_the_flags_reach_the_run(tmp_path: Path) -> None:
    """A still is one frame, and that one is restored: it differs from a run without, and from one mixed in by half."""
    command = ["run", "--profile", "tiny", "--source", str(SAMPLE / "source_1.png"), str(SAMPLE / "person_1.png")]
    flags = {"plain": [], "whole": ["--restorer", "tiny_restorer"]}
    flags["half"] = ["--restorer", "tiny_restorer", "--enhance-blend", "0.5", "--enhance-every", "3"]
    made = {}
    for name, more in flags.items():
        out = tmp_path / f"{name}.png"
        assert main([*command, *more, str(out)]) == 0
        made[name] = read_picture(out).astype(int)
    whole, half = (np.abs(made[name] - made["plain"]).mean() for name in ("whole", "half"))
    assert 0.1 * whole < half < 0.8 * whole  # small changes are rounded away


def _levels(image: npt.NDArray[np.float32]) -> U8:
    """A restorer's input [1,3,h,w] of -1..1 as a picture [h,w,3]."""
    levels: U8 = np.clip(image[0].transpose(1, 2, 0) * 127.5 + 128.0, 0.0, 255.0).astype(np.uint8)
    return levels


def test_a_restorer_is_calibrated_on_pasted_faces() -> None:
    models = {role: find(f"tiny_{role}") for role in ("detector", "embedder", "swapper", "restorer")}
    samples = Samples(SAMPLE / "clip.mp4", models, count=2)
    pasted = samples.inputs("restorer")
    bare = samples._crops("restorer", "image")
    pack = Pack()
    assert len(pasted) == len(bare) >= 3
    for feed, other in zip(pasted, bare, strict=True):
        image = feed["image"]
        assert image.shape == (1, 3, 256, 256)
        assert -1.0 <= image.min() < image.max() <= 1.0
        apart = np.abs(image - other)[0].mean(0)
        assert apart[100:170, 90:160].mean() > 0.05
        ours, theirs = pack.embed(np.stack([own_source(_levels(image)), own_source(_levels(other))]))
        assert float(ours @ theirs) < 0.42  # another's face; that of the same person has 0.93
        assert (apart == 0).mean() > 0.2  # nothing but the face
