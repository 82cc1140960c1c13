"""Every kernel once on small, awkward inputs: what the sanitizers watch. Run by sanitize.py, not by hand.

``python -m kernels.sanitize_cases LIBRARY [--quick]``. Memory comes from NumPy, so from malloc, with exact sizes:
AddressSanitizer sees a byte too far.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from kernels import launch
from kernels.compile import HostTensor
from kernels.compile_host import HostTarget, kernel_names
from kernels.launch import (
    I420,
    Arg,
    Candidates,
    Colour,
    CutState,
    Detections,
    Faces,
    Nv12,
    Pixels,
    Placed,
    Residuals,
    Tracks,
)

ONES, ZEROS = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
TEMPLATE = ((11.0, 13.0), (20.0, 13.0), (16.0, 18.0), (12.0, 23.0), (20.0, 23.0))


class Recorder:
    """A host target that remembers which kernels ran."""

    def __init__(self, library: Path) -> None:
        self._target = HostTarget(1, library)
        self.ran: set[str] = set()

    def launch(self, kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], args: Sequence[Arg]) -> None:
        """Run and remember."""
        self._target.launch(kernel, grid, block, args)
        self.ran.add(kernel)


class Cases:
    """The inputs and one method a family of kernels."""

    def __init__(self, target: Recorder) -> None:
        self.target = target
        self.rng = np.random.default_rng(3)

    def f32(self, *shape: int) -> HostTensor:
        """Random float32."""
        return HostTensor(self.rng.random(shape, np.float32))

    def zeros(self, *shape: int, dtype: str = "int32") -> HostTensor:
        """A zeroed tensor."""
        return HostTensor(np.zeros(shape, dtype))

    def frame(self, width: int, height: int) -> tuple[Nv12, list[HostTensor]]:
        """A random frame of exact size and what keeps it alive."""
        y = HostTensor(self.rng.integers(0, 256, (height, width), np.uint8))
        uv = HostTensor(self.rng.integers(0, 256, ((height + 1) // 2, (width + 1) // 2 * 2), np.uint8))
        return Nv12(y.ptr, uv.ptr, width, uv.shape[1], width, height, Colour()), [y, uv]

    def pixels(self) -> None:
        """Copies, colour and the letterbox, on an odd frame."""
        t = self.target
        frame, keep = self.frame(37, 23)
        y, u, v = (self.zeros(*s, dtype="uint8") for s in ((23, 37), (12, 19), (12, 19)))
        planes = I420(y.ptr, u.ptr, v.ptr, 37, 19, 19, 37, 23)
        launch.nv12_to_planar_into(t, frame, planes)
        launch.copy_planar_into(t, planes, frame)
        other, keep_other = self.frame(37, 23)
        launch.copy_nv12_into(t, frame, other)
        rgb = self.zeros(23, 37, 3, dtype="uint8")
        launch.nv12_to_rgb_into(t, frame, rgb)
        launch.nv12_to_rgb_into(t, frame, self.f32(1, 3, 23, 37))
        launch.rgb_to_nv12_into(t, rgb, frame)
        for width, height in ((37, 23), (96, 54), (131, 40)):
            source, keep_source = self.frame(width, height)
            fit = launch.letterbox_size(width, height, 32, 32)[:2]
            launch.letterbox_into(t, source, self.f32(1, 3, 32, 32), fit=fit, mean=ZEROS, std=ONES)
            del keep_source
        del keep, keep_other

    def detect(self) -> None:
        """Two decodes, one of them into too little room, suppression and the cut score."""
        t = self.target
        for room, share in ((64, 0.2), (8, 0.9)):
            held = Candidates(self.f32(room), self.zeros(room), self.f32(room, 4), self.f32(room, 5, 2), self.zeros(4))
            launch.reset_into(t, held)
            scores = [HostTensor((self.rng.random((n, 1)) < share).astype(np.float32)) for n in (128, 32, 8)]
            boxes, points = ([self.f32(n, c) for n in (128, 32, 8)] for c in (4, 10))
            launch.scrfd_decode_into(
                t, scores, boxes, points, held, strides=(8, 16, 32), anchors_per_cell=2, input_size=(64, 64),
                threshold=0.5, det_scale=0.5,
            )  # fmt: skip
            self.found = Detections(self.f32(7, 4), self.f32(7, 5, 2), self.f32(7), self.zeros(1), self.f32(1))
            launch.nms_into(t, held, self.found)
            self.held = held
        self.cut = CutState(self.zeros(64, 64, dtype="uint8"), self.zeros(4))
        for _ in range(2):
            launch.cut_score_into(t, self.f32(1, 3, 32, 32), self.cut, fit=(32, 20), mean=ZEROS, std=(255.0,) * 3)

    def follow(self) -> None:
        """Tracking over frames in which faces come, go and outnumber the rows; refining, smoothing."""
        t = self.target
        floats = {"boxes": (4,), "points": (5, 2), "velocities": (2,), "scores": (), "smooth_points": (5, 2)}
        floats["smooth_velocities"] = (5, 2)
        made = {f.name: self.zeros(6, *floats.get(f.name, ()), dtype="float32") for f in fields(Tracks)}
        made |= {name: self.zeros(6) for name in made if name not in floats} | {"words": self.zeros(4)}
        tracks = Tracks(**made)
        rows = {f.name: self.zeros(3, *floats.get(f.name, ()), dtype="float32") for f in fields(Faces)}
        rows |= {name: self.zeros(3) for name in ("track_ids", "slots", "sources")}
        faces = Faces(**(rows | {"count": self.zeros(1), "status": self.zeros(8)}))
        for step in range(6):
            found = Detections(
                HostTensor(np.array([[60 * i, 0, 60 * i + 40, 50] for i in range(7)], np.float32) + step),
                self.f32(7, 5, 2), self.f32(7), HostTensor(np.array([(7, 3, 0, 0, 7, 2)[step]], np.int32)), self.f32(1),
            )  # fmt: skip
            launch.track_into(
                t, self.held, found, self.cut, self.zeros(6), tracks, faces, max_misses=1, detected=step != 3
            )
            launch.refine_points_into(
                t, self.f32(3, 68, 2), self.f32(3, 2, 3), tracks, faces, five=launch.FIVE_OF_68,
                points_frame=self.f32(3, 68, 2),
            )  # fmt: skip
            launch.smooth_points_into(t, tracks, faces)

    def make(self) -> None:
        """Matrices, crops, masks and paste, with faces inside, across the border and on top of each other."""
        t = self.target
        k, size = 3, 32
        places = ((10.0, 8.0, 0.7), (40.0, 25.0, 1.3), (12.0, 9.0, -0.8))
        points = HostTensor(np.array([np.array(TEMPLATE) * s + (x, y) for x, y, s in places], np.float32))
        count = HostTensor(np.array([k], np.int32))
        forward, back, flags = self.f32(k, 2, 3), self.f32(k, 2, 3), self.zeros(k)
        launch.box_matrix_into(t, self.f32(k, 4), count, forward, back, flags, crop_size_px=(size, size))
        launch.similarity_into(t, points, count, forward, back, flags, template_px=TEMPLATE)
        frame, keep = self.frame(47, 33)
        crops = self.f32(k, 3, size, size)
        launch.crop_into(t, frame, back, crops, mean=ZEROS, std=(255.0,) * 3)
        one, own = self.f32(size, size), self.f32(k, size, size)
        launch.ellipse_mask_into(t, one)
        launch.box_mask_into(t, one)
        launch.erode_blur_mask_into(t, back, own, frame_size_px=(47, 33))
        launch.min_masks_into(t, [one, own], own)
        launch.paste_into(t, crops, own, forward, back, count, frame, self.zeros(k, 4))
        self.residuals(frame, crops, count, forward, back)
        launch.gather_rows_into(t, self.f32(2, 9), HostTensor(np.array([1, -1, 0], np.int32)), self.f32(3, 9))
        full = (255.0, 255.0, 255.0)
        launch.crop_nhwc_into(t, frame, back, self.f32(k, size, size, 3), mean=ZEROS, std=full)
        launch.rescale_matrices_into(t, back, self.f32(k, 2, 3), from_px=size, to_px=17)
        for out, nhwc in ((self.f32(k, 3, 17, 19), False), (self.f32(k, 41, 19, 3), True)):
            launch.rescale_faces_into(
                t,
                crops,
                out,
                mean=ZEROS,
                std=full,
                order="rgb",
                out_mean=ZEROS,
                out_std=ONES,
                out_order="bgr",
                nhwc=nhwc,
            )
        seen = self.f32(k, 21, 33)
        launch.seen_pixels_into(t, self.f32(k, 19, 21, 33), seen, kind="classes", keep=(1, 18))
        launch.seen_pixels_into(t, self.f32(k, 21, 33, 1), seen, kind="face", zero_below=0.1)
        launch.soften_into(t, seen, self.f32(k, size, size), own, sigma_px=3.0, remap=(0.5, 1.0))
        del keep

    def mouth(self) -> None:
        """A crop that passes the frame's corner, both pictures and one; joined, pasted with and without all; a fade."""
        t = self.target
        frame, keep = self.frame(47, 33)
        other, keep_other = self.frame(47, 33)
        for scale, x, y in ((0.7, 4.0, 3.0), (2.6, -20.0, -9.0)):
            values = np.zeros(launch.PLACE_FLOATS, np.float32)
            values[:12] = (scale, 0, x, 0, scale, y, 1 / scale, 0, -x / scale, 0, 1 / scale, -y / scale)
            values[12:17] = (0.7, 1, 3, 47, 33)
            place = HostTensor(values)
            whole, inner, mask = self.f32(1, 3, 20, 24), self.f32(1, 3, 14, 16), self.f32(20, 24)
            blank = (3, 4, 9, 30)
            masked = self.f32(1, 3, 20, 24)
            launch.mouth_crop_into(t, frame, place, whole=whole, masked=masked, crop_px=(24, 20), blank_xywh_px=blank)
            launch.mouth_crop_into(t, frame, place, masked=inner, crop_px=(24, 20), offset_px=(4, 3), bounded=True)
            launch.mouth_join_into(t, inner, whole, offset_px=(8, 6))
            room = self.f32(6, 20, 24)
            launch.mouth_paste_into(t, whole, place, frame, room, hard=True)
            launch.mouth_paste_into(t, whole, place, frame, room, mask=mask, whole=whole, reach_px=2, offset_px=(1, 2))
        launch.fade_nv12_into(t, other, frame, part=0.3)
        del keep, keep_other

    def residuals(
        self, frame: Nv12, crops: HostTensor, count: HostTensor, forward: HostTensor, back: HostTensor
    ) -> None:
        """Changes of faces kept from an output of twice the side, weighed and added; one face without a slot."""
        t, k, size = self.target, crops.shape[0], crops.shape[-1]
        slots, ids = HostTensor(np.array([3, -1, 0], np.int32)), HostTensor(np.array([4, 5, 6], np.int32))
        placed = Placed(self.f32(k, 5, 2), slots, ids, count, forward, back)
        held = Residuals(
            self.zeros(4, size, size, 4, dtype="float32"), self.zeros(4, 12, dtype="float32"), self.zeros(4)
        )
        pixels, weights = Pixels(ZEROS, (255.0,) * 3), self.zeros(k, dtype="float32")
        after, mask = self.f32(k, 3, 2 * size, 2 * size), self.f32(size, size)
        for under in (mask, self.f32(k, size, size)):
            launch.keep_residual_into(
                t, crops, after, under, placed, held, colour=Colour(), before=pixels, after=pixels
            )
        for fresh in (True, False):
            launch.weigh_residual_into(t, frame, placed, held, weights, template_px=TEMPLATE, fresh=fresh)
            launch.add_residual_into(t, frame, placed, held, weights, self.zeros(k, 4), blend=0.8)


def main(arguments: Sequence[str]) -> int:
    """Run the cases on a library; 1 when a kernel of the package was not among them."""
    target = Recorder(Path(arguments[0]))
    cases = Cases(target)
    cases.detect()
    cases.follow()
    if "--quick" not in arguments:
        cases.pixels()
        cases.make()
        cases.mouth()
        missed = sorted(set(kernel_names()) - target.ran)
        if missed:
            print(f"kernels.sanitize_cases: wanted every kernel run, got none of {', '.join(missed)}; add them here")
            return 1
    print(f"{len(target.ran)} kernels ran")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
