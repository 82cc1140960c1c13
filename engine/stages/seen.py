"""seen: networks that judge a crop's pixels, for the mask: is the face in front, and which parts of it are kept."""

from __future__ import annotations

from collections.abc import Sequence

from engine.backends.base import Backend, Session
from engine.errors import ModelError, explain
from engine.frame import Buffer, Frame
from engine.stages.crop import Crop
from kernels.launch import crop_into as crop_nchw_into
from kernels.launch import (
    crop_nhwc_into,
    rescale_faces_into,
    rescale_matrices_into,
    seen_pixels_into,
    soften_into,
)
from models.contract import Contract
from models.facts import MaskFacts
from models.spec import Spec

__all__ = ["Occlusion", "Regions", "kept_classes"]


class _Judge:
    """A mask network on k crops: its input, and what it says as masks [k, S, S] of a crop of S px."""

    def __init__(self, backend: Backend, session: Session, size_px: int, capacity: int, keep: Sequence[int]) -> None:
        self.backend, self.session, self.keep = backend, session, tuple(keep)
        self.facts = _facts_of(session.contract)
        self.spec = session.contract.inputs["image"]
        self.name = next(iter(session.contract.outputs))
        self.is_last = self.spec.layout == "nhwc"
        image_shape = self.spec.at(n=1).sizes[1:]
        self.height_px, self.width_px = image_shape[:2] if self.is_last else image_shape[1:]
        scores_shape = session.contract.outputs[self.name].at(n=1).sizes[1:]
        image = backend.allocate(Spec("float32", (capacity, *image_shape), layout=self.spec.layout))
        scores = backend.allocate(Spec("float32", (capacity, *scores_shape)))
        seen = backend.allocate(Spec("float32", (capacity, self.height_px, self.width_px)))
        rows, masks = (backend.allocate(Spec("float32", (capacity, size_px, size_px))) for _ in range(2))
        self.inputs, self.scores, self.seen, self.rows, self.masks = (
            [memory.rows(0, k) for k in range(capacity + 1)] for memory in (image, scores, seen, rows, masks)
        )

    def prepare(self, face_counts: Sequence[int]) -> None:
        """Bind these face counts ahead."""
        for k in face_counts:
            self.session.prepare({"image": self.inputs[k]}, {self.name: self.scores[k]})

    def __call__(self, k: int) -> Buffer:
        """Masks of the k crops that lie in `inputs[k]`."""
        facts = self.facts
        self.session.run({"image": self.inputs[k]}, {self.name: self.scores[k]})
        seen_pixels_into(
            self.backend,
            self.scores[k],
            self.seen[k],
            kind=facts.kind,
            keep=self.keep,
            zero_below=facts.zero_below,
        )
        remap = (facts.remap[0], facts.remap[1]) if facts.remap else (0.0, 1.0)
        soften_into(self.backend, self.seen[k], self.rows[k], self.masks[k], sigma_px=facts.sigma_px, remap=remap)
        return self.masks[k]


class Occlusion:
    """Where the face of the frame is seen: hands, microphones and hair stay in front of the swapped one."""

    def __init__(self, backend: Backend, session: Session, crop: Crop, capacity: int) -> None:
        self.backend, self.crop = backend, crop
        self.judge = _Judge(backend, session, crop.size_px, capacity, _facts_of(session.contract).keep)
        self.frame_from_input = backend.allocate(Spec("float32", (capacity, 2, 3)))

    def prepare(self, face_counts: Sequence[int]) -> None:
        """Bind these face counts ahead."""
        self.judge.prepare(face_counts)

    def __call__(self, frame: Frame, k: int) -> Buffer:
        """Masks [k, S, S] of the faces that the crop stage cut from this frame."""
        judge = self.judge
        rescale_matrices_into(
            self.backend,
            self.crop.frame_from_crop,
            self.frame_from_input,
            from_px=self.crop.size_px,
            to_px=judge.width_px,
        )
        cut = crop_nhwc_into if judge.is_last else crop_nchw_into
        cut(
            self.backend,
            frame.view,
            self.frame_from_input,
            judge.inputs[k],
            mean=judge.spec.mean_by_channel,
            std=judge.spec.std_by_channel,
            order=judge.spec.colour or "rgb",
            border="replicate",
        )
        return judge(k)


class Regions:
    """The parts of the swapped face that a parser of 19 classes finds, as many as are kept."""

    def __init__(
        self, backend: Backend, session: Session, output: Spec, size_px: int, capacity: int, regions: Sequence[str]
    ) -> None:
        self.backend, self.output = backend, output
        self.judge = _Judge(backend, session, size_px, capacity, kept_classes(session.contract, regions))

    def prepare(self, face_counts: Sequence[int]) -> None:
        """Bind these face counts ahead."""
        self.judge.prepare(face_counts)

    def __call__(self, faces_nchw: Buffer) -> Buffer:
        """Masks [k, S, S] of the swapped faces [k, 3, S, S]."""
        judge, k = self.judge, faces_nchw.shape[0]
        rescale_faces_into(
            self.backend,
            faces_nchw,
            judge.inputs[k],
            mean=self.output.mean_by_channel,
            std=self.output.std_by_channel,
            order=self.output.colour or "rgb",
            out_mean=judge.spec.mean_by_channel,
            out_std=judge.spec.std_by_channel,
            out_order=judge.spec.colour or "rgb",
            nhwc=judge.is_last,
        )
        return judge(k)


def kept_classes(parser: Contract, regions: Sequence[str]) -> tuple[int, ...]:
    """Numbers of a parser's classes by name, those that its contract keeps for none; raises ModelError."""
    facts = _facts_of(parser)
    if facts.kind != "classes":
        raise ModelError(explain(parser.name, "a parser, which gives classes", facts.kind, "name bisenet_resnet_34"))
    unknown = [name for name in regions if name not in facts.labels]
    if unknown:
        raise ModelError(explain("mask.regions", ", ".join(facts.labels), ", ".join(unknown), "correct the names"))
    return tuple(facts.labels.index(name) for name in regions) or facts.keep


def _facts_of(contract: Contract) -> MaskFacts:
    """What a mask network's output means; raises ModelError for one that no mask is made of."""
    facts = contract.mask
    if facts is None or facts.blur_px or facts.rim_px:
        got = "a box blur" if facts is not None else f"the role {contract.role}"
        raise ModelError(
            explain(contract.name, "a mask network with a Gaussian or none", got, "name xseg_1 or bisenet_resnet_34")
        )
    return facts
