"""What each generator sees of a frame, where its mouth is, and the rim of its mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from engine.errors import ModelError
from engine.stages.mouth import places_of
from engine.stages.mouth_layout import layout_of, rim_mask
from kernels.launch import PLACE_BACK, PLACE_FLOATS, PLACE_RECTANGLE, PLACE_THERE
from models.contract import contract_names, load_contract
from tests.lipsync_parts import crops

SIZE = (640, 480)
BOTH = {"image": ("masked", "reference")}
MADE = {
    "wav2lip_96": (BOTH, "mel", (96, 96)),
    "wav2lip_gan_96": (BOTH, "mel", (96, 96)),
    "wav2lip_256": (BOTH, "mel", (256, 256)),
    "tiny_lipsync": (BOTH, "mel", (96, 96)),
    "ultralight_wenet": ({"image": ("reference", "masked")}, "audio", (160, 160)),
    "ultralight_hubert": ({"image": ("reference", "masked")}, "audio", (160, 160)),
    "duix_unet_160": ({"face": ("reference", "masked")}, "audio", (160, 160)),
    "duix_unet_128": ({"face": ("reference", "masked")}, "audio", (128, 128)),
    "heygem_dinet_v1": ({"source": ("masked",), "reference": ("picture 1",)}, "audio", (256, 256)),
    "dinet": (
        {"source": ("masked",), "reference": tuple(f"picture {i}" for i in range(1, 6))},
        "audio",
        (320, 416),
    ),
}
REFUSED = {
    "dinet_five_ref": "MediaPipe's 478",
    "dinet_mini_2": "MediaPipe's 478",
    "dinet_mini_1": "dinet_mini_1.reference: wanted 3 channels for picture 1, got 12",
    "musetalk_unet": "wanted pictures of 256x256 px in and one out, got none",
}


def test_every_generator_is_made_or_refused_by_name() -> None:
    generators = [name for name in contract_names() if load_contract(name).role == "lipsync"]
    assert set(generators) <= set(MADE) | set(REFUSED)
    for name in generators:
        if name in REFUSED:
            with pytest.raises(ModelError) as caught:
                layout_of(load_contract(name))
            assert REFUSED[name] in str(caught.value)
            continue
        layout = layout_of(load_contract(name))
        assert (layout.pictures, layout.condition, layout.size_px) == MADE[name]
        x, y, width, height = layout.blank_xywh_px
        assert x >= 0
        assert y >= 0
        assert x + width <= layout.size_px[0]
        assert y + height <= layout.size_px[1]
    assert len(generators) >= 12


@pytest.mark.parametrize("feather", [0.0, 1.0, 7.0, 30.0])
def test_a_rim_lies_inside_its_rectangle(feather: float) -> None:
    mask = rim_mask((40, 36), (5, 4, 30, 27), feather)
    outside = np.ones(mask.shape, bool)
    outside[4:31, 5:35] = False
    assert not mask[outside].any()
    assert (mask[~outside] > 0).all()
    assert np.array_equal(mask, mask[:, ::-1])
    if feather <= 1.0:
        assert (mask[5:30, 6:34] == 1).all()
    if feather == 7.0:
        middle = mask[17, 5:12]
        assert (np.diff(middle) > 0).all()
        assert mask[17, 12] == 1
        # the middle of the rim is the middle of the way
        assert middle[3] == pytest.approx(0.5)


def test_places_of_boxes_are_whole_px_and_rectangles_cover_what_changes() -> None:
    boxes = np.array([[100, 50, 261, 201], [0, 0, 97, 97], [580, 400, 700, 520]], np.float64)
    there, has_face = crops(boxes, (96, 96)), np.array([True, True, True])
    wanted = np.minimum(boxes, (*SIZE, *SIZE))
    for between in (there, crops(boxes + np.array([0.3, -0.4, -0.2, 0.45]), (96, 96))):
        # a box between px goes to the nearest ones, one that leaves the frame ends there: what is cut out is resized
        hard = places_of(between, has_face, SIZE, (0, 0, 96, 96), boxes=True).values
        assert hard.shape == (3, PLACE_FLOATS)
        assert np.array_equal(hard[:, PLACE_RECTANGLE : PLACE_RECTANGLE + 4], wanted)
        matrices = hard[:, PLACE_THERE : PLACE_THERE + 6].reshape(3, 2, 3)
        assert np.abs(matrices - crops(wanted, (96, 96))).max() < 1e-4
    soft = places_of(there, has_face, SIZE, (10, 40, 70, 50), boxes=False).values
    for place, box in zip(soft, boxes, strict=True):
        x0, y0, x1, y1 = place[PLACE_RECTANGLE : PLACE_RECTANGLE + 4]
        scale = (box[2] - box[0]) / 96, (box[3] - box[1]) / 96
        assert (x0 % 2, y0 % 2) == (0, 0)
        assert x0 <= max(box[0] + 9.5 * scale[0], 0)
        assert y0 <= max(box[1] + 39.5 * scale[1], 0)
        assert x1 >= min(box[0] + 80.5 * scale[0], SIZE[0])
        assert y1 >= min(box[1] + 90.5 * scale[1], SIZE[1])
        # and little more
        assert (x1 - x0) * (y1 - y0) <= (72 * scale[0] + 8) * (52 * scale[1] + 8)


def test_a_place_maps_back_and_frames_without_a_face_have_none() -> None:
    turned = np.array([[[0.4, -0.2, 30.0], [0.2, 0.4, -10.0]], [[0, 0, 0], [0, 0, 0]]], np.float32)
    places = places_of(turned, np.array([True, False]), SIZE, (0, 0, 96, 96), boxes=False)
    assert len(places) == 2
    assert not places.values[1].any()
    there, back = (whole(places.values[0, start : start + 6]) for start in (PLACE_THERE, PLACE_BACK))
    assert np.abs(there @ back - np.eye(3)).max() < 1e-4
    sentence = "lipsync.like: wanted upright boxes for original, got crops that turn with the face; set it to ours"
    with pytest.raises(ModelError, match=sentence):
        places_of(turned, np.array([True, False]), SIZE, (0, 0, 96, 96), boxes=True)


def whole(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """A [2,3] matrix as [3,3]."""
    return np.vstack([values.reshape(2, 3), [0, 0, 1]]).astype(np.float64)
