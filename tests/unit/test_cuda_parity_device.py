"""The parity tests' device over the cuda backend, here on the recording driver: the same bytes as a bare target."""

from __future__ import annotations

from tests.parity.conftest import BackendDevice, HostDevice
from tests.parity.test_kernels_same import whole_path
from tests.recording.driver import RecordingDriver
from tests.recording.sessions import open_backend


def test_every_stage_through_the_backend_gives_the_bare_targets_bytes() -> None:
    backend = open_backend()
    through, bare = whole_path(BackendDevice(backend)), whole_path(HostDevice(2))
    assert through["rectangles"].any()
    assert [name for name, array in bare.items() if array.tobytes() != through[name].tobytes()] == []
    assert isinstance(backend.driver, RecordingDriver)
    assert backend.driver.races.found == []
