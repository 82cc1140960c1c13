"""What a run says of itself, while it runs and at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from engine.timing import Timings

__all__ = ["GovernorFacts", "LiveFacts", "Progress", "RunResult", "SpeechFacts"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands. `total` and `eta_s` are None while the input does not say how long it is."""

    done: int
    total: int | None
    fps: float
    eta_s: float | None
    dropped: int = 0  # live only


@dataclass
class GovernorFacts:
    """What the governor of a live run did. `rungs` in words, the profile's own first, and `seconds` spent on each.

    `down` and `up` count steps; the first of them, STEPS_KEPT at most, and the last stand in `steps`, each with its
    time since the run's start, frame, rungs and reason. `budget_ms` is what a frame was held to; 0: the input has no
    rate, and no step was ever taken.
    """

    STEPS_KEPT: ClassVar[int] = 500

    budget_ms: float = 0.0
    rungs: list[str] = field(default_factory=list)
    rung: int = 0
    lowest: int = 0
    down: int = 0
    up: int = 0
    seconds: list[float] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def add(self, at_s: float, frame: int, before: int, after: int, reason: str) -> None:
        """Count a step."""
        self.down, self.up = self.down + (after > before), self.up + (after < before)
        self.rung, self.lowest = after, max(self.lowest, after)
        del self.steps[self.STEPS_KEPT - 1 :]
        told = {"at_s": round(at_s, 3), "frame": frame, "from": before, "to": after, "reason": reason}
        self.steps.append(told)

    def lines(self) -> list[str]:
        """What is said of it at the end of a run."""
        if not self.down:
            return [f"governor: no step down; the profile's own throughout, held to {self.budget_ms:.1f} ms"]
        below_s = sum(self.seconds[1:])
        first, last = self.steps[0], self.steps[-1]
        return [
            f"governor: {self.down} steps down, {self.up} up; {below_s:.1f} s of {sum(self.seconds):.1f} s below the "
            f"profile's own, at the lowest on rung {self.lowest} ({self.rungs[self.lowest]})",
            f"governor: the first step at {first['at_s']:.1f} s ({first['reason']}), the last at {last['at_s']:.1f} s "
            f"to rung {last['to']} ({last['reason']})",
        ]


