"""Sessions on TensorRT plans: bound by name when they open, then one call a run; scratch is shared by all.

Every session runs on the one compute stream, so no two ever need scratch at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.backends.cuda import CudaBackend
from engine.backends.trt_runtime import TrtEngine, TrtRuntime
from engine.errors import ModelError, explain
from engine.frame import Buffer
from engine.plans import PlanChoice, open_plan, plans_for
from models.contract import Contract
from models.model_files import ModelFile
from models.plan_file import Manifest, PlanError, check_folder, plan_folder, write_whole
from models.spec import Spec

__all__ = ["TrtSession", "TrtSessions"]

Shapes = dict[str, tuple[int, ...]]


class TrtSessions:
    """Opens sessions for one backend; they share a runtime and the scratch of the one that needs most."""

    def __init__(self, runtime: TrtRuntime, choice: PlanChoice, say: Callable[[str], None] = lambda line: None) -> None:
        self.runtime, self.choice, self.say = runtime, choice, say
        self.scratch_ptr = self.scratch_bytes = 0

    def __call__(self, backend: CudaBackend, model: ModelFile) -> TrtSession:
        """A session on all plans of a model; raises ModelError without one."""
        return TrtSession(self, backend, model, plans_for(model, self.choice))

    def reserve(self, backend: CudaBackend, nbytes: int) -> None:
        """Make the scratch at least this large; graphs recorded before keep the old one, which stays."""
        if nbytes > self.scratch_bytes:
            self.scratch_ptr = backend.pool.take(nbytes, "scratch", "TensorRT scratch")
            self.scratch_bytes = nbytes

    def load(self, backend: CudaBackend, manifest: Manifest) -> TrtEngine:
        """Deserialise a plan; what RTX compiles is kept beside the plans for the next start."""
        plan, where = open_plan(manifest, self.choice), f"plan {manifest.key.stem}"
        kept = self._jit_path(manifest)
        before = backend.driver.free_bytes()
        engine = self.runtime.deserialize(plan, where, _kept(kept))
        backend.pool.bytes_by_part["plans, as the device's free memory fell"] += before - backend.driver.free_bytes()
        fresh = engine.jit_cache()
        if fresh and (engine.is_jit_stale or not kept.is_file()):
            try:
                kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                check_folder(kept.parent, "set XDG_CACHE_HOME to a folder of your own")
                write_whole(kept, fresh)
            except (OSError, PlanError) as error:
                self.say(f"what TensorRT compiled was not kept, the next start compiles again: {error}")
        return engine

    def _jit_path(self, manifest: Manifest) -> Path:
        name = f"{manifest.plan_sha256[:16]}-{self.choice.gpu_name.replace(' ', '-').replace('/', '-')}.jit"
        return plan_folder() / "jit" / name


@dataclass
class _Plan:
    """One opened plan; `in_graph` once it was tried."""

    engine: TrtEngine
    in_graph: bool = True
    is_tried: bool = False


class TrtSession:
    """A model on its plans, one for each set of input shapes; each is opened when it is first bound."""

    def __init__(self, home: TrtSessions, backend: CudaBackend, model: ModelFile, manifests: list[Manifest]) -> None:
        self.contract: Contract = model.contract
        self._home, self._backend, self._tensors = home, backend, model.tensors
        self._manifests = manifests
        self._told: set[tuple[int, ...]] = set()
        self._plans: dict[str, _Plan] = {}
        self._held: dict[str, Buffer] = {}  # the contract's constants
        self._bindings: dict[tuple[Any, ...], list[tuple[_Plan, dict[str, int]]]] = {}

    def fit(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape, where a plan has it; else that of the plan whose picture is nearest in size, which is said."""
        there = {manifest.key.shapes[name] for manifest in self._manifests}
        if shape in there:
            return shape

        def distance(other: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
            # the picture is letterboxed into it: what counts is the smaller of both ratios
            scale = min(have / want for have, want in zip(other[2:], shape[2:], strict=True))
            return abs(math.log(scale)), other

        nearest = min(there, key=distance)
        if shape not in self._told:
            self._told.add(shape)
            self._home.say(
                f"{self.contract.name}: no plan for {name} {list(shape)}, so it runs at {list(nearest)}; "
                f"{self._home.choice.rebuild} --size WIDTHxHEIGHT builds one"
            )
        return nearest

    def prepare(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Bind, run once, and try whether the run can stand in a graph; what can't is said."""
        for plan, addresses in self._bound(inputs, outputs):
            call = partial(self._enqueue, plan, addresses)
            self._backend.enqueue(self.contract.name, call, in_graph=True)
            if not plan.is_tried:
                plan.is_tried = True
                stream = int(self._backend.compute)
                plan.in_graph = plan.engine.context.is_capturable(stream) and self._backend.can_capture(call)
                if not plan.in_graph:
                    self._home.say(f"{self.contract.name}: TensorRT can't be captured here; it runs between two graphs")

    def run(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> None:
        """Put the network on the compute stream; a plan with batch 1 alone runs once for each entry."""
        for plan, addresses in self._bound(inputs, outputs):
            self._backend.enqueue(self.contract.name, partial(self._enqueue, plan, addresses), in_graph=plan.in_graph)

    def close(self) -> None:
        """Let the engines go, which hold memory of their own."""
        for plan in self._plans.values():
            plan.engine.close()
        self._plans.clear()
        self._bindings.clear()

    def _enqueue(self, plan: _Plan, addresses: dict[str, int]) -> None:
        context = plan.engine.context
        context.give_scratch(self._home.scratch_ptr, self._home.scratch_bytes)
        context.bind(addresses)
        context.enqueue(int(self._backend.compute))

    def _bound(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> list[tuple[_Plan, dict[str, int]]]:
        key = tuple((name, buffer.ptr, buffer.shape) for side in (inputs, outputs) for name, buffer in side.items())
        found = self._bindings.get(key)
        if found is None:
            found = self._bindings[key] = self._bind(inputs, outputs)
        return found

    def _bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> list[tuple[_Plan, dict[str, int]]]:
        shapes = {name: buffer.shape for name, buffer in inputs.items()}
        manifest = self._with_shapes(shapes)
        if manifest is not None:
            plan = self._opened(manifest)
            given = {name: held for name, held in inputs.items() if not self._is_part_of(plan, name)}
            return [(plan, self._addresses({**given, **outputs}) | self._constants(plan, inputs))]
        manifest = self._with_shapes({name: (1, *shape[1:]) for name, shape in shapes.items()})
        if manifest is None:
            there = "; ".join(_text(one.key.shapes) for one in self._manifests)
            do = f"build it: {self._home.choice.rebuild}"
            raise ModelError(explain(f"plan for {self.contract.name}", _text(shapes), f"plans for {there}", do))
        plan, both = self._opened(manifest), {**inputs, **outputs}
        entries = next(iter(inputs.values())).shape[0]
        held = self._constants(plan, inputs)
        return [(plan, self._addresses({n: b.rows(i, 1) for n, b in both.items()}) | held) for i in range(entries)]

    def _with_shapes(self, shapes: Shapes) -> Manifest | None:
        silent = [name for name in self.contract.constants if name not in shapes]
        for one in self._manifests:
            if {name: shape for name, shape in one.key.shapes.items() if name not in silent} == shapes:
                return one
        return None

    def _constants(self, plan: _Plan, inputs: Mapping[str, Buffer]) -> dict[str, int]:
        """Addresses of the contract's constants that a plan still takes as inputs, and that nobody else binds."""
        for name, value in self.contract.constants.items():
            there = plan.engine.tensors.get(self._tensors.get(name, ""))
            if there is not None and name not in inputs and name not in self._held:
                self._held[name] = self._backend.allocate(Spec("float32", there.shape))
                self._backend.upload(np.full(there.shape, value, np.float32), self._held[name])
        return self._addresses({name: held for name, held in self._held.items() if name not in inputs})

    def _is_part_of(self, plan: _Plan, name: str) -> bool:
        """Whether the build made a constant of the contract a part of this plan, which then takes it no more."""
        return name in self.contract.constants and self._tensors.get(name, "") not in plan.engine.tensors

    def _addresses(self, buffers: Mapping[str, Buffer]) -> dict[str, int]:
        return {self._tensors[name]: buffer.ptr for name, buffer in buffers.items()}

    def _opened(self, manifest: Manifest) -> _Plan:
        plan = self._plans.get(manifest.key.stem)
        if plan is None:
            self._backend.refuse_while_recording("open a plan")
            engine = self._home.load(self._backend, manifest)
            self._check(engine, manifest)
            self._home.reserve(self._backend, engine.scratch_bytes)
            plan = self._plans[manifest.key.stem] = _Plan(engine)
        return plan

    def _check(self, engine: TrtEngine, manifest: Manifest) -> None:
        """The plan's tensors are the contract's: names, sides, static FP32 shapes."""
        where = f"plan {manifest.key.stem}"
        wanted = {self._tensors[name]: name for name in (*self.contract.inputs, *self.contract.outputs)}
        for name in self.contract.constants:
            if self._tensors.get(name, "") not in engine.tensors:
                wanted.pop(self._tensors.get(name, ""), None)  # the build may have made it a part of the plan
        if set(engine.tensors) != set(wanted):
            got = ", ".join(sorted(engine.tensors))
            raise ModelError(explain(where, f"the tensors {', '.join(sorted(wanted))}", got, self._home.choice.rebuild))
        for file_name, tensor in engine.tensors.items():
            name = wanted[file_name]
            spec = (self.contract.inputs if tensor.is_input else self.contract.outputs).get(name)
            asked = manifest.key.shapes.get(name, tensor.shape)
            # a file with batch 1 baked in may have been built for more
            entry = (1, *tensor.shape[1:]) if spec is not None and spec.shape[0] == 1 else tensor.shape
            if spec is not None and name in self.contract.constants:
                spec = replace(spec, dtype="float32")  # plans have no other type at their border
            if spec is None or spec.misfit(tensor.dtype, entry) or asked != tensor.shape:
                got = f"{tensor.dtype} {list(tensor.shape)}"
                raise ModelError(explain(f"{where}, {name}", str(spec), got, self._home.choice.rebuild))


def _kept(path: Path) -> bytes:
    """What was compiled for this plan before; code like the plan, so from a folder that only the user can write."""
    if not path.is_file():
        return b""
    try:
        check_folder(path.parent, "remove it")
    except PlanError as error:
        raise ModelError(str(error)) from error
    return path.read_bytes()


def _text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
