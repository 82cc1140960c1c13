"""What preparing a template costs, and how still its crops are: CPU ms a picture, and px of jitter, raw and smoothed.

    python -m tests.benchmark.template_cost [--write profiles/measured/template_cost.json]

The presenter of the sample, 225 pictures of 1280 x 720, with the tiny pack on one thread; CPU time of this process, so
that other work on the machine counts little. Jitter of a still face: one of its pictures 150 times, each with another
noise (sigma 3 levels) and compressed (x264, crf 23). Jitter of the moving presenter: the crop's corners against the
crops of the drawing's own points.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from engine.template.crops import CropRule, Points
from engine.template.folder import open_template
from engine.template.frames import TemplateFrames
from engine.template.order import FrameOrder
from engine.template.prepare import prepare
from engine.template.similarity import inverse
from engine.template.template import Template
from models.contract import load_contract
from profiles.profile import load_profile
from tests.benchmark.conditions import conditions
from tests.clips import decoded

F64 = npt.NDArray[np.float64]
PRESENTER = Path(__file__).parents[2] / "models" / "tiny" / "sample" / "presenter.mp4"
STILL, NOISE = 150, 3.0


def still_video(path: Path) -> Path:
    """A picture of the presenter again and again, as a camera would see it."""
    picture = decoded(PRESENTER, 1)[0]
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=Fraction(25), options={"crf": "23", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = picture.shape[0] * 2 // 3, picture.shape[1], "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for index in range(STILL):
            noisy = np.clip(picture + random.normal(0, NOISE, picture.shape), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(noisy, format="nv12").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def corners(frame_from_crop: F64, crop_px: tuple[int, int]) -> F64:
    """[frames, 4, 2] px of the frame."""
    x, y = crop_px[0] - 1.0, crop_px[1] - 1.0
    square = np.array([[0, 0, 1], [x, 0, 1], [0, y, 1], [x, y, 1]], np.float64)
    return np.asarray(np.einsum("nij,kj->nki", frame_from_crop, square))


def rms(values: F64) -> float:
    return round(float(np.sqrt((values**2).mean())), 4)


def both(template: Template, crop_px: tuple[int, int]) -> dict[str, F64]:
    raw = inverse(template.raw_crop_from_frame.astype(np.float64))
    return {
        "raw": corners(raw, crop_px),
        "smoothed": corners(template.frame_from_crop.astype(np.float64), crop_px),
    }


def jitter(folder: Path, generator: str) -> dict[str, Any]:
    """px, root mean square over corners: of a still face around its mean, and from frame to frame."""
    profile = load_profile("tiny_lipsync")
    profile = replace(profile, models=replace(profile.models, lipsync=generator), backend="cpu", threads=1)
    facts = load_contract(generator).lipsync
    assert facts is not None
    still = prepare(still_video(folder / "still.mp4"), profile, folder=folder / f"still_{generator}")
    found: dict[str, Any] = {}
    for name, places in both(still, facts.crop_px).items():
        found[f"still_{name}_px"] = rms(places - places.mean(axis=0))
        found[f"still_{name}_step_px"] = rms(np.diff(places, axis=0))
    if generator == "tiny_lipsync":
        found |= against_truth(prepare(PRESENTER, profile, folder=folder / "moving"), generator)
    return found


def against_truth(template: Template, generator: str) -> dict[str, float]:
    """px, root mean square over corners: change of the error from frame to frame, and the error without its mean."""
    rule = CropRule(load_contract(generator))
    points = np.load(PRESENTER.with_name("presenter_truth.npz"))["points"].reshape(template.count, -1, 5, 2)[:, 0]
    true = Points(np.zeros((template.count, 4)), points.astype(np.float64), np.zeros((template.count, 0, 2)))
    wanted = corners(rule.places(true).matrices(rule.facts.crop_px)[1], rule.facts.crop_px)
    found = {}
    for name, places in both(template, rule.facts.crop_px).items():
        error = places - wanted
        found[f"moving_{name}_px"] = rms(error - error.mean(axis=0))
        found[f"moving_{name}_step_px"] = rms(np.diff(error, axis=0))
    return found


def cost(folder: Path) -> dict[str, float]:
    """CPU ms a picture of preparing, of doing it again, and of reading frames to and fro."""
    profile = replace(load_profile("tiny_lipsync"), backend="cpu", threads=1)
    begin, wall = time.process_time(), time.perf_counter()
    template = prepare(PRESENTER, profile, folder=folder / "cost")
    cpu_s, wall_s = time.process_time() - begin, time.perf_counter() - wall
    begin = time.process_time()
    open_template(folder / "cost", profile)
    open_s = time.process_time() - begin
    begin = time.process_time()
    order, reads = FrameOrder(template.count), 3 * template.count
    # room for a third of the video: forward and backward are decoded
    with TemplateFrames(template, memory_bytes=110 << 20) as frames:
        for _ in range(reads):
            frames.read(order.next(speaks=True))
        decoded_a_read = frames.decoded / reads
    return {
        "pictures": template.count,
        "prepare_cpu_ms_a_picture": round(1000 * cpu_s / template.count, 2),
        "prepare_wall_ms_a_picture": round(1000 * wall_s / template.count, 2),
        "open_cpu_ms": round(1000 * open_s, 1),
        "read_cpu_ms_a_frame": round(1000 * (time.process_time() - begin) / reads, 2),
        "decoded_a_read": round(decoded_a_read, 2),
    }


def main() -> None:
    """Measure, print, and write where asked."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = {
            "conditions": conditions(threads=1, load=os.getloadavg()[0], presenter=PRESENTER.name),
            "cost": cost(folder),
            "jitter": {generator: jitter(folder, generator) for generator in ("tiny_lipsync", "wav2lip_96")},
        }
    text = json.dumps(measured, indent=1)
    print(text)
    if "--write" in sys.argv:
        Path(sys.argv[sys.argv.index("--write") + 1]).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
