"""What listening costs: ms of one core for each second of sound, and the sound that each front end waits for.

    python -m tests.benchmark.audio_cost [--encoders]

CPU time of this process, best of several runs, so that other work on the machine counts little. The last line is one
JSON object. `--encoders` also runs the twins of the encoders (random weights: for cost only).
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.clock import AudioClock
from engine.audio.conditions import Conditions
from engine.audio.encoders import Encoder
from engine.audio.pcm import PcmInput
from engine.audio.speech import SpeechGate
from engine.audio.stream import FeatureStream
from models.contract import load_contract
from models.facts import FeatureFacts
from tests.unit.voice import voice

SECONDS = 20
RUNS = 5
PIECES_MS = (10, 40, 1000 * SECONDS)
FRONT_ENDS = ("wenet_encoder", "dh_live_audio2bs", "heygem_wenet", "wav2lip_96")


def features(name: str) -> FeatureFacts:
    """The features of an encoder, or of a generator that takes bands directly."""
    contract = load_contract(name)
    facts = contract.audio.features if contract.audio is not None else None
    facts = contract.lipsync.features if contract.lipsync is not None else facts
    if facts is None:
        raise ValueError(f"{name}: wanted a contract with features, got none; name another")
    return facts


def cost_ms(push: Callable[[npt.NDArray[Any]], Any], sound: npt.NDArray[Any], rate_hz: int, piece_ms: int) -> float:
    """CPU ms for a second of sound pushed in pieces, the best of RUNS."""
    size, best = rate_hz * piece_ms // 1000, float("inf")
    for _ in range(RUNS):
        begin = time.process_time()
        for at in range(0, len(sound), size):
            push(sound[at : at + size])
        best = min(best, time.process_time() - begin)
    return round(1000 * best / (len(sound) / rate_hz), 3)


def of_front_ends() -> dict[str, Any]:
    """Cost by piece and look-ahead of every front end, of the gate and of the resampler."""
    sound = voice(16000 * SECONDS, seed=1)
    figures: dict[str, Any] = {}
    for name in FRONT_ENDS:
        stream = FeatureStream(features(name))
        costs = {f"{piece} ms": cost_ms(stream.push, sound, 16000, piece) for piece in PIECES_MS}
        figures[name] = {"look_ahead_ms": stream.look_ahead_ms, "ms_per_s": costs}
    gate = SpeechGate(AudioClock(16000, Fraction(25)))
    figures["speech_gate"] = {
        "ms_per_s": {f"{piece} ms": cost_ms(gate.push, sound, 16000, piece) for piece in PIECES_MS}
    }
    host = (np.repeat(voice(48000 * SECONDS, rate_hz=48000, seed=1)[:, None], 2, axis=1) * 32767).astype(np.int16)
    pcm = PcmInput(48000, 2, to_rate_hz=16000)
    figures["resampler_48k_stereo"] = {"ms_per_s": {f"{ms} ms": cost_ms(pcm.push, host, 48000, ms) for ms in (10, 40)}}
    conditions = Conditions(load_contract("wav2lip_96"), Fraction(25))
    figures["wav2lip_windows_25"] = {
        "look_ahead_ms": conditions.look_ahead_ms,
        "ms_per_s": {f"{ms} ms": cost_ms(conditions.push, sound, 16000, ms) for ms in (10, 40)},
    }
    return figures


@contextmanager
def twin_encoder(name: str) -> Iterator[Encoder]:
    """The twin of an encoder on the cpu backend with one thread."""
    from engine.backends import open_backend
    from models.model_files import ModelFile, recognise
    from models.onnx_file import sha256_of
    from models.twins import write_twin

    path = write_twin(name)
    contract, tensors = recognise(path, name)
    with closing(open_backend("cpu", threads=1, say=lambda _: None)) as backend:
        yield Encoder(backend, backend.open_session(ModelFile(contract, path, sha256_of(path), tensors)))


def of_encoders() -> dict[str, Any]:
    """Cost and look-ahead from sound to the generator's arrays, the encoder's twin included."""
    sound, figures = voice(16000 * 4, seed=1), dict[str, Any]()
    for encoder_name, generator, fps in (
        ("wenet_encoder", "ultralight_wenet", 20),
        ("dh_live_audio2bs", "dinet_five_ref", 25),
    ):
        with twin_encoder(encoder_name) as encoder:
            conditions = Conditions(load_contract(generator), Fraction(fps), encoder=encoder)
            cost = cost_ms(conditions.push, sound, 16000, 40)
            calls_a_second = 16000 / encoder.samples_a_vector
            figures[f"{encoder_name} for {generator}"] = {
                "look_ahead_ms": conditions.look_ahead_ms,
                "ms_per_s": cost,
                "ms_per_call": round(cost / calls_a_second, 3),
            }
    return figures


def main() -> None:
    """Print a table, and the JSON."""
    found = {
        "conditions": {
            "processor": platform.processor() or platform.machine(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "measured": "process CPU time, 1 thread",
        },
        "figures": of_front_ends() | (of_encoders() if "--encoders" in sys.argv[1:] else {}),
    }
    for name, figures in found["figures"].items():
        print(f"{name:42} {figures}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
