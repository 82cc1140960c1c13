"""The metrics endpoint: GET /metrics in Prometheus' text format, version 0.0.4, from a thread of its own."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from engine.errors import InputError, explain
from engine.profiler.sampler import Sample
from engine.timing import Timings

__all__ = ["MetricsServer", "metrics_text", "parse_address"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES = (50.0, 95.0, 99.0, 99.9)


def parse_address(text: str) -> tuple[str, int]:
    """("127.0.0.1", 9100) of "127.0.0.1:9100", "[::1]:9100" or ":9100" (this machine only); raises InputError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        wanted = "HOST:PORT with a port of 0 to 65535"
        raise InputError(explain("--metrics", wanted, repr(text), "write it as 127.0.0.1:9100"))
    return host.strip("[]") or "127.0.0.1", int(port)


def metrics_text(timings: Timings, sample: Sample | None) -> str:
    """The metrics as they stand. Durations are seconds, as Prometheus wants them; each family is told once."""
    rows = timings.rows((), timings.budgets_ms)
    lines = [
        "# HELP face_engine_stage_seconds Time a frame spends in a stage.",
        "# TYPE face_engine_stage_seconds summary",
    ]
    for row in rows:
        stage = _escaped(row.stage)
        held = timings.stages[row.stage]
        for percent in QUANTILES:
            value = held.percentile_ms(percent) / 1e3
            lines.append(f'face_engine_stage_seconds{{stage="{stage}",quantile="{percent / 100:g}"}} {value:.6g}')
        lines.append(f'face_engine_stage_seconds_sum{{stage="{stage}"}} {held.total_ms / 1e3:.6g}')
        lines.append(f'face_engine_stage_seconds_count{{stage="{stage}"}} {held.count}')
    lines += _family("stage_seconds_max", "gauge", "Longest time of a stage.")
    lines += [f'face_engine_stage_seconds_max{{stage="{_escaped(row.stage)}"}} {row.max_ms / 1e3:.6g}' for row in rows]
    budgeted = [row for row in rows if row.budget_ms]
    if budgeted:
        lines += _family("stage_budget_seconds", "gauge", "What a stage may take.")
        lines += [
            f'face_engine_stage_budget_seconds{{stage="{_escaped(r.stage)}"}} {r.budget_ms / 1e3:.6g}' for r in budgeted
        ]
        lines += _family("stage_budget_misses_total", "counter", "Times that a stage took longer than its budget.")
        lines += [f'face_engine_stage_budget_misses_total{{stage="{_escaped(r.stage)}"}} {r.misses}' for r in budgeted]
    lines += _family("frames_dropped_total", "counter", "Frames that did not go through, by reason.")
    lines += [
        f'face_engine_frames_dropped_total{{reason="{_escaped(why)}"}} {n}' for why, n in dict(timings.drops).items()
    ]
    return "\n".join([*lines, *_governor_lines(timings), *_sample_lines(sample)]) + "\n"


class MetricsServer:
    """Serves while it is open; `address` is where, also when port 0 asked for any. Raises InputError if it can't."""

    def __init__(self, host: str, port: int, text: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.split("?", 1)[0] != "/metrics":
                    self.send_error(404, "wanted /metrics")
                    return
                body = text().encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """A scrape every few seconds is no news."""

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def server_bind(self) -> None:
                # HTTPServer would ask the network for the name of this machine
                socketserver.TCPServer.server_bind(self)
                self.server_name, self.server_port = host, self.server_address[1]

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            do = "name an address of this machine and a free port"
            raise InputError(explain("--metrics", "an address to listen on", f"{host}:{port}, {error}", do)) from error
        self._server.daemon_threads = True
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._server.server_address[1]}/metrics"
        # a short poll, so that a run does not wait at its end
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True
        )

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _governor_lines(timings: Timings) -> list[str]:
    if timings.rung is None:
        return []
    return [
        *_family("governor_rung", "gauge", "The rung that the governor stands on; 0 is the profile's own."),
        f"face_engine_governor_rung {timings.rung}",
        *_family("governor_steps_total", "counter", "Steps of the governor, by direction."),
        *(f'face_engine_governor_steps_total{{direction="{way}"}} {n}' for way, n in timings.rung_steps.items()),
    ]


def _sample_lines(sample: Sample | None) -> list[str]:
    if sample is None:
        return []
    told = (
        ("process_cpu_cores", "Cores that the process keeps busy.", sample.cpu),
        ("process_resident_bytes", "Resident memory of the process.", sample.memory_mb * 1e6),
        ("gpu_use_ratio", "Share of time in which the GPU worked.", _scaled(sample.gpu_percent, 0.01)),
        ("gpu_memory_bytes", "Memory of the GPU in use.", _scaled(sample.gpu_memory_mb, 1e6)),
        ("gpu_clock_hertz", "SM clock.", _scaled(sample.gpu_clock_mhz, 1e6)),
        ("gpu_temperature_celsius", "Temperature of the GPU.", sample.gpu_celsius),
        ("gpu_power_watts", "Power that the GPU draws.", sample.gpu_watt),
    )
    lines = []
    for name, words, value in told:
        if value is not None:
            lines += [*_family(name, "gauge", words), f"face_engine_{name} {value:.6g}"]
    return lines


def _family(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP face_engine_{name} {words}", f"# TYPE face_engine_{name} {kind}"]


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value * by


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
