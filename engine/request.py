"""What a caller asked for, checked before anything is opened: faces, sources, size, and the profile's models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InputError, ModelError, explain
from kernels.launch import Select
from models.contract import Contract, Role
from models.facts import PasteFacts
from models.model_files import ModelFile, ModelFileError, find
from models.tables import TableError
from profiles.profile import Enhance, Profile

__all__ = [
    "FaceChoice",
    "check_encoder",
    "check_request",
    "find_encoder",
    "find_lipsync_models",
    "find_models",
    "parse_faces",
    "restorer_way",
]


@dataclass(frozen=True)
class FaceChoice:
    """Which faces are changed: a selection among all, or those like certain pictures."""

    select: Select
    like: tuple[Path, ...] = ()


def parse_faces(given: Sequence[str]) -> FaceChoice:
    """all, largest, leftmost, or one or more like=PICTURE; raises InputError for anything else."""
    like = tuple(Path(one.removeprefix("like=")) for one in given if one.startswith("like="))
    if like and len(like) == len(given):
        return FaceChoice("all", like)
    if len(given) == 1 and given[0] in ("all", "largest", "leftmost"):
        return FaceChoice("largest" if given[0] == "largest" else "leftmost" if given[0] == "leftmost" else "all")
    raise InputError(
        explain("--faces", "all, largest, leftmost, or like=PICTURE once or more", " ".join(given), "name one")
    )


def check_request(choice: FaceChoice, sources: Sequence[Path], size: tuple[int, int]) -> None:
    """Raise InputError for sources that don't go with the choice of faces, and for an empty size."""
    if not sources or (choice.like and len(choice.like) != len(sources)):
        wanted = f"{len(choice.like)} sources, one for each like=PICTURE" if choice.like else "a source picture"
        raise InputError(explain("--source", wanted, f"{len(sources)}", "give as many pictures"))
    if len(sources) > 1 and choice.select != "all":
        raise InputError(
            explain(
                "--source", f"one source for --faces {choice.select}", f"{len(sources)}", "use like=PICTURE for each"
            )
        )
    if min(size) < 1:
        raise InputError(explain("open_pipeline", "a size of 1x1 px or more", f"{size[0]}x{size[1]}", "correct it"))


def find_models(profile: Profile) -> dict[str, ModelFile]:
    """The file of each role that the profile fills; an embedder must be one that the swapper takes."""
    if profile.task != "swap":
        do = "name a swap profile; a presenter talks by engine.speak, or run with --template"
        raise ModelError(explain(f"profile {profile.name}", "the task swap", profile.task, do))
    roles = {
        "detector": profile.models.detector,
        "embedder": profile.models.embedder,
        "swapper": profile.models.swapper,
        "refiner": profile.models.refiner,
        "restorer": profile.models.restorer,
        "occluder": profile.models.occluder if "occlusion" in profile.mask.kinds else "",
        "parser": profile.models.parser if "regions" in profile.mask.kinds else "",
    }
    try:
        models = {role: find(name) for role, name in roles.items() if name}
    except ModelFileError as error:
        raise ModelError(f"profile {profile.name}: {error}") from error
    for role, model in models.items():
        wanted = "mask" if role in ("occluder", "parser") else role
        if model.contract.role != wanted:
            raise ModelError(
                explain(
                    f"profile {profile.name}",
                    f"a model of the role {wanted} as its {role}" if wanted != role else f"a {role}",
                    f"{model.contract.name}, a {model.contract.role}",
                    "correct it",
                )
            )
    _refuse_what_does_not_run(profile, models)
    accepted = models["swapper"].contract.embedder
    if models["embedder"].contract.name not in accepted:
        raise ModelError(
            explain(
                f"profile {profile.name}",
                f"an embedder that {models['swapper'].contract.name} takes ({', '.join(accepted)})",
                models["embedder"].contract.name,
                "correct the profile's models",
            )
        )
    return models


