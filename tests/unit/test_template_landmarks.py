"""68 points by networks of landmarks: the crop that each contract asks for, there and back, up to a whole template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.backends.cpu import CpuBackend
from engine.errors import InputError, ModelError
from engine.frame import Frame
from engine.stages.track import allocate_faces
from engine.template.folder import open_template
from engine.template.landmarks import Landmarks, upright_quarters
from engine.template.prepare import prepare
from kernels.launch import Colour
from models.contract import load_contract
from models.model_files import add, open_file
from tests.clips import cut_out, decoded
from tests.templates import drawn_profile, half, write_pictures

F64 = npt.NDArray[np.float64]
MOVED = np.array([30.0, 40])
UP = np.array([[-20.0, -20], [20, -20], [0, 0], [-15, 20], [15, 20]])


def network(path: Path, contract: str, outputs: dict[str, F64], *, of_input: bool = False) -> Path:
    """An ONNX file with a contract's tensors that gives fixed values, or the mean of its input in all of them."""
    known = load_contract(contract)
    name, spec = next(iter(known.inputs.items()))
    nodes, inits = [helper.make_node("ReduceMean", [spec.names[0]], ["mean"], keepdims=0)], []
    inits.append(numpy_helper.from_array(np.float32(1 if of_input else 0), "share"))
    nodes.append(helper.make_node("Mul", ["mean", "share"], ["some"]))
    for ours, values in outputs.items():
        inits.append(numpy_helper.from_array(values.astype(np.float32), f"{ours}_fixed"))
        nodes.append(helper.make_node("Add", [f"{ours}_fixed", "some"], [known.outputs[ours].names[0]]))
    shapes = {ours: known.outputs[ours].at(n=1).sizes for ours in outputs}
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(spec.names[0], TensorProto.FLOAT, spec.at(n=1).sizes)],
        [
            helper.make_tensor_value_info(known.outputs[ours].names[0], TensorProto.FLOAT, shape)
            for ours, shape in shapes.items()
        ],
        inits,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def landmarks(path: Path, contract: str, luma: npt.NDArray[np.uint8] | None = None) -> tuple[Landmarks, Frame]:
    """The network on a frame of 640 x 480 px; gray, or with this luma."""
    backend = CpuBackend(1)
    nv12 = backend.allocate_nv12(640, 480)
    plane, chroma = nv12.planes()
    chroma[:] = 128
    plane[:] = 0 if luma is None else luma
    frame = Frame(0, nv12, nv12.view(Colour("bt601", full_range=True)), allocate_faces(backend, 1))
    return Landmarks(backend, backend.open_session(open_file(load_contract(contract), path))), frame


def test_pfpld_s_fractions_are_of_the_grown_box_and_98_become_68(tmp_path: Path) -> None:
    values = np.stack([np.linspace(0, 1, 98), np.linspace(1, 0, 98)], axis=1)
    found, frame = landmarks(network(tmp_path / "p.onnx", "pfpld", {"points": values.reshape(1, 196)}), "pfpld")
    points = found(frame, np.array([100.0, 50, 200, 250]), 2 * UP + [150, 150])
    # the box grows by a tenth to the left and 0.11 to the right of its width, and by a tenth of its height below
    placed = values * [121, 220] + [90, 50]
    np.testing.assert_allclose(points[0], placed[0], atol=1e-3)
    np.testing.assert_allclose(points[1], placed[2], atol=1e-3)
    np.testing.assert_allclose(points[37], (placed[60] + placed[62]) / 2, atol=1e-3)
    np.testing.assert_allclose(points[67], placed[95], atol=1e-3)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_2dfan4_stands_the_face_upright_and_its_points_come_back(tmp_path: Path, quarters: int) -> None:
    values = np.zeros((1, 68, 3))
    values[0, :, :2] = np.random.default_rng(0).uniform(0, 64, (68, 2))
    path = network(tmp_path / "f.onnx", "2dfan4", {"points": values, "heatmaps": np.zeros((1, 68, 64, 64))})
    found, frame = landmarks(path, "2dfan4")
    angle = quarters * np.pi / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    five = UP @ turn.T + [300, 200]
    assert upright_quarters(five) == quarters
    points = found(frame, np.array([250.0, 120, 350, 280]), five)
    wanted = (values[0, :, :2] * 4 - 128) * (160 / 195) @ turn.T + [300, 200]
    np.testing.assert_allclose(points, wanted, atol=1e-3)


