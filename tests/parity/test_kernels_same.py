"""The same bytes on every run, with one thread and with two, however the work is dealt out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import launch
from kernels.launch import CutState
from tests.parity.conftest import Device, HostDevice, noise, put_frame
from tests.parity.test_kernels_align import ARCFACE_128
from tests.parity.test_kernels_detect import candidates, decode, detections, outputs, zeros
from tests.parity.test_kernels_track import new_faces, new_tracks

ZERO, FULL = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)


def whole_path(device: Device) -> dict[str, npt.NDArray[Any]]:
    """One frame through every stage; returns all that it wrote. The detector's outputs overflow the candidates."""
    rng = np.random.default_rng(5)
    k, size = 4, 64
    t = device.target
    frame = put_frame(device, noise(rng, 321, 243), extra_bytes=7)
    network = zeros(device, 1, 3, 160, 160)
    launch.letterbox_into(t, frame.nv12, network, fit=(160, 121), mean=ZERO, std=FULL)
    area, found = candidates(device, 200), detections(device)
    launch.reset_into(t, area)
    decode(device, outputs(rng, 160, 160, 0.5), area, (160, 160), det_scale=0.5)
    launch.nms_into(t, area, found)
    cut = CutState(zeros(device, 64, 64, dtype="uint8"), zeros(device, 4, dtype="int32"))
    launch.cut_score_into(t, network, cut, fit=(160, 121), mean=ZERO, std=FULL)
    tracks, faces = new_tracks(device, 16), new_faces(device, k)
    for _ in range(2):
        launch.track_into(t, area, found, cut, zeros(device, 16, dtype="int32"), tracks, faces)
        launch.smooth_points_into(t, tracks, faces)
    forward, back = zeros(device, k, 2, 3), zeros(device, k, 2, 3)
    flags = zeros(device, k, dtype="int32")
    launch.similarity_into(t, faces.points, faces.count, forward, back, flags, template_px=ARCFACE_128)
    crops, masks = zeros(device, k, 3, size, size), zeros(device, k, size, size)
    launch.crop_into(t, frame.nv12, back, crops, mean=ZERO, std=FULL)
    launch.erode_blur_mask_into(t, back, masks, frame_size_px=(321, 243))
    shared = zeros(device, size, size)
    launch.box_mask_into(t, shared)
    launch.min_masks_into(t, [masks, shared], masks)
    rectangles = zeros(device, k, 4, dtype="int32")
    launch.paste_into(t, crops, masks, forward, back, faces.count, frame.nv12, rectangles, mean=ZERO, std=FULL)
    picture = frame.read()
    out = {"y": picture.y, "uv": picture.uv}
    for name, tensor in (("network", network), ("crops", crops), ("masks", masks), ("rectangles", rectangles)):
        out[name] = device.get(tensor)
    for of, rows in (("faces", faces), ("found", found)):
        for name, value in vars(rows).items():
            out[f"{of}.{name}"] = device.get(value)
    return out


def test_the_same_device_gives_the_same_bytes_twice(device: Device) -> None:
    first, second = whole_path(device), whole_path(device)
    assert first["rectangles"].any()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize("threads", [2, 3])
def test_more_threads_give_the_same_bytes(threads: int) -> None:
    one, more = whole_path(HostDevice(1)), whole_path(HostDevice(threads))
    for name, array in one.items():
        assert array.tobytes() == more[name].tobytes(), name
