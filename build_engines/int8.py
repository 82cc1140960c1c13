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

_FREE_MACS = 0.005  # of all: leaving this out costs no time that anybody measures
_WORTH_DB = 3.0  # less is noise between inputs
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
    if free := search.free(methods[0]):
        methods, by_method = search.methods(free)
        say(f"{', '.join(free)} left out: next to no multiply-adds, and most of the drift")
    say(", ".join(f"{name} {reached:.1f} dB" for name, reached in by_method.items()))
    best = search.result(methods[0], free, by_method=by_method, worst=free[0] if free else "")
    if best.worst_db >= target_db or not calibrated.layers:
        return best
    near = [name for name in methods if by_method[name] >= by_method[methods[0]] - _NEAR_DB]
    order, guess = search.order(methods[0], target_db, free)
    best = replace(best, worst=best.worst or order[0])
    least, most = len(free), search.most(order)
    first = fewest(lambda count: search.reached(methods[0], order[:count]), target_db, most, min(guess, most))
    for count in range(max(first, least), most + 1):
        for method in near:  # what is left out changes which of them is better
            found = search.result(method, order[:count], by_method=by_method, worst=best.worst)
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

    def methods(self, left_out: Sequence[str] = ()) -> tuple[list[str], dict[str, float]]:
        """(methods, the one that drifts least with every other layer in INT8 first; PSNR by method, all inputs).

        A few inputs say in which order to try; what a quarter of the time does not reach is not looked at.
        """
        every = self._kept(left_out)
        rank = {name: worst_db(self.drift(name, every, FEW)) for name in METHODS}
        reached: dict[str, float] = {}
        for name in sorted(METHODS, key=lambda one: -rank[one]):
            reached[name] = worst_db(self.drift(name, every, 1))
            if time.monotonic() - self.began > self.budget.wall_s / 4:
                break
        return sorted(reached, key=lambda name: -reached[name]), reached

    def free(self, method: str) -> list[str]:
        """Layers, worst first, that hold next to no multiply-adds and spoil most: INT8 gains nothing there.

        Such as the product behind a softmax, whose few large values a scale must cover beside many small ones.
        """
        share = min(_FREE_MACS, self.budget.most_macs) * sum(self.macs.values())
        small: list[str] = []
        for name in sorted(self.calibrated.layers, key=lambda one: self.macs[one]):
            share -= self.macs[name]
            if share < 0 or len(small) == (self.budget.most_layers or len(self.macs)):
                break
            small.append(name)
        without = self.reached(method, small) if small else 0.0
        if not small or without < self.reached(method, ()) + _WORTH_DB:
            return []
        order, _ = worst_first(self._costs(method, small, without), without)
        names = [small[index] for index in order]
        return names[: fewest(lambda count: self.reached(method, names[:count]), without - 1.0, len(names), 1)]

    def order(self, method: str, target_db: float, first: Sequence[str]) -> tuple[list[str], int]:
        """(layers, `first` and then the worst, how many of them should do) from what each costs beside FP32."""
        names = [name for name in self.calibrated.layers if name not in set(first)]
        if not names:
            return list(first), len(first)
        order, guess = worst_first(self._costs(method, names, target_db), target_db)
        return [*first, *(names[index] for index in order)], len(first) + guess

    def _costs(self, method: str, names: Sequence[str], target_db: float) -> list[Noise]:
        """What INT8 in each of these layers alone costs, over a few inputs."""

        def noise(chosen: Sequence[int]) -> Noise:
            layers = {names[index]: self.calibrated.layers[names[index]] for index in chosen}
            typed = quantise(self.simulation.model, layers, self.scales[method], self.calibrated.weights, embed=False)
            return noise_of(self.simulation.drift(typed, step=FEW, weights=self.integers))

        return effects(len(names), noise, target_db, deadline=self.began + self.budget.wall_s)

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
