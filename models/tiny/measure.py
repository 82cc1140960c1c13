"""The figures of the model card, measured on drawn pictures that no training saw. For train.evaluate and the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.tiny.pack import Found, Pack, overlaps
from models.tiny.renderer import (
    Range,
    backdrop,
    draw,
    geometry,
    labels,
    place,
    random_inner,
    random_person,
)
from models.tiny.train import crops

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
Figures = dict[str, float]

HELD_OUT = 770_001  # first seed of measurement; training uses small seeds and [seed, index] streams


_AT_PRECISION = 0.98  # of all found faces from 16 px, at which recall is told too
_SCORES = np.arange(0.20, 0.951, 0.05)  # of the detector, tried for it


def psnr_db(a: Bytes, b: Bytes, where: Mask) -> float:
    """Peak signal to noise between two pictures [h,w,3] where a mask [h,w] says."""
    error = ((a.astype(np.float32) - b)[where] ** 2).mean()
    return float(-10.0 * np.log10(max(float(error), 1e-3) / 255.0**2))


def _laplacian(image: Bytes) -> npt.NDArray[np.float32]:
    luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    padded = np.pad(luma, 1, mode="edge")
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return np.asarray(sides - 4.0 * luma)


def sharpness(image: Bytes, where: Mask) -> float:
    """Energy of the Laplacian of luma inside a face: mean square, levels of 255."""
    return float((_laplacian(image)[where] ** 2).mean())


def detail_agreement(image: Bytes, truth: Bytes, where: Mask) -> float:
    """How much of the fine detail lies where the truth has it: correlation of the Laplacians, 1 at best.

    Noise and made-up texture have energy too, so sharpness alone can be had for nothing.
    """
    ours, theirs = _laplacian(image)[where], _laplacian(truth)[where]
    return float((ours * theirs).sum() / max(float(np.sqrt((ours**2).sum() * (theirs**2).sum())), 1e-9))


def correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Pearson's correlation of pairs (read, true); nan where there are under two, or one side never changes."""
    read, true = np.array(pairs, np.float64).reshape(-1, 2).T
    if len(read) < 2 or np.ptp(read) == 0.0 or np.ptp(true) == 0.0:
        return float("nan")
    return float(np.corrcoef(read, true)[0, 1])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


@dataclass(frozen=True)
class _Match:
    height: float
    hit: bool
    error: float  # mean distance of the refined points over the projected eye distance; nan without a hit


def _paired(scene: crops.Scene, found: Found) -> tuple[list[int], list[int]]:
    """The detection of each face, -1 for none; and the detections that are of no face."""
    taken = np.zeros(len(found.scores), np.bool_)
    pairs = []
    for box, counts in zip(scene.boxes_xyxy, scene.counts, strict=True):
        iou = overlaps(box.astype(np.float64), found.boxes_xyxy) if len(taken) else np.zeros(0)
        best = int(np.argmax(np.where(taken, -1.0, iou))) if len(taken) else -1
        hit = best >= 0 and not taken[best] and iou[best] >= 0.5
        # one that lies on a face that does not count is neither right nor wrong
        if hit or (not counts and best >= 0 and iou[best] > 0.2):
            taken[best] = True
        pairs.append(best if hit else -1)
    return pairs, [i for i in range(len(taken)) if not taken[i]]


def _matched(
    scene: crops.Scene, found: Found, scale: float, pack: Pack | None = None
) -> tuple[list[_Match], list[float]]:
    """What became of each face that counts, and the heights (at the network's scale) of false detections.

    Points are refined, and their errors told, where a pack is given.
    """
    pairs, wrong = _paired(scene, found)
    matches = []
    for box, points, counts, best in zip(scene.boxes_xyxy, scene.points, scene.counts, pairs, strict=True):
        if not counts:
            continue
        error = float("nan")
        if best >= 0 and pack is not None:
            refined = pack.refine(scene.image, found.points[best])
            eye = float(np.hypot(*(points[1] - points[0])))
            error = float(np.hypot(*(refined - points).T).mean()) / max(eye, 1e-6)
        matches.append(_Match(float(box[3] - box[1]) * scale, best >= 0, error))
    return matches, [float(found.boxes_xyxy[i, 3] - found.boxes_xyxy[i, 1]) * scale for i in wrong]


def _at_least(found: Found, score: float) -> Found:
    """Detections of this score and above: what suppression leaves does not depend on those below."""
    keep = found.scores >= score
    return Found(found.scores[keep], found.boxes_xyxy[keep], found.points[keep])


