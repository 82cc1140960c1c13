"""68 points of a face by a network of landmarks, on the crop that its contract asks for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Session
from engine.errors import ModelError, explain
from engine.frame import Frame
from engine.template.similarity import similarity
from kernels.launch import crop_into
from models.contract import load_template
from models.facts import LandmarkFacts
from models.spec import Spec

__all__ = ["Landmarks", "upright_quarters"]

F64 = npt.NDArray[np.float64]


class Landmarks:
    """iBUG's 68 points, one face at a time.

    As the contract says, but for two things that facefusion does around 2dfan4: crops darker than `dark` are not
    equalised, and points of a low score are taken as they are.
    """

    def __init__(self, backend: Backend, session: Session) -> None:
        """Raises ModelError for a network whose points are no 68 of iBUG."""
        contract = session.contract
        facts = contract.landmarks
        assert facts is not None  # the contract's loader refuses landmarks without them
        self.backend, self.session, self.facts = backend, session, facts
        if facts.points - facts.skip != 68 and not facts.to_68:
            raise ModelError(
                explain(contract.name, "a network of 68 points", f"{facts.points}", "name 2dfan4, pfpld or fan_68_5")
            )
        self._input_name, spec = next(iter(contract.inputs.items()))
        self._spec = spec
        self._template = load_template(contract.template) if contract.template else None
        self.input = backend.allocate(spec.at(n=1))
        self.outputs = {name: backend.allocate(one.at(n=1)) for name, one in contract.outputs.items()}
        self._matrix = backend.allocate(Spec("float32", (1, 2, 3)))

    def __call__(self, frame: Frame, box_xyxy_px: F64, five_px: F64) -> F64:
        """float64 [68, 2] in px of the frame, for the face with this box and these five points; waits."""
        if self.facts.crop == "points":
            frame_from_crop = self._give_points(five_px)
        else:
            frame_from_crop = self._give_picture(frame, box_xyxy_px, five_px)
        self.session.run({self._input_name: self.input}, self.outputs)
        values = self.backend.to_host(self.outputs["points"]).astype(np.float64)
        crop_px = _points_of(values, self.facts)
        return crop_px @ frame_from_crop[:, :2].T + frame_from_crop[:, 2]

    def _give_points(self, five_px: F64) -> F64:
        assert self._template is not None  # it says what the unit square is
        unit = np.array(self._template.points_px) / self._template.size_px
        crop_from_frame, frame_from_crop = similarity(five_px[None], unit)
        given = five_px @ crop_from_frame[0, :, :2].T + crop_from_frame[0, :, 2]
        self.backend.upload(given[None].astype(np.float32), self.input)
        return np.asarray(frame_from_crop[0])

    def _give_picture(self, frame: Frame, box: F64, five_px: F64) -> F64:
        """Crop into the network's input; returns the matrix that takes its points back."""
        width, height = int(self._spec.shape[-1]), int(self._spec.shape[-2])
        x0, y0, x1, y1 = box
        if self.facts.crop == "stretched_box":
            left, top, right, bottom = self.facts.grow
            w, h = x1 - x0, y1 - y0
            x0, y0, x1, y1 = x0 - left * w, y0 - top * h, x1 + right * w, y1 + bottom * h
            across, down = (x1 - x0) / width, (y1 - y0) / height
            points = np.array([[across, 0, x0], [0, down, y0]])
            # pixels are areas that a resize maps edge to edge; points are places on the box
            picture = points + np.array([[0, 0, (across - 1) / 2], [0, 0, (down - 1) / 2]])
        else:
            step = max(x1 - x0, y1 - y0) / self.facts.box_side_px
            turn = upright_quarters(five_px) * np.pi / 2 if self.facts.upright else 0.0
            turned = step * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
            points = picture = np.column_stack([turned, middle - turned @ [width / 2, height / 2]])
        self.backend.upload(picture[None].astype(np.float32), self._matrix)
        spec = self._spec
        crop_into(
            self.backend,
            frame.view,
            self._matrix,
            self.input,
            mean=spec.mean_by_channel,
            std=spec.std_by_channel,
            order=spec.colour or "rgb",
        )
        return np.asarray(points, np.float64)


def upright_quarters(five_px: F64) -> int:
    """The clockwise quarter turns, 0 to 3, by which a face lies; [5, 2] points."""
    down = five_px[3:].mean(axis=0) - five_px[:2].mean(axis=0)
    return round(float(np.arctan2(-down[0], down[1])) / (np.pi / 2)) % 4


def _points_of(values: F64, facts: LandmarkFacts) -> F64:
    """[68, 2] px of the crop from a network's output."""
    rows = values.reshape(-1, facts.values_per_point)[facts.skip : facts.points, :2]
    points = (rows + facts.offset) * facts.scale_px
    if facts.to_68:
        points = np.array([points[list(several)].mean(axis=0) for several in facts.to_68])
    return np.asarray(points, np.float64)
