"""What the restorer learns from and is measured with: soft pictures that show what the sharp ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from models.tiny import restoring
from models.tiny.train import restore_pictures, store

Bytes = npt.NDArray[np.uint8]


def sample(seed: int, look: str = "classic") -> restore_pictures.RestoreSample:
    """One sample."""
    return restore_pictures.restore_sample(np.random.default_rng([9, seed]), look)


@pytest.mark.parametrize("look", ["classic", "film"])
def test_samples_repeat_and_differ_only_where_the_face_is(look: str) -> None:
    first, again = (store._KINDS["restore"](np.random.default_rng([5, 1]), look) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert {name: value.shape for name, value in first.items()} == {
        "truth": (256, 256, 3), "target": (256, 256, 3), "source": (112, 112, 3), "mask": (256, 256),
    }  # fmt: skip
    mask = np.asarray(first["mask"]).astype(np.uint8) > 0
    apart = (first["truth"] != first["target"]).any(-1)
    assert 0.15 < mask.mean() < 0.7
    assert apart[mask].mean() > 0.5
    assert apart[~mask].mean() < 0.2  # ears and neck go with the face


def test_resizing_keeps_means_places_and_straight_lines() -> None:
    ramp = np.repeat(np.linspace(10, 240, 256)[None], 256, 0)
    image = np.stack([ramp, ramp.T, np.full_like(ramp, 90)], -1).astype(np.uint8)
    for side in (64, 100, 128, 200):
        for cubic in (False, True):
            small = restore_pictures.resized(image, side, cubic)
            back = restore_pictures.resized(small, 256, cubic)
            assert small.shape == (side, side, 3)
            assert np.abs(back.astype(int) - image)[8:-8, 8:-8].max() <= 2  # half a pixel of shift would be 1 to 4
            assert (small[..., 2] == 90).all()
    assert restore_pictures.resized(image, 256) is image


def test_what_is_spoilt_is_softer_and_shows_the_same() -> None:
    share, error = [], []
    for i in range(6):
        one = sample(i)
        truth, mask = one.truth, one.mask > 127
        soft = restore_pictures.spoil(np.random.default_rng(i), truth, always=True)
        share.append(restoring.sharpness(soft, mask) / restoring.sharpness(truth, mask))
        error.append(np.abs(soft.astype(int) - truth).mean())
        coarse = [restore_pictures.resized(one, 16).astype(int) for one in (soft, truth)]
        assert np.abs(coarse[0] - coarse[1]).mean() < 4
    assert np.median(share) < 0.2
    assert 1.0 < np.mean(error) < 12.0


class Tinted:
    """Stands for a pack: its swap is the target with less red."""

    def embed(self, crops: Bytes) -> Any:
        return np.zeros((len(crops), 512), np.float32)

    def latent(self, embedding: Any) -> Any:
        return embedding

    def swap(self, targets: Bytes, latents: Any) -> Bytes:
        assert targets.shape == (1, 128, 128, 3)
        return np.asarray(targets * np.array([0.5, 1, 1])).astype(np.uint8)


def test_a_pasted_swap_stands_in_the_middle_and_leaves_the_rim() -> None:
    target = np.full((256, 256, 3), 160, np.uint8)
    pasted = restore_pictures.pasted_swap(np.random.default_rng(4), Tinted(), target, np.zeros((112, 112, 3), np.uint8))
    assert pasted.shape == target.shape
    assert abs(int(pasted[128, 128, 0]) - 80) < 12
    assert abs(int(pasted[128, 128, 1]) - 160) < 12
    assert abs(int(pasted[0, 0, 0]) - 160) < 16


def test_the_embedders_crop_is_the_swappers_without_its_sides() -> None:
    target = sample(3).target
    assert np.array_equal(restore_pictures.own_source(target), restore_pictures.resized(target, 128)[:112, 8:120])


def test_sharpness_is_the_energy_of_the_laplacian() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[10, 10] = 100
    everywhere = np.ones((20, 20), bool)
    assert restoring.sharpness(image, everywhere) == pytest.approx((400**2 + 4 * 100**2) / 400, rel=1e-5)
    assert restoring.sharpness(np.full_like(image, 77), everywhere) < 1e-6


class Sharpener:
    """Stands for a pack whose restorer does nothing, or nearly gives the truth back."""

    def __init__(self, truth: Bytes | None) -> None:
        self.truth = truth

    def restore(self, crops: Bytes) -> Bytes:
        return crops if self.truth is None else np.stack([self.truth // 2 + crops[0] // 2])


def test_figures_are_nothing_for_doing_nothing_and_six_db_for_half_the_error() -> None:
    one = sample(5)
    soft = restore_pictures.resized(restore_pictures.resized(one.truth, 64), 256)
    for truth, wanted_db, tolerance in ((None, 0.0, 1e-9), (one.truth, 6.0, 0.4)):
        rows = restoring._Rows(Sharpener(truth), has_embedder=False)  # type: ignore[arg-type]
        rows.add(soft, one.truth, one.mask)
        found = rows.figures("soft")
        assert found["soft_gain_db"] == pytest.approx(wanted_db, abs=tolerance)
        assert (found["soft_sharpness_after"] > found["soft_sharpness_before"]) == (truth is not None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_restorer_trains_and_its_file_has_gfpgans_tensors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")
    from models.onnx_file import read_onnx
    from models.tiny.train import restorer

    torch.manual_seed(0)
    network = restorer.Restorer()
    data = {name: np.stack([getattr(sample(i), name) for i in range(3)]) for name in ("truth", "target", "mask")}
    batches = restorer._Batches([restorer.Part("classic", data, None)], seed=3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    errors = []
    soft, sharp, _ = batches.take(4, restorer.Part("classic", data, None), "cpu")
    for _ in range(12):
        loss = (network(soft) - sharp).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(float(loss.detach()))
    assert soft.shape == (4, 3, 160, 160)
    assert errors[-1] < 0.95 * errors[0]
    restorer.export(network.eval(), tmp_path / "r.onnx")
    found = read_onnx(tmp_path / "r.onnx")
    assert (list(found.inputs), found.inputs["input"][1][1:], list(found.outputs)) == (
        ["input"],
        (3, 256, 256),
        ["output"],
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "r.onnx"), providers=["CPUExecutionProvider"])
    image = np.stack([sample(i).truth for i in range(2)]).transpose(0, 3, 1, 2) / np.float32(127.5) - 1
    made = session.run(None, {"input": image.astype(np.float32)})[0]
    assert made.shape == (2, 3, 256, 256)
    assert np.abs(made).max() <= 1.0
    with torch.no_grad():
        assert np.abs(network(torch.from_numpy(image)).clamp(-1, 1).numpy() - made).max() < 0.02  # weights are halves