@dataclass
class LiveFacts:
    """What a live run did besides. Pictures in = written + dropped; sound is never dropped.

    `dropped` by reason: "late" (a newer one came before it was taken), "damaged" (the decoder said so), "end" (under
    way when the run was stopped). `repeated` pictures stood in while the input was away, and are not among the run's
    frames. `sound_leads_ms`: how much later a picture leaves than sound of the same stamp (least, mean, most): what a
    player has to hold sound back. `moved_ms`: the most by which a picture's stamp was moved to keep them rising; sound
    keeps its own. `was_lost`: the input broke off and did not come back. `governor`: None without a ladder.
    """

    pictures_in: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: {"late": 0, "damaged": 0, "end": 0})
    repeated: int = 0
    packets_in: int = 0
    packets_out: int = 0
    decoder_errors: int = 0
    reconnects: int = 0
    away_s: float = 0.0
    jumps: int = 0
    moved_ms: float = 0.0
    sound_leads_ms: tuple[float, float, float] | None = None
    ended_by: str = ""
    was_lost: bool = False
    governor: GovernorFacts | None = None

    @property
    def dropped_in_all(self) -> int:
        """Pictures dropped, whatever the reason."""
        return sum(self.dropped.values())

    def lines(self, wall_s: float) -> list[str]:
        """What a live run says at its end: pictures in and out, drops by reason, the input's breaks, sound."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items() if count)
        rate = self.pictures_in / wall_s if wall_s else 0.0
        lines = [f"pictures in {self.pictures_in} ({rate:.1f} fps), dropped {self.dropped_in_all}"]
        lines[0] += f": {reasons}" if reasons else ""
        lines[0] += f"; ended by {self.ended_by}"
        if self.decoder_errors:
            lines.append(f"{self.decoder_errors} packets did not decode")
        if self.reconnects or self.repeated:
            lines.append(
                f"the input was away {self.away_s:.1f} s and came back {self.reconnects} times; "
                f"the last picture was sent again {self.repeated} times"
            )
        if self.packets_in:
            line = f"other packets in {self.packets_in}, out {self.packets_out}"
            if self.sound_leads_ms is not None:
                least, mean, most = self.sound_leads_ms
                line += f"; pictures leave {mean:.1f} ms after their sound ({least:.1f} to {most:.1f})"
            lines.append(f"{line}; stamps moved by at most {self.moved_ms:.2f} ms")
        if self.governor is not None:
            lines += self.governor.lines()
        return lines


@dataclass
class SpeechFacts:
    """What a lip-sync run did besides. Frames: `spoken` with speech in them, `moved` with a mouth that was made.

    `dropped` template frames of a live run were never made, since their time had passed; their sound went out all the
    same. `look_ahead_ms`: sound behind a frame's instant that the model waits for. `snr_db`: of the speech as it was
    measured, None before enough was heard. Live also: `sound_in_s` was pushed and `sound_out_s` went out, of which
    `silence_s` was filled in where nobody pushed, and `cut_s` was thrown away by resets; `slips_ms`: by how much the
    sound came later than its pace; `resets`: how often speech was broken off.
    """

    spoken: int = 0
    moved: int = 0
    look_ahead_ms: float | None = None
    snr_db: float | None = None
    dropped: int = 0
    sound_in_s: float = 0.0
    sound_out_s: float = 0.0
    silence_s: float = 0.0
    cut_s: float = 0.0
    slips_ms: float = 0.0
    resets: int = 0

    def lines(self) -> list[str]:
        """What is said of it at the end of a run."""
        heard = f"speech in {self.spoken} frames, {self.moved} mouths moved"
        if self.look_ahead_ms is not None:
            heard += f"; the model hears {self.look_ahead_ms:.0f} ms ahead"
        if self.snr_db is not None:
            heard += f"; speech {self.snr_db:.0f} dB above noise and echo"
        lines = [heard]
        if self.sound_in_s:
            lines.append(
                f"sound in {self.sound_in_s:.2f} s, out {self.sound_out_s:.2f} s with {self.silence_s:.2f} s of "
                f"silence filled in; {self.dropped} template frames dropped, {self.resets} resets"
                + (f" cut {self.cut_s:.2f} s" if self.resets else "")
            )
        return lines


@dataclass
class RunResult:
    """What a run did. `failed` frames went out as they came in, and `first_failure` says why.

    `crowded` frames showed more faces than the profile has room for: the largest were changed. `best_score` is
    the detector's highest score of the run, below its threshold as well. `rate` 0 stands for a still. `output` is a
    path or, of a live run, an address.
    """

    output: Path | str
    frames: int = 0
    frames_with_face: int = 0
    faces: int = 0
    cuts: int = 0
    crowded: int = 0
    best_score: float = 0.0
    failed: int = 0
    first_failure: str = ""
    wall_s: float = 0.0
    rate: float = 0.0
    timings: Timings = field(default_factory=Timings)
    notes: list[str] = field(default_factory=list)
    live: LiveFacts | None = None
    speech: SpeechFacts | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything but the histograms' buckets, as JSON takes it; stages in ms."""
        apart = ("timings", "live", "output", "speech")
        plain = {name: value for name, value in vars(self).items() if name not in apart}
        stages = {
            name: {
                "calls": held.count,
                **{f"p{percent:g}_ms": round(held.percentile_ms(percent), 3) for percent in (50, 95, 99, 99.9)},
                "max_ms": round(held.max_ms, 3),
            }
            for name, held in self.timings.stages.items()
        }
        live = None if self.live is None else asdict(self.live)
        told = {"output": str(self.output), **plain, "stages": stages, "live": live}
        # a swap has no such facts, and its line stays as it was
        return told if self.speech is None else {**told, "speech": asdict(self.speech)}
