"""The lines of the model card's table: which figure each shows, how it is written, and how it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GROUPS", "MS", "Card", "Row", "reached", "rows", "value_of"]

Card = Mapping[str, Any]


@dataclass(frozen=True)
class _Form:
    """How a figure is written: times scale, with digits, a unit behind it, and perhaps a plus before it."""

    digits: int = 3
    unit: str = ""
    scale: float = 1.0
    signed: bool = False

    def figure(self, value: float) -> str:
        """A measured value."""
        plus = "+" if self.signed and value >= 0.0 else ""
        return f"{plus}{self.scale * value:.{self.digits}f}{self.unit}"

    def bar(self, told: str | None) -> str:
        """A bar as card.json tells it, ">= 0.98", in the figure's unit."""
        if told is None:
            return "-"
        sign, number = told.split()
        plus = "+" if self.signed and float(number) >= 0.0 else ""
        return f"{sign} {plus}{self.scale * float(number):g}{self.unit}"


_SHARE, _TWO, _PERCENT = _Form(3), _Form(2), _Form(1, " %", 100.0)
_FINE_PERCENT, _DB, _GAIN = _Form(2, " %", 100.0), _Form(1, " dB"), _Form(1, " dB", signed=True)
_DEGREES, MS = _Form(2, " deg"), _Form(1, " ms")


@dataclass(frozen=True)
class Row:
    """One line of the table: what it says, the figure's name in card.json, its form and its conditions."""

    what: str
    name: str
    form: _Form
    conditions: str


def reached(value: float, told: str) -> bool:
    """Whether a figure meets a bar as card.json tells it: ">= 0.98", "<= 1.0"; nan meets none."""
    sign, number = told.split()
    return value >= float(number) if sign == ">=" else value <= float(number)


def _detection(f: Card) -> list[Row]:
    d = f["detection"]
    scenes = f"{d['scenes']:.0f} scenes, a third 1280x720 letterboxed to 640, a fifth indoors; score 0.5"
    points = f"{d['points_48']:.0f} faces >= 48 px; of the projected eye distance, which shrinks with yaw"
    at_98 = f"lowest score tried with a precision of 0.98 from 16 px: {d.get('score_at_98', float('nan')):.2f}"
    return [
        Row("detector: recall, faces >= 32 px", "detection.recall_32", _SHARE, f"{d['faces_32']:.0f} faces; {scenes}"),
        Row("detector: recall, 16 to 32 px", "detection.recall_16_32", _SHARE, f"{d['faces_16_32']:.0f} faces"),
        Row("detector: recall, >= 200 px", "detection.recall_200", _SHARE, f"{d['faces_200']:.0f} faces"),
        Row("detector: precision, >= 32 px", "detection.precision_32", _SHARE, "the same scenes; IoU 0.5"),
        Row("detector: precision, 16 to 32 px", "detection.precision_16_32", _SHARE, "the same scenes"),
        Row("detector: precision, >= 16 px", "detection.precision_16", _SHARE, "the same scenes"),
        Row("detector: precision, all sizes", "detection.precision_all", _SHARE, "the same scenes"),
        Row("the same at precision 0.98: recall, >= 32 px", "detection.recall_32_at_98", _SHARE, at_98),
        Row("the same at precision 0.98: recall, 16 to 32 px", "detection.recall_16_32_at_98", _SHARE, "that score"),
        Row("detector + refiner: mean point error", "detection.point_error_48", _PERCENT, points),
        Row("detector + refiner: 95 % below", "detection.point_error_p95_48", _PERCENT, "the same faces"),
    ]


def _filling(f: Card) -> list[Row]:
    pictures = f"{f['filling']['pictures']:.0f} pictures"
    return [
        Row("detector: recall, face fills 640x480", "filling.recall_640", _SHARE, pictures),
        Row("the same, with a pass at 128", "filling.recall_640_128", _SHARE, "both passes pooled"),
    ]


def _embedding(f: Card) -> list[Row]:
    e = f["embedding"]
    people = f"{e['identities']:.0f} unseen identities x {e['images_each']:.0f} pictures"
    return [
        Row("embedder: equal error rate", "embedding.eer", _FINE_PERCENT, people),
        Row("embedder: equal-error level", "embedding.eer_threshold", _TWO, "cosine"),
        Row("embedder: cosine, same person", "embedding.same_mean", _TWO, f"5 % below {e['same_p5']:.2f}"),
        Row("embedder: cosine, other person", "embedding.other_mean", _TWO, f"0.1 % above {e['other_p99_9']:.2f}"),
    ]


def _chain(f: Card) -> list[Row]:
    faces = f"{f['chain']['faces']:.0f} faces >= 64 px"
    return [Row("chain: cosine, found to exact crop", "chain.cosine_mean", _SHARE, faces)]


