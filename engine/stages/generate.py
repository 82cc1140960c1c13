"""generate: the swapper on k faces, each with the latent of its source, bound by name."""

from __future__ import annotations

from collections.abc import Sequence

from engine.backends.base import Backend, Session
from engine.frame import Buffer, Frame
from kernels.launch import gather_rows_into
from models.spec import Spec

__all__ = ["Generate"]


class Generate:
    """One batch of k faces through the swapper.

    `latents` float32 [S, 512] are constants of the run. `outputs[k]` is [k, 3, S, S] of the last call.
    """

    def __init__(self, backend: Backend, session: Session, latents: Buffer, capacity: int) -> None:
        self.backend, self.session, self.latents = backend, session, latents
        size_px = int(session.contract.outputs["output"].shape[-1])
        source = backend.allocate(Spec("float32", (capacity, latents.shape[1])))
        output = backend.allocate(Spec("float32", (capacity, 3, size_px, size_px), layout="nchw"))
        self.sources = [source.rows(0, k) for k in range(capacity + 1)]
        self.outputs = [output.rows(0, k) for k in range(capacity + 1)]

    def prepare(self, crops: Sequence[Buffer], face_counts: Sequence[int]) -> None:
        """Bind these face counts ahead; `crops[k]` is the input for k faces."""
        for k in face_counts:
            self.session.prepare({"target": crops[k], "source": self.sources[k]}, {"output": self.outputs[k]})

    def __call__(self, frame: Frame, crops: Buffer) -> Buffer:
        """The swapped faces [k, 3, S, S] for crops [k, 3, S, S]."""
        k = crops.shape[0]
        gather_rows_into(self.backend, self.latents, frame.faces.sources, self.sources[k])
        self.session.run({"target": crops, "source": self.sources[k]}, {"output": self.outputs[k]})
        return self.outputs[k]
