"""Profile: one operating point, read from `profiles/NAME.toml` or a TOML file of the user's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kernels.launch_pixels import letterbox_size
from models.tables import TableError, from_table, read_toml
from profiles.ladder import Governor, Rung

__all__ = ["Models", "Profile", "load_profile", "profile_names"]

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Models:
    """Which contract fills which role; an empty name means that the role is not filled.

    A swap needs a detector, swapper and embedder; lipsync a detector and the generator `lipsync`, whose contract says
    whether it needs an `encoder` of speech, and points of a `landmarks` network for its crop.
    """

    detector: str
    swapper: str = ""
    embedder: str = ""
    refiner: str = ""
    restorer: str = ""
    occluder: str = ""
    parser: str = ""
    lipsync: str = ""
    encoder: str = ""
    landmarks: str = ""


@dataclass(frozen=True)
class Detect:
    """Detector options. Thresholds at 0 mean the contract's."""

    size_px: int = 640
    second_pass_px: int = 128
    every: int = 1
    score_threshold: float = 0.0
    iou_threshold: float = 0.0
    max_detections: int = 64

    def inputs_px(self, frame_px: tuple[int, int], multiple_of: int) -> list[tuple[int, int]]:
        """(width, height) of the detector's input in each pass over frames of `frame_px`.

        An input is trimmed to the picture: rows that would only hold padding, beyond the next multiple that the
        contract asks for, are not computed.
        """
        sizes = []
        for size_px in (self.size_px, self.second_pass_px):
            if size_px:
                width, height, _ = letterbox_size(*frame_px, size_px, size_px)
                sizes.append((-(-width // multiple_of) * multiple_of, -(-height // multiple_of) * multiple_of))
        return sizes


@dataclass(frozen=True)
class Track:
    """Faces a frame, coasting and smoothing.

    `cut_threshold` is a mean absolute luma difference in 0..255; `min_cutoff` (cycles a frame) and `beta` are
    the one-euro filter's: how much a still face rests, and how fast a moving one is followed. `like_threshold`
    is the cosine from which a face counts as the one that was asked for.
    """

    faces: int = 4
    coast_frames: int = 5
    cut_threshold: float = 24.0
    like_threshold: float = 0.4
    min_cutoff: float = 0.05
    beta: float = 6.0


@dataclass(frozen=True)
class Mask:
    """Crop-space masks, combined by minimum. Lengths are fractions of the crop's side.

    occlusion (what stands in front of the face stays) and regions (the named classes of the swapped face; none named:
    those that the contract keeps) are networks: models.occluder and models.parser.
    """

    kinds: tuple[Literal["ellipse", "box", "erode_blur", "occlusion", "regions"], ...] = ("ellipse",)
    ellipse: float = 0.44
    ellipse_blur: float = 0.094
    box_blur: float = 0.3
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Enhance:
    """The restorer (models.restorer) on every `every`-th frame, mixed in by `blend`, in the way of the system `like`.

    None for `blend`, and no `like`, leave it to the contract. `reuse`: on the other frames, what the last restored
    one changed is added again, as far as it holds; a new face is then restored at once.
    """

    every: int = 1
    blend: float | None = None
    reuse: bool = True
    like: str = ""


@dataclass(frozen=True)
class Lipsync:
    """How a mouth is made. `like` original: the boxes as they are found, the paste as the model's makers have it.

    Ours otherwise: smoothed boxes, and a soft mask whose rim of `feather` (a fraction of the shorter side of what the
    network draws) lies inside it; a contract that names a rim keeps its own. `texture` is how much of the frame's
    fine detail stays where the picture did not change: by `alike` levels of 0..255 or less, none from `unlike` on.
    `batch` frames go through the generator at once. `span` is for a speech encoder of free length: vectors of context
    before, new ones, and vectors of context after in one call; (0, 0, 0) calls it once, when the sound has ended.
    """

    like: Literal["ours", "original"] = "ours"
    feather: float = 0.15
    texture: float = 1.0
    alike: float = 24.0
    unlike: float = 96.0
    batch: int = 1
    span: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class Encode:
    """The encoder of file output; `quality` is a constant rate factor (lower is better)."""

    codec: Literal["h264", "hevc"] = "h264"
    quality: int = 18
    preset: str = "veryfast"


@dataclass(frozen=True)
class Live:
    """A live run. Times in s: until the first picture; without a packet; for coming back (0: none).

    `max_kbps` caps the rate of the output, 0 leaves it to the quality.
    """

    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    reconnect_s: float = 30.0
    max_kbps: int = 0


@dataclass(frozen=True)
class Budget:
    """Milliseconds a frame may take, and a stage; a frame budget of 0 means 1000 / the input's rate."""

    frame: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """One operating point. `threads` 0 means as many as the machine has cores for this process.

    `precision` and `session` are what a GPU runs the networks with: plans of this precision, or ONNX Runtime.
    """

    name: str
    task: Literal["swap", "lipsync"]
    says: str
    models: Models
    backend: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    session: Literal["tensorrt", "onnxruntime-cuda"] = "tensorrt"
    threads: int = 0
    slots: int = 6
    opacity: float = 1.0
    detect: Detect = field(default_factory=Detect)
    track: Track = field(default_factory=Track)
    mask: Mask = field(default_factory=Mask)
    enhance: Enhance = field(default_factory=Enhance)
    lipsync: Lipsync = field(default_factory=Lipsync)
    encode: Encode = field(default_factory=Encode)
    live: Live = field(default_factory=Live)
    budget_ms: Budget = field(default_factory=Budget)
    governor: Governor = field(default_factory=Governor)

    def __post_init__(self) -> None:
        for role in ("swapper", "embedder") if self.task == "swap" else ("lipsync",):
            if not getattr(self.models, role):
                raise ValueError(f"models.{role}: wanted a model for the task {self.task}, got none; name one")
        self._refuse_what_the_task_leaves_out()
        if not self.mask.kinds:
            raise ValueError("mask.kinds: wanted at least one of ellipse, box, erode_blur, got none; name one")
        for kind, role in (("occlusion", "occluder"), ("regions", "parser")):
            if kind in self.mask.kinds and not getattr(self.models, role):
                raise ValueError(f"models.{role}: wanted a model for the mask {kind}, got none; name one")
        for label, value, low, high in (
            ("detect.size_px", self.detect.size_px, 32, 4096),
            ("detect.every", self.detect.every, 1, 1000),
            ("detect.second_pass_px", self.detect.second_pass_px, 0, 4096),
            ("enhance.every", self.enhance.every, 1, 1000),
            ("enhance.blend", self.enhance.blend or 0.0, 0, 1),
            ("detect.max_detections", self.detect.max_detections, 1, 64),
            ("encode.quality", self.encode.quality, 0, 51),
            ("live.open_timeout_s", self.live.open_timeout_s, 0.1, 3600),
            ("live.read_timeout_s", self.live.read_timeout_s, 0.1, 3600),
            ("live.reconnect_s", self.live.reconnect_s, 0, 86400),
            ("live.max_kbps", self.live.max_kbps, 0, 1_000_000),
            ("slots", self.slots, 1, 64),
            ("threads", self.threads, 0, 1024),
            ("opacity", self.opacity, 0, 1),
            ("track.faces", self.track.faces, 1, 32),
            ("lipsync.feather", self.lipsync.feather, 0, 0.5),
            ("lipsync.texture", self.lipsync.texture, 0, 1),
            ("lipsync.alike", self.lipsync.alike, 0, 254),
            ("lipsync.unlike", self.lipsync.unlike, self.lipsync.alike + 1, 255),
            ("lipsync.batch", self.lipsync.batch, 1, max(1, self.slots // 2)),
            ("detect.score_threshold", self.detect.score_threshold, 0, 1),
        ):
            if not low <= value <= high:
                raise ValueError(f"{label}: wanted {low} to {high}, got {value}; correct the value")
        for label, size in (
            ("detect.size_px", self.detect.size_px),
            ("detect.second_pass_px", self.detect.second_pass_px),
        ):
            if size % 32:
                raise ValueError(f"{label}: wanted a multiple of 32, got {size}; correct the value")
        if self.detect.every > 1 and self.track.coast_frames < self.detect.every:
            raise ValueError(
                f"track.coast_frames: wanted {self.detect.every} or more with detect.every, "
                f"got {self.track.coast_frames}; tracks would end between two detections"
            )
        if self.detect.every > 1 and not self.models.refiner:
            raise ValueError(f"detect.every: wanted 1 without a refiner, got {self.detect.every}; name a refiner")

    @property
    def own(self) -> Rung:
        """What the profile does by itself, as the uppermost rung."""
        return Rung(
            enhance_every=self.enhance.every if self.models.restorer else 0,
            detect_every=self.detect.every,
            detect_size_px=self.detect.size_px,
            faces=self.track.faces,
        )

    def _refuse_what_the_task_leaves_out(self) -> None:
        """What a task has no use for is refused, not left out in silence."""
        others = ("swapper", "restorer", "occluder", "parser") if self.task == "lipsync" else ("lipsync", "encoder")
        for role in others:
            if getattr(self.models, role):
                got = getattr(self.models, role)
                raise ValueError(f"models.{role}: wanted none for the task {self.task}, got {got}; leave it out")
        if self.task == "lipsync":
            for label, is_given in (
                ("opacity", self.opacity != 1.0),
                ("enhance", self.enhance != Enhance()),
                ("governor.rungs", bool(self.governor.rungs)),
            ):
                if is_given:
                    raise ValueError(f"{label}: wanted the default for the task lipsync, got another; leave it out")

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """What the profile does by itself, then every rung of its governor in full.

        Raises ValueError for a rung that can't be there; `load_profile` asks, and whoever changed options asks again.
        """
        has_refiner = bool(self.models.refiner)
        return self.governor.ladder(self.own, has_refiner=has_refiner, coast_frames=self.track.coast_frames)


def profile_names() -> tuple[str, ...]:
    """The names of the profiles that come with the project, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_profile(name: str | Path) -> Profile:
    """A profile by name, or from the user's own .toml file; raises TableError where it does not read."""
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
        if not path.is_file():
            raise TableError(
                f"profile {name}: wanted one of {', '.join(profile_names())} or a .toml file, got {str(name)!r}; "
                "correct the name"
            )
    where = str(path) if path.parent != FOLDER else f"profiles/{path.name}"
    profile = from_table(Profile, read_toml(path), where)
    try:
        _ = profile.ladder
    except ValueError as error:
        raise TableError(f"{where}: {error}") from error
    return profile
