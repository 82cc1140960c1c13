"""mouth_layout: which pictures a generator's tensors hold, and what can't be made of a frame, said by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.errors import ModelError, explain
from kernels.launch import Values
from models.contract import Contract
from models.facts import LipsyncFacts, Rectangle
from models.spec import Spec

__all__ = ["MouthLayout", "layout_of", "rim_mask", "values_of"]

F32 = npt.NDArray[np.float32]

_SAME_FRAME = ("masked", "reference")
_TEMPLATE = "picture "


@dataclass(frozen=True)
class MouthLayout:
    """A generator's pictures. Sizes are (width, height) in px.

    `pictures`: input -> what its channels hold, in order: masked and reference are the frame's own crop, "picture 1"
    and on are of the template, the same for every frame. `inner_xywh_px` is the crop's part that the network sees,
    `blank_xywh_px` of that is black in the masked picture: what the network draws. `condition` takes the speech.
    """

    crop_px: tuple[int, int]
    inner_xywh_px: Rectangle
    blank_xywh_px: Rectangle
    pictures: dict[str, tuple[str, ...]]
    condition: str
    output: str

    @property
    def size_px(self) -> tuple[int, int]:
        """Of the network's pictures."""
        return self.inner_xywh_px[2], self.inner_xywh_px[3]

    @property
    def offset_px(self) -> tuple[int, int]:
        """Of the network's pictures in the crop."""
        return self.inner_xywh_px[0], self.inner_xywh_px[1]

    @property
    def template_pictures(self) -> int:
        """How many pictures of the template it takes."""
        return sum(name.startswith(_TEMPLATE) for names in self.pictures.values() for name in names)


def layout_of(contract: Contract) -> MouthLayout:
    """The layout of a generator; raises ModelError for one that takes what can't be cut from a frame."""
    facts = contract.lipsync
    if facts is None:
        raise ModelError(explain(contract.name, "a generator of the role lipsync", contract.role, "name another"))
    if facts.crop is not None and facts.crop.landmarks == "mediapipe_478":
        raise ModelError(
            explain(
                contract.name,
                "points of a network that there is a contract for",
                "MediaPipe's 478, from which its mouth is drawn, and no contract for them",
                "name another generator; its shapes of the mouth can be had from the encoder alone",
            )
        )
    width, height = facts.crop_px
    inner = facts.inner_xywh_px if facts.inner_xywh_px[2] else (0, 0, width, height)
    pictures = {name: _pictures(contract, facts, name, spec) for name, spec in contract.inputs.items() if spec.colour}
    if facts.blank_xywh_px[2] == 0 and any("masked" in names for names in pictures.values()):
        raise ModelError(explain(contract.name, "a blank rectangle for its masked picture", "none", "complete it"))
    outputs = [name for name, spec in contract.outputs.items() if spec.colour]
    shapes = {contract.inputs[name].shape[2:] for name in pictures} | {
        contract.outputs[name].shape[2:] for name in outputs
    }
    if len(outputs) != 1 or not pictures or shapes != {(inner[3], inner[2])}:
        wanted = f"pictures of {inner[2]}x{inner[3]} px in and one out"
        got = ", ".join(f"{columns}x{rows}" for rows, columns in shapes) or "none"
        raise ModelError(explain(contract.name, wanted, got, "name another generator"))
    if len(facts.driven_by) != 1 or facts.driven_by[0] in pictures:
        got = ", ".join(facts.driven_by) or "none"
        raise ModelError(explain(contract.name, "one input beside its pictures that takes speech", got, "name another"))
    return MouthLayout((width, height), inner, facts.blank_xywh_px, pictures, facts.driven_by[0], outputs[0])


def _pictures(contract: Contract, facts: LipsyncFacts, name: str, spec: Spec) -> tuple[str, ...]:
    """What an input's channels hold; one picture without a name is the masked one, or the template's."""
    channels = spec.shape[1]
    held = facts.stack.get(name) or (("masked",) if name == "source" else (f"{_TEMPLATE}1",))
    for one in held:
        if one not in _SAME_FRAME and not one.startswith(_TEMPLATE):
            wanted = "pictures that can be cut from a frame or the template"
            raise ModelError(explain(f"{contract.name}.{name}", wanted, repr(one), "name another generator"))
    if channels != 3 * len(held):
        raise ModelError(
            explain(
                f"{contract.name}.{name}", f"{3 * len(held)} channels for {', '.join(held)}", channels, "correct it"
            )
        )
    return held


def values_of(spec: Spec) -> Values:
    """How RGB stands in a picture."""
    return Values(spec.mean_by_channel, spec.std_by_channel, spec.colour or "rgb")


def rim_mask(size_px: tuple[int, int], inside_xywh_px: Rectangle, feather_px: float) -> F32:
    """float32 [H, W]: 1 inside a rectangle, falling smoothly to 0 within `feather_px` of its edges, 0 outside."""
    x, y, width, height = inside_xywh_px

    def along(size: int, start: int, length: int) -> npt.NDArray[np.float64]:
        at = np.arange(size) + 0.5
        depth = np.minimum(at - start, start + length - at)
        if feather_px <= 0:
            return np.asarray(depth > 0, np.float64)
        part: npt.NDArray[np.float64] = np.clip(depth / feather_px, 0.0, 1.0)
        return np.asarray(part * part * (3.0 - 2.0 * part))

    mask: F32 = np.outer(along(size_px[1], y, height), along(size_px[0], x, width)).astype(np.float32)
    return mask
