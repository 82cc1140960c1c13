"""The line of sound: nothing lost, silence where nobody pushes, and a pace that follows the sound's clock."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.audio.pcm import LAYOUTS, PcmInput
from engine.errors import InputError
from engine.talk.host_sound import HostSound
from engine.talk.line import SoundLine
from engine.talk.plan import Plan
from engine.talk.track import EncodedTrack, audio_frame

F32 = npt.NDArray[np.float32]
RATE = 1000


def line(now_s: float = 0.0) -> SoundLine:
    return SoundLine(RATE, 1, now_s=now_s, lead_s=0.04)


def loud(count: int, first: int = 1) -> F32:
    return (first + np.arange(count, dtype=np.float32))[:, None]


def flat(placed: list[F32]) -> list[float]:
    return [float(one) for piece in placed for one in piece[:, 0]]


def test_silence_goes_on_where_nobody_pushes_and_sound_begins_when_it_comes() -> None:
    one = line()
    assert flat(one.advance(0.1)) == [0.0] * 100
    one.push(loud(3), 0.25)
    assert flat(one.advance(0.25)) == [0.0] * 150 + [1.0, 2.0, 3.0]
    assert one.silence_s == pytest.approx(0.25)


def test_pushed_ahead_it_waits_for_its_time_and_none_is_lost() -> None:
    one = line()
    one.push(loud(500), 0.0)
    got = flat(one.advance(0.0))
    assert len(got) == 41  # the lead, and the sample that passes it
    for ms in range(0, 480, 7):
        got += flat(one.advance(ms / 1000))
        assert one.now(ms / 1000) <= one.end <= one.now(ms / 1000) + 42
    got += flat(one.advance(0.5))
    assert got == list(range(1, 501))


def test_late_sound_makes_the_line_wait_rather_than_break() -> None:
    one = line()
    one.push(loud(20), 0.0)
    one.advance(0.0)
    assert one.advance(0.05) == []  # 30 ms late: it may still come
    one.push(loud(20, 21), 0.05)
    assert flat(one.advance(0.05)) == list(range(21, 41))
    assert one.slips_s == pytest.approx(0.03)
    assert one.now(0.05) == pytest.approx(20)
    assert one.silence_s == 0.0


def test_sound_that_stays_away_is_followed_by_silence_at_once_where_it_ended_quietly() -> None:
    for last, waits in ((0.5, True), (0.0, False)):
        one = line()
        one.push(np.full((20, 1), last, np.float32), 0.0)
        one.advance(0.0)
        assert bool(one.advance(0.05)) is not waits
        one.advance(0.09)
        assert one.end == 90
        assert one.silence_s == pytest.approx(0.07)


def test_a_fast_senders_line_does_not_grow_for_ever() -> None:
    """A microphone 500 ppm fast for 20 minutes, in chunks of 20 ms: what waits stays within a few chunks."""
    one, waiting = line(), []
    for chunk in range(60_000):
        now_s = chunk * 0.02 / 1.0005
        one.push(np.full((20, 1), 0.5, np.float32), now_s)
        one.advance(now_s)
        if chunk % 2000 == 1999:
            waiting.append(one.end + one.pending - one.now(now_s))
    assert max(waiting[2:]) < 60
    assert one.silence_s == 0.0
    assert one.end + one.pending == 60_000 * 20


def test_a_slow_senders_sound_is_waited_for_without_a_gap() -> None:
    one = line()
    for chunk in range(20_000):
        now_s = chunk * 0.02 * 1.0005
        one.push(np.full((20, 1), 0.5, np.float32), now_s)
        one.advance(now_s)
    assert one.silence_s == 0.0
    assert one.end == 400_000
    assert one.slips_s == pytest.approx(20_000 * 0.02 * 0.0005, rel=0.05)


def test_a_process_that_slept_is_not_filled_with_silence() -> None:
    one = line()
    one.advance(0.1)
    one.advance(3600.0)
    assert one.end == 100
    one.advance(3600.5)
    assert one.end == pytest.approx(600, abs=1)


def test_a_reset_cuts_the_line_and_keeps_what_comes_behind_it() -> None:
    one = line()
    one.push(loud(500), 0.0)
    one.advance(0.1)
    end = one.end
    assert one.drop_pending() == 500 - end
    one.push(loud(5, 900), 0.1)
    assert one.rewind(60, loud(10, 61), 0.1) == end - 70
    assert flat(one.advance(0.1)) == [*range(61, 71), *[0.0] * 30, *range(900, 905)]


# -- steps ------------------------------------------------------------------------------------------------


def test_a_template_goes_to_and_fro_and_the_mouth_fades_over_three_frames() -> None:
    plan, heard = Plan(4), np.zeros(1, np.float32)
    speaks = [False, True, True, True, True, False, False, False, False]
    steps = [plan.next(n, one, heard) for n, one in enumerate(speaks)]
    assert [step.row for step in steps] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [round(3 * step.opacity) for step in steps] == [0, 1, 2, 3, 3, 2, 1, 0, 0]
    assert all(step.leaving is None for step in steps)


def test_a_far_idle_stretch_is_faded_to() -> None:
    plan, heard = Plan(100, range(80, 90), Fraction(25)), np.zeros(1, np.float32)
    assert plan.next(0, True, heard).row == 0
    for n in range(1, 5):
        plan.next(n, True, heard)
    first, second, third = (plan.next(n, False, heard) for n in range(5, 8))
    assert (first.row, first.opacity) == (80, 0.0)
    assert first.leaving is not None
    assert second.leaving is not None
    assert (first.leaving.row, first.leaving.opacity, round(first.leaving.part, 3)) == (5, 1.0, 0.667)
    assert (second.row, second.leaving.row, round(second.leaving.part, 3)) == (81, 6, 0.333)
    assert (third.row, third.leaving) == (82, None)


def test_a_fade_of_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Plan: wanted a fade of 1 frame or more, got 0; correct it$"):
        Plan(4, fade_frames=0)


# -- what a host pushes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_every_sample_type_gives_the_same_sound(dtype: str) -> None:
    wave = 0.5 * np.sin(np.arange(1000) / 20)
    kinds: dict[str, npt.NDArray[Any]] = {
        "uint8": (wave * 128 + 128).astype(np.uint8),
        "int16": (wave * 2**15).astype(np.int16),
        "int32": (wave * 2**31).astype(np.int32),
    }
    given = kinds.get(dtype, wave.astype(dtype))
    got = HostSound(16000, 1).convert(given, 16000, 1)
    assert got.dtype == np.float32
    assert np.abs(got[:, 0] - wave).max() < (0.01 if dtype == "uint8" else 1e-4)


def test_other_rates_and_channels_are_converted_in_any_pieces() -> None:
    wave = (0.5 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)).astype(np.float32)
    stereo = np.stack([wave, wave], axis=1)
    host = HostSound(16000, 1)
    got = np.concatenate(
        [*(host.convert(stereo[at : at + 997], 44100, 2) for at in range(0, 44100, 997)), host.flush()]
    )
    assert abs(len(got) - 16000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(got[200:-200, 0] - expected[200 : len(got) - 200]).max() < 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_no_number_becomes_silence_and_is_counted(dtype: str) -> None:
    host, worst = HostSound(16000, 1), -1e39 if dtype == "float64" else -np.inf
    got = host.convert(np.array([0.5, np.nan, np.inf, worst, -0.5], dtype), 16000, 1)
    assert got[:, 0].tolist() == [0.5, 0.0, 0.0, 0.0, -0.5]
    assert host.not_finite == 3
    host.convert(np.array([np.nan, 0.1], dtype), 8000, 1)
    assert host.not_finite == 4


def test_a_float64_that_float32_can_not_hold_is_not_heard() -> None:
    ear, wave = PcmInput(16000, to_rate_hz=16000), np.full(1000, 0.25)
    wave[500] = 1e39
    got = np.concatenate([ear.push(wave), ear.flush()])
    assert ear.condition.not_finite == 1
    assert got.max() <= 0.25


@pytest.mark.parametrize("channels", LAYOUTS)
def test_speech_in_any_channel_is_heard_but_for_the_bass(channels: int) -> None:
    """A host's three channels are left, right and centre; the fourth of 5.1 and more carries no speech."""
    for channel in range(channels):
        sound = np.zeros((4000, channels), np.float32)
        sound[:, channel] = np.sin(np.arange(4000) / 5)
        ear = PcmInput(16000, channels, to_rate_hz=16000)
        level = float(np.abs(np.concatenate([ear.push(sound), ear.flush()])).max())
        assert (level > 0.05) is not (channels >= 6 and channel == 3), (channel, level)