def _recall(matches: Sequence[_Match], low: float, high: float) -> float:
    return _mean([m.hit for m in matches if low <= m.height < high])


def _precision(matches: Sequence[_Match], extra: Sequence[float], low: float, high: float) -> float:
    hits = sum(m.hit for m in matches if low <= m.height < high)
    return hits / max(hits + sum(low <= h < high for h in extra), 1)


def _at_precision(by_score: Mapping[float, tuple[list[_Match], list[float]]]) -> Figures:
    """Recall at the lowest score tried that has the precision; nan where no score has it."""
    for score, (matches, extra) in sorted(by_score.items()):
        precision = _precision(matches, extra, 16.0, 1e9)
        if precision >= _AT_PRECISION:
            recalls = {"recall_32": _recall(matches, 32.0, 1e9), "recall_16_32": _recall(matches, 16.0, 32.0)}
            own = {"score": score, "precision": precision, **recalls}
            return {f"{key}_at_98": value for key, value in own.items()}
    return {f"{key}_at_98": float("nan") for key in ("score", "precision", "recall_32", "recall_16_32")}


def detection(pack: Pack, scenes: int, seed: int = HELD_OUT, score: float = 0.5, look: str | None = None) -> Figures:
    """Recall, precision, chained point error; a third of the scenes 1280x720, a fifth indoors.

    Sizes are heights of faces at the network's scale. `*_at_98`: at the lowest of the scores tried whose detections of
    16 px and above have a precision of 0.98; everything else is at `score`. look: the pack's own by default.
    """
    matches: list[_Match] = []
    extra: list[float] = []
    tried = [round(float(level), 2) for level in _SCORES]
    by_score: dict[float, tuple[list[_Match], list[float]]] = {level: ([], []) for level in tried}
    for i in range(scenes):
        rng = np.random.default_rng([seed, i])
        shape, indoors = ((1280, 720) if i % 3 == 2 else None), i % 5 == 4
        scene = crops.scene(rng, 640, shape, indoors, look or pack.look)
        found, scale = pack.detect(scene.image, (640,), min(score, *tried)), 640 / max(scene.image.shape[:2])
        more, wrong = _matched(scene, _at_least(found, score), scale, pack)
        matches += more
        extra += wrong
        for level, (own, others) in by_score.items():
            more, wrong = _matched(scene, _at_least(found, level), scale)
            own += more
            others += wrong
    out = {"scenes": float(scenes)}
    for name, low, high in (("32", 32.0, 1e9), ("16_32", 16.0, 32.0), ("200", 200.0, 1e9)):
        out[f"faces_{name}"] = float(sum(low <= m.height < high for m in matches))
        out[f"recall_{name}"] = _recall(matches, low, high)
    for name, low, high in (("32", 32.0, 1e9), ("16_32", 16.0, 32.0), ("16", 16.0, 1e9), ("all", 0.0, 1e9)):
        out[f"precision_{name}"] = _precision(matches, extra, low, high)
    out |= _at_precision(by_score)
    errors = np.array([m.error for m in matches if m.height >= 48 and m.hit])
    out["points_48"], out["point_error_48"] = float(len(errors)), _mean(errors.tolist())
    out["point_error_p95_48"] = float(np.percentile(errors, 95)) if len(errors) else float("nan")
    return out


def filling(pack: Pack, pictures: int, seed: int = HELD_OUT + 1, look: str | None = None) -> Figures:
    """Recall of one face that fills 55 to 95 % of a 640x480 picture: at 640 alone and pooled with a pass at 128."""
    look = look or pack.look
    hits = {"640": 0, "640_128": 0}
    for i in range(pictures):
        rng = np.random.default_rng([seed, i])
        person = random_person(rng, Range(yaw=35.0, pitch=15.0, roll=15.0, occluder=0.0), look)
        image = backdrop(int(rng.integers(1 << 31)), i % 3, 640, 480)
        _, box = geometry(person)
        scale = 480 * rng.uniform(0.55, 0.95) / (box[3] - box[1])
        view = place((320.0 - scale * (box[0] + box[2]) / 2, 240.0 - scale * (box[1] + box[3]) / 2), scale)
        draw(person, view, image)
        truth = labels(person, view).box_xyxy_px
        for name, sizes in (("640", (640,)), ("640_128", (640, 128))):
            found = pack.detect(image, sizes)
            hits[name] += bool(len(found.scores) and overlaps(truth, found.boxes_xyxy).max() >= 0.5)
    return {"pictures": float(pictures), **{f"recall_{k}": v / pictures for k, v in hits.items()}}


