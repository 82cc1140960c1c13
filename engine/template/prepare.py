"""prepare: a presenter's video -> a Template in a folder. READ `prepare` FIRST: it is the map of the work."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Session
from engine.errors import InputError, MediaError, ModelError, NoFaceError, explain
from engine.identity import PictureReader
from engine.pipeline import open_backend_for
from engine.template.chunks import Found
from engine.template.find import FaceFinder
from engine.template.folder import (
    Manifest,
    find_manifest,
    home_of,
    locked,
    open_folder,
    refuse_other_media,
    video_sha256,
    write,
)
from engine.template.index import frame_index
from engine.template.layout import lay_out
from engine.template.needs import Needs, TemplateKey, find_needs, model_rate, template_key
from engine.template.people import Choice, Sightings, Which, choose_person
from engine.template.retime import retimed
from engine.template.survey import OnProgress, survey
from engine.template.template import Template, kernel_colour, upright_size_px
from engine.video.pictures import read_picture
from engine.video.source import Source, open_source
from engine.video.turn import upright_turn_deg
from profiles.profile import Profile

__all__ = ["Idle", "parse_face", "parse_idle", "prepare"]

_MOST_HZ = 240  # slow motion of telephones

Idle = tuple[Fraction, Fraction]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]


def prepare(
    video: str | Path,
    profile: Profile,
    *,
    backend: Backend | None = None,
    face: str = "largest",
    idle: Idle | None = None,
    folder: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_progress: OnProgress = lambda done, total: None,
) -> Template:
    """Find, once, everything of a video that does not depend on what is said; returns what `open_template` returns.

    face: largest, leftmost or like=PICTURE. idle: (from, to) in s of the stretch in which the presenter is silent.
    folder: where to keep it, by default one of the cache's own. Work that was broken off goes on where it was; another
    face or stretch of the same video needs no second look. A `backend` that the caller opened stays open.

    Raises InputError for no such video, a stretch outside of it, one picture alone; MediaError for what `run` refuses
    too, and interlaced video; NoFaceError where no picture shows the face; ModelError for a profile without a
    generator, without files, or with a crop that can't be found; OutputError where the folder can't be written.
    """
    which, like = parse_face(face)
    needs = find_needs(profile)
    path = Path(video)
    key = template_key(video_sha256(video), profile, needs)
    home = Path(folder) if folder is not None else home_of(path, key)
    asked = _Asked(path, profile, needs, key, which, like, idle, say)
    if like is not None and "embedder" not in needs.models:
        got = f"{like} without an embedder to compare with"
        raise InputError(explain("--face", "largest or leftmost", got, "name one in models.embedder of the profile"))
    with locked(home, say):
        with suppress(InputError):  # a manifest that does not read is written anew
            manifest = find_manifest(home, "")
            if manifest is not None and manifest.key == key and asked.is_answered_by(manifest):
                template = open_folder(home, manifest, profile, needs, key=key, video=path, threads=_threads(profile))
                say(f"template: prepared before, in {home}")
                return template
        opened = _Opened(asked, backend)
        try:
            manifest = _prepare(asked, opened, home, on_progress)
        finally:
            opened.close()
        return open_folder(home, manifest, profile, needs, key=key, video=path, threads=_threads(profile))


def parse_face(face: str) -> tuple[Which, Path | None]:
    """largest, leftmost or like=PICTURE; raises InputError for anything else."""
    if face.startswith("like=") and face != "like=":
        return "like", Path(face.removeprefix("like="))
    if face == "largest" or face == "leftmost":
        return ("largest" if face == "largest" else "leftmost"), None
    raise InputError(explain("--face", "largest, leftmost or like=PICTURE", repr(face), "name one"))


def parse_idle(text: str) -> Idle:
    """`0:00-0:20`, `12.5-20` or `1:02:03-1:02:30` in s, exact; raises InputError for anything else."""
    try:
        start, stop = (_seconds(part) for part in text.split("-"))
    except ValueError as error:
        wanted = "FROM-TO in s or as m:ss, such as 0:00-0:20"
        raise InputError(explain("--idle", wanted, repr(text), "correct it")) from error
    if not start < stop:
        raise InputError(explain("--idle", "a stretch that ends after it begins", repr(text), "exchange the two"))
    return start, stop


def _seconds(text: str) -> Fraction:
    total = Fraction(0)
    parts = text.strip().split(":")
    if not 1 <= len(parts) <= 3 or any(not part or not part.replace(".", "", 1).isdigit() for part in parts):
        raise ValueError(text)
    for part in parts:
        total = 60 * total + Fraction(part)
    return total


@dataclass(frozen=True)
class _Asked:
    """What prepare was asked for."""

    video: Path
    profile: Profile
    needs: Needs
    key: TemplateKey
    which: Which
    like: Path | None
    idle: Idle | None
    say: Callable[[str], None]

    @property
    def choice(self) -> str:
        """Face and idle stretch in words; a picture by its content."""
        face = self.which if self.like is None else f"like {hashlib.sha256(_bytes_of(self.like)).hexdigest()}"
        return face if self.idle is None else f"{face}, idle {self.idle[0]} to {self.idle[1]} s"

    def is_answered_by(self, manifest: Manifest) -> bool:
        """Whether a template of the same key is of this face and stretch too."""
        return manifest.choice == self.choice


@dataclass
class _Opened:
    """The device and its networks, opened when the first is needed: not for a video that was looked through before."""

    asked: _Asked
    backend: Backend | None
    _own: Backend | None = None
    _sessions: dict[str, Session] | None = None

    def networks(self) -> tuple[Backend, dict[str, Session]]:
        """The backend and the sessions by role."""
        if self.backend is None:
            self.backend = self._own = open_backend_for(self.asked.profile, say=self.asked.say)
        if self._sessions is None:
            models = self.asked.needs.models
            if any(model.contract.drawn_faces_only for model in models.values()):
                self.asked.say("models: the tiny pack, drawn faces only")
            self._sessions = {role: self.backend.open_session(model) for role, model in models.items()}
        return self.backend, self._sessions

    def close(self) -> None:
        """Close what was opened here."""
        if self._own is not None:
            self._own.close()


def _prepare(asked: _Asked, opened: _Opened, home: Path, on_progress: OnProgress) -> Manifest:
    like = None if asked.like is None else _embedding(asked, opened, asked.like)
    try:
        with open_source(asked.video, threads=_threads(asked.profile)) as source:
            if source.info.rate > _MOST_HZ:
                got = f"{float(source.info.rate):g}: its time stamps are wrong"
                wanted = f"a video of up to {_MOST_HZ} pictures a second"
                raise InputError(explain(str(asked.video), wanted, got, "export it again"))
            rate = model_rate(asked.needs.generator, source.info.rate)
            # before the long work: a stretch that can't be is found at once, where the length is known
            if asked.idle is not None and source.info.duration_s is not None:
                _idle_range(asked.idle, rate, round(source.info.duration_s * rate), spare=1)
            found = survey(source, home, asked.key.digest, rate, lambda: _finder(asked, opened, source), on_progress)
            return _written(asked, home, source, found, rate, like)
    except MediaError as error:
        raise refuse_other_media(error, str(asked.video)) from error


def _written(asked: _Asked, home: Path, source: Source, found: Found, rate: Fraction, like: F32 | None) -> Manifest:
    if len(found.pts) < 2:
        got = f"{len(found.pts)}"
        raise InputError(explain(str(asked.video), "a video of 2 pictures or more", got, "name a longer one"))
    shown = retimed(found.pts, int(found.last_ticks[0]), source.info.time_base, rate)
    idle = range(0) if asked.idle is None else _idle_range(asked.idle, rate, len(shown))
    used = np.flatnonzero(found.used)
    choice = _chosen(asked, found, used, like)
    laid = lay_out(
        found, used, choice, asked.needs.rule, upright_size_px(source.info), asked.profile.track.coast_frames
    )
    # a frame is the picture that it shows; one that no retiming asked for was not looked at
    frame_of = np.searchsorted(used, shown)
    index = frame_index(found.pts, found.checks, found.is_key, pts_are_exact=bool(found.is_exact.all()))
    arrays = {
        "source_frame": shown,
        **{name: getattr(laid, name)[frame_of] for name in _LAID},
        "pts": index.pts,
        "keys": index.keys,
        "checks": index.checks,
    }
    references = [int(np.searchsorted(frame_of, at)) for at in laid.references]
    notes = (*source.notes, *_notes(asked, source, choice, arrays["has_face"], rate))
    return write(
        home,
        lambda name, digest: Manifest(
            key=asked.key,
            video=str(asked.video.resolve()),
            rate=str(rate),
            choice=asked.choice,
            idle=(idle.start, idle.stop),
            references=tuple(references),
            notes=notes,
            arrays=name,
            arrays_sha256=digest,
        ),
        arrays,
    )


_LAID = ("has_face", "crop_from_frame", "frame_from_crop", "raw_crop_from_frame", "points", "boxes")


def _chosen(asked: _Asked, found: Found, used: I64, like: F32 | None) -> Choice:
    """The person to drive; raises NoFaceError where there is none, or none like the picture."""
    seen = Sightings(
        picture=np.searchsorted(used, found.picture),
        track=found.track,
        boxes=found.boxes,
        embedded=found.embedded,
        embeddings=found.embeddings,
        cuts=found.cut[used],
    )
    track = asked.profile.track
    choice = choose_person(
        seen, asked.which, gap_pictures=track.coast_frames, like=like, like_threshold=track.like_threshold
    )
    if not len(found.picture):
        facts = asked.needs.models["detector"].contract.detector
        assert facts is not None  # the contract's loader refuses a detector without them
        score = asked.profile.detect.score_threshold or facts.score_threshold
        wanted = f"a face with a score of {score:.2f} or more in some picture"
        got = f"none in {len(used)}; the best score seen was {float(found.best.max()):.2f}"
        do = "take a clearer video, or lower detect.score_threshold of the profile"
        raise NoFaceError(explain(str(asked.video), wanted, got, do))
    if (choice.row < 0).all():
        wanted = f"a face like {asked.like} (cosine of {track.like_threshold:.2f} or more)"
        got = f"{choice.people} people, the nearest at {choice.likeness:.2f}"
        raise NoFaceError(explain(str(asked.video), wanted, got, "give another picture, or name largest or leftmost"))
    return choice


def _notes(asked: _Asked, source: Source, choice: Choice, has_face: npt.NDArray[np.bool_], rate: Fraction) -> list[str]:
    notes = [asked.needs.rule.note] if asked.needs.rule.note else []
    count, without = len(has_face), int((~has_face).sum())
    if rate != source.info.rate:
        notes.append(f"{float(source.info.rate):.2f} frames a second are shown at the model's {float(rate):.2f}")
    if without:
        notes.append(f"{without} of {count} frames do not show the face; they go out as they are")
    if choice.people > 1:
        whose = {"largest": "the largest", "leftmost": "the leftmost", "like": "the one asked for"}[asked.which]
        if "embedder" in asked.needs.models:
            notes.append(f"{choice.people} people are seen; {whose} is driven")
        elif choice.tracks > 1:
            notes.append(
                f"the face left and came back {choice.tracks - 1} times; without an embedder it was taken for the same"
            )
    if source.decoder_errors:
        notes.append("the file is damaged; pictures are as its decoder patched them")
    return notes


def _idle_range(idle: Idle, rate: Fraction, count: int, *, spare: int = 0) -> range:
    """The frames whose instants lie in the stretch; raises InputError where it is none of the video's.

    `spare`: frames more that there may be, while `count` is what the file's header says.
    """
    start, stop = -(-idle[0] * rate // 1), idle[1] * rate // 1
    if stop > count + spare or start >= stop:
        got = f"{float(idle[0]):g} to {float(idle[1]):g} s"
        wanted = f"a stretch of a frame or more within the video's {float(count / rate):.2f} s"
        raise InputError(explain("--idle", wanted, got, "correct it"))
    return range(int(start), int(stop))


def _finder(asked: _Asked, opened: _Opened, source: Source) -> FaceFinder:
    backend, sessions = opened.networks()
    info = source.info
    return FaceFinder(
        backend, asked.profile, sessions, upright_size_px(info), kernel_colour(info), upright_turn_deg(info)
    )


def _embedding(asked: _Asked, opened: _Opened, picture: Path) -> F32:
    rgb = read_picture(picture)
    backend, sessions = opened.networks()
    if "embedder" not in sessions:
        raise ModelError(explain("--face", "an embedder in the profile", "none", "name one in models.embedder"))
    reader = PictureReader(backend, asked.profile, sessions["detector"], sessions["embedder"], sessions.get("refiner"))
    return reader.find(rgb, str(picture), "largest").embedding


def _bytes_of(picture: Path) -> bytes:
    try:
        return picture.read_bytes()
    except OSError as error:
        raise InputError(explain(str(picture), "a picture file", str(error.strerror), "check the path")) from error


def _threads(profile: Profile) -> int:
    """Decoding and finding faces take turns, so the decoder may have the whole budget."""
    return profile.threads or len(os.sched_getaffinity(0))
