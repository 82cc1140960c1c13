"""generate: the swapper on k faces, each with the latent of its source, bound by name."""

from __future__ import annotations

from engine.backends.base import Backend, Session
from engine.frame import Buffer, Frame
from kernels.launch import gather_rows_into
from models.spec import Spec

__all__ = ["Generate"]


class Generate:
    """One batch where the network takes k faces at once; one run a face where its file has batch 1 baked in.

    `latents` float32 [S, 512] are constants of the run. `outputs[k]` is [k, 3, S, S] of the last call.
    """

    def __init__(self, backend: Backend, session: Session, latents: Buffer, capacity: int) -> None:
        self.backend, self.session, self.latents = backend, session, latents
        size_px = int(session.contract.outputs["output"].shape[-1])
        source = backend.allocate(Spec("float32", (capacity, latents.shape[1])))
        output = backend.allocate(Spec("float32", (capacity, 3, size_px, size_px), layout="nchw"))
        self.sources = [source.rows(0, k) for k in range(capacity + 1)]
        self.outputs = [output.rows(0, k) for k in range(capacity + 1)]
        self._single = session.batch == 1
        self._rows = [(source.rows(i, 1), output.rows(i, 1)) for i in range(capacity)]
        self._targets: dict[int, list[Buffer]] = {}

    def __call__(self, frame: Frame, crops: Buffer) -> Buffer:
        """The swapped faces [k, 3, S, S] for crops [k, 3, S, S]."""
        k = crops.shape[0]
        gather_rows_into(self.backend, self.latents, frame.faces.sources, self.sources[k])
        if not self._single:
            self.session.run({"target": crops, "source": self.sources[k]}, {"output": self.outputs[k]})
            return self.outputs[k]
        for target, (source, output) in zip(self._split(crops), self._rows, strict=False):
            self.session.run({"target": target, "source": source}, {"output": output})
        return self.outputs[k]

    def _split(self, crops: Buffer) -> list[Buffer]:
        """Views of the single faces, made once for each k."""
        k = crops.shape[0]
        if k not in self._targets:
            self._targets[k] = [crops.rows(i, 1) for i in range(k)]
        return self._targets[k]
