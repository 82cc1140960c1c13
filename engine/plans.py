"""Which plans there are for a model on this machine, and their bytes: found, checked, never built.

A plan is native code: it is handed out only when models.plan_file finds it whole and ours.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from engine.errors import ModelError, explain
from models.model_files import ModelFile
from models.plan_file import Manifest, PlanError, PlanKey, check_folder, key_for, load_plan, plan_folder, read_manifest

__all__ = ["PlanChoice", "open_plan", "plans_for"]


@dataclass(frozen=True)
class PlanChoice:
    """What this machine and profile take. `rebuild` is the command that errors name."""

    precision: str
    flavour: str
    flavour_version: str
    arch: str
    gpu_name: str
    rebuild: str


def plans_for(model: ModelFile, choice: PlanChoice) -> list[Manifest]:
    """The manifests of every plan for this file, one for each set of shapes, smallest first.

    Raises ModelError when there is none: with the field in which the nearest plan differs, and the command that
    builds one.
    """
    folder, name = plan_folder(), model.contract.name
    build = f"build it: {choice.rebuild}"
    nearest = ""
    found = {}
    try:
        paths = sorted(folder.glob(f"{name}-*.json"))
        if paths:
            check_folder(folder, build)
        for path in paths:
            if not path.with_suffix(".plan").exists():
                continue
            try:
                manifest = read_manifest(path, build)
            except PlanError as error:
                # an older release's, or spoiled: it stands in nobody's way; python -m build_engines prune removes it
                nearest = nearest or str(error)
                continue
            difference = _difference(model, choice, manifest.key)
            if not difference:
                found[path] = manifest
            elif manifest.key.contract == name:
                nearest = nearest or difference
    except PlanError as error:
        raise ModelError(str(error)) from error
    if not found:
        wanted = f"one for {choice.precision} by {choice.flavour} {choice.flavour_version} on {choice.arch}"
        got = nearest or f"none in {folder}"
        raise ModelError(explain(f"plan for {name}", wanted, got, build))
    return sorted(found.values(), key=lambda manifest: sorted(manifest.key.shapes.items()))


def open_plan(manifest: Manifest, choice: PlanChoice) -> bytes:
    """The plan's bytes, hashed now; raises ModelError when they are not what the manifest says."""
    try:
        return load_plan(manifest.key, f"build it: {choice.rebuild}")[0]
    except PlanError as error:
        raise ModelError(str(error)) from error


def _difference(model: ModelFile, choice: PlanChoice, got: PlanKey) -> str:
    """The first field in which a plan is not ours, whatever its shapes; empty when none is."""
    wanted = key_for(
        model,
        precision=choice.precision,
        shapes=got.shapes,
        flavour=choice.flavour,
        flavour_version=choice.flavour_version,
        arch=choice.arch,
        gpu_name=choice.gpu_name,
        options={name: value for name, value in got.options.items() if name != "gpu"},
    )
    for item in dataclasses.fields(PlanKey):
        mine, theirs = getattr(wanted, item.name), getattr(got, item.name)
        if mine != theirs:
            return f"one whose {item.name} is {theirs[:12] if item.name.endswith('sha256') else theirs}"
    return ""
