"""Checkpoints under published names become ONNX files of their contracts; needs PyTorch (the extra train).

A twin is a network with seeded weights, saved as the published file is shaped. That it has the published topology
shows in its names, which are the published ones, and in its parameters and multiply-adds, which are counted in the
exported file and held to those of the ONNX twins and of the published networks; and in what it gives, which a second
implementation on the names alone gives too.
"""

from __future__ import annotations

import importlib
import pickle
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from models.__main__ import main
from models.contract import load_contract
from models.convert import TOPOLOGIES, Converted, ConvertError, checkpoint, convert, export
from models.convert import run as conversion
from models.model_files import add, recognise
from models.twins import Count, count_twin

torch = pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")
torch.set_num_threads(2)
# published networks a second time, written on the names alone; restorers and masks have none
ORACLES = importlib.import_module("tests.unit.convert_oracle").ORACLES

# how a published file is shaped: where the weights lie, what stands before their names
PUBLISHED = {
    "wav2lip_96": ("state_dict", "module."),
    "wav2lip_gan_96": ("state_dict", "module."),
    "wav2lip_256": ("state_dict", ""),
    "dinet": ("state_dict.net_g", "module."),
    "dinet_mini_1": ("state_dict.net_g", ""),
    "dinet_mini_2": ("state_dict.net_g", ""),
    "gfpgan_1.4": ("params_ema", ""),
    "codeformer": ("params_ema", ""),
    "feather_hubert": ("model", ""),
}
# what a published file holds besides
BESIDES: dict[str, dict[str, tuple[int, ...]]] = {
    "wenet_encoder": {
        "decoder.embed.0.weight": (5, 4),
        "ctc.ctc_lo.bias": (5,),
        "encoder.encoders.0.concat_linear.bias": (4,),
    },
    "bisenet_79999": {"conv_out16.conv.conv.weight": (2, 2), "conv_out32.conv_out.weight": (2, 2)},
    "bisenet_resnet_18": {"fpn.backbone.fc.bias": (4,), "conv_out16.conv.weight": (2, 2)},
    "bisenet_resnet_34": {"fpn.backbone.fc.bias": (4,), "conv_out32.conv.weight": (2, 2)},
    "gfpgan_1.4": {"toRGB.0.bias": (3,), "stylegan_decoder.style_mlp.1.weight": (4, 4)},
}
# the ONNX twin that costs the same, or what the published network costs where there is no twin
COSTS: dict[str, tuple[str, dict[str, Any]] | Count] = {
    "ultralight_wenet": ("ultralight_wenet", {}),
    "ultralight_hubert": ("ultralight_hubert", {}),
    "wav2lip_96": ("wav2lip_96", {}),
    "wav2lip_gan_96": ("wav2lip_96", {}),
    "wav2lip_256": Count(53.61e6, 27.79e9),
    "dinet": ("dinet", {}),
    "dinet_five_ref": ("dinet_five_ref", {}),
    "dinet_mini_1": Count(0.0503e6, 47.9e6, "32.0 M a frame and 15.9 M once"),
    "dinet_mini_2": ("dinet_mini_2", {}),
    "dh_live_audio2bs": ("dh_live_audio2bs", {"frames": 4}),
    "wenet_encoder": ("wenet_encoder", {}),
    "feather_hubert": Count(3.36e6, 0.43e9, "one second of sound"),
    "bisenet_79999": ("bisenet_resnet_18", {"auxiliary": False}),
    "bisenet_resnet_18": ("bisenet_resnet_18", {"auxiliary": False}),
    "bisenet_resnet_34": ("bisenet_resnet_34", {"auxiliary": False}),
    "gfpgan_1.4": ("gfpgan_1.4", {}),
    "codeformer": Count(94.1e6, 0, "not counted by anyone we know: the width of its file alone"),
}
QUICK = ("dinet_mini_1", "dinet_mini_2", "dh_live_audio2bs", "feather_hubert")
EVERY = [pytest.param(name, marks=() if name in QUICK else pytest.mark.full) for name in TOPOLOGIES]


