"""Encoders: their sessions get what the contracts say, and streaming gives what the whole sound gives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.audio.conditions import Conditions
from engine.audio.encoders import Encoder, Loudness, Span, loudness_of
from engine.audio.stream import features_of
from engine.backends import open_backend
from engine.backends.base import Backend
from engine.errors import InputError, ModelError
from models.contract import Contract, load_contract
from models.model_files import ModelFile, recognise
from models.onnx_file import sha256_of
from models.twins import write_twin
from tests.unit.voice import voice

F32 = npt.NDArray[np.float32]


@pytest.fixture
def backend() -> Iterator[Backend]:
    opened = open_backend("cpu", threads=1, say=lambda _: None)
    with contextlib.closing(opened):
        yield opened


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for the module's twins, emptied at once: WeNet's is 115 MB."""
    folder = tmp_path_factory.mktemp("twins")
    yield folder
    for path in folder.glob("*.onnx"):
        path.unlink()


def model_file(path: Path, contract_name: str) -> ModelFile:
    contract, tensors = recognise(path, contract_name)
    return ModelFile(contract, path, sha256_of(path), tensors)


def encoder_of(backend: Backend, path: Path, contract_name: str, **options: Any) -> Encoder:
    return Encoder(backend, backend.open_session(model_file(path, contract_name)), **options)


def in_pieces(source: Encoder | Conditions, sound: F32, size: int) -> F32:
    made = [source.push(sound[at : at + size]) for at in range(0, len(sound), size)]
    return np.concatenate([*made, source.flush()])


def facts_of(contract: Contract) -> Any:
    assert contract.audio is not None
    return contract.audio


