"""The renderer of drawn faces: the same numbers give the same picture, and the labels say where things are."""

from __future__ import annotations

import numpy as np
import pytest

from models.tiny.renderer import (
    ARCFACE_112,
    ARCFACE_128,
    Person,
    Range,
    aligned,
    apply,
    backdrop,
    calm,
    draw,
    geometry,
    inverse,
    labels,
    names,
    place,
    random_inner,
    random_person,
    similarity,
)


def _people(count: int, seed: int = 5) -> list[Person]:
    rng = np.random.default_rng(seed)
    return [random_person(rng, Range(occluder=0.0, glasses=0.0)) for _ in range(count)]


def _picture(person: Person, size: int = 160, threads: int = 1) -> np.ndarray:
    image = backdrop(3, 1, size, size)
    draw(person, place((size / 2, size * 0.45), size / 4.6), image, threads=threads)
    return image


def test_same_seed_same_pixels_whatever_the_threads() -> None:
    first, again = (_picture(_people(1)[0]) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, _picture(_people(1)[0], threads=2))


def test_other_seed_other_picture() -> None:
    a, b = (_picture(_people(1, seed)[0]) for seed in (5, 6))
    assert np.abs(a.astype(int) - b).mean() > 5


def test_a_region_of_a_picture_is_drawn_as_in_the_whole() -> None:
    person = calm(_people(1)[0])
    whole, part = np.zeros((160, 160, 3), np.uint8), np.zeros((80, 100, 3), np.uint8)
    draw(person, place((80.0, 70.0), 35.0), whole)
    draw(person, place((60.0, 40.0), 35.0), part)
    assert np.abs(whole[30:110, 20:120].astype(int) - part).max() <= 1


def test_parameters_have_the_published_groups() -> None:
    assert [len(names(group)) for group in range(3)] == [26, 24, 28]
    assert len(set(names(0) + names(1) + names(2))) == 78


def test_unknown_parameter_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match="wanted a renderer parameter, got 'nose_colour'"):
        _people(1)[0].set({"nose_colour": 1.0})


def test_frontal_points_are_symmetric_and_eyes_are_dark() -> None:
    person = calm(_people(1)[0]).set({"eye_hue": -1.0, "blink": 0.0})
    points = geometry(person)[0]
    assert np.allclose(points[0] * [-1, 1], points[1], atol=1e-4)
    assert np.allclose(points[3] * [-1, 1], points[4], atol=1e-4)
    view = place((100.0, 90.0), 60.0)
    image = np.zeros((220, 200, 3), np.uint8)
    draw(person, view, image)
    eye = apply(view, points)[0].round().astype(int)
    cheek = eye + np.array([0, 25])
    assert int(image[eye[1], eye[0]].sum()) < int(image[cheek[1], cheek[0]].sum()) / 2


def test_yaw_moves_the_nose_to_the_right_and_pitch_down() -> None:
    person = calm(_people(1)[0])
    front = geometry(person)[0]
    assert geometry(person.set({"yaw": 20.0}))[0][2, 0] > front[2, 0] + 0.2
    assert geometry(person.set({"pitch": 15.0}))[0][2, 1] > front[2, 1] + 0.1


def test_opening_the_mouth_lowers_the_box_and_keeps_the_eyes() -> None:
    person = calm(_people(1)[0])
    shut, wide = geometry(person), geometry(person.set({"open": 1.0}))
    assert wide[1][3] > shut[1][3] + 0.1
    assert np.allclose(wide[0][:2], shut[0][:2], atol=1e-3)


def test_box_holds_the_points_of_people_who_face_us() -> None:
    for person in _people(20):
        truth = labels(person, place((0.0, 0.0), 50.0))
        assert (truth.points_px >= truth.box_xyxy_px[:2] - 3).all()
        assert (truth.points_px <= truth.box_xyxy_px[2:] + 3).all()


def test_alignment_puts_the_points_on_the_template() -> None:
    for person in _people(10):
        view = aligned(calm(person), ARCFACE_112)
        assert np.abs(apply(view, geometry(calm(person))[0]) - ARCFACE_112).max() < 7.0
    assert np.allclose(ARCFACE_128 - ARCFACE_112, [8.0, 0.0])


def test_similarity_recovers_a_known_map_and_its_inverse() -> None:
    matrix = place((12.0, -7.0), 3.5, 33.0)
    points = np.random.default_rng(0).normal(size=(5, 2))
    found = similarity(points, apply(matrix, points))
    assert np.allclose(found, matrix)
    assert np.allclose(apply(inverse(found), apply(matrix, points)), points)


def test_a_swap_changes_the_face_and_nothing_else() -> None:
    rng = np.random.default_rng(8)
    for person in _people(5):
        other = Person(random_inner(rng), person.outer, person.moment)
        view = aligned(person, ARCFACE_128)
        images = []
        masks = []
        for who in (person, person.wearing_face_of(other)):
            image, mask = backdrop(1, 0, 128, 128), np.zeros((128, 128), np.uint8)
            draw(who, view, image, mask)
            images.append(image.astype(int))
            masks.append(mask)
        change = np.abs(images[0] - images[1]).max(2)
        assert change[np.maximum(*masks) > 200].mean() > 8
        # Outside the face nothing moves but the soft shadow that the face's outline casts on its own edge.
        assert (change[np.maximum(*masks) == 0] > 2).mean() < 0.01


def test_mask_is_empty_behind_an_object_that_covers_the_face() -> None:
    person = calm(_people(1)[0])
    masks = []
    for kind in (0.0, 2.0):
        mask = np.zeros((128, 128), np.uint8)
        ball = {"occluder": kind, "occluder_x": 0.0, "occluder_y": 0.4, "occluder_size": 2.0}
        draw(person.set(ball), place((64.0, 50.0), 30.0), np.zeros((128, 128, 3), np.uint8), mask)
        masks.append(int(mask.sum()))
    assert masks[0] > 100_000
    assert masks[1] < 0.02 * masks[0]