def seeded(name: str, shapes: Mapping[str, tuple[int, ...]] | None = None, seed: int = 0) -> Any:
    """The network of a contract with weights that keep its numbers sane, statistics of norms included."""
    network = conversion._built(TOPOLOGIES[name], shapes or {})
    chance = torch.Generator().manual_seed(seed)
    saved = set(network.state_dict())
    with torch.no_grad():
        for key, value in [*network.named_parameters(), *network.named_buffers()]:
            kind = key.rpartition(".")[2]
            if key not in saved or kind == "num_batches_tracked":
                continue
            noise = torch.randn(value.shape, generator=chance)
            if kind in ("running_var", "istd"):
                value.copy_(0.75 + 0.1 * noise.abs())
            elif value.ndim <= 1:
                value.copy_((kind == "weight") + 0.1 * noise)
            else:
                value.copy_(noise / value[0].numel() ** 0.5)
    return network.eval()


def save(network: Any, path: Path, name: str, **changes: Any) -> Path:
    """The network's weights as the published file of the contract is shaped."""
    place, prefix = PUBLISHED.get(name, ("", ""))
    besides = {key: torch.ones(shape) for key, shape in BESIDES.get(name, {}).items()}
    inner: Any = {prefix + key: value for key, value in {**network.state_dict(), **besides, **changes}.items()}
    for level in reversed(place.split(".") if place else []):
        inner = {level: inner, "epoch": 7}
    torch.save(inner, path)
    return path


def ran(path: Path, feeds: Mapping[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def counted(path: Path, feeds: Mapping[str, Any]) -> int:
    """Multiply-adds of a file at the shapes of these inputs."""
    model = onnx.load(str(path))
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, feeds[value.name].shape, strict=True):
            dim.dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    wanted = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM")]
    known = {item.name: list(item.dims) for item in model.graph.initializer} | {
        k: list(v.shape) for k, v in feeds.items()
    }
    ends = [value.name for value in model.graph.output]
    names = {name for node in wanted for name in (*node.input[:2], node.output[0])} - set(known)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - set(ends)))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    asked = [value.name for value in session.get_outputs()]
    known |= {name: list(value.shape) for name, value in zip(asked, session.run(asked, dict(feeds)), strict=True)}
    total = 0
    for node in wanted:
        first, second, result = (known[name] for name in (node.input[0], node.input[1], node.output[0]))
        if node.op_type in ("Conv", "ConvTranspose"):
            total += int(np.prod(result if node.op_type == "Conv" else first)) * int(np.prod(second[1:]))
        elif node.op_type == "LSTM":
            total += first[0] * first[1] * second[1] * (second[2] + second[1] // 4)
        else:
            total += int(np.prod(result)) * first[-1]
    return total


def expected(name: str) -> Count:
    cost = COSTS[name]
    return cost if isinstance(cost, Count) else count_twin(cost[0], **cost[1])


@pytest.fixture(scope="module", params=EVERY)
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Converted]]:
    """A network, and what its checkpoint was made into; emptied at once: the largest take 750 MB."""
    folder = tmp_path_factory.mktemp("converted")
    network = seeded(request.param)
    yield network, convert(save(network, folder / "published.pth", request.param), request.param)
    shutil.rmtree(folder)


def test_a_checkpoint_under_published_names_becomes_the_file_of_its_contract(converted: tuple[Any, Converted]) -> None:
    _, made = converted
    contract, name = made.contract, made.contract.name
    place, prefix = PUBLISHED.get(name, ("", ""))
    assert (made.fit.part, made.fit.prefix, made.fit.unused) == (place, prefix, len(BESIDES.get(name, {})))
    assert sorted(path.name for path in made.path.parent.iterdir()) == sorted(["published.pth", contract.file])
    assert recognise(made.path, name)[1] == {
        key: spec.names[0] for key, spec in (*contract.inputs.items(), *contract.outputs.items())
    }
    assert {item.domain: item.version for item in onnx.load(str(made.path)).opset_import} == {"": export.OPSET}
    assert made.difference.share < 1e-4


def test_it_gives_what_the_weights_give_by_their_published_names(converted: tuple[Any, Converted]) -> None:
    """On input that the conversion did not see."""
    network, made = converted
    name = made.contract.name
    feeds = export.random_inputs(made.contract, export.TRACED, seed=9)
    given = [torch.from_numpy(value) for value in feeds.values()]
    with torch.no_grad():
        wanted = ORACLES[name](network.state_dict(), *given) if name in ORACLES else network(*given)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for mine, its in zip(wanted, ran(made.path, feeds), strict=True):
        largest = float(mine.abs().max())
        assert 1e-3 < largest < 1e4
        assert float(mine.std()) > 1e-4 * largest
        np.testing.assert_allclose(its, mine.numpy(), rtol=0, atol=2e-4 * max(1.0, largest))


