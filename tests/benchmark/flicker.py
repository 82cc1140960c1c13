"""How much a restored still face flickers, and what the stage costs: python -m tests.benchmark.flicker

    [--frames 50] [--twin] [--write NAME]

One frame of the sample clip stands still under sensor noise. Flicker is the root mean square, in grey levels, of the
difference between a frame and the one before it, over the inner face (brows to chin); a step is the worst single pair
of frames; deviation is that of all frames about their mean (for noise alone, flicker over the root of two). --twin
times the stage with GFPGAN's twin too: cost alone, its weights are random.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import engine
from engine.backends.base import Backend
from engine.frame import held_buffer
from engine.request import restorer_way
from engine.stages.enhance import Enhance
from models.contract import load_contract
from models.model_files import open_file
from profiles.profile import Enhance as Options
from profiles.profile import Profile, load_profile
from tests.benchmark.conditions import conditions
from tests.clips import decoded

__all__ = ["CASES", "flicker_of", "measure", "still"]

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "models" / "tiny" / "sample"
U8 = npt.NDArray[np.uint8]
SIZE = (1280, 720)
AT = 40  # the frame of the clip that stands still: nobody turns, mouths are shut
NOISE_LUMA, NOISE_CHROMA = 2.0, 1.0  # codes, one sigma: an indoor camera
CASES: dict[str, Options | None] = {
    "no restorer": None,
    "every frame": Options(every=1),
    "every 5th, with reuse": Options(every=5),
    "every 5th, without reuse": Options(every=5, reuse=False),
}


def still(frames: int, noisy: bool = True) -> list[U8]:
    """NV12 frames [1080, 1280] of one picture, each with its own noise."""
    clean = decoded(SAMPLE / "clip.mp4", AT + 1)[AT].astype(np.float32)
    sigma = np.full((clean.shape[0], 1), NOISE_CHROMA, np.float32)
    sigma[: SIZE[1]] = NOISE_LUMA
    out = []
    for i in range(frames):
        noise = np.random.default_rng([91, i]).standard_normal(clean.shape, np.float32) * sigma if noisy else 0.0
        out.append(np.clip(clean + noise + 0.5, 0, 255).astype(np.uint8))
    return out


def profile_of(options: Options | None) -> Profile:
    """The tiny profile with this use of the tiny restorer."""
    profile = load_profile("tiny")
    if options is None:
        return dataclasses.replace(profile, models=dataclasses.replace(profile.models, restorer=""))
    models = dataclasses.replace(profile.models, restorer="tiny_restorer")
    return dataclasses.replace(profile, models=models, enhance=options)


def inner_face(points: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """True on the inner faces [720, 1280]: an ellipse round the five points of each."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    inside = np.zeros((SIZE[1], SIZE[0]), bool)
    for face in points:
        eye = float(np.hypot(*(face[1] - face[0])))
        middle = face.mean(0)
        inside |= ((x - middle[0]) / (1.05 * eye)) ** 2 + ((y - middle[1]) / (1.35 * eye)) ** 2 <= 1
    return inside


def flicker_of(options: Options | None, pictures: list[U8]) -> dict[str, float]:
    """Flicker of the swapped, perhaps restored faces, and what the stage took."""
    steps: list[float] = []
    total = squares = np.zeros(0)
    before: npt.NDArray[np.float32] | None = None
    with engine.open_pipeline(profile_of(options), source=SAMPLE / "source_1.png", size=SIZE) as pipeline:
        inside = None
        for picture in pictures:
            frame = pipeline.step(picture)
            if frame.face_count != 2:
                raise SystemExit(f"flicker: wanted 2 faces, got {frame.face_count}; the sample or the pack has changed")
            luma = frame.planes()[0].astype(np.float32)
            if inside is None:
                inside = inner_face(pipeline.backend.to_host(held_buffer(frame.faces.points))[:2])
                total = squares = np.zeros(int(inside.sum()))
            seen = luma[inside].astype(np.float64)
            total, squares = total + seen, squares + seen**2
            if before is not None:
                steps.append(float(np.sqrt(((luma - before)[inside] ** 2).mean())))
            before = luma
        stage = pipeline.timings.stages.get("enhance")
    told = {
        "flicker_levels": float(np.sqrt(np.mean(np.square(steps)))), "worst_step_levels": max(steps),
        "deviation_levels": float(np.sqrt(np.mean(squares / len(pictures) - (total / len(pictures)) ** 2))),
    }  # fmt: skip
    if stage is not None:
        told |= {"enhance_p50_ms": stage.percentile_ms(50), "enhance_max_ms": stage.percentile_ms(100)}
    return {name: round(value, 3) for name, value in told.items()}


def twin_ms(faces: int = 1, frames: int = 2) -> dict[str, Any]:
    """The stage's time with GFPGAN's twin: restoring, and adding what is kept."""
    done = subprocess.run(
        [sys.executable, "-m", "models.twins", "gfpgan_1.4"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    contract = load_contract("gfpgan_1.4")
    file = open_file(contract, Path(done.stdout.splitlines()[0].rpartition("  (")[0]))
    way = restorer_way(contract, Options())
    profile = load_profile("tiny")
    with engine.open_pipeline(profile_of(None), source=SAMPLE / "source_1.png", size=SIZE) as pipeline:
        backend: Backend = pipeline.backend
        session = backend.open_session(file)
        stage = Enhance(backend, session, way, way.blend, profile.track.faces, pipeline.track.slots)
        frame = pipeline.step(still(1)[0])
        for restore in (True, False):
            for _ in range(frames if restore else 10 * frames):
                with backend.span("restore" if restore else "reuse"):
                    stage(frame, faces, restore=restore)
        times = pipeline.timings.stages
        return {
            "model": "twin of gfpgan_1.4 (random weights, cost alone)", "faces": faces,
            "restore_p50_ms": round(times["restore"].percentile_ms(50), 1),
            "reuse_p50_ms": round(times["reuse"].percentile_ms(50), 2),
        }  # fmt: skip


def measure(frames: int, *, twin: bool = False) -> dict[str, Any]:
    """Every case on the same noisy frames."""
    pictures = still(frames)
    clean = decoded(SAMPLE / "clip.mp4", AT + 1)[AT][: SIZE[1]].astype(np.float32)
    noise = np.diff(np.stack([picture[: SIZE[1]].astype(np.float32) - clean for picture in pictures[:6]]), axis=0)
    told: dict[str, Any] = {
        "what": f"a still frame with two swapped faces under noise, {frames} frames: flicker in grey levels rms",
        "frames": frames,
        "input_levels": round(float(np.sqrt((noise**2).mean())), 3),
        "cases": {name: flicker_of(options, pictures) for name, options in CASES.items()},
    }
    if twin:
        told["twin"] = twin_ms()
    return told


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--twin", action="store_true", help="time the stage with GFPGAN's twin too")
    parser.add_argument("--write", metavar="NAME", help="into profiles/measured/NAME.json")
    chosen = parser.parse_args()
    figures = {**measure(chosen.frames, twin=chosen.twin), "conditions": conditions()}
    if chosen.write:
        path = ROOT / "profiles" / "measured" / f"{chosen.write}.json"
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
