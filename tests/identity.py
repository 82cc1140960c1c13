"""Whose face is it, before and after? The sample clip swapped, every frame looked at again by the embedder.

    python -m tests.identity [--source N] [--write FILE.json]

Drawn faces only, and the embedder is the one that the swapper was trained with: the figures show that the chain
works, not how it would look to another judge. Where a face stands and who it is comes from the clip's truth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import engine
from engine.frame import held_buffer
from engine.stages.identify import Embed
from models.model_files import find
from tests.benchmark.conditions import conditions
from tests.clips import decoded

F32 = npt.NDArray[np.float32]
SAMPLE = Path(__file__).parents[1] / "models" / "tiny" / "sample"
VISIBLE = 0.5  # of the face, from which a person counts as there


def measure(source: Path, limit: int | None = None) -> dict[str, Any]:
    """Mean cosines to source and target before and after, and how many of the people there were found."""
    truth = np.load(SAMPLE / "clip_truth.npz")
    frames = decoded(SAMPLE / "clip.mp4", limit)
    befores: list[tuple[int, F32]] = []
    afters: list[tuple[int, F32]] = []
    found = there = frames_with_face = 0
    with engine.open_pipeline("tiny", source=source, size=(1280, 720)) as pipeline:
        room = pipeline.profile.track.faces
        embed = Embed(pipeline.backend, pipeline.backend.open_session(find("tiny_embedder")), room)
        wanted = pipeline.identities[0].embedding
        for index, nv12 in enumerate(frames):
            frame = pipeline.step(nv12)
            k = frame.face_count
            frames_with_face += k > 0
            visible = truth["visible"][index].reshape(-1) >= VISIBLE
            there += int(visible.sum())
            if k == 0:
                continue
            points = pipeline.backend.to_host(held_buffer(frame.faces.points))[:k]
            people, near = _who(points, truth["points"][index])
            found += len(set(people[near]) & set(np.flatnonzero(visible)))
            after = embed(frame, k)
            pipeline.backend.load_planes((nv12[:720], nv12[720:]), frame.nv12)
            before = embed(frame, k)
            for row in np.flatnonzero(near):
                befores.append((int(people[row]), before[row]))
                afters.append((int(people[row]), after[row]))
    people_of = np.array([person for person, _ in befores])
    before_all, after_all = np.stack([e for _, e in befores]), np.stack([e for _, e in afters])
    means = np.stack([_unit(before_all[people_of == person].mean(axis=0)) for person in range(people_of.max() + 1)])
    targets = means[people_of]
    return {
        "frames": len(frames),
        "share_of_frames_with_a_face": round(frames_with_face / len(frames), 4),
        "share_of_visible_people_found": round(found / there, 4),
        "faces": len(befores),
        "before_to_source": round(float((before_all @ wanted).mean()), 4),
        "before_to_target": round(float((before_all * targets).sum(axis=1).mean()), 4),
        "after_to_source": round(float((after_all @ wanted).mean()), 4),
        "after_to_target": round(float((after_all * targets).sum(axis=1).mean()), 4),
        "nearer_to_source": round(float(((after_all @ wanted) > (after_all * targets).sum(axis=1)).mean()), 4),
    }


def _who(points: F32, truth: F32) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Which person each face is, and whether its points lie within half an eye distance of theirs."""
    distance = np.linalg.norm(points[:, None] - truth[None], axis=-1).mean(axis=-1)
    eyes = np.linalg.norm(truth[:, 1] - truth[:, 0], axis=-1)
    people = distance.argmin(axis=1)
    return people, distance.min(axis=1) < 0.5 * eyes[people]


def _unit(vector: F32) -> F32:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    figures = measure(SAMPLE / f"source_{chosen.source}.png")
    figures["conditions"] = conditions(source=f"source_{chosen.source}.png")
    for name, value in figures.items():
        print(f"{name:<32} {value}")
    if chosen.write:
        chosen.write.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