def test_it_costs_what_its_twin_and_the_published_network_cost(converted: tuple[Any, Converted]) -> None:
    _, made = converted
    cost = expected(made.contract.name)
    assert made.parameters == pytest.approx(cost.parameters, rel=0.02)
    if cost.macs:
        feeds = export.random_inputs(made.contract, export.TRACED)
        assert counted(made.path, feeds) == pytest.approx(cost.macs, rel=0.02)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "first"),
    [("ultralight_hubert", (32, 64)), ("ultralight_wenet", (128, 128)), ("ultralight_wenet", (64, 64))],
)
def test_ultralight_is_as_wide_as_its_weights(name: str, first: tuple[int, int], tmp_path: Path) -> None:
    shapes = {
        "outc.conv.weight": (3, 16, 1, 1),
        "audio_model.conv1.conv.6.weight": (first[0], 1, 1, 1),
        "audio_model.conv2.conv.6.weight": (first[1], 1, 1, 1),
    }
    made = convert(save(seeded(name, shapes), tmp_path / "a.pth", name), name)
    assert made.difference.share < 1e-4
    if name == "ultralight_hubert":
        half = count_twin("ultralight_half")
        assert made.parameters == pytest.approx(half.parameters, rel=0.02)
        assert counted(made.path, export.random_inputs(load_contract(name), {})) == pytest.approx(half.macs, rel=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "dinet_mini_1",
        "dinet_mini_2",
        *(pytest.param(one, marks=pytest.mark.full) for one in ("dinet", "dinet_five_ref")),
    ],
)
def test_the_halves_of_a_network_make_the_whole(name: str, tmp_path: Path) -> None:
    source = save(seeded(name), tmp_path / "published.pth", name)
    full, ref, frame = (convert(source, name, part=part).path for part in ("full", "ref", "frame"))
    assert ref.name == f"{load_contract(name).file.removesuffix('.onnx')}_ref.onnx"
    feeds = export.random_inputs(load_contract(name), export.TRACED, seed=2)
    parts = TOPOLOGIES[name].parts
    kept = dict(zip(parts["ref"].outputs, ran(ref, {key: feeds[key] for key in parts["ref"].inputs}), strict=True))
    (got,) = ran(frame, {key: ({**feeds, **kept})[key] for key in parts["frame"].inputs})
    np.testing.assert_allclose(got, ran(full, feeds)[0], rtol=0, atol=1e-5)


def test_a_free_axis_is_free(tmp_path: Path) -> None:
    """Three speakers and ten frames at once are what they are one after the other."""
    made = convert(save(seeded("dh_live_audio2bs"), tmp_path / "a.pkl", "dh_live_audio2bs"), "dh_live_audio2bs")
    chance = np.random.default_rng(4)
    sound = chance.standard_normal((3, 10, 80), dtype=np.float32)
    state = np.zeros((2, 3, 192), np.float32)
    together = ran(made.path, {"x": sound, "h0": state, "c0": state})
    hidden = cell = np.zeros((2, 1, 192), np.float32)
    for step in range(5):
        rows, hidden, cell = ran(made.path, {"x": sound[1:2, 2 * step : 2 * step + 2], "h0": hidden, "c0": cell})
        np.testing.assert_allclose(rows[0, 0], together[0][1, step], atol=1e-5)
    np.testing.assert_allclose(hidden[:, 0], together[1][:, 1], atol=1e-5)


def test_adaat_is_the_published_sampling_of_a_volume() -> None:
    from models.convert.nets.dinet import AdaAT

    channels, height, width = 20, 14, 18
    torch.manual_seed(3)
    module = AdaAT(20, channels, height, width).eval()
    x, vector = torch.randn(2, channels, height, width), torch.randn(2, 20)
    with torch.no_grad():
        p = module.commn_linear(vector)
        size, angle = 2 * module.scale(p), 3.14159 * module.rotation(p)
        shift = module.translation(p).view(2, channels, 2)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(2, channels, 1, 1, 2, 2)
        z, y, column = torch.meshgrid(
            *(torch.linspace(-1, 1, count) for count in (channels, height, width)), indexing="ij"
        )
        flat = torch.stack([column, y], -1).expand(2, channels, height, width, 2)
        moved = (turn @ flat.unsqueeze(-1)).squeeze(-1) * size[..., None, None, None] + shift[:, :, None, None]
        grid = torch.cat([moved, z.expand(2, channels, height, width).unsqueeze(-1)], -1)
        wanted = torch.nn.functional.grid_sample(x.unsqueeze(1), grid, align_corners=False).squeeze(1)
        assert float((module(x, vector) - wanted).abs().max()) < 1e-4


