"""Which layers are INT8: the way of choosing ranges that drifts least, then the fewest layers left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from build_engines.precision import simulate_fp16
from build_engines.quantise import Layer, Stored, layers_of, macs_of, quantise, store, tensors_of
from build_engines.ranges import METHODS, Histogram, collect, scales_of
from build_engines.sensitivity import Budget, Noise, effects, fewest, noise_of, worst_first
from build_engines.simulate import FEW, Drift, Feeds, Simulation, worst_db

__all__ = ["Calibrated", "Quantised", "calibrate", "find_int8"]

_NEAR_DB = 4.0  # methods this near to the best are tried again when layers are left out


@dataclass(frozen=True)
class Calibrated:
    """The layers of a graph that may be INT8, their weights as integers, histograms of what they read."""

    layers: dict[str, Layer]
    weights: dict[str, Stored]
    ranges: dict[str, Histogram]
    inputs: int


@dataclass(frozen=True)
class Quantised:
    """Which layers are INT8 and with which scales; the rest is FP16 but the nodes of `keep_fp32`.

    `macs_share`: of all multiply-adds in the graph, those in INT8. `worst` is the layer whose INT8 alone costs most,
    where layers had to be measured. `drift` is that of both roundings together.
    """

    layers: frozenset[str]
    left_out: tuple[str, ...]
    keep_fp32: frozenset[str]
    method: str
    scales: dict[str, float]
    drift: dict[str, Drift]
    macs_share: float
    residuals: int
    calibrated_on: int
    worst: str = ""
    by_method: dict[str, float] = field(default_factory=dict)
    search_s: float = 0.0

    @property
    def worst_db(self) -> float:
        """The lowest PSNR of any output."""
        return worst_db(self.drift)


def calibrate(simulation: Simulation, feeds: Feeds) -> Calibrated:
    """Run the FP32 graph over real inputs once; all that a search needs comes out of it."""
    layers = layers_of(simulation.model)
    return Calibrated(
        layers, store(layers, simulation.weights), collect(simulation, feeds, tensors_of(layers)), len(feeds)
    )


def find_int8(
    simulation: Simulation,
    calibrated: Calibrated,
    target_db: float,
    *,
    keep_fp32: frozenset[str] = frozenset(),
    half_scales: bool = True,
    budget: Budget | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Quantised:
    """The method that drifts least, then the fewest layers left out for every output to reach `target_db`.

    Layers are left out worst first, within the budget. The best that was reached is returned even when it misses the
    target: the caller compares.
    """
    search = _Search(simulation, calibrated, keep_fp32, half_scales, budget or Budget())
    methods, by_method = search.methods()
    say(", ".join(f"{name} {reached:.1f} dB" for name, reached in by_method.items()))
    best = search.result(methods[0], (), by_method=by_method)
    if best.worst_db >= target_db or not calibrated.layers:
        return best
    near = [name for name in methods if by_method[name] >= by_method[methods[0]] - _NEAR_DB]
    order, guess = search.order(methods[0], target_db)
    best = replace(best, worst=order[0])
    most = search.most(order)
    first = fewest(lambda count: search.reached(methods[0], order[:count]), target_db, most, min(guess, most))
    for count in range(first, most + 1):
        for method in near:  # what is left out changes which of them is better
            found = search.result(method, order[:count], by_method=by_method, worst=order[0])
            best = max(best, found, key=lambda one: one.worst_db)
            say(f"{count} of {len(order)} layers left out, {method}: {found.worst_db:.1f} dB")
            if found.worst_db >= target_db or search.late():
                return best
    return best


class _Search:
    """Trials of one model."""

    def __init__(
        self, simulation: Simulation, calibrated: Calibrated, keep_fp32: frozenset[str], half: bool, budget: Budget
    ) -> None:
        self.simulation, self.calibrated, self.budget = simulation, calibrated, budget
        self.keep_fp32, self.half = keep_fp32, half
        self.began = time.monotonic()
        self.scales = {method: scales_of(calibrated.ranges, method) for method in METHODS}
        self.integers = {f"{name}__int8": stored.values for name, stored in calibrated.weights.items()}
        self.macs = macs_of(simulation.model)

    def late(self) -> bool:
        """The time of the budget is up."""
        return time.monotonic() - self.began > self.budget.wall_s

    def drift(self, method: str, layers: Sequence[str], step: int) -> dict[str, Drift]:
        """Of INT8 in these layers and FP16 between them, over every `step`-th input."""
        chosen = {name: self.calibrated.layers[name] for name in layers}
        model = self.simulation.model
        typed = quantise(model, chosen, self.scales[method], self.calibrated.weights, embed=False)
        trial = simulate_fp16(typed, self.keep_fp32, half_scales=self.half)
        return self.simulation.drift(trial, step=step, weights=self.integers)

    def methods(self) -> tuple[list[str], dict[str, float]]:
        """(methods, the one that drifts least with every layer in INT8 first; PSNR by method over all inputs).

        A few inputs say in which order to try; what a quarter of the time does not reach is not looked at.
        """
        every = list(self.calibrated.layers)
        rank = {name: worst_db(self.drift(name, every, FEW)) for name in METHODS}
        reached: dict[str, float] = {}
        for name in sorted(METHODS, key=lambda one: -rank[one]):
            reached[name] = worst_db(self.drift(name, every, 1))
            if time.monotonic() - self.began > self.budget.wall_s / 4:
                break
        return sorted(reached, key=lambda name: -reached[name]), reached

    def order(self, method: str, target_db: float) -> tuple[list[str], int]:
        """(layers, worst first; how many of them should do) from what each costs alone beside FP32."""
        names = list(self.calibrated.layers)

        def noise(chosen: Sequence[int]) -> Noise:
            layers = {names[index]: self.calibrated.layers[names[index]] for index in chosen}
            typed = quantise(self.simulation.model, layers, self.scales[method], self.calibrated.weights, embed=False)
            return noise_of(self.simulation.drift(typed, step=FEW, weights=self.integers))

        costs = effects(len(names), noise, target_db, deadline=self.began + self.budget.wall_s)
        order, guess = worst_first(costs, target_db)
        return [names[index] for index in order], guess

    def most(self, order: Sequence[str]) -> int:
        """How many layers the budget lets be left out, in this order."""
        total, spent = sum(self.macs.values()), 0
        for count, name in enumerate(order):
            spent += self.macs[name]
            if (self.budget.most_layers and count >= self.budget.most_layers) or spent > self.budget.most_macs * total:
                return count
        return len(order)

    def reached(self, method: str, left_out: Sequence[str]) -> float:
        """PSNR of the worst output over a few inputs."""
        return worst_db(self.drift(method, self._kept(left_out), FEW))

    def result(
        self, method: str, left_out: Sequence[str], *, by_method: Mapping[str, float], worst: str = ""
    ) -> Quantised:
        """What leaving these out gives over all inputs."""
        layers = self._kept(left_out)
        total = sum(self.macs.values())
        return Quantised(
            layers=frozenset(layers),
            left_out=tuple(left_out),
            keep_fp32=self.keep_fp32,
            method=method,
            scales=self.scales[method],
            drift=self.drift(method, layers, 1),
            macs_share=sum(self.macs[name] for name in layers) / total if total else 0.0,
            residuals=sum(bool(self.calibrated.layers[name].add) for name in layers),
            calibrated_on=self.calibrated.inputs,
            worst=worst,
            by_method=dict(by_method),
            search_s=time.monotonic() - self.began,
        )

    def _kept(self, left_out: Sequence[str]) -> list[str]:
        return [name for name in self.calibrated.layers if name not in set(left_out)]
