"""Networks on a GPU against ONNX Runtime on the CPU, by library; and what of them can stand in a graph."""

from __future__ import annotations

import numpy as np
import pytest

from engine.backends import Networks, open_backend
from engine.backends.cpu import CpuBackend
from engine.backends.cuda import CudaBackend
from engine.backends.trt_session import TrtSession
from models.model_files import find
from models.spec import Spec

pytestmark = pytest.mark.gpu

# FP32 on both sides: other orders of adding, some 100 layers deep; relative to the largest output
RELATIVE_MAX = 2e-3


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("name", ["tiny_refiner", "tiny_embedder", "tiny_swapper"])
def test_networks_give_what_they_give_on_the_cpu(name: str, batch: int, networks: Networks) -> None:
    model = find(name)
    rng = np.random.default_rng(batch)
    feeds = {
        one: rng.uniform(-1, 1, spec.at(n=batch).sizes).astype(np.float32)
        for one, spec in model.contract.inputs.items()
    }
    results = []
    for backend in (CpuBackend(2), open_backend("cuda", threads=2, say=print, networks=networks)):
        session = backend.open_session(model)
        ins = {one: backend.allocate(Spec("float32", feed.shape)) for one, feed in feeds.items()}
        outs = {
            one: backend.allocate(Spec("float32", spec.at(n=batch).sizes))
            for one, spec in model.contract.outputs.items()
        }
        session.prepare(ins, outs)
        for one, feed in feeds.items():
            backend.upload(feed, ins[one])
        session.run(ins, outs)
        results.append({one: backend.to_host(buffer) for one, buffer in outs.items()})
        backend.close()
    for one, wanted in results[0].items():
        error = float(np.abs(results[1][one] - wanted).max() / np.abs(wanted).max())
        print(f"{networks.session} {name}.{one} batch {batch}: max error {error:.2e} of the largest")
        assert error <= RELATIVE_MAX


def test_what_stands_in_a_graph(networks: Networks) -> None:
    """The table of what can be captured; ONNX Runtime never, TensorRT as it says itself."""
    said: list[str] = []
    backend = open_backend("cuda", threads=2, say=said.append, networks=networks)
    assert isinstance(backend, CudaBackend)
    model = find("tiny_refiner")
    session = backend.open_session(model)
    image, points = backend.allocate(Spec("float32", (1, 3, 96, 96))), backend.allocate(Spec("float32", (1, 5, 2)))
    session.prepare({"image": image}, {"points": points})
    recording = backend._recorder.record(lambda: session.run({"image": image}, {"points": points}))
    captured = recording.graphs == len(recording.steps) == 1
    print(f"{networks.session}: {'in the graph' if captured else 'between graphs'}; {said}")
    assert captured is (isinstance(session, TrtSession) and len(said) == 1)
    backend.close()
