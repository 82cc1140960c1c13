"""Which way of pasting a mouth keeps what is true: measured where the truth is known, on drawn faces.

    python -m tests.benchmark.mouth_texture [--people N] [--write FILE.json]

A drawn person with a shut mouth is the template, the same one in the same light with an open mouth is the truth. The
generator is taken as perfect but small: the truth's own crop at the network's size; and once more as a real one is,
softer and off by a few levels. The rest is the engine: crop, mask, paste. PSNR in dB of the luma inside the mask's
rectangle against the truth; `mouth` where template and truth differ, `skin` where they don't.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from engine.stages.mouth import places_of
from engine.stages.mouth_layout import MouthLayout, layout_of, rim_mask
from kernels.compile import HostTarget, HostTensor
from kernels.launch import Colour, Nv12, Values, mouth_crop_into, mouth_paste_into, rgb_to_nv12_into
from models.contract import load_contract
from models.tiny.renderer import apply, backdrop, calm, draw, geometry, grain, place, random_person
from profiles.profile import Lipsync
from tests.benchmark.conditions import conditions

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
SIZE = (960, 720)
UNIT_PX = 210.0  # between the eyes and so on: a close presenter at 1080 lines
CONTRACTS = ("wav2lip_96", "ultralight_hubert")
OURS = Lipsync()
WAYS: dict[str, dict[str, float]] = {
    "without texture": {"texture": 0.0},
    "difference everywhere": {"alike": 254.0, "unlike": 255.0},
    "by agreement 8..32, px by px": {"alike": 8.0, "unlike": 32.0, "reach_px": 0},
    "by agreement 24..96, px by px": {"alike": 24.0, "unlike": 96.0, "reach_px": 0},
    "by agreement 8..32": {"alike": 8.0, "unlike": 32.0},
    "by agreement 16..48": {"alike": 16.0, "unlike": 48.0},
    "by agreement 24..96": {"alike": 24.0, "unlike": 96.0},
    "by agreement 40..120": {"alike": 40.0, "unlike": 120.0},
}
BGR = Values(order="bgr")


@dataclass(frozen=True)
class Pair:
    """Template and truth, RGB [H, W, 3], and the mouth's place as float32 [1, 2, 3]."""

    shut: U8
    open: U8
    points: npt.NDArray[np.float64]


def drawn_pair(seed: int) -> Pair:
    """One person twice: mouth shut, mouth open; skin, light, noise and all else alike."""
    random = np.random.default_rng(seed)
    person = calm(random_person(random, look="film"))
    where = place((SIZE[0] / 2, SIZE[1] * 0.38), UNIT_PX)
    pictures = []
    for mouth in (0.0, 0.75):
        image = backdrop(seed, 0, *SIZE, look="film")
        draw(person.set({"open": mouth}), where, image, threads=2)
        grain(seed, 2.5, 1.0, image)
        pictures.append(image)
    return Pair(pictures[0], pictures[1], apply(where, geometry(person)[0]))


