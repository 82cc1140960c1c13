"""Networks for the recording twin: ONNX Runtime on the CPU, put on a stream like any library's opaque work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from engine.backends.cuda import CudaBackend
from engine.backends.ort_session import OrtSession
from engine.frame import Buffer
from models.model_files import ModelFile
from tests.recording.driver import RecordingDriver

__all__ = ["OpaqueSession", "opaque_sessions", "open_backend"]


class OpaqueSession:
    """A network whose values are real and whose inside is not seen. `in_graph`: whether it lets itself be captured.

    `batches` counts runs by their number of entries.
    """

    def __init__(self, backend: CudaBackend, model: ModelFile, *, in_graph: bool) -> None:
        self._backend, self._in_graph = backend, in_graph
        self._session = OrtSession(model, 2)
        self.contract = self._session.contract
        self.batches: Counter[int] = Counter()

    def fit(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As the file has it."""
        return self._session.fit(name, shape)

    def prepare(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Bind."""
        self._session.prepare(inputs, outputs)

    def run(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """On the backend's compute stream."""
        driver: Any = self._backend.driver
        assert isinstance(driver, RecordingDriver)
        ins, outs = dict(inputs), dict(outputs)

        def run() -> None:
            self.batches[next(iter(ins.values())).shape[0]] += 1
            self._session.run(ins, outs)

        def call() -> None:
            driver.opaque(
                self.contract.name,
                [one.ptr for one in ins.values()],
                [one.ptr for one in outs.values()],
                run,
                self._backend.compute,
            )

        self._backend.enqueue(self.contract.name, call, in_graph=self._in_graph)


def opaque_sessions(*, in_graph: bool = True) -> Callable[[CudaBackend, ModelFile], OpaqueSession]:
    """An opener for CudaBackend."""
    return lambda backend, model: OpaqueSession(backend, model, in_graph=in_graph)


def open_backend(driver: RecordingDriver | None = None, *, in_graph: bool = True, **options: Any) -> CudaBackend:
    """The real cuda backend on the recording driver."""
    return CudaBackend(driver or RecordingDriver(), b"", opaque_sessions(in_graph=in_graph), **options)
