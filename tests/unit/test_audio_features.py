"""Features are what other people's libraries give, and the same for every way of cutting the sound into pieces."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine.audio.mel import mel_bank
from engine.audio.stream import FeatureStream, Framing, features_of
from engine.audio.tape import Tape
from engine.errors import InputError, ModelError
from models.contract import load_contract
from models.facts import FeatureFacts
from tests.unit.voice import voice

F32 = npt.NDArray[np.float32]

FRONT_ENDS = ("wenet_encoder", "dh_live_audio2bs", "heygem_wenet", "duix_wenet", "wav2lip_96")
REFERENCE = Path(__file__).with_name("audio_reference.npz")


def features(name: str) -> FeatureFacts:
    contract = load_contract(name)
    facts = contract.audio.features if contract.audio is not None else None
    facts = contract.lipsync.features if contract.lipsync is not None else facts
    assert facts is not None
    return facts


def in_pieces(stream: FeatureStream, sound: F32, size: int) -> F32:
    rows = [np.array(stream.push(sound[at : at + size])) for at in range(0, len(sound), size)]
    return np.concatenate([*rows, stream.flush()])


@pytest.mark.parametrize(
    ("name", "within"),
    [("wenet_encoder", 1e-3), ("dh_live_audio2bs", 1e-3), ("heygem_wenet", 2e-5), ("wav2lip_96", 1e-6)],
)
def test_features_are_those_of_other_libraries(name: str, within: float) -> None:
    with np.load(REFERENCE) as file:
        reference = dict(file)
    sound = reference["pcm"].astype(np.float32) / 32768
    ours = features_of(features(name), sound)
    assert ours.shape == reference[name].shape
    assert np.abs(ours - reference[name]).max() < within
    single = reference.get(f"{name} in single")
    if single is not None:  # as near to Kaldi in single precision as Kaldi in double precision is
        assert np.abs(ours - single).max() < np.abs(reference[name] - single).max() + within
    lengths = [int(key.split()[1]) for key in reference if key.startswith(name) and key[-1].isdigit() and " " in key]
    for length in lengths:
        short = features_of(features(name), sound[4000 : 4000 + length])
        assert short.shape == reference[f"{name} {length}"].shape
        assert np.abs(short - reference[f"{name} {length}"]).max(initial=0.0) < within


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("size", [160, 320, 640, 997, 4099, 7])
def test_streaming_is_offline_to_the_last_bit(name: str, size: int) -> None:
    sound = voice(16000 if size > 7 else 5000, seed=2)
    stream = FeatureStream(features(name))
    whole = features_of(features(name), sound)
    assert np.array_equal(in_pieces(stream, sound, size), whole)
    assert np.array_equal(in_pieces(stream, sound, size), whole), "a stream begins anew after flush"


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_single_samples_and_random_pieces_give_the_same_rows(name: str) -> None:
    sound, random = voice(2500, seed=3), np.random.default_rng(1)
    whole = features_of(features(name), sound)
    assert np.array_equal(in_pieces(FeatureStream(features(name)), sound, 1), whole)
    stream, rows, at = FeatureStream(features(name)), [], 0
    while at < len(sound):
        size = int(random.integers(0, 700))
        rows.append(np.array(stream.push(sound[at : at + size])))
        at += size
    assert np.array_equal(np.concatenate([*rows, stream.flush()]), whole)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_rows_of_short_sounds_are_those_of_the_sound_mirrored(name: str) -> None:
    """Every length around a window, against NumPy's own padding of the whole sound."""
    facts = features(name)
    framing = Framing.of(facts)
    sound = voice(3 * facts.window_samples, seed=4)
    lengths = {0, 1, 2, 3, facts.hop_samples - 1, facts.hop_samples, facts.hop_samples + 1}
    for edge in (framing.lead, facts.window_samples // 2, facts.window_samples):
        lengths |= {edge - 1, edge, edge + 1, edge + facts.hop_samples}
    for length in sorted(length for length in lengths if length >= 0):
        part = sound[:length]
        rows = features_of(facts, part)
        assert np.array_equal(in_pieces(FeatureStream(facts), part, 13), rows)
        assert rows.shape == (framing.rows_of(length), facts.bins)
        if not length:
            continue
        if facts.kind == "log_mel":
            part = np.append(part[:1], part[1:] - np.float32(facts.preemphasis) * part[:-1])
        mode = "symmetric" if facts.kind == "kaldi_fbank" else "reflect"
        padded = np.pad(part.astype(np.float64), (framing.lead, 2 * facts.window_samples), mode=mode)  # type: ignore[call-overload]
        for row in range(len(rows)):
            frame = padded[row * facts.hop_samples :][: facts.window_samples]
            assert np.allclose(rows[row], _restated(facts, frame), atol=2e-4)


def _restated(facts: FeatureFacts, frame: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One row, step by step as the published front ends have it, with a dense matrix of bands."""
    count = np.arange(facts.window_samples)
    if facts.kind == "kaldi_fbank":
        frame = frame * facts.peak
        frame = frame - frame.mean()
        frame = np.append(frame[0] * (1 - facts.preemphasis), frame[1:] - facts.preemphasis * frame[:-1])
        frame = frame * (0.5 - 0.5 * np.cos(2 * np.pi * count / (len(count) - 1))) ** 0.85
    else:
        frame = frame * (0.5 - 0.5 * np.cos(2 * np.pi * count / len(count)))
    bands = mel_bank(facts) @ np.abs(np.fft.rfft(frame, facts.fft)) ** facts.power
    if facts.kind == "kaldi_fbank":
        return np.asarray(np.log(np.maximum(bands, np.finfo(np.float32).eps)))
    if facts.floor == "added":
        return np.asarray(10 * np.log10(bands + 1e-5) - 20)
    return np.asarray(np.clip(8 * (20 * np.log10(np.maximum(bands, 1e-5)) + 80) / 100 - 4, -4, 4))


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_rows_come_as_soon_as_their_samples(name: str) -> None:
    facts = features(name)
    framing, sound = Framing.of(facts), voice(4000, seed=5)
    stream, arrived = FeatureStream(facts), list[int]()
    for at in range(len(sound)):
        arrived += [at + 1] * len(stream.push(sound[at : at + 1]))
    assert arrived == [stream.vector_end_samples(row) for row in range(len(arrived))]
    waits = [1000 * (came - row * facts.hop_samples) / 16000 for row, came in enumerate(arrived)]
    assert max(waits[1:]) == stream.look_ahead_ms
    # the first row of librosa's kind is mirrored without its edge, and waits for one sample more
    assert waits[0] <= stream.look_ahead_ms + (0.0625 if framing.lead else 0.0)


def test_a_row_waits_for_the_samples_that_its_beginning_mirrors() -> None:
    """Where more than half of a window lies before the sound, the mirror decides."""
    librosas, kaldis = (Framing(4, 10, 7, False, repeats_edge) for repeats_edge in (False, True))
    assert librosas.samples_for(0) == 8
    assert (librosas.rows_ready(7), librosas.rows_ready(8)) == (0, 2)
    assert librosas.mirrored(np.arange(-7, 0), 8).tolist() == [7, 6, 5, 4, 3, 2, 1]
    assert kaldis.samples_for(0) == 7
    assert kaldis.mirrored(np.arange(-7, 0), 7).tolist() == [6, 5, 4, 3, 2, 1, 0]


def test_look_ahead_of_every_front_end() -> None:
    ahead = {name: FeatureStream(features(name)).look_ahead_ms for name in FRONT_ENDS}
    assert ahead == {
        "wenet_encoder": 25.0,
        "dh_live_audio2bs": 35.0,
        "heygem_wenet": 25.0,
        "duix_wenet": 25.0,
        "wav2lip_96": 25.0,
    }


def test_reset_forgets_the_sound() -> None:
    for name in FRONT_ENDS:
        stream, sound = FeatureStream(features(name)), voice(3000, seed=6)
        stream.push(voice(2777, seed=7))
        stream.reset()
        assert np.array_equal(in_pieces(stream, sound, 500), features_of(features(name), sound))


def test_memory_stays_the_same_over_ten_minutes() -> None:
    """In pieces of 40 ms; the first of them under the tracer, which is slow."""
    stream, piece = FeatureStream(features("wav2lip_96")), voice(640, seed=8)
    for _ in range(50):
        stream.push(piece)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    rows = sum(len(stream.push(piece)) for _ in range(2000))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    rows += sum(len(stream.push(piece)) for _ in range(13000))
    assert rows == 15000 * 640 // 200
    assert grown < 2000
    assert stream._sound.capacity < 8192


def test_silence_has_the_value_of_the_floor() -> None:
    quiet = np.zeros(4000, np.float32)
    assert np.all(features_of(features("wav2lip_96"), quiet) == -4.0)
    assert np.all(features_of(features("heygem_wenet"), quiet) == -70.0)
    eps = np.log(np.float64(np.finfo(np.float32).eps))
    assert np.allclose(features_of(features("wenet_encoder"), quiet), eps)


def test_what_can_not_be_computed_is_refused_by_name() -> None:
    facts = features("wenet_encoder")
    dither = r"^features kaldi_fbank: wanted no dither, so that the same sound gives the same features, got 0.1; "
    with pytest.raises(ModelError, match=dither + "set it to 0$"):
        FeatureStream(replace(facts, dither=0.1))
    with pytest.raises(ModelError, match=r"^features log_mel: wanted rows that depend on the sound near them, got "):
        FeatureStream(features("whisper_tiny_encoder"))
    with pytest.raises(ModelError, match=r"^features waveform: wanted kaldi_fbank or log_mel, got waveform; "):
        FeatureStream(features("hubert_large"))
    with pytest.raises(ModelError, match=r"wanted a window of povey or hann, got none; name it$"):
        FeatureStream(replace(facts, window=""))
    with pytest.raises(ModelError, match=r"; complete the contract$"):
        FeatureStream(replace(facts, fft=256))
    stream = FeatureStream(facts)
    wrong = r"^audio samples: wanted float32 \[samples\], mono, -1..1, got int16 \[4\]; convert them with PcmInput$"
    with pytest.raises(InputError, match=wrong):
        stream.push(np.zeros(4, np.int16))


def test_a_tape_keeps_what_was_not_forgotten() -> None:
    tape, random, first = Tape(16, dtype=np.int64), np.random.default_rng(5), 0
    for _ in range(500):
        count = int(random.integers(0, tape.room + 1))
        place = tape.reserve(count)
        place[...] = np.arange(tape.end - count, tape.end)
        assert np.array_equal(tape.view(first, tape.end), np.arange(first, tape.end))
        first = int(random.integers(first, tape.end + 1))
        tape.forget(first)
    with pytest.raises(ValueError, match="forget some, or make it larger"):
        tape.reserve(17)
    with pytest.raises(ValueError, match="ask before they are forgotten"):
        tape.view(first - 1, tape.end)
