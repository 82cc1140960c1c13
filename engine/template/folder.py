"""Prepared templates on disk: a manifest that says what one was made from, and its arrays, checked by hash.

A manifest appears under its name only when everything it names is there as a whole, so a prepare that is killed
leaves nothing that opens, or what was there before.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shlex
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import InputError, MediaError, OutputError, explain
from engine.template.needs import Needs, TemplateKey, command_for, find_needs, template_key
from engine.template.template import FrameIndex, Template
from engine.video.pyav import is_url
from engine.video.source import open_source
from engine.video.what_is_video import refuse_path
from models.onnx_file import sha256_of
from models.plan_file import write_whole
from models.tables import TableError, from_table
from profiles.profile import Profile

__all__ = [
    "Manifest",
    "find_manifest",
    "home_of",
    "locked",
    "open_template",
    "template_folder",
    "video_sha256",
    "write",
]

FORMAT = 1
Arrays = dict[str, npt.NDArray[Any]]
_NAME = "template.json"
_OF_TEMPLATE = (
    "source_frame", "has_face", "crop_from_frame", "frame_from_crop", "raw_crop_from_frame", "points", "boxes",
)  # fmt: skip
_OF_INDEX = ("pts", "keys", "checks")


@dataclass(frozen=True)
class Manifest:
    """What a template was made from, and the file of its arrays. `choice`: the face that was asked for, in words."""

    key: TemplateKey
    video: str
    rate: str
    choice: str
    idle: tuple[int, ...]
    references: tuple[int, ...]
    notes: tuple[str, ...]
    arrays: str
    arrays_sha256: str
    format: int = FORMAT


def template_folder() -> Path:
    """`$FACE_ENGINE_TEMPLATES`, else `$XDG_CACHE_HOME/face-engine/templates`, or under `~/.cache`; not created here."""
    if own := os.environ.get("FACE_ENGINE_TEMPLATES"):
        return Path(own)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "face-engine" / "templates"


def video_sha256(video: str | Path) -> str:
    """The hash of a video file; raises InputError for what is no file."""
    if is_url(str(video)):
        raise InputError(explain(str(video), "a file", "an address", "save the template to a file first"))
    refuse_path(str(video))
    try:
        return sha256_of(Path(video))
    except OSError as error:
        raise InputError(explain(str(video), "a readable video file", str(error.strerror), "check the path")) from error


def home_of(video: Path, key: TemplateKey) -> Path:
    """The folder in the cache for this video and this profile's models."""
    stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in video.stem)[:40]
    return template_folder() / f"{stem}-{key.video_sha256[:12]}-{key.profile_digest[:12]}"


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder alone; what a killed prepare left under temporary names is gone. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise OutputError(explain(str(folder), "a folder to write in", str(error.strerror), "name another")) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder}: another prepare is at work here; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(".face-engine-*"):
            left.unlink(missing_ok=True)
        yield


def write(folder: Path, manifest: Callable[[str, str], Manifest], arrays: Arrays) -> Manifest:
    """Write arrays, then the manifest that names them, then remove arrays that no manifest names any more."""
    packed = _packed(arrays)
    digest = hashlib.sha256(packed).hexdigest()
    made = manifest(f"template-{digest[:16]}.npz", digest)
    try:
        write_whole(folder / made.arrays, packed)
        write_whole(folder / _NAME, json.dumps(asdict(made), indent=1, sort_keys=True).encode())
        for other in folder.glob("template-*.npz"):
            if other.name != made.arrays:
                other.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            explain(str(folder), "the template written", str(error.strerror), "check the disk")
        ) from error
    return made