def mini(folder: Path, **changes: Any) -> Path:
    return save(seeded("dinet_mini_2"), folder / "epoch_40_new.pth", "dinet_mini_2", **changes)


def refused(path: Path, name: str = "dinet_mini_2", **named: Any) -> str:
    with pytest.raises(ConvertError) as caught:
        convert(path, name, **named)
    assert list(path.parent.glob("*.onnx")) == []
    return str(caught.value)


def test_a_file_that_does_not_fit_says_what_is_missing_extra_and_of_another_shape(tmp_path: Path) -> None:
    network = seeded("dinet_mini_2")
    weights = network.state_dict()
    weights["final.weight"] = weights.pop("final_conv.weight")
    weights["final_conv.bias"] = torch.zeros(4)
    torch.save({"state_dict": {"net_g": weights}}, tmp_path / "a.pth")
    assert refused(tmp_path / "a.pth") == (
        f"{tmp_path / 'a.pth'}: wanted the 44 weights of dinet_mini_2, got in state_dict.net_g: "
        "1 missing (final_conv.weight); 1 extra (final.weight); "
        "1 of another shape (final_conv.bias: wanted [3], got [4]); wanted is DH_live's epoch_40_new.pth"
    )


def test_the_weights_of_another_contract_are_named(tmp_path: Path) -> None:
    assert refused(mini(tmp_path), "dinet_mini_1").endswith("; it has the weights of dinet_mini_2: --as dinet_mini_2")


def test_a_network_for_longer_windows_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = importlib.import_module("models.convert.nets.ultralight").AUDIO_CHANNELS
    with monkeypatch.context() as longer:
        longer.setitem(channels, "hubert", 32)
        torch.save(seeded("ultralight_hubert").state_dict(), tmp_path / "a.pth")
    said = refused(tmp_path / "a.pth", "ultralight_hubert")
    assert "(audio_model.conv1.conv.0.weight: wanted [32, 16, 1, 1], got [64, 32, 1, 1], " in said
    assert said.endswith("for windows of 8 frames (one for 16 has twice the channels)")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    broken = torch.zeros(3)
    broken[1] = torch.nan
    assert refused(mini(tmp_path, **{"final_conv.bias": broken})).endswith(
        "wanted finite weights, got NaN or infinity in final_conv.bias; download or train it again"
    )


def test_a_file_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Trap()}, tmp_path / "a.pth")
    said = refused(tmp_path / "a.pth")
    assert "wanted weights alone, got a file that runs code when it is opened, so it was not opened (" in said
    assert "where you trust it, save its weights: torch.save(" in said
    assert not (tmp_path / "ran").exists()
    # a whole network, as torch.save(network) leaves it
    torch.save(torch.nn.Linear(2, 2), tmp_path / "b.pth")
    assert "got a file that runs code when it is opened" in refused(tmp_path / "b.pth")
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({"a": 1}))
    assert "wanted weights alone" in refused(tmp_path / "c.pkl") or "wanted a checkpoint" in refused(tmp_path / "c.pkl")


@pytest.mark.parametrize("content", [bytes(range(256)) * 8, b'{"a": 1}', b"\x1f\x8b\x08\x00" * 64, b"\x08\x07pytorch"])
def test_garbage_is_called_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    said = refused(tmp_path / "a.pth")
    assert "wanted a checkpoint of PyTorch, got " in said
    assert said.endswith("; download it again")
    assert "weights_only=False" not in said


