"""sound: what drives the mouth, from wherever it comes, and what its rate has to be."""

from __future__ import annotations

import stat
from pathlib import Path

import av

from engine.audio.encoders import Loudness, loudness_of
from engine.audio.pipe import PcmPipe, RawPcm, open_pcm_pipe
from engine.audio.source import AudioSource, open_audio
from engine.errors import InputError, ModelError, explain
from engine.video.pyav import FFMPEG_ERRORS, is_url, words
from models.contract import load_contract
from models.tables import TableError
from profiles.profile import Profile

__all__ = ["Speech", "heard_rate_hz", "is_live_sound", "loudness_of_file", "open_speech", "parse_raw"]

#: An open sound: iterate once for mono blocks at the model's rate; `tap` gives the frames as they came.
Speech = AudioSource | PcmPipe

_MICROPHONE = "alsa:"
_DTYPES = {"u8": "uint8", "s16le": "<i2", "s32le": "<i4", "f32le": "<f4", "f64le": "<f8"}


def parse_raw(text: str) -> RawPcm:
    """RATE[:CHANNELS[:FORMAT]] as samples without a header, 16000:1:s16le for example; raises InputError."""
    rate, _, rest = text.partition(":")
    channels, _, form = rest.partition(":")
    form = form or "s16le"
    if not rate.isdigit() or not (channels or "1").isdigit() or form not in _DTYPES:
        wanted = f"RATE[:CHANNELS[:FORMAT]] with a format of {', '.join(_DTYPES)}"
        raise InputError(explain("--raw-audio", wanted, text, "write it as 16000:1:s16le"))
    return RawPcm(int(rate), int(channels or "1"), _DTYPES[form])


def is_live_sound(uri: str) -> bool:
    """True for what comes at its own pace and only once: standard input, pipes, addresses, microphones."""
    return uri == "-" or uri.startswith(_MICROPHONE) or is_url(uri) or _is_fifo(uri)


def open_speech(uri: str | Path, *, rate_hz: int, raw: RawPcm | None = None) -> Speech:
    """Open the driving sound, to be heard at `rate_hz`.

    `-` (standard input) and pipes carry a wav stream, or what `raw` says; `alsa:NAME` is a microphone; anything else
    is what FFmpeg reads. Raises InputError and MediaError as those do.
    """
    name = str(uri)
    if name == "-" or _is_fifo(name):
        return open_pcm_pipe(name, rate_hz=rate_hz, raw=raw)
    if raw is not None:
        raise InputError(explain("--raw-audio", "a pipe of samples without a header", name, "leave it out"))
    if name.startswith(_MICROPHONE):
        return _open_microphone(name, rate_hz)
    return open_audio(name, rate_hz=rate_hz)


def heard_rate_hz(profile: Profile) -> int:
    """The rate at which the profile's models hear, from their contracts; raises ModelError."""
    try:
        if profile.models.encoder:
            audio = load_contract(profile.models.encoder).audio
            features = audio.features if audio is not None else None
        else:
            facts = load_contract(profile.models.lipsync).lipsync
            features = facts.features if facts is not None else None
    except TableError as error:
        raise ModelError(f"profile {profile.name}: {error}") from error
    if features is None:
        wanted = "a generator that takes mel bands, or an encoder of speech beside it"
        got = f"{profile.models.lipsync} and the encoder {profile.models.encoder or 'none'}"
        raise ModelError(explain(f"profile {profile.name}", wanted, got, "name an encoder that its contract lists"))
    return features.sample_rate_hz


def loudness_of_file(profile: Profile, uri: str) -> Loudness | None:
    """Of a whole file, where the profile's encoder takes a waveform: files are standardised by it, as its makers do.

    One more pass over the sound. None for encoders of bands, and for what comes only once.
    """
    if not profile.models.encoder or is_live_sound(uri):
        return None
    audio = load_contract(profile.models.encoder).audio
    if audio is None or audio.features.kind != "waveform":
        return None
    with open_audio(uri, rate_hz=audio.features.sample_rate_hz) as source:
        return loudness_of(source)


def _open_microphone(name: str, rate_hz: int) -> AudioSource:
    device = name.removeprefix(_MICROPHONE) or "default"
    try:
        container = av.open(device, "r", format="alsa")
    except FFMPEG_ERRORS as error:
        do = "list the names with: arecord -L"
        raise InputError(explain(name, "a microphone that ALSA knows", words(error), do)) from error
    try:
        return AudioSource(name, container, rate_hz, 0)
    except BaseException:
        container.close()
        raise


def _is_fifo(name: str) -> bool:
    try:
        return stat.S_ISFIFO(Path(name).stat().st_mode)
    except OSError:
        return False
