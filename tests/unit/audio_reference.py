"""Make audio_reference.npz: features by other people's libraries, for the tests of engine/audio.

    python tests/unit/audio_reference.py

in an environment with numpy, scipy, librosa 0.11.0, kaldi-native-fbank 1.22.5, torch and torchaudio, from the top of
the repository. torchaudio computes in double precision here; kaldi-native-fbank has only single, and its rounding
shows in quiet bands beside loud ones.
The numbers below are the published ones, written again here on purpose: the tests compare the contracts with them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

SHORT = (300, 450, 500, 1000)  # samples: shorter than a window, or hardly longer


def kaldi(sound: Any, window_ms: float, hop_ms: float, snip: bool) -> Any:
    """Rows of 80 bands by kaldi-native-fbank, the sound's end told."""
    library: Any = importlib.import_module("kaldi_native_fbank")
    options = library.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.frame_length_ms = window_ms
    options.frame_opts.frame_shift_ms = hop_ms
    options.frame_opts.snip_edges = snip
    options.mel_opts.num_bins = 80
    bank = library.OnlineFbank(options)
    bank.accept_waveform(16000, sound.tolist())
    bank.input_finished()
    rows = [bank.get_frame(row) for row in range(bank.num_frames_ready)]
    return np.array(rows, np.float32).reshape(-1, 80)


def kaldi_in_double(sound: Any, window_ms: float, hop_ms: float, snip: bool) -> Any:
    """The same rows by torchaudio, in double precision."""
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("torchaudio.compliance.kaldi")
    return library.fbank(
        torch.tensor(sound, dtype=torch.float64)[None],
        num_mel_bins=80,
        frame_length=window_ms,
        frame_shift=hop_ms,
        dither=0.0,
        energy_floor=0.0,
        sample_frequency=16000,
        snip_edges=snip,
    ).numpy()


def mel(sound: Any, fft: int, window: int, hop: int, low_hz: float, high_hz: float, power: int) -> Any:
    """Columns of 80 bands by librosa, of a sound emphasised by scipy; the ends mirrored as librosa 0.7 did."""
    librosa: Any = importlib.import_module("librosa")
    signal: Any = importlib.import_module("scipy.signal")
    emphasised = signal.lfilter([1.0, -0.97], [1.0], sound.astype(np.float64))
    spectrum = np.abs(librosa.stft(emphasised, n_fft=fft, hop_length=hop, win_length=window, pad_mode="reflect"))
    return librosa.filters.mel(sr=16000, n_fft=fft, n_mels=80, fmin=low_hz, fmax=high_hz) @ spectrum**power


def wenet(sound: Any) -> Any:
    """Rows of the front end of HeyGem and DUIX."""
    return (10.0 * np.log10(mel(sound, 1024, 800, 160, 0, 8000, 2) + 1e-5) - 20.0).T


def wav2lip(sound: Any) -> Any:
    """Rows of Wav2Lip's front end."""
    decibel = 20.0 * np.log10(np.maximum(1e-5, mel(sound, 800, 800, 200, 55, 7600, 1))) - 20.0
    return np.clip(8.0 * (decibel + 100.0) / 100.0 - 4.0, -4.0, 4.0).T


def main() -> None:
    """Write the file beside this one."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    sound = importlib.import_module("tests.unit.voice").voice(20000, seed=11)
    pcm = np.clip(np.round(sound * 32768.0), -32768, 32767).astype(np.int16)
    kinds: dict[str, Any] = {
        "wenet_encoder": lambda x: kaldi_in_double(x, 25, 10, True),
        "wenet_encoder in single": lambda x: kaldi(x.astype(np.float64), 25, 10, True),
        "dh_live_audio2bs": lambda x: kaldi_in_double(x / 32768.0, 50, 20, False),
        "dh_live_audio2bs in single": lambda x: kaldi(x / 32768.0, 50, 20, False),
        "heygem_wenet": lambda x: wenet(x / 32768.0),
        "wav2lip_96": lambda x: wav2lip(x / 32768.0),
    }
    arrays: dict[str, Any] = {"pcm": pcm}
    for name, make in kinds.items():
        arrays[name] = np.float32(make(pcm))
        for count in SHORT:
            # librosa takes no sound shorter than half an fft; torchaudio none that Kaldi would mirror twice
            if count > 512 or name.endswith("in single"):
                arrays[f"{name.removesuffix(' in single')} {count}"] = np.float32(make(pcm[4000 : 4000 + count]))
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
