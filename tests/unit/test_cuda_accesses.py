"""What the race checker believes of a kernel is what the kernel does, and what it can't believe is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from engine.backends.driver import Stream
from kernels.sources import FOLDER
from profiles.profile import Profile
from tests.clips import decoded
from tests.recording import accesses as model
from tests.recording.accesses import STRUCTS_WITH_POINTERS, signatures
from tests.recording.driver import RecordingDriver, _Work
from tests.recording.flows import live_mode, to_i420, to_nv12
from tests.recording.races import Access, Races
from tests.recording.sessions import open_backend
from tests.unit.test_cuda_pipeline import SAMPLE, opened, recorder, tiny


class WatchingDriver(RecordingDriver):
    """Compares all memory before and after every kernel with what the kernel was believed to write."""

    def __init__(self) -> None:
        super().__init__()
        self.watching = False
        self.wrong: list[str] = []

    def _put(self, stream: Stream, work: _Work) -> None:
        if not self.watching or stream in self._captures:
            super()._put(stream, work)
            return
        before = [held.copy() for held in self._held]
        super()._put(stream, work)
        for old, new in zip(before, self._held, strict=True):
            for at in _changed(old, new):
                address = int(new.ctypes.data) + at
                if not any(one.is_write and one.start <= address < one.end for one in work.touches):
                    region = self.races.region(address)
                    self.wrong.append(f"{work.what} writes {region.name if region else hex(address)}")


def _changed(old: npt.NDArray[np.uint8], new: npt.NDArray[np.uint8]) -> Iterator[int]:
    """One changed byte of every run of them."""
    different = np.flatnonzero(old != new)
    yield from (int(at) for at in different[np.flatnonzero(np.diff(different, prepend=-2) > 1)])


def watched(profile: Profile) -> WatchingDriver:
    """A warm frame in which people are followed, launch by launch."""
    driver = WatchingDriver()
    frames = decoded(SAMPLE / "clip.mp4", 2)
    pictures = [(to_i420 if i % 2 else to_nv12)(frame, i) for i, frame in enumerate(frames)]
    with opened(profile, open_backend(driver, mode="eager")) as pipeline:
        list(live_mode(pipeline, pictures[:1]))
        driver.watching = True
        list(live_mode(pipeline, pictures[1:2]))
        pipeline.frames[0].planes()
        assert recorder(pipeline) is driver
    return driver


def test_kernels_write_what_they_are_believed_to_write_and_nothing_else() -> None:
    driver = watched(tiny(slots=2))
    assert driver.wrong == []
    on_the_path = {
        "copy_planar", "reset_candidates", "letterbox", "cut_score", "scrfd_decode", "nms", "track", "similarity",
        "crop", "refine_points", "smooth_points", "gather_rows", "paste_rectangles", "paste",
    }  # fmt: skip
    assert on_the_path <= set(driver.kernels)


def test_a_write_that_nobody_believed_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_FRAME_WRITES", set())
    monkeypatch.setattr(model, "_SMOOTH_FIELDS", ("smooth_points",))
    found = watched(tiny(slots=2)).wrong
    for words in ("paste writes uint8 [1080, 1280]", "smooth_points writes", "copy_planar writes"):
        assert any(one.startswith(words) for one in found), words


def test_every_structure_that_holds_an_address_is_known() -> None:
    """A new by-value structure with a pointer must be given an entry, or its memory would go unwatched."""
    texts = [path.read_text() for path in (*FOLDER.glob("*.cu"), *FOLDER.glob("*.cuh"))]
    bodies = {name: body for text in texts for name, body in re.findall(r"struct (\w+) \{(.*?)\};", text, re.DOTALL)}
    passed = {
        kind.removeprefix("const ") for kinds in signatures().values() for kind in kinds if not kind.endswith("*")
    }
    holding = {name for name, body in bodies.items() if "*" in body and name in passed}
    assert holding == set(STRUCTS_WITH_POINTERS)


def test_an_address_that_nobody_allocated_is_an_error() -> None:
    races = Races()
    races.add_region(1000, 100, "buffer")
    with pytest.raises(AssertionError, match="crop touches 0x44d, which nobody allocated"):
        races.to_the_end(1101, is_write=False, what="crop")
    assert races.to_the_end(1040, is_write=True, what="crop") == Access(1040, 1100, True)


def test_order_comes_from_streams_events_and_host_waits_alone() -> None:
    def both(*steps: str) -> list[str]:
        """A write on one stream and a read on another, with something in between."""
        races = Races()
        races.add_region(0, 100, "buffer")
        races.work("one", "write", [Access(0, 50, True)])
        for step in steps:
            if step == "event":
                races.record(1, "one")
                races.stream_waits("two", 1)
            elif step == "event of before":
                races.stream_waits("two", 1)
            elif step == "host":
                races.record(1, "one")
                races.host_waits_event(1)
            elif step == "host stream":
                races.host_waits_stream("one")
        races.work("two", "read", [Access(40, 60, False)])
        return races.found

    sentence = ["buffer: read on two is not ordered after write on one"]
    assert both() == sentence
    assert both("event of before") == sentence
    assert both("event") == both("host") == both("host stream") == []


def test_accesses_that_do_not_meet_do_not_conflict() -> None:
    races = Races()
    races.add_region(0, 100, "buffer")
    races.work("one", "write", [Access(0, 50, True)])
    races.work("two", "write", [Access(50, 100, True)])
    races.work("one", "read", [Access(0, 50, False)])
    races.work("three", "read", [Access(50, 100, False)])
    assert races.found == ["buffer: read on three is not ordered after write on two"]
