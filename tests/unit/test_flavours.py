"""Every flavour's build on a module that has that wheel's names and no others: what is set, and how refusals read."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from build_engines import flavour as flavours
from build_engines.flavour import BuildError, Flavour, Machine
from tests.tensorrt_names import NAMES, names_of, stand_in

REAL_MACHINE = flavours.this_machine
OTHERS = [name for name in NAMES if not name.startswith("tensorrt_rtx")]


class Played:
    """An object of one class of a wheel: has its names only, remembers calls and settings, answers as told."""

    def __init__(self, kind: type, answers: dict[str, Any], calls: list[tuple[str, ...]]) -> None:
        object.__setattr__(self, "_of", (kind, answers, calls))

    def __getattr__(self, name: str) -> Any:
        kind, answers, calls = object.__getattribute__(self, "_of")
        if not hasattr(kind, name):
            raise AttributeError(f"{kind.__name__} of this wheel has no {name}")
        answer = answers.get(f"{kind.__name__}.{name}")
        if answer is not None and not callable(answer):
            return answer

        def call(*given: Any, **named: Any) -> Any:
            calls.append((f"{kind.__name__}.{name}", *map(str, given)))
            return answer(*given, **named) if answer else None

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        kind, _, calls = object.__getattribute__(self, "_of")
        if not hasattr(kind, name):
            raise AttributeError(f"{kind.__name__} of this wheel has no {name} to set")
        calls.append((f"{kind.__name__}.{name}=", str(value)))


def played(name: str, **answers: Any) -> tuple[Any, list[tuple[str, ...]]]:
    """(module, calls): a TensorRT that parses and builds, whose answers can be replaced by `Class__method=function`."""
    module = stand_in(name)
    calls: list[tuple[str, ...]] = []
    told: dict[str, Any] = {key.replace("__", "."): value for key, value in answers.items()}

    def made(kind: str) -> Played:
        return Played(getattr(module, kind), told, calls)

    half = module.DataType.HALF
    tensor = made("ITensor")
    told |= {"ITensor.dtype": half, "ILayer.num_outputs": 1, "ILayer.type": module.LayerType.CONVOLUTION}
    told.setdefault("ILayer.get_output", lambda index: tensor)
    told.setdefault("INetworkDefinition.num_layers", 1)
    told.setdefault("INetworkDefinition.get_layer", lambda index: made("ILayer"))
    told.setdefault("Builder.create_network", lambda bits: made("INetworkDefinition"))
    told.setdefault("Builder.create_builder_config", lambda: made("IBuilderConfig"))
    told.setdefault("Builder.build_serialized_network", lambda network, config: b"plan")
    told.setdefault("OnnxParser.parse", lambda data: True)
    told.setdefault("OnnxParser.parse_from_file", lambda path: True)
    told.setdefault("IBuilderConfig.set_compute_capability", lambda capability, index: True)
    told.setdefault("IBuilderConfig.create_timing_cache", lambda data: made("ITimingCache"))
    told.setdefault("IBuilderConfig.set_timing_cache", lambda cache, ignore_mismatch: True)
    told.setdefault("IBuilderConfig.get_tactic_sources", lambda: 0b11111)
    told.setdefault("IBuilderConfig.set_tactic_sources", lambda bits: True)
    told.setdefault("ITimingCache.serialize", lambda: b"timings")
    builder, parser = module.Builder, module.OnnxParser
    module.Builder = lambda logger: Played(builder, told, calls)
    module.OnnxParser = lambda network, logger: Played(parser, told, calls)
    return module, calls


@pytest.fixture(autouse=True)
def _on_a_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours, "this_machine", lambda: Machine("sm_90", "NVIDIA H100"))


def built(name: str, arch: str = "sm_90", **options: Any) -> list[tuple[str, ...]]:
    """The calls of one build."""
    module, calls = played(name)
    done = Flavour(name.rpartition("-")[0], module).build(b"onnx", arch, where="net", **options)
    assert bytes(done.plan) == b"plan"
    return calls


def test_the_committed_names_are_those_of_the_installed_wheel() -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")
    if f"tensorrt_rtx-{module.__version__}" not in NAMES:
        pytest.skip(f"names are committed for {', '.join(NAMES)}, installed is {module.__version__}")
    committed = stand_in(f"tensorrt_rtx-{module.__version__}")
    for kind, names in names_of(module).items():
        assert set(names) <= set(dir(getattr(committed, kind))), kind


@pytest.mark.parametrize("name", OTHERS)
def test_every_wheel_has_the_names_that_a_build_uses(name: str) -> None:
    calls = built(name)
    made = next(int(call[1]) for call in calls if call[0] == "Builder.create_network")
    flags = stand_in(name).NetworkDefinitionCreationFlag
    wanted = [flag for flag in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(flags, flag)]
    assert made == sum(1 << getattr(flags, flag) for flag in wanted)
    assert ("IBuilderConfig.set_timing_cache" in {call[0] for call in calls}) is True


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_is_read_by_tensorrt_itself(name: str, tmp_path: Path) -> None:
    module, calls = played(name)
    Flavour("tensorrt", module).build(tmp_path / "model.onnx", "sm_90", where="net")
    assert ("OnnxParser.parse_from_file", str(tmp_path / "model.onnx")) in calls
    assert "OnnxParser.parse" not in {call[0] for call in calls}


@pytest.mark.parametrize("name", ["tensorrt-8.5.3.1", "tensorrt-8.6.1"])
def test_eight_takes_each_layers_precision_from_the_graph_and_obeys_it(name: str) -> None:
    calls, module = built(name), stand_in(name)
    half = str(module.DataType.HALF)
    assert ("IBuilderConfig.set_flag", str(module.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)) in calls
    assert ("ILayer.precision=", half) in calls
    assert ("ILayer.set_output_type", "0", half) in calls


@pytest.mark.parametrize("name", ["tensorrt-10.3.0", "tensorrt-10.16.1.11", "tensorrt-11.4.0.106"])
def test_types_bind_from_ten_on_and_no_precision_is_set(name: str) -> None:
    flags = stand_in(name).NetworkDefinitionCreationFlag
    calls = built(name)
    assert next(int(call[1]) for call in calls if call[0] == "Builder.create_network") >> flags.STRONGLY_TYPED & 1
    assert not [call for call in calls if call[0].startswith("ILayer")]
    assert ("IBuilderConfig.max_aux_streams=", "0") in calls


@pytest.mark.parametrize("name", OTHERS)
def test_libraries_outside_tensorrt_are_left_out_on_request(name: str) -> None:
    sources = stand_in(name).TacticSource
    left = int(next(call[1] for call in built(name, own_tactics=True) if call[0].endswith("set_tactic_sources")))
    for outside in ("CUBLAS", "CUBLAS_LT", "CUDNN"):
        assert not hasattr(sources, outside) or not left >> getattr(sources, outside) & 1
    assert left >> sources.JIT_CONVOLUTIONS & 1
    assert not [call for call in built(name) if call[0].endswith("tactic_sources")]


def test_timings_of_another_gpu_are_left_and_begun_again() -> None:
    module, calls = played("tensorrt-11.4.0.106", IBuilderConfig__set_timing_cache=lambda cache, ignore_mismatch: False)
    done = Flavour("tensorrt", module).build(b"onnx", "sm_90", where="net", timings=b"old")
    assert [call[1] for call in calls if call[0].endswith("create_timing_cache")] == ["b'old'", "b''"]
    assert done.timings == b"timings"


def test_only_rtx_builds_for_a_gpu_that_is_not_here() -> None:
    sentence = (
        r"^net: wanted the architecture of this machine's GPU \(sm_90\), which is all that tensorrt builds for, "
        r"got sm_89; build on a machine with that GPU$"
    )
    module, _ = played("tensorrt-11.4.0.106")
    with pytest.raises(BuildError, match=sentence):
        Flavour("tensorrt", module).build(b"onnx", "sm_89", where="net")
    calls = built("tensorrt_rtx-1.7.1.116", "sm_89")
    assert "IBuilderConfig.set_compute_capability" in {call[0] for call in calls}
    assert "IBuilderConfig.set_timing_cache" not in {call[0] for call in calls}


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"Builder__build_serialized_network": lambda network, config: None}, "wanted a plan for sm_90, got nothing, "),
        (
            {
                "OnnxParser__parse": lambda data: False,
                "OnnxParser__num_errors": 1,
                "OnnxParser__get_error": lambda index: type("E", (), {"desc": lambda self: "no such operator"})(),
            },
            "wanted a graph that tensorrt reads, got no such operator; rewrite the operator",
        ),
        (
            {"IBuilderConfig__set_tactic_sources": lambda bits: False},
            "tactic sources: wanted none of CUBLAS, CUBLAS_LT, CUDNN, got False; install these libraries",
        ),
    ],
)
def test_what_tensorrt_answers_with_none_or_false_is_raised(answers: dict[str, Any], sentence: str) -> None:
    module, _ = played("tensorrt-10.3.0", **answers)
    with pytest.raises(BuildError, match=sentence):
        Flavour("tensorrt", module).build(b"onnx", "sm_90", where="net", own_tactics=True)


def test_the_drivers_absence_is_not_an_error_of_the_model() -> None:
    def refuse(network: Any, config: Any) -> None:
        logger = seen[0]
        logger.log(module.ILogger.ERROR, "createInferBuilder: Error Code 6: CUDA initialization failure with error: 35")
        logger.log(module.ILogger.ERROR, "conv_1: no kernel takes this")

    module, _ = played("tensorrt-10.3.0", Builder__build_serialized_network=refuse)
    seen: list[Any] = []
    make = module.Builder

    def keep(logger: Any) -> Any:
        seen.append(logger)
        return make(logger)

    module.Builder = keep
    with pytest.raises(BuildError, match="got conv_1: no kernel takes this; simplify the graph") as caught:
        Flavour("tensorrt", module).build(b"onnx", "sm_90", where="net")
    assert "CUDA initialization" not in str(caught.value)


def test_the_gpu_of_a_machine_without_one_has_no_name() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert REAL_MACHINE() == Machine("", "")
    else:
        assert REAL_MACHINE().arch.startswith("sm_")
