"""What a swapper knows of points: found in maps, drawn as lines, asked for colours, spread as coordinates; PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (the extra train) is not installed")

from models.tiny.renderer import labels, random_person  # noqa: E402
from models.tiny.train import embedder as embedder_module  # noqa: E402
from models.tiny.train import face_maps, identity, pairs, store, swapper  # noqa: E402


def pixel(column: float, row: float, size: int) -> Any:
    return torch.tensor([2.0 * column / (size - 1) - 1.0, 2.0 * row / (size - 1) - 1.0])


def test_points_are_drawn_where_they_are() -> None:
    points = torch.full((1, 98, 2), 3.0)  # far outside: nothing is drawn of these
    points[0, 96] = pixel(10, 20, 64)  # a pupil
    lines = face_maps.FaceMaps().lines(points)
    assert lines.shape == (1, face_maps.LINES, 64, 64)
    assert divmod(int(lines[0, 11].argmax()), 64) == (20, 10)
    assert float(lines[0, 11].max()) == pytest.approx(1.0)
    assert float(lines.sum()) == pytest.approx(float(lines[0, 11].sum()))
    assert [b for _, b in face_maps._GROUPS[:-1]] == [a for a, _ in face_maps._GROUPS[1:]]


def test_a_point_is_found_where_its_map_is_hot() -> None:
    maps, true = face_maps.FaceMaps(), pixel(71.5, 53.5, 128)  # px of the 128: between four cells of 4 px
    rough = (true + pixel(63.5 + 6, 63.5 - 5, 128)).expand(1, 98, 2)  # off by (6, -5) px
    heat = torch.full((1, 98, 32, 32), -30.0)
    heat[:, :, 12:14, 17:19] = 30.0  # rows 49.5 and 53.5, columns 69.5 and 73.5: the points are at the lower two
    heat[:, :, 12] = -30.0
    found, logs = maps.found(heat, rough)
    off_px = (found - true) * 63.5
    assert float(off_px[..., 1].abs().max()) < 0.01
    assert float(off_px[..., 0].abs().max()) < 0.7  # the window leans towards the rough guess
    assert float(logs.exp().sum((2, 3)).sub(1.0).abs().max()) < 1e-4
    cold, _ = maps.found(torch.zeros(1, 98, 32, 32), rough)
    assert float((cold - rough).abs().max()) * 63.5 < 0.3  # a map that says nothing leaves the guess


def test_the_loss_of_a_map_is_least_where_its_point_is() -> None:
    maps, true = face_maps.FaceMaps(), torch.zeros(1, 98, 2)
    true[:] = pixel(70.5, 50.5, 128)
    heat = torch.zeros(1, 98, 36, 36)
    cold = maps.missed(torch.log_softmax(heat.flatten(2), 2).view_as(heat), true)
    assert float(cold) == pytest.approx(np.log(36 * 36), abs=1e-3)
    for column, hot in ((17, True), (20, False)):
        heat = torch.zeros(1, 98, 36, 36)
        heat[:, :, 14, 2 + column] = 4.0
        told = maps.missed(torch.log_softmax(heat.flatten(2), 2).view_as(heat), true)
        assert (told < cold) == hot
    outside = torch.full((1, 98, 2), 1.5)
    assert float(maps.missed(torch.log_softmax(heat.flatten(2), 2).view_as(heat), outside)) == 0.0


def test_colours_are_those_around_the_points() -> None:
    maps = face_maps.FaceMaps()
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0, :, 40:], picture[:, 2, :, :40] = 0.8, 0.4
    points = pixel(20, 30, 64).expand(1, 98, 2).clone()
    points[0, 3] = pixel(55, 30, 64)  # the second spot
    read = maps.colours(picture, points)
    assert read.shape == (1, 3, face_maps.SPOTS)
    torch.testing.assert_close(read[0, :, 0], torch.tensor([0.0, 0.0, 0.4]), atol=2e-3, rtol=0.0)
    torch.testing.assert_close(read[0, :, 1], torch.tensor([0.8, 0.0, 0.0]), atol=2e-3, rtol=0.0)


def test_coordinates_go_with_the_face() -> None:
    maps, rng = face_maps.FaceMaps(), np.random.default_rng(4)
    person = random_person(rng, look="film")
    view = np.array([[64.0, 0.0, 64.0], [0.0, 64.0, 64.0]])
    usual = torch.from_numpy(labels(person, view, 98).points_px.astype(np.float32))
    usual = 0.6 * (usual - usual.mean(0)) / (usual - usual.mean(0)).abs().max()
    maps.usual.copy_(usual)
    moved = (usual + torch.tensor([0.25, -0.125]))[None]
    at = maps.coordinates(moved, moved)
    assert at.shape == (1, face_maps.COORDINATES, 64, 64)
    tip = moved[0, 54]
    column, row = (int(torch.round((value + 1.0) * 31.5)) for value in tip)
    assert float((at[0, :2, row, column] - usual[54]).abs().max()) < 0.06  # a pixel is 0.03 wide
    assert float(at[0, -3:-1].abs().max()) == 0.0  # nothing moved between the two
    lifted = maps.coordinates(moved + torch.tensor([0.0, 0.1]), moved)
    assert float(lifted[0, -2, row, column]) == pytest.approx(0.4, abs=0.05)
    assert float(at[0, -1, row, column]) > 0.9 > 0.05 > float(at[0, -1, 63, 0])


def test_shapes_of_another_identity_are_learnt_from_exact_points() -> None:
    rng = np.random.default_rng(5)
    samples = []
    for _ in range(24):
        person = random_person(rng, look="film")
        view = np.array([[64.0, 0.0, 64.0], [0.0, 64.0, 64.0]])
        samples.append(labels(person, view, 98).points_px)
    faces = torch.from_numpy(np.stack(samples).astype(np.float32))
    faces = (faces - faces.mean((0, 1))) / (faces - faces.mean((0, 1))).abs().max()
    where = torch.stack([faces, faces.roll(1, 0)], 1)
    torch.manual_seed(5)
    network = swapper.Swapper("film")
    network.maps.usual.copy_(faces.mean(0))
    who = torch.randn(24, network.identity.out_features)
    before = float((where[:, 0] - where[:, 1]).norm(dim=2).mean()) * 63.5
    after = swapper.learn_shapes(network, who, where, 300, 1)
    assert after < 0.4 * before


def test_a_target_is_told_by_its_visible_parameters() -> None:
    rng = np.random.default_rng(6)
    people = [random_person(rng, look="film") for _ in range(50)]
    told = pairs.about_targets(np.stack([person.vector() for person in people]), "film")
    assert told.shape == (50, 36 + len(pairs.ABOUT))
    smiles = np.array([person.get("smile") for person in people])
    assert np.corrcoef(told[:, 36 + pairs.ABOUT.index("smile")], smiles)[0, 1] == pytest.approx(1.0, abs=1e-5)
    sample = store._one_swap(np.random.default_rng([1, 7]), "film")
    assert sample["person"].shape == people[0].vector().shape


def test_a_pair_is_learnt_both_ways() -> None:
    samples = [store._one_swap(np.random.default_rng([1, i]), "film") for i in range(6)]
    data = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    embedder = embedder_module.Embedder(embedder_module.Reader("film"))
    inner = torch.from_numpy(identity.visible(data["inner"].astype(np.float32), "film"))
    exact = pairs.latents(embedder.features(inner))
    seen = torch.nn.functional.normalize(exact + 0.05 * torch.randn(exact.shape), dim=1)
    known = pairs.pairs(data, seen, embedder, "film")

    own = torch.from_numpy(identity.visible(data["person"][:, :36].astype(np.float32), "film"))
    torch.testing.assert_close(known.goal[:, :2], torch.stack([own, inner], 1))
    torch.testing.assert_close((known.where[:, 1] + 1.0) * 63.5, torch.from_numpy(data["points"][:, 1]))
    assert (known.about[:, 0, 36:] == known.about[:, 1, 36:]).all()  # pose, expression and light stay
    other = torch.from_numpy((data["person"][:, :36] != data["inner"]).any(1))  # not all: one in ten has its own face
    assert other.any()
    assert ((known.about[:, 0, :36] != known.about[:, 1, :36]).any(1) == other).all()

    rows, there, back = torch.tensor([3, 0]), torch.tensor([1, 1]), torch.tensor([0, 0])
    exactly, read = torch.tensor([[True], [True]]), torch.tensor([[False], [False]])
    torch.testing.assert_close(known.latents(rows, there, read), seen[rows])
    torch.testing.assert_close(known.latents(rows, there, exactly), exact[rows])
    torch.testing.assert_close(known.latents(rows, back, exactly), pairs.latents(embedder.features(own))[rows])
    off = known.latents(rows, back, read) - known.latents(rows, back, exactly)
    assert (off.norm(dim=1) > 0.5 * (seen - exact)[rows].norm(dim=1)).all()  # as far from the exact one as a read one


def test_pictures_and_columns_turn_together() -> None:
    count = 64
    target = torch.arange(count).float()[:, None, None, None] + torch.tensor([0.0, 0.25]).expand(count, 3, 2, 2)
    truth, mask = target + 0.5, target[:, :1] + 100.0
    (first, second, over), own, to = pairs.turned(np.random.default_rng(1), target, truth, mask)
    assert {(int(a), int(b)) for a, b in zip(own, to, strict=True)} == {(0, 1), (1, 0), (2, 3), (3, 2)}
    for column, pictures in ((own, first), (to, second)):
        by_hand = torch.where((column % 2 == 1)[:, None, None, None], truth, target)
        in_mirror = (column >= 2)[:, None, None, None]
        torch.testing.assert_close(pictures, torch.where(in_mirror, by_hand.flip(3), by_hand))
    torch.testing.assert_close(over, torch.where((own >= 2)[:, None, None, None], mask.flip(3), mask))


def test_a_person_in_a_mirror_is_who_the_numbers_say() -> None:
    assert sorted(pairs.MIRRORED) == list(range(98))
    person = random_person(np.random.default_rng(3), look="film").set({"yaw": 20.0, "roll": 5.0, "open": 0.3})
    other = person.set({name: -person.get(name) for name in pairs._SIDES})
    view = np.array([[40.0, 0.0, 60.0], [0.0, 40.0, 60.0]])
    mirrored = view.copy()
    mirrored[0, 2] = 127.0 - view[0, 2]
    here, there = labels(person, view, 98).points_px, labels(other, mirrored, 98).points_px[pairs.MIRRORED]
    off_px = np.abs(np.stack([127.0 - there[:, 0], there[:, 1]], 1) - here).max(1)
    lips = [76, 82, 88, 92]  # a corner on the left is of the upper lip, one on the right of the lower
    assert np.delete(off_px, lips).max() < 1e-3
    assert off_px[lips].max() < 2.0


@pytest.mark.parametrize(("at_px", "off_px"), [((64.0, 126.5), 2.0), ((64.0, 131.0), 3.0), ((0.5, 60.0), 2.0)])
def test_a_point_at_the_rim_and_beyond_is_found_too(at_px: tuple[float, float], off_px: float) -> None:
    maps, true = face_maps.FaceMaps(), torch.zeros(1, 98, 2)
    true[:] = pixel(*at_px, 128)
    rows = 1.5 + 4.0 * torch.arange(32)
    near = [torch.exp(-0.5 * ((rows - min(max(value, 1.5), 125.5)) / 4.0) ** 2) for value in at_px]
    heat = (4.0 * near[1][:, None] * near[0]).expand(1, 98, 32, 32)  # as warm as it gets inside of the picture
    found, logs = maps.found(heat, true)
    assert logs.shape == (1, 98, 36, 36)
    assert float((found - true).norm(dim=2).max()) * 63.5 < off_px


@pytest.mark.full
@pytest.mark.filterwarnings("default")  # the exporter's own
def test_the_file_says_what_the_network_says_for_any_number_of_faces(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(7)
    network = swapper.Swapper("film").eval()
    for layer in network.modules():  # the layers that begin at zero too
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, 0.0, 0.03)
    network.maps.usual.copy_(0.4 * torch.rand(98, 2) - 0.2)
    swapper.export(network, tmp_path / "s.onnx")
    session = runtime.InferenceSession(str(tmp_path / "s.onnx"))
    for count in (1, 2, 5):
        target, source = torch.rand(count, 3, 128, 128), torch.nn.functional.normalize(torch.randn(count, 512))
        with torch.no_grad():
            wanted = network(target, source).clamp(0.0, 1.0).numpy()
        (got,) = session.run(None, {"target": target.numpy(), "source": source.numpy()})
        np.testing.assert_allclose(got, wanted, atol=5e-3)