def listening_convolution(path: Path, contract_name: str, kernel: int, stride: int, width: int) -> Path:
    """A stand-in with a HuBERT's or a HeyGem encoder's tensors, whose vectors depend on `kernel` rows: one layer."""
    contract = load_contract(contract_name)
    names = list(contract.inputs)
    output = next(iter(contract.outputs))
    random = np.random.default_rng(3)
    rows = 1 if contract_name.startswith("hubert") else 80
    weight = random.standard_normal((width, rows, kernel)).astype(np.float32) / np.float32(np.sqrt(kernel * rows))
    shape = [1, "samples"] if rows == 1 else [1, "frames", 80]
    inputs = [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, shape)]
    if rows == 1:
        axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
        first = helper.make_node("Unsqueeze", [names[0], "axis"], ["x"])
        extra = [axis]
    else:
        first = helper.make_node("Transpose", [names[0]], ["x"], perm=[0, 2, 1])
        inputs.append(helper.make_tensor_value_info(names[1], TensorProto.INT32, [1]))
        extra = []
    nodes = [
        first,
        helper.make_node("Conv", ["x", "w"], ["y"], strides=[stride]),
        helper.make_node("Transpose", ["y"], ["z"], perm=[0, 2, 1]),
    ]
    if rows == 1:
        nodes.append(helper.make_node("Tanh", ["z"], [output]))
    else:  # the number of rows is heard too: a wrong one shows
        nodes += [
            helper.make_node("Cast", [names[1]], ["n"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["n", "little"], ["m"]),
            helper.make_node("Add", ["z", "m"], [output]),
        ]
        extra.append(numpy_helper.from_array(np.array([1e-3], np.float32), "little"))
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, "vectors", width])]
    graph = helper.make_graph(nodes, "stand-in", inputs, outputs, [numpy_helper.from_array(weight, "w"), *extra])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def run(path: Path, **feeds: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return cast(list[npt.NDArray[Any]], session.run(None, feeds))


def test_wenet_is_called_as_ultralight_calls_it(backend: Backend, twins: Path) -> None:
    """Zeros around the sound, windows of 67 rows every 5, the last filled up, zero caches, offset 100."""
    path = write_twin("wenet_encoder", twins)
    sound = voice(5 * 800 + 77, seed=1)
    facts = facts_of(load_contract("wenet_encoder"))
    padded = np.concatenate([np.zeros(32 * 160, np.float32), sound, np.zeros(35 * 160, np.float32)])
    rows = features_of(facts.features, padded)
    expected, start, end = [], 0, 0
    while end < len(rows):
        end = start + 67
        chunk = np.zeros((1, 1, 67, 80), np.float32)
        chunk[0, 0, : len(rows[start:end])] = rows[start:end]
        caches = {
            "att_cache": np.zeros((3, 8, 16, 128), np.float32),
            "cnn_cache": np.zeros((3, 1, 512, 14), np.float32),
        }
        expected.append(run(path, chunk=chunk, offset=np.array([100], np.int64), **caches)[0][0])
        start += 5
    encoder = encoder_of(backend, path, "wenet_encoder")
    assert encoder.vector_shape == (16, 512)
    blocks = in_pieces(encoder, sound, 160)
    assert blocks.shape == (len(expected), 16, 512)
    assert len(blocks) == 6
    assert np.abs(blocks - np.stack(expected)).max() < 1e-5
    assert blocks.std() > 0.1
    assert np.array_equal(in_pieces(encoder, sound, 997), blocks), "pieces and an earlier sound change nothing"
    conditions = Conditions(load_contract("ultralight_wenet"), Fraction(20), encoder=encoder)
    assert conditions.look_ahead_ms == 515.0
    arrays = in_pieces(conditions, sound, 640)
    assert (conditions.name, arrays.shape) == ("audio", (6, 128, 16, 32))
    windows = [[blocks[i] if 0 <= i < 6 else 0 * blocks[0] for i in range(n - 4, n + 4)] for n in range(6)]
    assert np.array_equal(arrays, np.array(windows, np.float32).reshape(6, 128, 16, 32))


def test_the_lstm_carries_its_state_from_call_to_call(backend: Backend, twins: Path) -> None:
    """Two rows a call with states handed on are the whole sound in one call of the same network."""
    step, whole = (write_twin("dh_live_audio2bs", twins, frames=frames) for frames in (2, 0))
    sound = voice(640 * 20 + 11, seed=2)
    encoder = encoder_of(backend, step, "dh_live_audio2bs")
    shapes = in_pieces(encoder, sound, 640)
    silence = np.zeros(320, np.float32), np.zeros(4 * 640, np.float32)
    rows = features_of(facts_of(encoder.contract).features, np.concatenate([silence[0], sound, silence[1]]))
    rows = rows[: len(rows) // 2 * 2]
    zeros = {name: np.zeros((2, 1, 192), np.float32) for name in ("h0", "c0")}
    expected = run(whole, x=rows[None], **zeros)[0][0]
    assert shapes.shape == expected.shape
    assert np.abs(shapes - expected).max() < 1e-5
    forgetful = np.concatenate([run(step, x=rows[None, at : at + 2], **zeros)[0][0] for at in range(0, len(rows), 2)])
    assert np.abs(shapes - forgetful).max() > 1e-3, "the state matters"
    for size in (1, 97, 5000):
        assert np.array_equal(in_pieces(encoder, sound, size), shapes)


def test_mouth_shapes_stand_where_dh_live_puts_them(backend: Backend, twins: Path) -> None:
    """Frame n takes the fifth row from n on; every frame of the sound has one."""
    encoder = encoder_of(backend, write_twin("dh_live_audio2bs", twins), "dh_live_audio2bs")
    sound = voice(640 * 10, seed=3)
    shapes = in_pieces(encoder, sound, 160)
    conditions = Conditions(load_contract("dinet_five_ref"), Fraction(25), encoder=encoder)
    waits_ms = []
    arrays: list[F32] = []
    for at in range(len(sound)):
        for array in conditions.push(sound[at : at + 1]):
            waits_ms.append(conditions.clock.offset_ms(at + 1, len(arrays)))
            arrays.append(array)
    arrays += list(conditions.flush())
    assert np.array_equal(np.stack(arrays), shapes[4:14].reshape(10, 6))
    assert conditions.look_ahead_ms == max(waits_ms) == 195.0


def test_silence_behind_the_sound_makes_no_frames(backend: Backend, twins: Path) -> None:
    """A contract that asks for more silence than its windows need gives no more frames than the sound has."""
    file = model_file(write_twin("dh_live_audio2bs", twins), "dh_live_audio2bs")
    contract = replace(file.contract, audio=replace(facts_of(file.contract), pad_behind=16000))
    encoder = Encoder(backend, backend.open_session(replace(file, contract=contract)))
    sound = voice(640 * 10, seed=3)
    assert len(in_pieces(encoder, sound, 640)) > 30
    conditions = Conditions(load_contract("dinet_five_ref"), Fraction(25), encoder=encoder)
    assert len(in_pieces(conditions, sound, 640)) == 10


def test_barge_in_forgets_sound_and_state(backend: Backend, twins: Path) -> None:
    encoder = encoder_of(backend, write_twin("dh_live_audio2bs", twins), "dh_live_audio2bs")
    conditions = Conditions(load_contract("dinet_five_ref"), Fraction(25), encoder=encoder)
    sound = voice(6400, seed=4)
    fresh = in_pieces(conditions, sound, 640)
    conditions.push(voice(7777, seed=5))
    conditions.reset()
    assert np.array_equal(in_pieces(conditions, sound, 640), fresh)


def test_hubert_on_a_file_is_chunked_as_published(backend: Backend, tmp_path: Path) -> None:
    """Chunks of 1000 vectors that overlap by 80 samples, standardised over the file: the whole file at once."""
    path = listening_convolution(tmp_path / "hubert_large.onnx", "hubert_large", 400, 320, 1024)
    sound = voice(320000 + 7000, seed=6)
    loudness = loudness_of([sound[:1000], sound[1000:]])
    assert loudness.mean == pytest.approx(float(sound.mean()), abs=1e-7)
    assert loudness.variance == pytest.approx(float(sound.astype(np.float64).var()), rel=1e-9)
    values = (sound - sound.mean(dtype=np.float64)) / np.sqrt(sound.astype(np.float64).var() + 1e-7)
    expected = run(path, input_values=values[None].astype(np.float32))[0][0]
    encoder = encoder_of(backend, path, "hubert_large", loudness=loudness)
    vectors = in_pieces(encoder, sound, 9973)
    assert vectors.shape == expected.shape == ((len(sound) - 80) // 320, 1024)
    assert np.abs(vectors - expected).max() < 2e-5
    for samples in (1, 79, 399, 400, 720, 5000):
        assert len(in_pieces(encoder, sound[:samples], 640)) == max(0, (samples - 80) // 320)
    conditions = Conditions(load_contract("ultralight_hubert"), Fraction(25), encoder=encoder)
    assert conditions.look_ahead_ms is not None
    assert conditions.look_ahead_ms > 20000, "as published it is no live encoder"


def test_quiet_sound_and_silence_are_standardised_as_published(backend: Backend, tmp_path: Path) -> None:
    """1e-7 beside the variance: silence stays silence, and a whisper is not blown up to full scale."""
    path = listening_convolution(tmp_path / "hubert_large.onnx", "hubert_large", 400, 320, 1024)
    whisper = (5e-4 * voice(4000, seed=12)).astype(np.float32)
    for sound in (np.zeros(4000, np.float32), whisper):
        wide = sound.astype(np.float64)
        values = ((wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)).astype(np.float32)
        vectors = in_pieces(encoder_of(backend, path, "hubert_large"), sound, 640)
        assert np.abs(vectors - run(path, input_values=values[None])[0][0]).max() < 2e-5
    assert wide.var() < 1e-7 / 5


@pytest.mark.parametrize("span", [Span(10, 2, 10), Span(10, 32, 10), Span(0, 1, 0)])
def test_hubert_live_hears_a_stretch_around_the_new_vectors(span: Span, backend: Backend, tmp_path: Path) -> None:
    """With the file's loudness and a network that hears no further than one vector, live is the file."""
    path = listening_convolution(tmp_path / "hubert_large.onnx", "hubert_large", 400, 320, 1024)
    sound = voice(16000, seed=7)
    loudness = loudness_of([sound])
    offline = in_pieces(encoder_of(backend, path, "hubert_large", loudness=loudness), sound, 5000)
    live = encoder_of(backend, path, "hubert_large", span=span, loudness=loudness)
    vectors = in_pieces(live, sound, 320)
    assert vectors.shape == offline.shape
    assert np.abs(vectors - offline).max() < 2e-5
    alone = encoder_of(backend, path, "hubert_large", span=span)
    first = in_pieces(alone, sound, 5000)
    for size in (160, 997):
        assert np.array_equal(in_pieces(alone, sound, size), first)


@pytest.mark.parametrize(
    ("span", "ahead_ms"), [(Span(10, 2, 10), 365.0), (Span(4, 6, 3), 305.0), (Span(0, 3, 0), 205.0)]
)
def test_the_look_ahead_of_a_live_encoder_is_what_is_waited_for(
    span: Span, ahead_ms: float, backend: Backend, tmp_path: Path
) -> None:
    path = listening_convolution(tmp_path / "hubert_large.onnx", "hubert_large", 400, 320, 1024)
    encoder = encoder_of(backend, path, "hubert_large", span=span)
    conditions = Conditions(load_contract("ultralight_hubert"), Fraction(25), encoder=encoder)
    sound, waits_ms = voice(24000, seed=8), list[float]()
    for at in range(0, len(sound), 80):
        for _ in conditions.push(sound[at : at + 80]):
            waits_ms.append(conditions.clock.offset_ms(at + 80, len(waits_ms)))
    assert conditions.look_ahead_ms == ahead_ms
    assert max(waits_ms) == ahead_ms


def test_heygems_encoder_hears_the_whole_sound_at_once(backend: Backend, tmp_path: Path) -> None:
    """0.4 s of silence at both ends, vectors every 4 rows, the number of rows beside them."""
    path = listening_convolution(tmp_path / "heygem_wenet.onnx", "heygem_wenet", 7, 4, 256)
    sound = voice(96000, seed=9)
    encoder = encoder_of(backend, path, "heygem_wenet")
    padded = np.concatenate([np.zeros(6400, np.float32), sound, np.zeros(6400, np.float32)])
    rows = features_of(facts_of(encoder.contract).features, padded)
    expected = run(path, speech=rows[None], speech_lengths=np.array([len(rows)], np.int32))[0][0]
    assert expected.shape == (169, 256), "the log's number for 6 s"
    vectors = in_pieces(encoder, sound, 640)
    assert np.abs(vectors - expected).max() < 1e-5
    conditions = Conditions(load_contract("heygem_dinet_v1"), Fraction(25), encoder=encoder)
    assert conditions.look_ahead_ms is None
    arrays = in_pieces(conditions, sound, 8000)
    assert arrays.shape == (150, 256, 20)
    assert np.abs(arrays[77] - expected[77:97].T).max() < 1e-5


def test_heygems_encoder_live(backend: Backend, tmp_path: Path) -> None:
    path = listening_convolution(tmp_path / "heygem_wenet.onnx", "heygem_wenet", 7, 4, 256)
    sound = voice(16000, seed=10)
    live = encoder_of(backend, path, "heygem_wenet", span=Span(12, 4, 12))
    vectors = in_pieces(live, sound, 640)
    assert np.array_equal(in_pieces(live, sound, 1001), vectors)
    offline = in_pieces(encoder_of(backend, path, "heygem_wenet"), sound, 640)
    assert vectors.shape == offline.shape
    # the stand-in adds a thousandth of the number of rows that a call holds
    rows = (16000 + 12800) // 160 + 1, 28 * 4 + 3
    assert np.abs((vectors - 1e-3 * rows[1]) - (offline - 1e-3 * rows[0]))[:-1].max() < 1e-3, "of values around 100"
    arrays = in_pieces(Conditions(load_contract("heygem_dinet_v1"), Fraction(25), encoder=live), sound, 640)
    assert arrays.shape == (25, 256, 20)


def test_no_sound_gives_no_vector(backend: Backend, twins: Path) -> None:
    encoder = encoder_of(backend, write_twin("dh_live_audio2bs", twins), "dh_live_audio2bs")
    assert encoder.flush().shape == (0, 6)
    assert encoder.push(np.zeros(0, np.float32)).shape == (0, 6)
    assert encoder.flush().shape == (0, 6)
    assert len(encoder.push(voice(1, seed=1))) == 0
    assert len(encoder.flush()) == 4, "one sample has a frame, and its vector lies 160 ms behind it"


def test_no_call_makes_a_buffer(backend: Backend, twins: Path) -> None:
    encoder = encoder_of(backend, write_twin("dh_live_audio2bs", twins), "dh_live_audio2bs")
    encoder.push(voice(3200, seed=11))
    before = backend.counters.allocations
    for _ in range(50):
        encoder.push(voice(640, seed=12))
    encoder.reset()
    encoder.push(voice(3200, seed=13))
    assert backend.counters.allocations == before


def test_what_an_encoder_can_not_do_is_refused_by_name(backend: Backend, twins: Path, tmp_path: Path) -> None:
    path = write_twin("dh_live_audio2bs", twins)
    with pytest.raises(ModelError, match=r"^dh_live_audio2bs: wanted no span: its calls are of one length, got "):
        encoder_of(backend, path, "dh_live_audio2bs", span=Span(1, 1, 1))
    with pytest.raises(
        InputError, match=r"^Span: wanted 1 or more fresh vectors, 0 or more beside them, got 1, 0, 1; "
    ):
        Span(1, 0, 1)
    with pytest.raises(InputError, match=r"^loudness: wanted sound of some length, got 0 samples; check the sound$"):
        loudness_of([])
    assert loudness_of([np.zeros(5, np.float32)]) == Loudness(0.0, 0.0)
    session = backend.open_session(model_file(path, "dh_live_audio2bs"))
    session.contract = load_contract("wav2lip_96")
    with pytest.raises(ModelError, match=r"^wav2lip_96: wanted a contract of the role audio_encoder, got lipsync; "):
        Encoder(backend, session)