def _equal_error(same: Doubles, other: Doubles) -> tuple[float, float]:
    """Equal error rate and its threshold."""
    levels = np.unique(np.concatenate([same, other]))
    miss = np.searchsorted(np.sort(same), levels, side="left") / len(same)
    false = 1.0 - np.searchsorted(np.sort(other), levels, side="left") / len(other)
    at = int(np.argmin(np.abs(miss - false)))
    return float((miss[at] + false[at]) / 2), float(levels[at])


def embedding(pack: Pack, identities: int, each: int = 8, seed: int = HELD_OUT + 2, look: str | None = None) -> Figures:
    """Equal error rate on unseen identities, each at several moments with other hair, light and background."""
    look = look or pack.look
    vectors = []
    for i in range(identities):
        rng = np.random.default_rng([seed, i])
        inner = random_inner(rng, look)
        pictures = [crops.embed_crop(rng, inner, look=look) for _ in range(each)]
        vectors.append(pack.embed(np.stack(pictures)))
    flat = np.concatenate(vectors).astype(np.float64)
    cosine, who = flat @ flat.T, np.repeat(np.arange(identities), each)
    upper = np.triu(np.ones_like(cosine, dtype=bool), 1)
    same, other = cosine[(who[:, None] == who) & upper], cosine[(who[:, None] != who) & upper]
    rate, level = _equal_error(same, other)
    return {
        "identities": float(identities), "images_each": float(each), "eer": rate, "eer_threshold": level,
        "same_mean": float(same.mean()), "same_p5": float(np.percentile(same, 5)), "other_mean": float(other.mean()),
        "other_p99_9": float(np.percentile(other, 99.9)),
    }  # fmt: skip


# What `smile` is in random moments of a look, between which it is looked for.
_SMILES = {"classic": (-0.7, 1.0), "film": (-0.3, 1.0)}
_PROBES = ("yaw", "open", "smile")


def _grid(name: str, true: float, look: str) -> Doubles:
    """The values among which a parameter is looked for."""
    if name == "yaw":
        return np.asarray(true + np.arange(-4.0, 4.01, 0.5))
    low, high = (0.0, 1.0) if name == "open" else _SMILES[look]
    return np.linspace(low, high, round((high - low) / 0.1) + 1)


def _nearest(sample: crops.SwapSample, images: Sequence[Bytes], name: str, values: Doubles) -> list[float]:
    """Analysis by synthesis: for each picture the parameter's value whose drawing of the truth is nearest to it."""
    truth = replace(sample.person, inner=sample.inner)
    errors: list[list[float]] = []
    where = sample.mask > 127
    for value in values:
        drawn = sample.ground.copy()
        draw(truth.set({name: float(value)}), sample.view, drawn)
        errors.append([float(np.abs(drawn.astype(np.float32) - image)[where].mean()) for image in images])
    return [float(values[at]) for at in np.argmin(np.array(errors), axis=0)]


class _Probes:
    """Parameters read from swaps and, to know what reading costs, from the exact truths; pairs (read, true)."""

    def __init__(self) -> None:
        self.of_swaps: dict[str, list[tuple[float, float]]] = {name: [] for name in _PROBES}
        self.of_truths: dict[str, list[tuple[float, float]]] = {name: [] for name in _PROBES}

    def __len__(self) -> int:
        return len(self.of_swaps["yaw"])

    def add(self, sample: crops.SwapSample, out: Bytes) -> None:
        """Reads one swap: 40 to 50 drawings, nearly all of the time that measuring swaps takes."""
        for name in _PROBES:
            true = sample.person.get(name)
            swap, truth = _nearest(sample, (out, sample.truth), name, _grid(name, true, sample.person.look))
            self.of_swaps[name].append((swap, true))
            self.of_truths[name].append((truth, true))

    def figures(self) -> Figures:
        """Errors and correlations; `*_of_truth` is what reading the truth's own picture gives."""
        swaps, truths = self.of_swaps, self.of_truths
        out = {"probed": float(len(self)), "yaw_error_deg": _mean([abs(read - true) for read, true in swaps["yaw"]])}
        for name, key in (("mouth", "open"), ("smile", "smile")):
            out[f"{name}_correlation"], out[f"{name}_correlation_of_truth"] = map(
                correlation, (swaps[key], truths[key])
            )
            out[f"{name}_error"] = _mean([abs(read - true) for read, true in swaps[key]])
        return out


