"""Identities of pictures: found and embedded once, when a pipeline opens; never in a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Session
from engine.errors import ModelError, NoFaceError, explain
from engine.frame import Frame, held_buffer
from engine.stages.detect import Detect
from engine.stages.identify import Embed
from engine.stages.refine import Refine
from engine.stages.track import Track, allocate_faces
from kernels.launch import Colour, rgb_to_nv12_into
from models.model_files import ModelFile
from models.spec import Spec
from profiles.profile import Profile

__all__ = ["Identity", "PictureReader", "SourceFace", "latents_of"]

F32 = npt.NDArray[np.float32]
SourceFace = Literal["only", "largest", "leftmost"]

_COLOUR = Colour("bt709", full_range=True, siting="center")


@dataclass(frozen=True)
class Identity:
    """The face of one picture: unit embedding float32 [512], detector score, box and points in px."""

    embedding: F32
    score: float
    box_xyxy_px: F32
    points_px: F32


@dataclass(frozen=True)
class PictureReader:
    """Finds the one face of a picture with the sessions of a pipeline."""

    backend: Backend
    profile: Profile
    detector: Session
    embedder: Session
    refiner: Session | None

    def find(self, rgb: npt.NDArray[np.uint8], where: str, which: SourceFace) -> Identity:
        """The identity that uint8 [H, W, 3] RGB shows; `where` names it in errors.

        Raises NoFaceError where it shows none, or several and `which` does not say whose.
        """
        frame = self._frame(rgb)
        size = (rgb.shape[1], rgb.shape[0])
        detect = Detect(self.backend, self.detector, self.profile.detect, size, self.profile.track.cut_threshold)
        options = self.profile.track
        select = "all" if which == "only" else which
        track = Track(self.backend, detect, options, select, 1)
        detect(frame)
        track(frame, detected=True)
        track.read(frame)
        found = int(self.backend.to_host(detect.count)[0])
        if found == 0:
            best = float(self.backend.to_host(detect.best_score)[0])
            raise NoFaceError(
                explain(
                    where,
                    f"a face with a score of {detect.threshold:.2f} or more",
                    f"none; the best score seen was {best:.2f}",
                    "take a clearer picture, or lower --score-threshold (detect.score_threshold)",
                )
            )
        if found > 1 and which == "only":
            raise NoFaceError(
                explain(where, "one face", f"{found}", "crop the picture, or add --source-face largest or leftmost")
            )
        if self.refiner is not None:
            Refine(self.backend, self.refiner, track.tracks, options.faces)(frame, 1)
        embedding = Embed(self.backend, self.embedder, options.faces)(frame, 1)[0]
        faces = frame.faces
        host = [self.backend.to_host(held_buffer(item))[0] for item in (faces.scores, faces.boxes, faces.points)]
        return Identity(embedding, float(host[0]), host[1], host[2])

    def _frame(self, rgb: npt.NDArray[np.uint8]) -> Frame:
        height, width = rgb.shape[:2]
        nv12 = self.backend.allocate_nv12(width, height)
        view = nv12.view(_COLOUR)
        picture = self.backend.allocate(Spec("uint8", (height, width, 3)))
        self.backend.upload(np.ascontiguousarray(rgb), picture)
        rgb_to_nv12_into(self.backend, picture, view)
        return Frame(0, nv12, view, allocate_faces(self.backend, self.profile.track.faces))


def latents_of(identities: list[Identity], swapper: ModelFile) -> F32:
    """float32 [S, 512]: each identity as the swapper's contract takes it, through its emap where it has one."""
    units = np.stack([identity.embedding for identity in identities])
    facts = swapper.contract.emap
    if facts is None:
        return np.ascontiguousarray(units, dtype=np.float32)
    emap = swapper.emap()
    if emap is None:
        do = f"add the published file again: {swapper.contract.file}"
        raise ModelError(explain(str(swapper.path), "a stored emap", "none", do))
    latents = units @ emap
    if facts.normalise_latent:
        latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    return np.ascontiguousarray(latents, dtype=np.float32)