def _swapping(f: Card) -> list[Row]:
    s = f["swapping"]
    probed, told = f"nearest drawing of the truth; {s['probed']:.0f} pairs", "by a second embedder that was in no loss"
    read, nan = {key: f"; the truth itself: {s[key]:.3f}" if key in s else "" for key in _OF_TRUTH}, float("nan")
    unswapped, truth = f"no swap: {s['unswapped_psnr_db']:.1f} dB", f"exact truth: {s['cosine_truth']:.2f}"
    judged = f"{told}; exact truth: {s.get('judge_truth', nan):.2f}"
    placed = "correlation of the Laplacians in the face; the same drawings"
    bare = "the same without lens and sensor on either side, nothing in front"
    return [
        Row("swapper: nearer to source", "swapping.nearer_source", _PERCENT, f"{s['pairs']:.0f} unseen pairs"),
        Row("swapper: cosine to source", "swapping.cosine_source", _TWO, truth),
        Row("swapper: cosine to target", "swapping.cosine_target", _TWO, "the same pairs"),
        Row("swapper: cosine to source, judged", "swapping.judge_source", _TWO, judged),
        Row("swapper: nearer to source, judged", "swapping.judge_nearer_source", _PERCENT, told),
        Row("swapper: face PSNR to truth", "swapping.face_psnr_db", _DB, unswapped),
        Row("swapper: sharpness", "swapping.sharpness", _TWO, "Laplacian's energy in the face, of the truth's; median"),
        Row("swapper: sharpness, unspoiled", "swapping.sharpness_unspoiled", _TWO, bare),
        Row("swapper: agreement of detail, unspoiled", "swapping.detail_unspoiled", _TWO, placed),
        Row("swapper: change outside the face", "swapping.outside_mean_level", _TWO, "mean, levels of 255"),
        Row("swapper: yaw error", "swapping.yaw_error_deg", _DEGREES, f"grid of 0.5 deg; {probed}"),
        Row(
            "swapper: mouth opening, correlation",
            "swapping.mouth_correlation",
            _SHARE,
            f"grid of 0.1; {probed}{read['mouth_correlation_of_truth']}",
        ),
        Row(
            "swapper: smile, correlation",
            "swapping.smile_correlation",
            _SHARE,
            f"grid of 0.1; {probed}{read['smile_correlation_of_truth']}",
        ),
    ]


_OF_TRUTH = ("mouth_correlation_of_truth", "smile_correlation_of_truth")


def _labelling(f: Card) -> list[Row]:
    told = f["labelling"]
    pictures = f"{told['pictures']:.0f} pictures"
    classes = sum(key.startswith("parser_iou_") for key in told)
    p5, p95 = told.get("mask_iou_p5", float("nan")), told.get("points68_error_p95", float("nan"))
    return [
        Row("occluder: IoU of the visible face", "labelling.mask_iou", _SHARE, f"{pictures}; 5 % below {p5:.3f}"),
        Row("parser: mean IoU", "labelling.parser_miou", _SHARE, f"{pictures}; {classes} classes that occur"),
        Row("parser: right pixels", "labelling.parser_right", _PERCENT, "the same pictures"),
        Row(
            "68 points: mean error",
            "labelling.points68_error",
            _PERCENT,
            f"{pictures}; of the projected eye distance; 95 % below {100 * p95:.1f} %",
        ),
    ]


def _restoring(f: Card) -> list[Row]:
    r, sharp = f["restoring"], "Laplacian's energy, of the truth's; medians"
    rows = []
    for key, words in (("soft", "soft drawings"), ("swap", "own swaps"), ("other_look", "soft, the other look")):
        before = f"{r[f'{key}_psnr_before_db']:.1f} to {r[f'{key}_psnr_after_db']:.1f} dB; {r['pictures']:.0f} pictures"
        rows.append(Row(f"restorer: face PSNR, {words}", f"restoring.{key}_gain_db", _GAIN, before))
        was = f"{r[f'{key}_sharpness_before']:.2f} before; {sharp}"
        rows.append(Row(f"restorer: sharpness, {words}", f"restoring.{key}_sharpness_after", _TWO, was))
    for key, words, of in (("soft", "soft drawings", "the truth"), ("changed", "swaps", "the source")):
        was = f"{r[f'{key}_cosine_before']:.3f} before; the same pictures"
        rows.append(Row(f"restorer: cosine to {of}, {words}", f"restoring.{key}_cosine_after", _SHARE, was))
    kept = "restorer: cosine of before and after, swaps"
    return [*rows, Row(kept, "restoring.changed_cosine_kept", _SHARE, "the same pictures")]


def _talking(f: Card) -> list[Row]:
    t = f["talking"]
    read = f"read with an error of {t['reader_error']:.3f} eye distances, correlation {t['reader_correlation']:.3f}"
    each = ", ".join(f"{key[-2:]} {t[key]:.2f}" for key in sorted(t) if key.startswith("correlation_"))
    lags = ", ".join(map(str, sorted({round(t[key]) for key in t if key.startswith("lag_")})))
    heard = f"unheard languages: {each}; best lag {lags} of {t['frames']:.0f} frames at 25/s; {read}"
    reference = f"the reference as it is: {t['reference_psnr_db']:.1f} dB"
    return [
        Row("lip-sync: mouth opening, correlation", "talking.correlation", _SHARE, heard),
        Row("lip-sync: shut in silence", "talking.shut_in_silence", _PERCENT, "network alone, no gate"),
        Row("lip-sync: step in a held vowel", "talking.held_vowel_step", _Form(4), "eye distances a frame; truth 0"),
        Row("lip-sync: PSNR to the drawn mouth", "talking.psnr_db", _DB, reference),
        Row("lip-sync: sharpness", "talking.sharpness", _TWO, "energy of the Laplacian, of the truth's"),
    ]


GROUPS = {
    "detection": _detection,
    "filling": _filling,
    "embedding": _embedding,
    "chain": _chain,
    "swapping": _swapping,
    "labelling": _labelling,
    "restoring": _restoring,
    "talking": _talking,
}


def value_of(card: Card, name: str) -> float | None:
    """The figure "group.key" of a card; None where it has none."""
    part, key = name.split(".")
    value = card["figures"].get(part, {}).get(key)
    return None if value is None else float(value)


def rows(card: Card) -> list[Row]:
    """The lines whose figures the card has."""
    every = [row for name, make in GROUPS.items() if name in card["figures"] for row in make(card["figures"])]
    return [row for row in every if value_of(card, row.name) is not None]
