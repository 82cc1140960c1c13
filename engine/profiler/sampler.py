"""CPU, memory and, where NVML answers, the GPU beside a run: one thread, twice a second, fixed memory."""

from __future__ import annotations

import importlib
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Gpu", "Sample", "Sampler"]

EVERY_S = 0.5
SAMPLES_MAX = 512

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Sample:
    """One reading. `cpu` counts cores that this process keeps busy; `load` is the machine's load average of 1 min.

    GPU readings are None where NVML does not answer: use in percent, memory of the whole card, SM clock, degrees
    Celsius, watts.
    """

    at_s: float
    cpu: float
    memory_mb: float
    load: float
    gpu_percent: float | None = None
    gpu_memory_mb: float | None = None
    gpu_clock_mhz: float | None = None
    gpu_celsius: float | None = None
    gpu_watt: float | None = None


class Gpu:
    """The first GPU as NVML shows it; without the package pynvml, a driver or a card, `found` is empty."""

    def __init__(self) -> None:
        self.found = self.driver = ""
        self._nvml: Any = None
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return
        try:
            nvml.nvmlInit()
            self._handle = nvml.nvmlDeviceGetHandleByIndex(0)
            self.found = _text(nvml.nvmlDeviceGetName(self._handle))
            self.driver = _text(nvml.nvmlSystemGetDriverVersion())
        except nvml.NVMLError:
            return
        self._nvml = nvml

    def read_into(self, sample: Sample) -> None:
        """Fill a sample's GPU readings; what a card does not tell stays None."""
        if self._nvml is None:
            return
        nvml, handle = self._nvml, self._handle

        def told(read: Any) -> float | None:
            try:
                return float(read())
            except nvml.NVMLError:
                return None

        sample.gpu_percent = told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        sample.gpu_memory_mb = told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6)
        sample.gpu_clock_mhz = told(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        sample.gpu_celsius = told(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        sample.gpu_watt = told(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3)

    def close(self) -> None:
        """Let NVML go."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml = None


class Sampler:
    """Samples while it is open. When its memory is full, every second sample goes and it samples half as often."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.samples: list[Sample] = []
        self.gpu = Gpu()
        self.every_s = every_s
        self.peak_memory_mb = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)
        self._start_s = self._last_s = time.perf_counter()
        self._last_cpu_s = time.process_time()

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._take()
        self.gpu.close()

    def to_json(self) -> dict[str, Any]:
        """Means and peaks of all samples; GPU entries only where it was read."""
        told: dict[str, Any] = {"samples": len(self.samples), "peak_memory_mb": round(self.peak_memory_mb, 1)}
        for name in list(asdict(self.samples[0]))[1:] if self.samples else []:
            values = [value for sample in self.samples if (value := getattr(sample, name)) is not None]
            if values:
                told[f"{name}_mean"] = round(sum(values) / len(values), 2)
                told[f"{name}_max"] = round(max(values), 2)
        return told

    def _work(self) -> None:
        while not self._end.wait(self.every_s):
            self._take()

    def _take(self) -> None:
        now_s, cpu_s = time.perf_counter(), time.process_time()
        passed_s = now_s - self._last_s
        if passed_s < 0.05:
            return
        memory_mb = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6
        cpu = (cpu_s - self._last_cpu_s) / passed_s
        sample = Sample(now_s - self._start_s, cpu, memory_mb, os.getloadavg()[0])
        self.gpu.read_into(sample)
        self._last_s, self._last_cpu_s = now_s, cpu_s
        self.peak_memory_mb = max(self.peak_memory_mb, memory_mb)
        if len(self.samples) == SAMPLES_MAX:
            self.samples = self.samples[1::2]
            self.every_s *= 2
        self.samples.append(sample)


def _text(value: str | bytes) -> str:
    """NVML's older bindings give bytes."""
    return value.decode() if isinstance(value, bytes) else value