def _refuse_what_does_not_run(profile: Profile, models: dict[str, ModelFile]) -> None:
    """Contracts that this release knows but has no stages for are refused by name, never run as something else."""
    detector, swapper = models["detector"].contract, models["swapper"].contract
    where = f"profile {profile.name}"
    if detector.detector is None or detector.detector.kind != "scrfd" or detector.detector.letterbox != "top_left":
        kind = detector.detector.kind if detector.detector else "none"
        wanted = "a detector of SCRFD's kind, letterboxed at the top left"
        raise ModelError(explain(where, wanted, f"{detector.name} ({kind})", "name det_10g or another SCRFD file"))
    facts = swapper.swapper
    if facts is None or facts.source != "embedding" or facts.identity_map:
        wanted = "a swapper whose source is an embedding as it is"
        raise ModelError(explain(where, wanted, swapper.name, "name inswapper_128 or another of that kind"))
    if "restorer" in models:
        restorer_way(models["restorer"].contract, profile.enhance)


def restorer_way(contract: Contract, options: Enhance) -> PasteFacts:
    """How a restorer's crop is cut and pasted: as the system that the options name does it, or the contract's own.

    Raises ModelError for a system that the contract does not know, and for a way that is not known in full or takes
    a network that this release does not run there.
    """
    facts = contract.restorer
    if facts is None:
        raise ModelError(explain(contract.name, "a restorer", f"a {contract.role}", "correct the profile's models"))
    name = options.like or facts.like
    if name not in facts.paste:
        raise ModelError(
            explain("enhance.like", f"one of {', '.join(facts.paste)} for {contract.name}", name, "correct it")
        )
    way = facts.paste[name]
    if way.mask not in ("box", "ramp") or way.border == "unknown":
        found = (
            f"a mask of the kind {way.mask}" if way.mask not in ("box", "ramp") else "a border that nobody published"
        )
        raise ModelError(
            explain(
                f"{contract.name} as {name} runs it",
                "a box or ramp mask and a known border",
                found,
                f'say like = "{facts.like}" in [enhance]',
            )
        )
    return way


def find_lipsync_models(profile: Profile) -> dict[str, ModelFile]:
    """The files that make a mouth: the generator, and the speech encoder that it takes, if it takes one.

    Raises ModelError for a file that is not there, and for an encoder that does not go with the generator. A detector
    and landmarks belong to preparing a template.
    """
    where = f"profile {profile.name}"
    models = {"lipsync": _find(profile, "lipsync", profile.models.lipsync)}
    encoder = find_encoder(profile)
    if encoder is not None:
        models["encoder"] = encoder
    check_encoder(models["lipsync"].contract, None if encoder is None else encoder.contract, where)
    return models


def find_encoder(profile: Profile) -> ModelFile | None:
    """The file of a profile's speech encoder; None where it names none."""
    return _find(profile, "audio_encoder", profile.models.encoder) if profile.models.encoder else None


def _find(profile: Profile, role: Role, name: str) -> ModelFile:
    try:
        model = find(name)
    except (ModelFileError, TableError) as error:
        raise ModelError(f"profile {profile.name}: {error}") from error
    if model.contract.role != role:
        got = f"{name}, which has the role {model.contract.role}"
        raise ModelError(explain(f"profile {profile.name}", f"a model of the role {role}", got, "correct its models"))
    return model


def check_encoder(generator: Contract, encoder: Contract | None, where: str) -> None:
    """Raise ModelError where a generator does not take the vectors of this encoder (None: bands go in directly)."""
    facts = generator.lipsync
    if facts is None or (encoder is None and facts.features is not None):
        return
    if not facts.encoders and facts.features is None:
        got = "; ".join(generator.uncertain) or "none"
        do = "name another generator"
        raise ModelError(explain(where, f"a contract for the encoder of {generator.name}", f"none ({got})", do))
    if encoder is None or encoder.name not in facts.encoders:
        wanted = f"an encoder that {generator.name} takes ({', '.join(facts.encoders) or 'none: it takes bands'})"
        raise ModelError(explain(where, wanted, encoder.name if encoder else "none", "correct models.encoder"))
