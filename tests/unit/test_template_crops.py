"""Each contract's crop rule, by hand on one face, and what is refused by name."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from engine.errors import ModelError
from engine.template.crops import CropRule, Places, Points, mouth_opening
from engine.template.similarity import similarity
from models.contract import contract_names, load_contract, load_template

F64 = npt.NDArray[np.float64]
RANDOM = np.random.default_rng(0)


def a_face(m: int = 1) -> Points:
    """68 points in a box of 100 x 140 px at (200, 100); the corners are points 0, 16 and 8."""
    points = RANDOM.uniform([210, 130], [290, 220], (m, 68, 2))
    points[:, 0], points[:, 16], points[:, 8], points[:, 24] = (200, 150), (300, 150), (250, 240), (250, 100)
    points[:, 1], points[:, 15] = (202, 170), (298, 170)
    points[:, 28], points[:, 29], points[:, 33] = (250, 150), (250, 160), (251, 185)
    points[:, 48], points[:, 54], points[:, 62], points[:, 66] = (230, 200), (270, 200), (250, 195), (250, 205)
    five = np.tile(np.array([[230.0, 140], [270, 140], [250, 170], [230, 200], [270, 200]]), (m, 1, 1))
    return Points(np.tile(np.array([[200.0, 100, 300, 240]]), (m, 1)), five, points)


def corners(places: Places) -> list[float]:
    low, high = places.middle - places.sides / 2, places.middle + places.sides / 2
    return cast("list[float]", np.round([*low[0], *high[0]], 6).tolist())


def test_wav2lip_takes_the_box_and_ten_px_below() -> None:
    rule = CropRule(load_contract("wav2lip_96"))
    assert corners(rule.places(a_face())) == [200, 100, 300, 250]
    assert not rule.needs_68
    assert rule.clamps


def test_wav2lip_averages_the_next_five_as_its_users_do() -> None:
    rule = CropRule(load_contract("wav2lip_96"))
    face = a_face(8)
    face.boxes[:, [0, 2]] += np.arange(8)[:, None]
    x = rule.averaged(rule.places(face)).middle[:, 0] - 250
    np.testing.assert_allclose(x, [2, 3, 4, 5, 5, 5, 5, 5])


def test_ultralight_is_a_square_across_the_jaw_from_the_bridge_of_the_nose() -> None:
    rule = CropRule(load_contract("ultralight_hubert"))
    assert corners(rule.places(a_face())) == [201, 150, 299, 248]
    assert "68 points in the place of 110" in rule.note
    assert rule.needs_68


def test_heygem_takes_one_ratio_for_the_whole_video() -> None:
    rule = CropRule(load_contract("heygem_dinet_v1"))
    faces = a_face(3)
    faces.all_68[2, 8, 1] = 340  # one picture in which the chin is far down
    rule.measure(faces)
    assert rule.ratio == pytest.approx(100 / 140)
    face = a_face()
    some = face.all_68[:, list(rule.crop.points["width"])]
    low, high = some.min(axis=1)[0], some.max(axis=1)[0]
    side, middle = (high[0] - low[0]) / (100 / 140), (low[0] + high[0]) / 2
    wanted = [middle - side / 2, low[1] + 0.11 * side, middle + side / 2, low[1] + 1.11 * side]
    np.testing.assert_allclose(corners(rule.places(face)), wanted, atol=1e-6)


def test_dinet_takes_a_radius_in_steps_of_four_over_its_window() -> None:
    rule = CropRule(load_contract("dinet"))
    # lowest y - y of nose = 240 - 160 = 80; 80 * 1.05 / 2 = 42 -> (10 + 1) * 4 = 44
    assert corners(rule.places(a_face())) == [251 - 55, 160 - 44, 251 + 55, 160 + 99]
    faces = a_face(9)
    faces.all_68[4, 8, 1] = 260
    sides = rule.places(faces).sides[:, 0] / 2.5
    # 100 * 1.05 / 2 = 52.5 -> 56, in the two pictures before it and after it too
    np.testing.assert_allclose(sides, [44, 44, 56, 56, 56, 56, 56, 44, 44])


def test_musetalk_is_as_high_above_the_nose_as_below() -> None:
    assert corners(CropRule(load_contract("musetalk_unet")).places(a_face())) == [200, 80, 300, 250]


@pytest.mark.parametrize("turn", [-0.4, 0.0, 0.7])
def test_five_points_go_to_the_template(turn: float) -> None:
    contract = load_contract("tiny_lipsync")
    rule, template = CropRule(contract), load_template(contract.template)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    five = np.array(template.points_px) @ (1.7 * turned).T + [300, 200]
    places = rule.places(dataclasses.replace(a_face(), five=five[None]))
    crop_from_frame, frame_from_crop = places.matrices((96, 96))
    np.testing.assert_allclose(places.turn, [turn], atol=1e-9)
    np.testing.assert_allclose(five @ crop_from_frame[0, :, :2].T + crop_from_frame[0, :, 2], template.points_px)
    wanted = similarity(five[None], np.array(template.points_px))
    np.testing.assert_allclose(crop_from_frame, wanted[0], atol=1e-9)
    np.testing.assert_allclose(frame_from_crop, wanted[1], atol=1e-9)


def test_borders_of_a_rectangle_are_edges_of_pixels() -> None:
    places = Places(np.array([[250.0, 170]]), np.array([[100.0, 140]]), np.zeros(1))
    crop_from_frame, frame_from_crop = places.matrices((50, 70))
    # the first crop pixel covers the frame's pixels 200 and 201
    np.testing.assert_allclose(frame_from_crop[0] @ [0, 0, 1], [200.5, 100.5])
    np.testing.assert_allclose(crop_from_frame[0] @ [200.5, 100.5, 1], [0, 0], atol=1e-9)


def test_clamped_ends_at_the_frame() -> None:
    places = Places(np.array([[10.0, 170]]), np.array([[100.0, 140]]), np.zeros(1))
    assert corners(places.clamped((640, 200))) == [0, 100, 60, 200]


def test_a_mouth_s_opening_is_in_widths_of_it() -> None:
    assert mouth_opening(a_face().all_68).tolist() == [0.25]


def test_every_contract_is_cut_or_refused_by_name() -> None:
    refused = {}
    for name in contract_names():
        contract = load_contract(name)
        if contract.role == "lipsync":
            try:
                rule = CropRule(contract)
                rule.measure(a_face(4))
                assert (rule.places(a_face(4)).sides > 0).all(), name
            except ModelError as error:
                refused[name] = str(error)
    assert set(refused) == {"dinet_five_ref", "dinet_mini_1", "dinet_mini_2", "duix_unet_128", "duix_unet_160"}
    assert refused["dinet_five_ref"] == (
        "dinet_five_ref: wanted a crop by a box, five points or 68 points, got MediaPipe's 478, for which no network "
        "has a contract; name another generator in models.lipsync"
    )
    assert refused["duix_unet_160"] == (
        "duix_unet_160: wanted a crop rule, got none: how its users cut it is not published; name another generator "
        "in models.lipsync"
    )
