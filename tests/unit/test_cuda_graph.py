"""Recordings that are thrown away give their graphs back."""

from __future__ import annotations

import pytest

from engine.backends.cuda import CudaBackend
from engine.errors import DeviceError
from models.spec import Spec
from tests.recording.driver import RecordingDriver
from tests.recording.sessions import open_backend


def opened() -> tuple[CudaBackend, RecordingDriver, int]:
    """A backend, its driver, and the address of some memory."""
    backend = open_backend()
    assert isinstance(backend.driver, RecordingDriver)
    return backend, backend.driver, backend.allocate(Spec("uint8", (16,))).ptr


def test_a_trial_of_what_can_be_captured_keeps_no_graph() -> None:
    backend, driver, ptr = opened()
    assert backend.can_capture(lambda: driver.zero(ptr, 16, backend.compute))
    assert driver.calls["cuGraphInstantiate"] == driver.calls["cuGraphExecDestroy"] == 1
    assert driver._graphs == {}


def test_a_recording_that_fails_keeps_no_part_of_itself() -> None:
    backend, driver, ptr = opened()

    def body() -> None:
        driver.zero(ptr, 16, backend.compute)
        backend._recorder.leave_out(lambda: None)
        raise DeviceError("planted")

    with pytest.raises(DeviceError, match="planted"):
        backend._recorder.record(body)
    assert driver._graphs == {}
    assert not backend._recorder.is_recording