def _packed(arrays: Arrays) -> bytes:
    """The arrays as an .npz file: the same bytes for the same arrays, so without the time of day."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, array in sorted(arrays.items()):
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return held.getvalue()


def find_manifest(folder: Path, do: str) -> Manifest | None:
    """The manifest of a folder, None where there is none; raises InputError where it does not read."""
    path = folder / _NAME
    try:
        manifest = from_table(Manifest, json.loads(path.read_bytes()), str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TableError) as error:
        raise InputError(explain(str(path), "a template's manifest", str(error), do)) from error
    if manifest.format != FORMAT:
        raise InputError(explain(str(path), f"manifest format {FORMAT}", manifest.format, do))
    return manifest


def open_template(path: str | Path, profile: Profile, *, threads: int = 1) -> Template:
    """The prepared template of a video, or in a folder that `prepare` was told; hashes the video.

    Raises InputError where there is none for this video and this profile's models, with what differs and the command
    that prepares it; ModelError for a profile that can't prepare.
    """
    needs = find_needs(profile)
    if Path(path).is_dir():
        manifest = find_manifest(Path(path), command_for("VIDEO", profile))
        if manifest is None:
            do = command_for("VIDEO", profile) + f" --out {shlex.quote(str(path))}"
            raise InputError(explain(str(path), "a prepared template", "a folder without one", do))
        return open_folder(Path(path), manifest, profile, needs, threads=threads)
    key = template_key(video_sha256(path), profile, needs)
    do = command_for(path, profile)
    manifest = find_manifest(home_of(Path(path), key), do)
    if manifest is None:
        wanted, got = _nearest(Path(path), key) or ("a prepared template", f"none in {template_folder()}")
        raise InputError(explain(str(path), wanted, got, do))
    return open_folder(home_of(Path(path), key), manifest, profile, needs, key=key, video=Path(path), threads=threads)


def open_folder(
    folder: Path,
    manifest: Manifest,
    profile: Profile,
    needs: Needs,
    *,
    key: TemplateKey | None = None,
    video: Path | None = None,
    threads: int = 1,
) -> Template:
    """The template of a folder whose manifest is known; see `open_template`. `video`: where it is now, of this key."""
    do = command_for(video or manifest.video, profile)
    if video is None:
        do += f" --out {shlex.quote(str(folder))}"
    video = video or Path(manifest.video)
    if not video.is_file():
        raise InputError(explain(str(folder), "the video it was prepared from", f"no file {video}", do))
    key = key or template_key(video_sha256(video), profile, needs)
    if difference := key.difference(manifest.key):
        raise InputError(explain(str(video), *difference, do))
    arrays = _read_arrays(folder, manifest, do)
    with open_source(video, threads=threads) as source:
        info = source.info
    start, stop = manifest.idle
    return Template(
        path=video,
        video=info,
        rate=Fraction(manifest.rate),
        **{name: arrays[name] for name in _OF_TEMPLATE},
        idle=range(start, stop),
        references=manifest.references,
        digest=hashlib.sha256(json.dumps(_lasting(manifest), sort_keys=True).encode()).hexdigest(),
        index=FrameIndex(**{name: arrays[name] for name in _OF_INDEX}),
        notes=manifest.notes,
    )


def _lasting(manifest: Manifest) -> dict[str, Any]:
    """A manifest without what says nothing about what was found: where the video lay."""
    return {name: value for name, value in asdict(manifest).items() if name != "video"}


def _read_arrays(folder: Path, manifest: Manifest, do: str) -> Arrays:
    path = folder / manifest.arrays
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(explain(str(path), "the arrays of its manifest", str(error.strerror), do)) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest.arrays_sha256:
        raise InputError(explain(str(path), f"the SHA-256 {manifest.arrays_sha256[:12]}", digest[:12], do))
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        return {name: held[name] for name in (*_OF_TEMPLATE, *_OF_INDEX)}


def _nearest(video: Path, key: TemplateKey) -> tuple[str, str] | None:
    """What differs in the template that comes nearest: one of the same video, else one of a video of this path."""
    by_path = None
    for path in sorted(template_folder().glob(f"*/{_NAME}")):
        try:
            manifest = find_manifest(path.parent, "")
        except InputError:  # an older release's, or spoiled: it stands in nobody's way
            continue
        if manifest is None:
            continue
        if manifest.key.video_sha256 == key.video_sha256:
            return key.difference(manifest.key)
        if Path(manifest.video) == video.resolve():
            by_path = key.difference(manifest.key)
    return by_path


def refuse_other_media(error: MediaError, video: str) -> MediaError:
    """The same refusal with what to do about a template: it can't be deinterlaced on the way."""
    if "interlaced" not in str(error):
        return error
    do = f"deinterlace it first: ffmpeg -i {shlex.quote(video)} -vf bwdif -crf 12 OUT.mp4"
    return MediaError(explain(video, "progressive pictures", "interlaced ones", do))