class Bench:
    """One picture at a time through crop and paste on the host."""

    def __init__(self, contract: str) -> None:
        self.layout: MouthLayout = layout_of(load_contract(contract))
        self.target = HostTarget(2)
        blank, size = self.layout.blank_xywh_px, self.layout.size_px
        self.room = HostTensor(np.zeros((6, size[1], size[0]), np.float32))
        self.mask = HostTensor(rim_mask(size, blank, OURS.feather * min(blank[2:])))

    def nv12(self, rgb: U8) -> tuple[HostTensor, Nv12]:
        """A frame in memory of its own."""
        memory = HostTensor(np.zeros((SIZE[1] * 3 // 2, SIZE[0]), np.uint8))
        frame = Nv12(memory.ptr, memory.ptr + SIZE[0] * SIZE[1], SIZE[0], SIZE[0], *SIZE, Colour())
        rgb_to_nv12_into(self.target, HostTensor(np.ascontiguousarray(rgb)), frame)
        return memory, frame

    def place(self, points: npt.NDArray[np.float64]) -> HostTensor:
        """The mouth's place, for a square from the nose to below the chin."""
        left, right, nose, *mouth = points
        side = 2.6 * float(np.hypot(*(right - left)))
        x, y = float(np.mean([one[0] for one in mouth])) - side / 2, float(nose[1]) - 0.35 * side
        scale = self.layout.crop_px[0] / side
        there = np.array([[[scale, 0, (0.5 - x) * scale - 0.5], [0, scale, (0.5 - y) * scale - 0.5]]], np.float32)
        (bx, by, width, height), (ox, oy) = self.layout.blank_xywh_px, self.layout.offset_px
        found = places_of(there, np.ones(1, bool), SIZE, (ox + bx, oy + by, width, height), boxes=False)
        found.values[0, 12] = 1.0
        return HostTensor(found.values[0])

    def crop(self, frame: Nv12, where: HostTensor) -> HostTensor:
        """What a network sees of a frame."""
        width, height = self.layout.size_px
        whole = HostTensor(np.zeros((1, 3, height, width), np.float32))
        mouth_crop_into(
            self.target, frame, where, whole=whole, crop_px=self.layout.crop_px, offset_px=self.layout.offset_px,
            values=BGR,
        )  # fmt: skip
        return whole

    def measure(self, pair: Pair, *, softer: bool) -> dict[str, dict[str, float]]:
        """Mean square errors of each way, by region."""
        where = self.place(pair.points)
        truth, truth_frame = self.nv12(pair.open)
        template, template_frame = self.nv12(pair.shut)
        generated = self.crop(truth_frame, where)
        whole = self.crop(template_frame, where)
        if softer:
            soft = cv2.GaussianBlur(generated.array[0].transpose(1, 2, 0), (0, 0), 0.7).transpose(2, 0, 1)
            generated = HostTensor(np.ascontiguousarray(soft[None] + np.float32(3 / 255)))
        x0, y0, x1, y1 = (int(value) for value in where.array[13:17])
        inside = (slice(y0, y1), slice(x0, x1))
        differs = np.abs(truth.array[inside].astype(float) - template.array[inside]) > 12
        differs = cv2.dilate(differs.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        found: dict[str, dict[str, float]] = {}
        for way, options in WAYS.items():
            held, frame = self.nv12(pair.shut)
            chosen: dict[str, Any] = {"texture": OURS.texture, "alike": OURS.alike, "unlike": OURS.unlike, **options}
            mouth_paste_into(
                self.target, generated, where, frame, self.room, mask=self.mask, whole=whole,
                offset_px=self.layout.offset_px, generated_values=BGR, whole_values=BGR, **chosen,
            )  # fmt: skip
            error = (held.array[inside].astype(float) - truth.array[inside]) ** 2
            found[way] = {"all": error.mean(), "mouth": error[differs].mean(), "skin": error[~differs].mean()}
        return found


def measure(people: int) -> dict[str, Any]:
    """PSNR in dB by contract, generator, way and region, over so many people."""
    pairs = [drawn_pair(seed) for seed in range(people)]
    told: dict[str, Any] = {}
    for contract in CONTRACTS:
        bench = Bench(contract)
        for softer in (False, True):
            found = [bench.measure(pair, softer=softer) for pair in pairs]
            told[f"{contract}, {'softer and 3 levels off' if softer else 'perfect'} generator"] = {
                way: {
                    region: round(10 * float(np.log10(255**2 / np.mean([one[way][region] for one in found]))), 2)
                    for region in ("all", "mouth", "skin")
                }
                for way in WAYS
            }
    return told


def main() -> None:
    """Print the table; with --write also keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    told = measure(chosen.people)
    for case, ways in told.items():
        print(case)
        for way, regions in ways.items():
            print(f"  {way:30} " + "  ".join(f"{region} {db:6.2f}" for region, db in regions.items()))
    report = {
        "conditions": conditions(weights="none: the crop of the truth", input="drawn faces, 960 x 720"),
        "people": chosen.people,
        "psnr_db": told,
    }
    if chosen.write:
        chosen.write.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