def _unspoiled(pack: Pack, sample: crops.SwapSample, latent: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Sharpness of a swap over the truth's and agreement of their detail, both without lens and sensor."""
    target, truth = sample.ground.copy(), sample.ground.copy()
    draw(sample.person, sample.view, target)
    draw(replace(sample.person, inner=sample.inner), sample.view, truth)
    out, face = pack.swap(target[None], latent)[0], sample.mask > 127
    return sharpness(out, face) / sharpness(truth, face), detail_agreement(out, truth, face)


def _swapped(pack: Pack, s: crops.SwapSample, source: npt.NDArray[np.float32], out: Bytes) -> Figures:
    """The figures of one swap; source is its unit embedding [512]."""
    views = pack.embed(np.stack([image[:112, 8:120] for image in (out, s.target, s.truth)]))
    face = s.mask > 127
    row = {
        "cosine_source": float(views[0] @ source),
        "cosine_target": float(views[0] @ views[1]),
        "cosine_truth": float(views[2] @ source),
        "nearer_source": float(views[0] @ source > views[0] @ views[1]),
        "face_psnr_db": psnr_db(out, s.truth, face),
        "unswapped_psnr_db": psnr_db(s.target, s.truth, face),
        "outside_mean_level": float(np.abs(out.astype(np.float32) - s.target)[s.mask == 0].mean()),
        "sharpness": sharpness(out, face) / sharpness(s.truth, face),
    }
    if pack.judge is not None:  # an embedder that was in no loss
        told = pack.judged(np.stack([s.source, *(image[:112, 8:120] for image in (out, s.target, s.truth))]))
        row["judge_source"], row["judge_truth"] = float(told[1] @ told[0]), float(told[3] @ told[0])
        row["judge_nearer_source"] = float(told[1] @ told[0] > told[1] @ told[2])
    return row


def swapping(pack: Pack, pairs: int, probed: int, seed: int = HELD_OUT + 3, look: str | None = None) -> Figures:
    """Identity, pose, mouth and detail after a swap, distance from the exact truth; probed pairs have nothing in front.

    Sharpness is the median share of the truth's. `*_unspoiled`: of probed pairs, without lens and sensor, whose noise
    has energy too.
    """
    look = look or pack.look
    rows: list[Figures] = []
    unspoiled: list[tuple[float, float]] = []
    probes = _Probes()
    for i in range(pairs):
        s = crops.swap_sample(np.random.default_rng([seed, i]), look=look)
        if np.array_equal(s.inner, s.person.inner):
            continue
        source = pack.embed(s.source[None])
        latent = pack.latent(source)
        out = pack.swap(s.target[None], latent)[0]
        rows.append(_swapped(pack, s, source[0], out))
        if len(probes) < probed and s.person.get("occluder") < 0.5:
            probes.add(s, out)
            unspoiled.append(_unspoiled(pack, s, latent))
    means = {key: _mean([row[key] for row in rows]) for key in rows[0]}
    means["sharpness"] = float(np.median([row["sharpness"] for row in rows]))
    means["sharpness_unspoiled"] = float(np.median([energy for energy, _ in unspoiled])) if unspoiled else float("nan")
    means["detail_unspoiled"] = _mean([agreed for _, agreed in unspoiled])
    return {"pairs": float(len(rows)), **means, **probes.figures()}


def chain(pack: Pack, faces: int, seed: int = HELD_OUT + 4, look: str | None = None) -> Figures:
    """Detector, refiner and crop as in production: how near the embedding is to that of exactly placed crops."""
    look = look or pack.look
    cosines: list[float] = []
    rng = np.random.default_rng(seed)
    for _ in range(20 * faces):  # a detector that finds nothing must not keep us here
        if len(cosines) >= faces:
            break
        scene = crops.scene(rng, 640, look=look)
        found = pack.detect(scene.image)
        for box, points, counts in zip(scene.boxes_xyxy, scene.points, scene.counts, strict=True):
            if not counts or box[3] - box[1] < 64 or not len(found.scores):
                continue
            iou = overlaps(box.astype(np.float64), found.boxes_xyxy)
            if iou.max() < 0.5:
                continue
            exact = pack.embed_at(scene.image, points.astype(np.float64))
            cosines.append(
                float(exact @ pack.embed_at(scene.image, pack.refine(scene.image, found.points[int(iou.argmax())])))
            )
    if not cosines:
        return {"faces": 0.0, "cosine_mean": float("nan"), "cosine_p5": float("nan")}
    return {
        "faces": float(len(cosines)),
        "cosine_mean": float(np.mean(cosines)),
        "cosine_p5": float(np.percentile(cosines, 5)),
    }
