"""network: the session of a speech encoder behind its contract's names: rows in, vectors out, states handed on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend, Session
from engine.errors import ModelError, explain
from engine.frame import Buffer
from models.contract import Contract
from models.spec import Spec

__all__ = ["EncoderNetwork"]

F32 = npt.NDArray[np.float32]


class EncoderNetwork:
    """Runs one call. `block`: a call gives one vector, which is all of its output, rather than a row of vectors.

    Buffers are made at the first call of a size and kept for the last size; states at the start are zeros.
    """

    def __init__(self, backend: Backend, session: Session, *, block: bool) -> None:
        contract = session.contract
        self.backend, self.session, self.contract = backend, session, contract
        audio = contract.audio
        if audio is None:
            raise ModelError(
                explain(contract.name, "a contract of the role audio_encoder", contract.role, "name another")
            )
        self._zero_state = audio.zero_state
        self._state = dict(audio.state)
        rest = [name for name in contract.inputs if name not in (*contract.constants, *self._state.values())]
        self._lengths = [name for name in rest if contract.inputs[name].dtype == "int32"]
        self._features = _only(contract, "input", [name for name in rest if name not in self._lengths])
        self._output = _only(contract, "output", [name for name in contract.outputs if name not in self._state])
        shape = contract.outputs[self._output].shape[1:]
        self._block = block and isinstance(shape[0], int)
        self.vector_shape = tuple(int(axis) for axis in (shape if self._block else shape[1:]))
        self._constants = {name: self._constant(name, value) for name, value in contract.constants.items()}
        # a call reads one set of states and writes the other
        self._states = [
            {name: backend.allocate(_sized(contract.inputs[name], 1)) for name in self._state.values()}
            for _ in range(2)
        ]
        self._zeros = {name: np.zeros(buffer.shape, np.float32) for name, buffer in self._states[0].items()}
        self._turn = 0
        self._size = (0, 0)
        self._inputs: dict[str, Buffer] = {}
        self._outputs: dict[str, Buffer] = {}

    def run(self, rows: F32, vectors: int) -> F32:
        """Vectors [vectors, *vector_shape] of rows [rows, ...], a copy; waits for the device."""
        if self._size != (len(rows), vectors):
            self._make_room(len(rows), vectors)
        features = self._inputs[self._features]
        self.backend.upload(np.ascontiguousarray(rows, np.float32).reshape(features.shape), features)
        if self._zero_state:
            reads, writes = self._states
        else:
            reads, writes = self._states[self._turn], self._states[1 - self._turn]
            self._turn = 1 - self._turn
        written = {output: writes[name] for output, name in self._state.items()}
        self.session.run({**self._inputs, **reads}, {**self._outputs, **written})
        found = self.backend.to_host(self._outputs[self._output])
        return np.asarray(found, np.float32).reshape(-1, *self.vector_shape)

    def reset(self) -> None:
        """States of the start."""
        self._turn = 0
        for states in self._states if not self._zero_state else ():
            for name, buffer in states.items():
                self.backend.upload(self._zeros[name], buffer)

    def _make_room(self, rows: int, vectors: int) -> None:
        contract = self.contract
        features = self.backend.allocate(_sized(contract.inputs[self._features], rows))
        output = self.backend.allocate(_sized(contract.outputs[self._output], vectors))
        lengths = {name: self._constant(name, rows) for name in self._lengths}
        self._inputs = {self._features: features, **self._constants, **lengths}
        self._outputs = {self._output: output}
        self._size = (rows, vectors)

    def _constant(self, name: str, value: float) -> Buffer:
        spec = _sized(self.contract.inputs[name], 1)
        buffer = self.backend.allocate(spec)
        self.backend.upload(np.full(spec.sizes, value, dtype=spec.dtype), buffer)
        return buffer


def _only(contract: Contract, side: str, names: list[str]) -> str:
    if len(names) != 1:
        got = ", ".join(names) or "none"
        raise ModelError(
            explain(
                contract.name, f"one {side} beside states and constants", got, "complete the contract's audio table"
            )
        )
    return names[0]


def _sized(spec: Spec, count: int) -> Spec:
    """The Spec for a batch of one and `count` rows, samples or vectors on its other free axis."""
    axes: dict[str, Any] = {axis: 1 if axis == "n" else count for axis in spec.shape if isinstance(axis, str)}
    return spec.at(**axes)
