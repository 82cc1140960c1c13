"""The figures of the model card, measured on drawn pictures that no training saw. For train.evaluate and the test."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.tiny.pack import Pack, overlaps
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

Doubles = npt.NDArray[np.float64]
Figures = dict[str, float]

HELD_OUT = 770_001  # first seed of measurement; training uses small seeds and [seed, index] streams


@dataclass(frozen=True)
class _Match:
    height: float
    hit: bool
    error: float  # mean distance of the refined points over the projected eye distance; nan without a hit


def _match(pack: Pack, scene: crops.Scene, sizes: tuple[int, ...], score: float) -> tuple[list[_Match], list[float]]:
    """What became of each face that counts, and the heights (at the network's scale) of false detections."""
    found = pack.detect(scene.image, sizes, score)
    scale = max(sizes) / max(scene.image.shape[:2])
    taken = np.zeros(len(found.scores), np.bool_)
    matches = []
    for box, points, counts in zip(scene.boxes_xyxy, scene.points, scene.counts, strict=True):
        iou = overlaps(box.astype(np.float64), found.boxes_xyxy) if len(taken) else np.zeros(0)
        best = int(np.argmax(np.where(taken, -1.0, iou))) if len(taken) else -1
        hit = best >= 0 and not taken[best] and iou[best] >= 0.5
        if hit:
            taken[best] = True
        elif not counts and best >= 0 and iou[best] > 0.2:
            taken[best] = True  # neither right nor wrong
        if not counts:
            continue
        error = float("nan")
        if hit:
            refined = pack.refine(scene.image, found.points[best])
            eye = float(np.hypot(*(points[1] - points[0])))
            error = float(np.hypot(*(refined - points).T).mean()) / max(eye, 1e-6)
        matches.append(_Match(float(box[3] - box[1]) * scale, bool(hit), error))
    extra = [float(b[3] - b[1]) * scale for b, t in zip(found.boxes_xyxy, taken, strict=True) if not t]
    return matches, extra


def detection(pack: Pack, scenes: int, seed: int = HELD_OUT, score: float = 0.5, look: str = "classic") -> Figures:
    """Recall, precision, chained point error; a third of the scenes 1280x720, a fifth indoors."""
    matches: list[_Match] = []
    extra: list[float] = []
    for i in range(scenes):
        rng = np.random.default_rng([seed, i])
        shape, indoors = ((1280, 720) if i % 3 == 2 else None), i % 5 == 4
        scene = crops.scene(rng, 640, shape, indoors, look)
        more, wrong = _match(pack, scene, (640,), score)
        matches += more
        extra += wrong
    out = {"scenes": float(scenes)}
    for name, low, high in (("32", 32.0, 1e9), ("16_32", 16.0, 32.0), ("200", 200.0, 1e9)):
        own = [m.hit for m in matches if low <= m.height < high]
        out[f"faces_{name}"], out[f"recall_{name}"] = float(len(own)), float(np.mean(own)) if own else float("nan")
    hits = sum(m.hit for m in matches if m.height >= 32)
    out["precision_32"] = hits / max(hits + sum(h >= 32 for h in extra), 1)
    out["precision_all"] = sum(m.hit for m in matches) / max(sum(m.hit for m in matches) + len(extra), 1)
    errors = np.array([m.error for m in matches if m.height >= 48 and m.hit])
    out["points_48"], out["point_error_48"] = float(len(errors)), float(errors.mean()) if len(errors) else float("nan")
    out["point_error_p95_48"] = float(np.percentile(errors, 95)) if len(errors) else float("nan")
    return out


def filling(pack: Pack, pictures: int, seed: int = HELD_OUT + 1, look: str = "classic") -> Figures:
    """Recall of one face that fills 55 to 95 % of a 640x480 picture: at 640 alone and pooled with a pass at 128."""
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


def embedding(pack: Pack, identities: int, each: int = 8, seed: int = HELD_OUT + 2, look: str = "classic") -> Figures:
    """Equal error rate on unseen identities, each at several moments with other hair, light and background."""
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


def _nearest(sample: crops.SwapSample, out: npt.NDArray[np.uint8], name: str, values: Doubles) -> float:
    """Analysis by synthesis: the parameter value whose drawing of the truth is nearest to the output."""
    truth = replace(sample.person, inner=sample.inner)
    errors = []
    where = sample.mask > 127
    for value in values:
        image = sample.ground.copy()
        draw(truth.set({name: float(value)}), sample.view, image)
        errors.append(np.abs(image.astype(np.float32) - out)[where].mean())
    return float(values[int(np.argmin(errors))])


def _psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> float:
    return float(-10 * np.log10(max(float(((a.astype(np.float32) - b)[where] ** 2).mean()), 1e-3) / 255.0**2))


def swapping(pack: Pack, pairs: int, probed: int, seed: int = HELD_OUT + 3, look: str = "classic") -> Figures:
    """Identity, pose and mouth after a swap, distance from the exact truth; probed pairs have nothing in front."""
    rows: dict[str, list[float]] = {
        k: [] for k in ("source", "target", "truth", "face_psnr", "unswapped_psnr", "outside")
    }
    yaw: list[float] = []
    judged: list[tuple[float, float]] = []  # by an embedder that was in no loss: cosine to source, to target
    opened: list[tuple[float, float]] = []
    for i in range(pairs):
        rng = np.random.default_rng([seed, i])
        s = crops.swap_sample(rng, look=look)
        if np.array_equal(s.inner, s.person.inner):
            continue
        source = pack.embed(s.source[None])
        out = pack.swap(s.target[None], pack.latent(source))[0]
        views = pack.embed(np.stack([image[:112, 8:120] for image in (out, s.target, s.truth)]))
        rows["source"].append(float(views[0] @ source[0]))
        rows["target"].append(float(views[0] @ views[1]))
        rows["truth"].append(float(views[2] @ source[0]))
        if pack.judge is not None:
            told = pack.judged(np.stack([s.source, out[:112, 8:120], s.target[:112, 8:120]]))
            judged.append((float(told[1] @ told[0]), float(told[1] @ told[2])))
        face = s.mask > 127
        rows["face_psnr"].append(_psnr(out, s.truth, face))
        rows["unswapped_psnr"].append(_psnr(s.target, s.truth, face))
        rows["outside"].append(float(np.abs(out.astype(np.float32) - s.target)[s.mask == 0].mean()))
        if len(yaw) < probed and s.person.get("occluder") < 0.5:
            true_yaw, true_open = s.person.get("yaw"), s.person.get("open")
            yaw.append(abs(_nearest(s, out, "yaw", true_yaw + np.arange(-4.0, 4.01, 0.5)) - true_yaw))
            opened.append((_nearest(s, out, "open", np.linspace(0, 1, 11)), true_open))
    mouth, told_by = np.array(opened), np.array(judged).reshape(-1, 2)
    judge = {"judge_source": told_by[:, 0], "judge_nearer_source": told_by[:, 0] > told_by[:, 1]} if judged else {}
    return {
        **{name: float(values.mean()) for name, values in judge.items()},
        "pairs": float(len(rows["source"])), "probed": float(len(yaw)),
        "nearer_source": float(np.mean(np.array(rows["source"]) > np.array(rows["target"]))),
        **{f"cosine_{k}": float(np.mean(rows[k])) for k in ("source", "target", "truth")},
        "face_psnr_db": float(np.mean(rows["face_psnr"])),
        "unswapped_psnr_db": float(np.mean(rows["unswapped_psnr"])),
        "outside_mean_level": float(np.mean(rows["outside"])),
        "yaw_error_deg": float(np.mean(yaw)),
        "mouth_correlation": float(np.corrcoef(mouth.T)[0, 1]),
        "mouth_error": float(np.abs(mouth[:, 0] - mouth[:, 1]).mean()),
    }  # fmt: skip


def chain(pack: Pack, faces: int, seed: int = HELD_OUT + 4, look: str = "classic") -> Figures:
    """Detector, refiner and crop as in production: how near the embedding is to that of exactly placed crops."""
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
