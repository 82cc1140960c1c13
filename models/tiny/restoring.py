"""The restorer's figures on held-out drawings: what it gains over soft pictures, and over swaps that were pasted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.tiny.measure import HELD_OUT, psnr_db, sharpness
from models.tiny.pack import Pack
from models.tiny.train import restore_pictures

__all__ = ["restoring", "sharpness"]

Bytes = npt.NDArray[np.uint8]
Figures = dict[str, float]
_SEED = HELD_OUT + 5


class _Rows:
    """Mean figures of one kind of input, before and after the restorer."""

    def __init__(self, pack: Pack, has_embedder: bool) -> None:
        self._pack, self._has_embedder = pack, has_embedder
        self._rows: list[dict[str, float]] = []
        self._energy: list[tuple[float, float, float]] = []

    def add(self, soft: Bytes, truth: Bytes, mask: Bytes, reference: Bytes | None = None) -> None:
        """One picture; reference [112,112,3] shows the identity that it should have, the truth's own by default."""
        made, face = self._pack.restore(soft[None])[0], mask > 127
        row = {
            "psnr_before_db": psnr_db(soft, truth, face),
            "psnr_after_db": psnr_db(made, truth, face),
            "whole_before_db": psnr_db(soft, truth, np.ones_like(face)),
            "whole_after_db": psnr_db(made, truth, np.ones_like(face)),
        }
        if self._has_embedder:
            own = restore_pictures.own_source
            views = self._pack.embed(np.stack([own(truth) if reference is None else reference, own(soft), own(made)]))
            row["cosine_before"], row["cosine_after"] = (float(views[0] @ view) for view in views[1:])
            row["cosine_kept"] = float(views[1] @ views[2])
        self._rows.append(row)
        self._energy.append((sharpness(soft, face), sharpness(made, face), sharpness(truth, face)))

    def figures(self, prefix: str) -> Figures:
        """Means; sharpness as a share of the truth's, which noise in the input can push above 1."""
        out = {f"{prefix}_{key}": float(np.mean([row[key] for row in self._rows])) for key in self._rows[0]}
        out[f"{prefix}_gain_db"] = out[f"{prefix}_psnr_after_db"] - out[f"{prefix}_psnr_before_db"]
        soft, made, truth = np.array(self._energy).T
        out[f"{prefix}_sharpness_before"] = float(np.median(soft / truth))
        out[f"{prefix}_sharpness_after"] = float(np.median(made / truth))
        return out


def restoring(pack: Pack, pictures: int, seed: int = _SEED, look: str | None = None) -> Figures:
    """Figures on soft drawings of both looks and on swaps by the pack, which is of `look`; PSNR inside the face.

    swap: pasted swaps with the target's own identity, whose exact picture is the target; changed: with another's,
    whose distance to the exact truth is the swapper's own.
    """
    look = look or pack.look
    out: Figures = {"pictures": float(pictures)}
    blurred, swapped, changed = _Rows(pack, True), _Rows(pack, True), _Rows(pack, True)
    other = _Rows(pack, False)  # whose identities this pack's embedder does not read
    for i in range(pictures):
        rng = np.random.default_rng([seed, i])
        sample = restore_pictures.restore_sample(rng, look)
        blurred.add(restore_pictures.spoil(rng, sample.truth, always=True), sample.truth, sample.mask)
        own = restore_pictures.own_source(sample.target)
        soft = restore_pictures.pasted_swap(rng, pack, sample.target, own)
        swapped.add(soft, sample.target, sample.mask)
        soft = restore_pictures.pasted_swap(rng, pack, sample.target, sample.source)
        changed.add(soft, sample.truth, sample.mask, sample.source)
        sample = restore_pictures.restore_sample(rng, "film" if look == "classic" else "classic")
        other.add(restore_pictures.spoil(rng, sample.truth, always=True), sample.truth, sample.mask)
    kinds = {"soft": blurred, "swap": swapped, "changed": changed, "other_look": other}
    for name, rows in kinds.items():
        out |= rows.figures(name)
    return out
