"""ONNX Runtime's CUDA provider on our stream and our memory: the fallback and the yardstick, asked for by name.

Its runs can't be captured into our graphs, so they stand between two smaller ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import onnxruntime

from engine.backends.cuda import CudaBackend
from engine.backends.ort_session import OrtSession
from engine.errors import DeviceError, explain
from engine.frame import Buffer
from models.model_files import ModelFile

__all__ = ["OrtCudaSession", "open_ort_cuda", "provider_version"]

_PROVIDER = "CUDAExecutionProvider"


class OrtCudaSession(OrtSession):
    """A model on the CUDA provider, bound to device memory once; a run only launches."""

    def __init__(self, backend: CudaBackend, model: ModelFile) -> None:
        provider_version()
        self._backend = backend
        self.place = ("cuda", backend.driver.facts.index)
        options = onnxruntime.SessionOptions()
        provider = {
            "device_id": str(backend.driver.facts.index),
            "user_compute_stream": str(int(backend.compute)),
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",
        }
        self._open(model, options, [(_PROVIDER, provider)])
        if self._session.get_providers()[0] != _PROVIDER:
            # it falls back to the CPU with a line in its log when a library is missing
            got = ", ".join(self._session.get_providers())
            do = "install the cuDNN and CUDA that this ONNX Runtime names; python -m engine doctor"
            raise DeviceError(explain(f"{model.contract.name} on ONNX Runtime", _PROVIDER, got, do))
        self._run_options = onnxruntime.RunOptions()
        # the stream is ours and so is the waiting
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def prepare(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Bind and run once: the provider allocates and chooses its algorithms on the first run of a shape."""
        self.run(inputs, outputs)

    def run(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Put the network on the compute stream; a file with batch 1 baked in runs once for each entry."""
        for binding in self._bound(inputs, outputs):
            self._backend.enqueue(self.contract.name, partial(self._run, binding, self._run_options), in_graph=False)

    def close(self) -> None:
        """Let the provider's memory go; the session can't run any more."""
        self._bindings.clear()
        del self._session


def open_ort_cuda(backend: CudaBackend, model: ModelFile) -> OrtCudaSession:
    """A SessionOpener."""
    return OrtCudaSession(backend, model)


def provider_version() -> str:
    """ONNX Runtime's version, its CUDA provider made ready to load; raises DeviceError without one."""
    if _PROVIDER not in onnxruntime.get_available_providers():
        got = ", ".join(onnxruntime.get_available_providers())
        do = "pip install onnxruntime-gpu in place of onnxruntime"
        raise DeviceError(explain('session = "onnxruntime-cuda"', _PROVIDER, got, do))
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()  # CUDA and cuDNN from their own wheels, where no system has them
    return str(onnxruntime.__version__)
