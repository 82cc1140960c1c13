"""lipsync: the object that a host pushes sound into and takes pictures with their sound from.

    with engine.open_lipsync("lipsync_720p25", template="T.mp4", rate_hz=48000, channels=1) as head:
        threading.Thread(target=speak_into, args=(head.push,)).start()
        for spoken in head.frames():
            show(spoken.frame.planes(), spoken.sound)

One worker thread puts sound on the line, listens, and moves mouths; `frames` hands out what is due.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.audio.clock import AudioClock
from engine.audio.pcm import Condition, PcmInput
from engine.ending import wait_ended
from engine.errors import InputError, explain
from engine.frame import Frame
from engine.lipsync import LipsyncPipeline
from engine.result import RunResult, SpeechFacts
from engine.stages.listen import Heard
from engine.talk.host_sound import HostSound
from engine.talk.line import SoundLine
from engine.talk.mover import Mover
from engine.talk.origin import stamped
from engine.talk.plan import Plan
from engine.template.frames import TemplateFrames

__all__ = ["LipSync", "Spoken"]

F32 = npt.NDArray[np.float32]

_POLL_S = 0.1
_MEMORY_BYTES = 256 << 20
_FADE_OUT_S = 0.01  # of sound that a reset breaks off, against the click
_LATE_FRAMES = 1.5  # behind its time, from which a frame is not made any more
_END: Final = object()


@dataclass(frozen=True)
class Spoken:
    """Frame `index` of the output, which begins at `time_s`, and the sound since the frame before.

    `frame.planes()` (on a GPU `frame.nv12.memory`) hold the picture until the next one is taken. `sound`: float32
    [samples, channels], -1..1, at the rate that was opened; one after the other they are everything that was pushed,
    with silence between. `opacity`: how much of the mouth is the model's, 0 in silence. `due_s`: when it was due, on
    time.perf_counter.
    """

    index: int
    time_s: float
    frame: Frame
    sound: F32
    speaks: bool
    opacity: float
    due_s: float


class LipSync:
    """A template that says what is pushed. Made by `engine.open_lipsync`; a context manager.

    `push`, `reset` and `finish` may be called from any thread, `frames` from one. Memory grows only with what is
    pushed ahead of its time (`backlog_s`).
    """

    def __init__(
        self,
        pipeline: LipsyncPipeline,
        *,
        rate_hz: int,
        channels: int,
        paced: bool = True,
        owns_pipeline: bool = True,
        on_frame: Callable[[Spoken], None] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if pipeline.listen.look_ahead_ms is None:
            name = pipeline.profile.name
            do = "name a streaming encoder, or give lipsync.span"
            raise InputError(explain(f"profile {name}, live", "an encoder that streams", "one of whole sounds", do))
        if len(pipeline.frames) < 4:
            do = "raise slots in the profile"
            raise InputError(explain(f"profile {pipeline.profile.name}, live", "4 slots", len(pipeline.frames), do))
        self.pipeline, self.paced, self._owns, self._say = pipeline, paced, owns_pipeline, say
        self.rate_hz, self.channels, self.fps = rate_hz, channels, pipeline.fps
        self.facts = SpeechFacts(look_ahead_ms=pipeline.listen.look_ahead_ms)
        self.result = RunResult("", rate=float(self.fps), timings=pipeline.timings, speech=self.facts)
        self.clock = AudioClock(rate_hz, self.fps)
        self._look_ahead_s = pipeline.listen.look_ahead_ms / 1000.0
        self._host = HostSound(rate_hz, channels)
        self._ear = PcmInput(rate_hz, channels, to_rate_hz=pipeline.listen.rate_hz)
        self._pictures = TemplateFrames(pipeline.template, threads=1, memory_bytes=_MEMORY_BYTES)
        template = pipeline.template
        self._plan = Plan(template.count, template.idle, self.fps)
        self._mover = Mover(pipeline, self.result)
        self._pictures.read(template.idle.start if len(template.idle) else 0)  # the first block is decoded now
        frame_s = float(1 / self.fps)
        self._line = SoundLine(rate_hz, channels, now_s=time.perf_counter(), lead_s=frame_s)
        self._changed = threading.Condition()
        self._is_finished = self._is_closed = self._wants_reset = self._is_flushed = False
        self._heard: deque[Heard] = deque()
        self._base = 0  # the output's frame that is the listener's frame 0
        self._next = 0  # the next frame to be made
        self._sound: deque[F32] = deque()  # on the line, and not handed out
        self._sound_from = 0
        self._deaf = 0  # samples to come that the model does not hear
        self._free: queue.Queue[Frame] = queue.Queue()
        self._ready: queue.Queue[Any] = queue.Queue(maxsize=1)
        for frame in pipeline.frames:
            self._free.put(frame)
        self._error: BaseException | None = None
        self._warned = False
        self._worked, self._called = threading.Event(), threading.Event()
        self._worker = threading.Thread(target=self._work, name="speak", daemon=True)
        self._worker.start()
        self._caller: threading.Thread | None = None
        if on_frame is not None:
            self._caller = threading.Thread(target=self._call, args=(on_frame,), name="spoken", daemon=True)
            self._caller.start()

    @property
    def condition(self) -> Condition:
        """What the pushed sound was like up to now: clipped samples, and those that are no numbers."""
        heard = self._ear.condition
        return dataclasses.replace(heard, not_finite=heard.not_finite + self._host.not_finite)

    @property
    def backlog_s(self) -> float:
        """Sound that was pushed and is not yet due, in s."""
        return self._line.pending / self.rate_hz

    def push(self, pcm: npt.NDArray[Any], rate_hz: int | None = None, channels: int | None = None) -> None:
        """Sound that is to be said, in pieces of any size: uint8, int16, int32, float32 or float64 (-1..1).

        [samples] or [samples, channels]; at another rate or with other channels than opened, say so, and it is
        converted. Returns at once; the array may be used again. Raises InputError after `finish`, and what ended the
        worker.
        """
        with self._changed:
            self._check_open("push")
            samples = self._host.convert(
                pcm, self.rate_hz if rate_hz is None else rate_hz, self.channels if channels is None else channels
            )
            self.facts.sound_in_s += len(samples) / self.rate_hz
            self._line.push(samples, self._now_s())
            self._changed.notify_all()

    def reset(self) -> None:
        """Break off (barge-in): what was pushed and not yet shown is thrown away, and the mouth shuts.

        Frames and sound go on without a gap; the next push is a new sentence.
        """
        with self._changed:
            self._check_open("reset")
            self._host.reset()
            self.facts.resets += 1
            self._wants_reset = True
            self.facts.cut_s += self._line.drop_pending() / self.rate_hz
            self._changed.notify_all()

    def finish(self) -> None:
        """No sound comes any more: `frames` ends when the last of it was handed out."""
        with self._changed:
            if not self._is_finished:
                rest = self._host.flush()
                self.facts.sound_in_s += len(rest) / self.rate_hz
                if len(rest):
                    self._line.push(rest, self._now_s())
            self._is_finished = True
            self._changed.notify_all()

    def frames(self) -> Iterator[Spoken]:
        """Pictures in order, each when it is due, until `finish` or `close`. Raises what ended the worker."""
        held: Frame | None = None
        try:
            while True:
                item = self._take()
                if held is not None:
                    self._free.put(held)
                    held = None
                if item is _END:
                    break
                held = item.frame
                if self.paced and (wait_s := item.due_s - time.perf_counter()) > 0:
                    time.sleep(wait_s)
                self.facts.sound_out_s += len(item.sound) / self.rate_hz
                self.result.frames += 1
                yield item
        finally:
            if held is not None:
                self._free.put(held)

    def wait_finished(self) -> None:
        """With `on_frame`: wait until it was called for the last frame. Raises what ended the worker or a call."""
        if self._caller is not None:
            self._called.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End at once: `frames` gives nothing more. What it has given stays valid until `close`."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the worker and give the device's memory back, where the pipeline is its own."""
        self.stop()
        ended = [self._worked]
        if self._caller is not None and self._caller is not threading.current_thread():
            ended.append(self._called)
        try:
            for one in ended:
                one.wait()
        finally:  # after Ctrl-C too: nothing is given back under a thread that uses it
            wait_ended(ended)
            self._pictures.close()
            if self._owns:
                self.pipeline.close()

    def __enter__(self) -> LipSync:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, on_frame: Callable[[Spoken], None]) -> None:
        try:
            for spoken in self.frames():
                on_frame(spoken)
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._called.set()

    # -- the worker ------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._is_closed:
                pieces, is_last = self._wait_for_sound()
                for piece in pieces:
                    self._hear(piece)
                if is_last and not self._is_flushed:
                    self._is_flushed = True
                    self._heard.extend(self.pipeline.listen.push(self._ear.flush()))
                    self._heard.extend(self.pipeline.listen.flush())
                while self._heard and not self._wants_reset and not self._is_closed:
                    self._make(self._heard.popleft())
                if self._is_flushed and not self._heard:
                    self._hand_over(_END)
                    return
        except BaseException as error:
            self._error = error
            self._hand_over(_END)
        finally:
            self._worked.set()

    def _wait_for_sound(self) -> tuple[list[F32], bool]:
        """What goes onto the line, once something does; whether it was the last."""
        with self._changed:
            while True:
                now_s = time.perf_counter()
                if self._wants_reset:
                    self._break_off()
                fills = not self._is_finished
                placed = self._line.advance(now_s, fills=fills) if self.paced else self._line.take_all()
                self.facts.silence_s, self.facts.slips_ms = self._line.silence_s, 1e3 * self._line.slips_s
                is_last = self._is_finished and not self._line.pending
                if placed or is_last or self._is_closed:
                    return placed, is_last
                self._changed.wait(self._pause_s(now_s) if self.paced else None)

    def _pause_s(self, now_s: float) -> float:
        """Until the next frame is due, or a while where sound is to come."""
        due_s = self._due_s(self._next, now_s) - now_s
        return min(max(due_s, 0.001), _POLL_S)

    def _due_s(self, n: int, now_s: float) -> float:
        """When the sound that frame n waits for is due on the line."""
        position = self.clock.first_sample(n) + self._look_ahead_s * self.rate_hz
        return now_s + (position - self._line.now(now_s)) / self.rate_hz

    def _hear(self, piece: F32) -> None:
        self._sound.append(piece)
        if self._deaf:  # what is left of a sound that was broken off is no speech
            piece = piece.copy()
            piece[: self._deaf] = 0.0
            self._deaf = max(self._deaf - len(piece), 0)
        rate_hz = self.rate_hz
        for at in range(0, len(piece), rate_hz):
            self._heard.extend(self.pipeline.listen.push(self._ear.push(piece[at : at + rate_hz])))

    def _make(self, heard: Heard) -> None:
        """Make the frame and hand it over, unless its time has passed and a later one is there."""
        n = heard.n + self._base
        step = self._plan.next(n, heard.speaks, heard.condition)
        self._next = n + 1
        now_s = time.perf_counter()
        due_s = self._due_s(n, now_s)
        timings = self.pipeline.timings
        if self.paced and self._heard and now_s - due_s > _LATE_FRAMES * float(1 / self.fps):
            self.facts.dropped += 1
            timings.dropped("late")
            return
        frame = self._room()
        if frame is None:
            return
        timings.arrived(n, n)
        start_ns = time.perf_counter_ns()
        picture = stamped(self._pictures.read(step.row), n, self.fps, 1 / self.fps)
        self.pipeline.load(frame, picture)
        timings.add("decode", (time.perf_counter_ns() - start_ns) / 1e6, n, start_ns)
        if step.leaving is not None and (other := self._room()) is not None:
            self.pipeline.load(other, stamped(self._pictures.read(step.leaving.row), n, self.fps, 1 / self.fps))
            self._mover.faded(step, frame, other)
            self._free.put(other)
        else:
            self._mover.begin(step, frame)
        self._mover.finish(step, frame)
        timings.departed(n)
        sound = self._sound_until(n + 1)
        self._hand_over(Spoken(n, float(n / self.fps), frame, sound, step.speaks, step.opacity, due_s))
        self._warn()

    def _sound_until(self, n: int) -> F32:
        """What is on the line before frame n and was not handed out; all of it behind the last frame."""
        count = self.clock.first_sample(n) - self._sound_from
        if self._is_flushed and not self._heard:
            count = sum(map(len, self._sound))
        taken: list[F32] = []
        while count > 0 and self._sound:
            piece = self._sound.popleft()
            if len(piece) > count:
                self._sound.appendleft(piece[count:])
                piece = piece[:count]
            count -= len(piece)
            self._sound_from += len(piece)
            taken.append(piece)
        return np.concatenate(taken) if taken else np.zeros((0, self.channels), np.float32)

    def _break_off(self) -> None:
        """The line and the listener begin anew at the next frame; its sound is what was there, faded out."""
        self._wants_reset = False
        self.pipeline.listen.reset()
        self._ear.reset()
        self._heard.clear()
        start, count = self.clock.first_sample(self._next), round(_FADE_OUT_S * self.rate_hz)
        there = np.concatenate([*self._sound, np.zeros((0, self.channels), np.float32)])
        before = max(start - self._sound_from, 0)  # of frames that were dropped: it is handed out whole
        tail = there[before : before + count]
        tail = tail * np.linspace(1.0, 0.0, count, dtype=np.float32)[: len(tail), None]
        self._sound = deque([there[:before]])
        lost = self._line.rewind(start, tail, self._now_s())
        self.facts.cut_s += lost / self.rate_hz
        self._deaf = len(tail)
        self._base = self._next

    def _now_s(self) -> float | None:
        return time.perf_counter() if self.paced else None

    def _room(self) -> Frame | None:
        """A free slot; None once closed."""
        while not self._is_closed:
            try:
                return self._free.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        return None

    def _hand_over(self, item: Any) -> None:
        while not self._is_closed:
            try:
                return self._ready.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
        return None

    def _take(self) -> Any:
        while not self._is_closed:
            try:
                item = self._ready.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if item is _END and self._error is not None:
                raise self._error
            return item
        return _END

    def _warn(self) -> None:
        if not self._warned and self._next % 25 == 0 and (warning := self.pipeline.listen.gate.warning):
            self._warned = True
            self._say(f"warning: {warning}")

    def _check_open(self, what: str) -> None:
        if self._error is not None:
            raise self._error
        if self._is_closed or self._is_finished:
            raise InputError(explain(f"LipSync.{what}", "an open one", "a finished one", "open another"))
