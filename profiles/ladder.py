"""The governor's ladder: what a live run gives up, rung by rung, before it misses its budget."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Governor", "Rung"]


@dataclass(frozen=True)
class Rung:
    """What one step down changes against the profile; 0 leaves the profile's own.

    The restorer on every n-th frame, the detector on every n-th frame, the side of the detector's input in px, and
    how many faces are changed, the largest first. `Profile.ladder` holds rungs with every field filled in, where
    `enhance_every` 0 means that there is no restorer.
    """

    enhance_every: int = 0
    detect_every: int = 0
    detect_size_px: int = 0
    faces: int = 0

    def on(self, base: Rung) -> Rung:
        """This rung with the fields that it leaves alone taken from another."""
        return Rung(
            enhance_every=self.enhance_every or base.enhance_every,
            detect_every=self.detect_every or base.detect_every,
            detect_size_px=self.detect_size_px or base.detect_size_px,
            faces=self.faces or base.faces,
        )

    @property
    def cycle(self) -> int:
        """Frames after which dear and cheap ones have all come: the longer of the two every-n."""
        return max(self.detect_every, self.enhance_every, 1)

    def words(self, base: Rung) -> str:
        """What is other than in `base`, in words; "the profile's own" where nothing is."""
        told = {
            "enhance every": (self.enhance_every, base.enhance_every, ""),
            "detect every": (self.detect_every, base.detect_every, ""),
            "detect at": (self.detect_size_px, base.detect_size_px, " px"),
            "faces at most": (self.faces, base.faces, ""),
        }
        changed = [f"{name} {mine}{unit}" for name, (mine, theirs, unit) in told.items() if mine != theirs]
        return ", ".join(changed) or "the profile's own"


@dataclass(frozen=True)
class Governor:
    """The ladder, rung after rung each cheaper than the last, and when a live run goes down and up it.

    `down_at` and `up_at` are fractions of the frame's budget. Down: the p99 of the last `window_frames` frames' work is
    above the first. Up: it stayed below the second for `dwell_s`; a step up that had to be taken back doubles the wait
    before the next try, to at most 16 times. A ladder without rungs is no governor.
    """

    rungs: tuple[Rung, ...] = ()
    down_at: float = 0.9
    up_at: float = 0.6
    window_frames: int = 100
    dwell_s: float = 5.0

    def __post_init__(self) -> None:
        for label, value, low, high in (
            ("governor.down_at", self.down_at, 0.1, 1.0),
            ("governor.up_at", self.up_at, 0.05, 1.0),
            ("governor.window_frames", self.window_frames, 10, 1000),
            ("governor.dwell_s", self.dwell_s, 0.1, 3600),
        ):
            if not low <= value <= high:
                raise ValueError(f"{label}: wanted {low:g} to {high:g}, got {value:g}; correct the value")
        if self.up_at >= self.down_at:
            raise ValueError(
                f"governor.up_at: wanted less than down_at ({self.down_at:g}), got {self.up_at:g}; "
                "between the two a run stays where it is"
            )

    def ladder(self, own: Rung, *, has_refiner: bool, coast_frames: int) -> tuple[Rung, ...]:
        """Every rung in full, the profile's `own` first. Raises ValueError for one that can't be there."""
        ladder = [own]
        for index, rung in enumerate(self.rungs):
            where, full = f"governor.rungs[{index}]", rung.on(own)
            _refuse(where, rung, own, has_refiner, coast_frames)
            _refuse_dearer(where, full, ladder[-1])
            ladder.append(full)
        return tuple(ladder)


def _refuse(where: str, rung: Rung, own: Rung, has_refiner: bool, coast_frames: int) -> None:
    for label, value, low, high in (
        ("enhance_every", rung.enhance_every, 0, 1000),
        ("detect_every", rung.detect_every, 0, 1000),
        ("detect_size_px", rung.detect_size_px, 0, 4096),
        ("faces", rung.faces, 0, 32),
    ):
        if not low <= value <= high:
            raise ValueError(f"{where}.{label}: wanted {low} to {high}, got {value}; correct the value")
    if rung.detect_size_px % 32:
        raise ValueError(
            f"{where}.detect_size_px: wanted a multiple of 32, got {rung.detect_size_px}; correct the value"
        )
    if rung.detect_every > 1 and not has_refiner:
        raise ValueError(f"{where}.detect_every: wanted 1 without a refiner, got {rung.detect_every}; name a refiner")
    if 1 < rung.detect_every > coast_frames:
        raise ValueError(
            f"{where}.detect_every: wanted at most track.coast_frames ({coast_frames}), got {rung.detect_every}; "
            "tracks would end between two detections"
        )
    if rung.enhance_every and not own.enhance_every:
        raise ValueError(f"{where}.enhance_every: wanted none without a restorer, got {rung.enhance_every}; name one")


def _refuse_dearer(where: str, rung: Rung, above: Rung) -> None:
    """A step down that costs more, or the same, would leave the governor no way."""
    for label, value, before, is_cheaper in (
        ("enhance_every", rung.enhance_every, above.enhance_every, "or more"),
        ("detect_every", rung.detect_every, above.detect_every, "or more"),
        ("detect_size_px", rung.detect_size_px, above.detect_size_px, "or less"),
        ("faces", rung.faces, above.faces, "or less"),
    ):
        if (value < before) if is_cheaper == "or more" else (value > before):
            raise ValueError(
                f"{where}.{label}: wanted {before} {is_cheaper}, as the rung above has it, got {value}; "
                "a rung states everything that it gives up"
            )
    if rung == above:
        raise ValueError(f"{where}: wanted less work than in the rung above, got the same; leave it out")