def test_the_network_sees_the_box_it_was_given(tmp_path: Path) -> None:
    luma = np.zeros((480, 640), np.uint8)
    luma[50:270, 90:211] = 200  # the grown box of the test above, and nothing else
    path = network(tmp_path / "p.onnx", "pfpld", {"points": np.zeros((1, 196))}, of_input=True)
    found, frame = landmarks(path, "pfpld", luma)
    points = found(frame, np.array([100.0, 50, 200, 250]), 2 * UP + [150, 150])
    mean = (points[0] - [90, 50]) / [121, 220]
    np.testing.assert_allclose(mean, 200 / 255, atol=0.01)


def test_five_points_alone_go_through_the_template_s_square(tmp_path: Path) -> None:
    values = np.random.default_rng(1).uniform(0, 1, (1, 68, 2))
    found, frame = landmarks(network(tmp_path / "s.onnx", "fan_68_5", {"points": values}), "fan_68_5")
    shifted, larger = (found(frame, np.zeros(4), five) for five in (UP + MOVED, 3 * UP))
    plain = found(frame, np.zeros(4), UP)
    np.testing.assert_allclose(shifted, plain + MOVED, atol=1e-3)
    np.testing.assert_allclose(larger, 3 * plain, atol=1e-3)


def test_other_numbers_of_points_are_refused(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", "2d106det", {"points": np.zeros((1, 212))})
    with pytest.raises(ModelError, match=r"2d106det: wanted a network of 68 points, got 106; name 2dfan4, pfpld or"):
        landmarks(path, "2d106det")


def test_a_template_by_68_points_has_the_published_crop_and_references(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACE_ENGINE_TEMPLATES", str(tmp_path / "templates"))
    clip = cut_out(sample / "clip.mp4", tmp_path / "cut.mp4", start=0, count=20, size=(640, 360))
    clip = write_pictures(tmp_path / "in.mp4", [half(picture, 0) for picture in decoded(clip)])
    values = np.stack([np.linspace(0.2, 0.8, 98), np.linspace(0.9, 0.1, 98)], axis=1)
    add(network(tmp_path / "pfpld_robust_sim_bs1_8003.onnx", "pfpld", {"points": values.reshape(1, 196)}), "pfpld")
    template = prepare(clip, drawn_profile("heygem_dinet_v1", landmarks="pfpld"))
    assert template.references == ()
    assert template.has_face.all()
    # a square, whose side is the width of HeyGem's points by the one ratio of all 68
    sides = 256 / template.crop_from_frame[:, [0, 1], [0, 1]]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-4)
    width = template.boxes[:, 2] - template.boxes[:, 0]
    height = template.boxes[:, 3] - template.boxes[:, 1]
    ratio = np.median(0.6 * 1.21 * width / (0.8 * 1.1 * height))
    generator, points = load_contract("heygem_dinet_v1").lipsync, load_contract("pfpld").landmarks
    assert generator is not None
    assert generator.crop is not None
    assert points is not None
    x = np.array([values[list(points.to_68[n]), 0].mean() for n in generator.crop.points["width"]])
    np.testing.assert_allclose(sides[:, 0], (x.max() - x.min()) * 1.21 * width / ratio, rtol=0.03)

    five = prepare(clip, drawn_profile("dinet", landmarks="pfpld"))
    assert len(five.references) == 5
    assert list(five.references) == sorted(set(five.references))
    hubert = drawn_profile("ultralight_hubert", landmarks="pfpld")
    assert any("68 points in the place of 110" in note for note in prepare(clip, hubert).notes)
    wenet = drawn_profile("ultralight_wenet", landmarks="pfpld")
    slower = prepare(clip, wenet)
    assert slower.count == 16
    assert slower.rate == 20
    assert slower.source_frame.tolist() == [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 19]

    # another file for the same contract: what was prepared with the first is refused
    values[:, 0] *= 0.9
    name = tmp_path / "pfpld_robust_sim_bs1_8003.onnx"
    add(network(name, "pfpld", {"points": values.reshape(1, 196)}), "pfpld", replace=True)
    with pytest.raises(InputError, match=r"wanted the file of pfpld with the SHA-256 [0-9a-f]{12}, got [0-9a-f]{12}; "):
        open_template(clip, hubert)
