"""Draws a contact sheet and says how fast faces are drawn: python -m models.tiny.renderer --sheet FILE.png."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from models.tiny.renderer import ARCFACE_112, LOOKS, Range, aligned, backdrop, draw, light_from, random_person
from models.tiny.renderer.picture import Bytes
from models.tiny.renderer.png import write_png


def sheet(look: str, seed: int, rows: int, columns: int, size_px: int, zoom: float = 0.62) -> Bytes:
    """rows x columns random people [rows*size,columns*size,3]; zoom 1 is the tight crop that networks see."""
    lines = []
    for row in range(rows):
        line = []
        for column in range(columns):
            rng = np.random.default_rng([seed, row * columns + column])
            person = random_person(rng, Range(yaw=35.0), look)
            image = backdrop(
                int(rng.integers(1 << 31)), int(rng.integers(4 if look == "film" else 2)), size_px, size_px, look
            )
            if look == "film":
                half = size_px // 2
                person = person.set(light_from(image[:half].mean((0, 1)) / 255, image[half:].mean((0, 1)) / 255))
            template = ((ARCFACE_112 - [56.0, 62.0]) * zoom + [56.0, 58.0]) * size_px / 112
            draw(person, aligned(person, template), image)
            line.append(image)
        lines.append(np.concatenate(line, axis=1))
    return np.concatenate(lines)


def faces_per_second(look: str, count: int, size_px: int = 256, samples: int = 0) -> float:
    """Aligned faces a second of one core's own time, mask and (film look) classes included, background not."""
    people = [random_person(np.random.default_rng([9, i]), Range(), look) for i in range(count)]
    planes = np.zeros((2, size_px, size_px), np.uint8)
    began = 0.0
    for n, person in enumerate([people[0], *people]):  # the first compiles and warms up
        if n == 1:
            began = time.process_time()
        classes = planes[1] if look == "film" else None
        view = aligned(person, ARCFACE_112 * size_px / 112)
        draw(person, view, np.zeros((size_px, size_px, 3), np.uint8), planes[0], samples, classes=classes)
    return count / (time.process_time() - began)


def main() -> None:
    """python -m models.tiny.renderer"""
    parser = argparse.ArgumentParser(prog="python -m models.tiny.renderer")
    parser.add_argument("--look", choices=LOOKS, default="film")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sheet", type=Path, default=None, help="PNG file to write a contact sheet to")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="pixels along a picture's side")
    parser.add_argument("--count", type=int, default=40, help="faces to time; 0 = none")
    given = parser.parse_args()
    if given.sheet is not None:
        write_png(given.sheet, sheet(given.look, given.seed, given.rows, given.columns, given.size))
        print(f"renderer: {given.rows * given.columns} people of the {given.look} look in {given.sheet}")
    if given.count > 0:
        rate = faces_per_second(given.look, given.count)
        print(f"renderer: {rate:.1f} aligned 256 px faces a second and core, {given.look} look, {given.count} faces")


if __name__ == "__main__":
    main()
