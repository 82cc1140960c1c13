"""Live mode over real sockets: UDP, RTMP and RTSP in and out, breaks and what comes back, inputs that never come."""

from __future__ import annotations

import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.errors import MediaError, OutputError
from engine.live import run_live
from engine.pipeline import Pipeline, open_pipeline
from engine.result import RunResult
from engine.video.live_input import LiveInput
from engine.video.live_open import LiveOptions
from engine.video.sink import open_sink
from kernels.launch import Colour
from tests.live_peer import Received, Receiver, Sent, free_port, read_file, send

SAMPLE = Path(__file__).parents[2] / "models" / "tiny" / "sample"
RATE = 25
# EBU R37: sound within +5 and -15 ms of its picture
EARLY_MS, LATE_MS = 5.0, 15.0


@pytest.fixture(scope="module")
def opened() -> Iterator[Pipeline]:
    with open_pipeline("tiny", sources=[SAMPLE / "source_1.png"], size=(320, 240), colour=Colour()) as pipeline:
        yield pipeline


@pytest.fixture
def idle(opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The pipeline without its networks: what is tested here is what stands around them."""
    monkeypatch.setattr(Pipeline, "begin", lambda self, frame: frame)
    monkeypatch.setattr(Pipeline, "finish", lambda self, frame: frame)
    opened.timings.clear()
    return opened


class Sender(threading.Thread):
    """Sends from a thread of its own, after `wait_s`, counted from the first line in `wait_for`."""

    def __init__(
        self, url: str, *, seconds: float, wait_s: float = 0.3, wait_for: list[str] | None = None, **options: Any
    ) -> None:
        super().__init__(name="sender", daemon=True)
        self._wait_for = wait_for
        self._send: Callable[[], Sent] = lambda: send(url, seconds=seconds, **options)
        self._wait_s = wait_s
        self.sent = Sent()
        self.start()

    def run(self) -> None:
        while self._wait_for is not None and not self._wait_for:
            time.sleep(0.02)
        time.sleep(self._wait_s)
        self.sent = self._send()


def relay(
    pipeline: Pipeline, uri: str, out: str | Path, options: LiveOptions, said: list[str] | None = None
) -> RunResult:
    """A live run from `uri` to `out`, with half a second of loading models in between."""
    say = said.append if said is not None else lambda line: None
    with LiveInput(uri, threads=1, options=options, say=say) as source:
        time.sleep(0.5)
        return run_live(pipeline, source, open_sink(out, source, threads=1, is_live=True))


def check_relayed(sent: Sent, got: Received, result: RunResult, at_least: int) -> None:
    """Contents are what was sent, in order, and picture and sound lie as they lay."""
    facts = result.live
    assert facts is not None
    numbers = got.numbers
    assert -1 not in numbers
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(sent.pictures)
    assert len(numbers) >= at_least, (facts, got.said)
    assert facts.pictures_in == result.frames + facts.dropped_in_all
    assert (facts.packets_out, facts.decoder_errors) == (facts.packets_in, 0)
    stamps = [stamp for _, stamp, _ in got.pictures if not np.isnan(stamp)]
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))
    # every packet of sound, whole and in order, from the first that came to the last
    wanted = [data for _, data in sent.sound]
    begin = wanted.index(got.sound[0][1])
    assert [data for _, data in got.sound] == wanted[begin : begin + len(got.sound)]
    assert len(got.sound) >= 0.8 * at_least / RATE * 48_000 / 1024
    at = {data: stamp for stamp, data in sent.sound}
    sound_ms = [1e3 * (stamp - at[data]) for stamp, data in got.sound]
    picture_ms = [1e3 * (stamp - number / RATE) for number, stamp, _ in got.pictures if not np.isnan(stamp)]
    for one in picture_ms:
        assert -EARLY_MS < float(np.median(sound_ms)) - one < LATE_MS
    assert max(sound_ms) - min(sound_ms) < 2.1, "stamps in whole ms at most"


@pytest.mark.full
def test_udp_in_and_out(idle: Pipeline) -> None:
    source, target = (f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}" for _ in range(2))
    receiver = Receiver(target, quiet_s=3)
    receiver.start()
    sender = Sender(source, seconds=3.5)
    result = relay(idle, source, target, LiveOptions(read_timeout_s=1.0, reconnect_s=0))
    sender.join()
    receiver.join()
    # up to half a second until the first key picture on either side, and what probing took
    check_relayed(sender.sent, receiver.received, result, at_least=35)
    assert result.live is not None
    assert result.live.was_lost
    assert result.live.ended_by == "the input broke off (nothing in time) and did not come back within 0 s"


def test_rtmp_in_and_out(idle: Pipeline) -> None:
    source, target = (f"rtmp://127.0.0.1:{free_port()}/live/{name}" for name in "ab")
    receiver = Receiver(target, listen=True, quiet_s=3)
    receiver.start()
    sender = Sender(source, seconds=3.5)
    result = relay(idle, source, target, LiveOptions(read_timeout_s=1.0, reconnect_s=0, ffmpeg={"listen": "1"}))
    sender.join()
    receiver.join()
    check_relayed(sender.sent, receiver.received, result, at_least=35)
    # the clock of a picture's leaving and of its coming is the same: nothing held it for the sound
    ways_ms = [1e3 * (at - sender.sent.pictures[number]) for number, _, at in receiver.received.pictures]
    assert float(np.median(ways_ms[-25:])) < 60, "25 frames a second: held for one more picture it would be 40 ms more"


@pytest.mark.full
def test_a_run_begins_with_what_is_new(idle: Pipeline, tmp_path: Path) -> None:
    """What came while the input was probed and models were loaded is let go, pictures and sound alike."""
    source, out = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}", tmp_path / "out.mkv"
    sender = Sender(source, seconds=4.0, wait_s=0, key_every=35)
    time.sleep(0.3)
    options = LiveOptions(read_timeout_s=1.0, reconnect_s=0)
    with LiveInput(source, threads=1, options=options) as live:
        # as where FFmpeg knew the stream before its first key picture, and that was waited for
        live._connection.is_fresh = True
        time.sleep(1.0)
        sink = open_sink(out, live, threads=1, is_live=True)
        begun = time.perf_counter()
        result = run_live(idle, live, sink)
    sender.join()
    got = read_file(out)
    check_relayed(sender.sent, got, result, at_least=15)
    assert begun - 0.25 < sender.sent.pictures[got.numbers[0]] < begun + 0.3
    assert max(np.diff([stamp for _, stamp, _ in got.pictures])) < 0.3


@pytest.mark.full
def test_rtsp_in_to_a_file(idle: Pipeline, tmp_path: Path) -> None:
    source = f"rtsp://127.0.0.1:{free_port()}/live"
    sender = Sender(source, seconds=3.0)
    options = LiveOptions(read_timeout_s=1.0, reconnect_s=0, ffmpeg={"rtsp_flags": "listen"})
    result = relay(idle, source, tmp_path / "out.mp4", options)
    sender.join()
    check_relayed(sender.sent, read_file(tmp_path / "out.mp4"), result, at_least=25)
    assert result.live is not None
    assert result.live.ended_by == "end of the input"


@pytest.mark.full
def test_rtsp_out(idle: Pipeline, tmp_path: Path) -> None:
    source = f"rtmp://127.0.0.1:{free_port()}/live/a"
    target = f"rtsp://127.0.0.1:{free_port()}/live"
    receiver = Receiver(target, listen=True, quiet_s=3)
    receiver.start()
    sender = Sender(source, seconds=3.5)
    result = relay(idle, source, target, LiveOptions(read_timeout_s=1.0, reconnect_s=0, ffmpeg={"listen": "1"}))
    sender.join()
    receiver.join()
    # RTP states no common clock before its first report: pictures and sound are checked by content
    numbers = receiver.received.numbers
    assert len(numbers) >= 30, receiver.received.said
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(sender.sent.pictures)
    wanted = [data for _, data in sender.sent.sound]
    begin = wanted.index(receiver.received.sound[0][1])
    got = [data for _, data in receiver.received.sound]
    assert got == wanted[begin : begin + len(got)]
    assert result.frames >= len(numbers)


@pytest.mark.full
def test_sound_that_rtsp_can_not_send_is_left_out_and_said() -> None:
    source = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    sender = Sender(source, seconds=1.5)
    with LiveInput(source, threads=1, options=LiveOptions()) as opened:
        sink = open_sink(f"rtsp://127.0.0.1:{free_port()}/a", opened, threads=1, is_live=True)
        sink.give_up()
    sender.join()
    assert sink.notes == (
        "stream 1 (audio, aac) is left out: rtsp can't hold it: its AAC comes without a global header, as transport "
        "streams have it",
    )


@pytest.mark.full
def test_an_input_that_breaks_off_and_comes_back(idle: Pipeline) -> None:
    source = f"rtmp://127.0.0.1:{free_port()}/live/a"
    target = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    receiver = Receiver(target, quiet_s=1.5)
    receiver.start()
    first = Sender(source, seconds=3.0)
    said: list[str] = []
    second = Sender(source, seconds=3.0, wait_for=said, wait_s=1.0, first=1000)
    options = LiveOptions(read_timeout_s=1.0, reconnect_s=15.0, ffmpeg={"listen": "1"})

    def end_it() -> None:
        second.join()
        time.sleep(0.5)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=end_it, daemon=True).start()
    result = relay(idle, source, target, options, said)
    first.join()
    receiver.join()
    facts = result.live
    assert facts is not None
    assert (facts.reconnects, facts.ended_by, facts.was_lost) == (1, "interrupt", False)
    assert 0.3 < facts.away_s < 10
    assert said[0] == f"{source} broke off (Input/output error): trying again for 15 s"
    assert said[1].startswith(f"{source} is back after ")
    numbers = receiver.received.numbers
    before = [number for number in numbers if number < 1000]
    assert before == sorted(before)
    # the last picture stood in at the input's rate while nothing came
    held = max(before)
    assert before.count(held) > 10
    assert facts.repeated >= before.count(held) - 1
    assert max(numbers) >= 1020
    stamps = [stamp for _, stamp, _ in receiver.received.pictures]
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))
    # a gap is as long as it was
    at = {number: stamp for number, stamp, _ in reversed(receiver.received.pictures)}
    late, early = max(numbers), min(before)
    passed_s = second.sent.pictures[late] - first.sent.pictures[early]
    assert at[late] - at[early] == pytest.approx(passed_s, abs=0.25)


@pytest.mark.full
def test_an_input_that_stays_away_ends_the_run_and_finishes_the_file(idle: Pipeline, tmp_path: Path) -> None:
    source, out = f"rtmp://127.0.0.1:{free_port()}/live/a", tmp_path / "out.mkv"
    sender = Sender(source, seconds=3.0)
    options = LiveOptions(read_timeout_s=1.0, reconnect_s=1.0, ffmpeg={"listen": "1"})
    result = relay(idle, source, out, options)
    sender.join()
    assert result.live is not None
    assert result.live.was_lost
    lost = "the input broke off (Input/output error) and did not come back within 1 s"
    assert result.live.ended_by.startswith(f"{lost}: {source}: wanted a live input, got nothing in ")
    assert len(read_file(out).numbers) == result.frames > 0


@pytest.mark.parametrize(
    ("scheme", "ffmpeg"),
    [("udp://127.0.0.1:{}", {}), ("rtmp://127.0.0.1:{}/a", {"listen": "1"}), ("tcp://127.0.0.1:{}?listen=1", {})],
)
def test_an_input_that_never_comes_is_an_error_in_time(scheme: str, ffmpeg: dict[str, str]) -> None:
    uri = scheme.format(free_port(socket.SOCK_DGRAM if scheme.startswith("udp") else socket.SOCK_STREAM))
    start = time.perf_counter()
    with pytest.raises(MediaError) as caught:
        LiveInput(uri, threads=1, options=LiveOptions(open_timeout_s=0.5, ffmpeg=ffmpeg))
    assert time.perf_counter() - start < 3
    message = str(caught.value)
    assert message.startswith(f"{uri}: wanted a live input, got nothing in ")
    assert message.endswith("; start the sender, or wait longer (live.open_timeout_s)")


def test_rtsp_that_never_comes_is_an_error_in_time() -> None:
    uri = f"rtsp://127.0.0.1:{free_port()}/a"
    options = LiveOptions(open_timeout_s=1.0, ffmpeg={"rtsp_flags": "listen"})
    start = time.perf_counter()
    with pytest.raises(MediaError, match=r"^rtsp://.*: wanted a live input, got "):
        LiveInput(uri, threads=1, options=options)
    assert time.perf_counter() - start < 4


def test_an_address_that_nobody_answers_ends_the_run_with_its_name(tmp_path: Path) -> None:
    target = f"rtmp://127.0.0.1:{free_port()}/live/nobody"
    with pytest.raises(OutputError) as caught:
        engine.run("tiny", SAMPLE / "source_1.png", SAMPLE / "clip.mp4", target, live=True)
    message = str(caught.value)
    assert message.startswith(f"{target}: wanted ")
    assert "Connection refused" in message
    assert message.endswith("; check the receiver and the network")
