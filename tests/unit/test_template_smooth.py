"""Still faces rest, moving ones are followed without lag, and one bad picture does no harm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from engine.template.smooth import filled, runs, smoothed, without_outliers

F64 = npt.NDArray[np.float64]
TIME_S = np.arange(250) / 25


def noisy(path: F64) -> tuple[F64, F64]:
    true = np.stack([path, 0.3 * path], axis=1)
    return true, true + np.random.default_rng(1).normal(0, 1, true.shape)


def rms(values: F64) -> float:
    return float(np.sqrt((values**2).mean()))


def test_a_still_face_rests() -> None:
    true, seen = noisy(np.zeros(250))
    out = smoothed(seen, 150)
    assert rms(out - true) < rms(seen - true) / 3
    # what the eye sees is the change from one frame to the next
    assert rms(np.diff(out, axis=0)) < rms(np.diff(seen, axis=0)) / 20


@pytest.mark.parametrize(("hz", "amplitude_px", "part"), [(0.3, 20, 0.5), (1.0, 20, 0.8), (2.5, 15, 0.9)])
def test_a_moving_face_is_followed_without_lag(hz: float, amplitude_px: float, part: float) -> None:
    true, seen = noisy(amplitude_px * np.sin(2 * np.pi * hz * TIME_S))
    out = smoothed(seen, 150)
    assert rms(out - true) < part * rms(seen - true)
    inner = slice(20, -20)
    likeness = [np.corrcoef(np.roll(true[:, 0], lag)[inner], out[inner, 0])[0, 1] for lag in range(-3, 4)]
    assert int(np.argmax(likeness)) - 3 == 0


def test_time_reversed_gives_the_same_reversed() -> None:
    _, seen = noisy(12 * np.sin(TIME_S) + 4 * np.sin(17 * TIME_S))
    np.testing.assert_allclose(smoothed(seen[::-1], 150)[::-1], smoothed(seen, 150), atol=1e-9)


def test_a_compressed_still_picture_that_moves_now_and_then_rests() -> None:
    held = np.repeat(np.random.default_rng(5).normal(0, 0.2, (50, 2)), 5, axis=0)
    out = smoothed(held, 150)
    assert rms(np.diff(out, axis=0)) < rms(np.diff(held, axis=0)) / 5


def test_steady_motion_passes_as_it_is() -> None:
    line = np.stack([3.0 * np.arange(40), 100 - 2.0 * np.arange(40)], axis=1)
    np.testing.assert_allclose(smoothed(line, 150), line, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 9, 17])
def test_short_stretches_have_values_too(count: int) -> None:
    out = smoothed(np.random.default_rng(2).normal(0, 1, (count, 3)), 150)
    assert out.shape == (count, 3)
    assert np.isfinite(out).all()


def test_outliers_go_and_fast_motion_stays() -> None:
    true, seen = noisy(15 * np.sin(2 * np.pi * 2.5 * TIME_S))
    size = np.full(250, 150.0)
    assert without_outliers(seen, size) is not seen
    np.testing.assert_array_equal(without_outliers(seen, size), seen)
    bad = seen.copy()
    bad[50] += 80
    bad[120:122] -= 60
    out = without_outliers(bad, size)
    changed = set(np.flatnonzero((out != bad).any(axis=1)).tolist())
    # a neighbour may go with them
    assert {50, 120, 121} <= changed <= {49, 50, 51, 119, 120, 121, 122}
    assert np.abs(out - true)[[50, 120, 121]].max() < 12


def test_long_videos_are_looked_at_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    _, seen = noisy(15 * np.sin(2 * np.pi * 2.5 * TIME_S))
    seen[[30, 31, 32, 97, 120]] += 70
    whole = without_outliers(seen, np.full(250, 150.0))
    monkeypatch.setattr("engine.template.smooth._ROWS", 32)
    np.testing.assert_array_equal(without_outliers(seen, np.full(250, 150.0)), whole)


def test_missing_rows_are_between_their_neighbours() -> None:
    values = np.array([[0.0, 10], [99, 99], [99, 99], [6, 4]])
    np.testing.assert_allclose(filled(values, np.array([True, False, False, True])), [[0, 10], [2, 8], [4, 6], [6, 4]])


def test_stretches_end_with_the_face_and_with_the_scene() -> None:
    face = np.array([0, 1, 1, 1, 0, 0, 1, 1], bool)
    begins = np.array([0, 0, 0, 1, 0, 0, 0, 1], bool)
    assert [(run.start, run.stop) for run in runs(face, begins)] == [(1, 3), (3, 4), (6, 7), (7, 8)]
    assert runs(np.zeros(4, bool), np.ones(4, bool)) == []
    assert [(run.start, run.stop) for run in runs(np.ones(3, bool), np.zeros(3, bool))] == [(0, 3)]