def test_an_old_file_that_was_cut_is_called_damaged(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(9)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "a.pth").read_bytes()
    at = whole.index(b"_rebuild_tensor_v2")
    for cut in (at + 12, len(whole) // 3, len(whole) // 2):
        (tmp_path / "a.pth").write_bytes(whole[:cut])
        assert refused(tmp_path / "a.pth").endswith("; download it again"), cut


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_torchscript_archive_is_read_without_being_run(tmp_path: Path) -> None:
    network = seeded("dinet_mini_2")
    feeds = export.random_inputs(load_contract("dinet_mini_2"), {})
    traced = torch.jit.trace(network, [torch.from_numpy(value) for value in feeds.values()])
    torch.jit.save(traced, str(tmp_path / "wav2lip.pth"))
    made = convert(tmp_path / "wav2lip.pth", "dinet_mini_2")
    assert (made.fit.part, made.fit.unused) == ("", 0)
    wanted = traced(*(torch.from_numpy(value) for value in feeds.values())).detach().numpy()
    np.testing.assert_allclose(ran(made.path, feeds)[0], wanted, atol=1e-5)
    # its weights are constants of the program now, and have no names
    torch.jit.save(torch.jit.freeze(traced), str(tmp_path / "frozen.pth"))
    with pytest.raises(ConvertError, match="wanted a checkpoint with named weights"):
        convert(tmp_path / "frozen.pth", "dinet_mini_2", tmp_path / "b.onnx")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_weight_that_is_a_view_is_read_as_one(tmp_path: Path) -> None:
    linear = torch.nn.Linear(2, 2, bias=False)
    linear.weight = torch.nn.Parameter(torch.arange(8.0)[2:6].view(2, 2).t())
    torch.jit.save(torch.jit.trace(linear, torch.zeros(1, 2)), str(tmp_path / "a.pt"))
    (read,) = checkpoint.read_checkpoint(tmp_path / "a.pt")[""].values()
    assert read.tolist() == [[2.0, 4.0], [3.0, 5.0]]


def test_a_torchscript_archive_that_asks_for_anything_else_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/constants.pkl", pickle.dumps(()))
        archive.writestr("a/data.pkl", pickle.dumps(Trap(), protocol=2))
    assert "got a file that runs code when it is opened, so it was not opened (GLOBAL " in refused(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_an_old_torchscript_archive_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Cannot use ``weights_only=True`` with TorchScript archives passed to ``torch.load``."

    def load(*_: Any, **__: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch, "load", load)
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04")
    assert refused(tmp_path / "a.pt").endswith(
        "wanted weights alone, got an old TorchScript archive, which is a program; where you trust it, save its "
        "weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
    )


def test_what_is_cut_short_or_has_no_weights_is_refused(tmp_path: Path) -> None:
    path = mini(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "wanted a checkpoint of PyTorch, got " in refused(path)
    torch.save({"epoch": 3}, tmp_path / "b.pth")
    assert refused(tmp_path / "b.pth").endswith(
        "wanted a checkpoint with named weights, got dict without any; save the network's state_dict()"
    )


def test_legacy_files_halves_and_safetensors_are_read(tmp_path: Path) -> None:
    network = seeded("dinet_mini_2")
    feeds = export.random_inputs(load_contract("dinet_mini_2"), {})
    wanted = ran(convert(mini(tmp_path), "dinet_mini_2").path, feeds)[0]
    torch.save(network.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    made = convert(tmp_path / "old.pth", "dinet_mini_2", tmp_path / "old.onnx")
    assert made.fit.part == ""
    np.testing.assert_array_equal(ran(made.path, feeds)[0], wanted)
    torch.save({key: value.half() for key, value in network.state_dict().items()}, tmp_path / "half.pth")
    made = convert(tmp_path / "half.pth", "dinet_mini_2", tmp_path / "half.onnx")
    assert 0 < np.abs(ran(made.path, feeds)[0] - wanted).max() < 0.01
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    library.save_file(network.state_dict(), str(tmp_path / "new.safetensors"))
    made = convert(tmp_path / "new.safetensors", "dinet_mini_2", tmp_path / "new.onnx")
    np.testing.assert_array_equal(ran(made.path, feeds)[0], wanted)
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(ConvertError, match="wanted a safetensors file, got"):
        convert(tmp_path / "bad.safetensors", "dinet_mini_2", tmp_path / "bad.onnx")


def test_an_export_that_differs_is_refused_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "BOUND", 1e-12)
    said = refused(mini(tmp_path))
    assert "output output: wanted ONNX Runtime within 1e-12 of PyTorch's largest value, got " in said
    assert list(tmp_path.glob(".*")) == []


def test_the_command_converts_and_the_file_is_taken_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(mini(tmp_path)), "--as", "dinet_mini_2", "--out", str(tmp_path / "a.onnx")]) == 0
    said = capsys.readouterr().out
    assert "weights     44 from state_dict.net_g; 0.516 M parameters" in said
    assert "between PyTorch and ONNX Runtime on random input" in said
    assert said.rstrip().endswith(f"take it in: python -m models add {tmp_path / 'a.onnx'} --as dinet_mini_2")
    assert add(tmp_path / "a.onnx", "dinet_mini_2").contract.name == "dinet_mini_2"
