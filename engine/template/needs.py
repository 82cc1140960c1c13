"""What preparing takes of a profile: its networks, its generator's crop rule, and all of that as one key."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from engine.errors import ModelError, explain
from engine.template.crops import CropRule
from models.contract import FOLDER as CONTRACTS
from models.contract import Contract, load_contract
from models.model_files import ModelFile, ModelFileError, find
from models.tables import TableError
from profiles.profile import Profile

__all__ = ["Needs", "TemplateKey", "command_for", "find_needs", "model_rate", "template_key"]


@dataclass(frozen=True)
class TemplateKey:
    """What a template is looked up by: all of it must be the same.

    `models`: role -> contract, and the SHA-256 of contract and file; the generator has no file here, since only its
    contract counts. `options`: everything of the profile that changes what is found.
    """

    video_sha256: str
    models: dict[str, dict[str, str]]
    options: dict[str, str]

    @property
    def digest(self) -> str:
        """One hash of everything."""
        return _hash(dataclasses.asdict(self))

    @property
    def profile_digest(self) -> str:
        """One hash of everything but the video."""
        return _hash([self.models, self.options])

    def difference(self, got: TemplateKey) -> tuple[str, str] | None:
        """(wanted, got) in words for the first thing in which another key differs; None where none does."""
        if self.video_sha256 != got.video_sha256:
            return f"the video of SHA-256 {got.video_sha256[:12]}, as prepared", self.video_sha256[:12]
        for role in sorted({*self.models, *got.models}):
            mine, theirs = self.models.get(role, {}), got.models.get(role, {})
            if mine.get("contract") != theirs.get("contract"):
                had, has = theirs.get("contract", "none"), mine.get("contract", "none")
                return f"the {role} {had}, as prepared", has
            for part in ("contract_sha256", "file_sha256"):
                if mine.get(part) != theirs.get(part):
                    what = f"the {part.removesuffix('_sha256')} of {mine['contract']}"
                    return f"{what} with the SHA-256 {theirs.get(part, 'none')[:12]}", mine.get(part, "none")[:12]
        for name in sorted({*self.options, *got.options}):
            if self.options.get(name) != got.options.get(name):
                return f"{name} {got.options.get(name)}, as prepared", str(self.options.get(name))
        return None


@dataclass(frozen=True)
class Needs:
    """Networks by role, the generator's contract and its rule."""

    models: dict[str, ModelFile]
    generator: Contract
    rule: CropRule


def find_needs(profile: Profile) -> Needs:
    """What this profile prepares templates with; raises ModelError for what is missing or does not fit."""
    where = f"profile {profile.name}"
    if not profile.models.lipsync:
        raise ModelError(explain(where, "a generator in models.lipsync", "none", "name a profile of the task lipsync"))
    try:
        generator = load_contract(profile.models.lipsync)
        if generator.role != "lipsync":
            got = f"{generator.name}, a {generator.role}"
            raise ModelError(explain(where, "a generator in models.lipsync", got, "correct it"))
        rule = CropRule(generator)
        if rule.needs_68 and not profile.models.landmarks:
            wanted = f"a network of 68 points for the crop of {generator.name}"
            raise ModelError(explain(where, wanted, "none", "name pfpld, 2dfan4 or fan_68_5 in models.landmarks"))
        roles = ["detector", "refiner", "embedder", *(["landmarks"] if rule.needs_68 else [])]
        names = {role: getattr(profile.models, role) for role in roles}
        models = {role: find(name) for role, name in names.items() if name}
    except (ModelFileError, TableError) as error:
        raise ModelError(f"{where}: {error}") from error
    for role, model in models.items():
        if model.contract.role != role:
            got = f"{model.contract.name}, a {model.contract.role}"
            raise ModelError(explain(where, f"a {role}", got, "correct it"))
    facts = models["detector"].contract.detector
    if facts is None or facts.kind != "scrfd" or facts.letterbox != "top_left":
        wanted = "a detector of SCRFD's kind, letterboxed at the top left"
        got = f"{models['detector'].contract.name} ({facts.kind if facts else 'none'})"
        raise ModelError(explain(where, wanted, got, "name det_10g or another SCRFD file"))
    return Needs(models, generator, rule)


def template_key(video_sha256: str, profile: Profile, needs: Needs) -> TemplateKey:
    """The key of a video under a profile: the one place that says what makes two templates different."""
    models = {
        role: {
            "contract": model.contract.name,
            "contract_sha256": _contract_sha256(model.contract),
            "file_sha256": model.sha256,
        }
        for role, model in needs.models.items()
    }
    generator = needs.generator
    models["lipsync"] = {"contract": generator.name, "contract_sha256": _contract_sha256(generator)}
    detect, track = profile.detect, profile.track
    options = {
        "detect.size_px": detect.size_px,
        "detect.second_pass_px": detect.second_pass_px,
        "detect.score_threshold": detect.score_threshold,
        "detect.iou_threshold": detect.iou_threshold,
        "detect.max_detections": detect.max_detections,
        "track.faces": track.faces,
        "track.coast_frames": track.coast_frames,
        "track.cut_threshold": track.cut_threshold,
        "track.like_threshold": track.like_threshold,
    }
    return TemplateKey(video_sha256, models, {name: f"{value:g}" for name, value in options.items()})


def model_rate(generator: Contract, own: Fraction) -> Fraction:
    """Frames a second: the training video's where the contract names one, else the video's own."""
    assert generator.lipsync is not None  # the contract's loader refuses a generator without it
    hz = generator.lipsync.frame_rate_hz
    return Fraction(str(hz)) if hz else own


def _contract_sha256(contract: Contract) -> str:
    return hashlib.sha256((CONTRACTS / "contracts" / f"{contract.name}.toml").read_bytes()).hexdigest()


def _hash(table: object) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def command_for(video: Path | str, profile: Profile) -> str:
    """What to type to prepare a video."""
    return f"prepare it: python -m engine prepare {shlex.quote(str(video))} --profile {profile.name}"