@pytest.mark.parametrize("channels", LAYOUTS)
def test_what_is_heard_and_what_is_written_have_the_same_layout(channels: int) -> None:
    frames: list[str] = []
    ear, sound = PcmInput(16000, channels, to_rate_hz=16000), np.zeros((64, channels), np.float32)
    ear.tap(lambda frame: frames.append(frame.layout.name))
    ear.push(sound)
    track = EncodedTrack(16000, channels)
    track.close()
    assert [*frames, audio_frame(sound, 16000).layout.name, track.layout] == [LAYOUTS[channels]] * 3


@pytest.mark.parametrize(
    ("array", "channels", "sentence"),
    [
        (
            np.zeros((4, 2), np.int16),
            1,
            r"^LipSync.push: wanted int16, .+ \[samples, 1\], got int16 \[4, 2\]; convert ",
        ),
        (np.zeros(4, np.complex64), 1, r"got complex64 \[4\]; convert the array, or name its channels$"),
        (np.zeros((4, 9), np.int16), 9, r"^LipSync.push: wanted 1 to 8 channels, got 9; mix them down first$"),
        ([0.0] * 4, 1, r"^LipSync.push: wanted int16, .+ \[samples, 1\], got list; make an array of it, as numpy"),
        (bytes(8), 1, r"^LipSync.push: wanted int16, .+ \[samples, 1\], got bytes; make an array of it, as numpy"),
    ],
)
def test_what_is_no_such_sound_is_refused(array: Any, channels: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        HostSound(16000, 1).convert(array, 16000, channels)


@pytest.mark.parametrize("rate_hz", [0, -48000, 3, 44100.0, 10**9])
def test_a_rate_that_is_none_is_refused_and_changes_nothing(rate_hz: Any) -> None:
    sound, other = HostSound(48000, 1), HostSound(48000, 1)
    piece = np.sin(np.arange(4410, dtype=np.float32) / 9)
    heard = [sound.convert(piece, 44100, 1)]
    with pytest.raises(InputError, match=r"^LipSync.push: wanted a rate of 4000 to 384000 Hz, a whole number, got "):
        sound.convert(piece, rate_hz, 1)
    heard += [sound.convert(piece, 44100, 1), sound.flush()]
    expected = [other.convert(piece, 44100, 1), other.convert(piece, 44100, 1), other.flush()]
    np.testing.assert_array_equal(np.concatenate(heard), np.concatenate(expected))


@pytest.mark.parametrize(("rate_hz", "channels"), [(100, 1), (16000, 9), (16000, 0)])
def test_what_can_not_be_opened_is_refused(rate_hz: int, channels: int) -> None:
    sentence = f"^open_lipsync: wanted 4000 to 384000 Hz and 1 to 8 channels, got {rate_hz} Hz, {channels} channels; "
    with pytest.raises(InputError, match=sentence):
        HostSound(rate_hz, channels)
