"""python -m engine doctor: load each library, run one operation on it, and say what to do about what is missing.

Versions alone prove nothing: a wheel may be installed whose library does not load.
"""

from __future__ import annotations

import ctypes
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import numpy as np

from engine.backends import open_backend, open_kernels_on_cuda
from engine.backends.base import Backend
from engine.errors import DeviceError
from kernels.launch import Colour, nv12_to_rgb_into
from models.spec import Spec

__all__ = ["Finding", "examine"]

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line: what was tried, how it went, and what to do. `needed` marks what every run needs."""

    what: str
    state: State
    found: str
    do: str = ""
    needed: bool = False


def examine() -> list[Finding]:
    """Every check in order; a check that fails in a way of its own is a finding too."""
    checks: list[tuple[str, bool, Callable[[], Finding]]] = [
        ("python", True, _python),
        ("processor", True, _processor),
        ("kernels (C++ compiler)", True, _kernels),
        ("ONNX Runtime", True, _onnxruntime),
        ("PyAV: H.264", True, lambda: _codec("libx264", "H.264")),
        ("PyAV: HEVC", False, lambda: _codec("libx265", "HEVC")),
        ("PyAV: AAC", False, _aac),
        ("microphone", False, _microphone),
        ("GPU driver", False, _driver),
        ("CUDA: cuda-core + NVRTC", False, _nvrtc),
        ("cuda backend", False, _cuda_backend),
        ("TensorRT", False, _tensorrt),
        ("NVDEC", False, lambda: _nvidia_codec("h264_cuvid", "r", "NVDEC")),
        ("NVENC", False, lambda: _nvidia_codec("h264_nvenc", "w", "NVENC")),
        ("models", True, _models),
        ("plans", False, _plans),
        ("templates", False, _templates),
    ]
    findings = []
    for what, needed, check in checks:
        try:
            found = check()
        except Exception as error:  # a broken library may raise anything: that is the finding
            found = Finding(what, "broken", f"{type(error).__name__}: {str(error).strip()[:200]}", "reinstall it")
        findings.append(Finding(what, found.state, found.found, found.do, needed))
    return findings


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0))
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return Finding(
        "processor",
        "ok",
        f"{cores} cores for this process, {names[0].split(':')[1].strip() if names else platform.machine()}",
    )


def _kernels() -> Finding:
    return _grey_round(open_backend("cpu", threads=1, say=lambda line: None), "kernels", "built, and run on a frame")


def _cuda_backend() -> Finding:
    """The same round on the GPU: driver, context, memory, kernels."""
    try:
        backend = open_kernels_on_cuda()
    except DeviceError as error:
        return Finding("cuda backend", "missing", str(error))
    try:
        facts = backend.driver.facts
        text = f"kernels ran on {facts.name} ({facts.arch}, CUDA {facts.cuda[0]}.{facts.cuda[1]})"
        return _grey_round(backend, "cuda backend", text)
    finally:
        backend.close()


def _grey_round(backend: Backend, what: str, text: str) -> Finding:
    """A smallest round: a grey 64 x 64 frame to RGB, checked against the formula of limited-range BT.709."""
    frame = backend.allocate_nv12(64, 64)
    backend.open_slots([frame])
    grey = np.full((64, 64), 126, dtype=np.uint8), np.full((32, 64), 128, dtype=np.uint8)
    backend.load_planes(grey, frame)
    wanted = round((126 - 16) * 255 / 219)
    luma, _ = frame.planes()  # on a GPU, waits for what was loaded
    rgb = backend.allocate(Spec("uint8", (64, 64, 3)))
    nv12_to_rgb_into(backend, frame.view(Colour("bt709", full_range=False)), rgb)
    got = backend.to_host(rgb)
    if not np.all(luma == 126) or not np.all(got == wanted):
        return Finding(what, "broken", f"grey {wanted} became {got.min()} to {got.max()}", "remove the kernel cache")
    return Finding(what, "ok", text)


def _onnxruntime() -> Finding:
    import onnxruntime

    from models.model_files import find

    model = find("tiny_refiner")
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    spec = model.contract.inputs["image"].at(n=1)
    out = session.run(None, {model.tensors["image"]: np.zeros(spec.sizes, np.float32)})[0]
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    return Finding(
        "ONNX Runtime", "ok", f"{onnxruntime.__version__} ran a network to {out.shape}; providers: {providers}"
    )


def _codec(encoder: str, name: str) -> Finding:
    import av
    from av import library_versions

    if encoder not in av.codecs_available:
        return Finding(name, "missing", f"this FFmpeg has no {encoder}", "install av from its wheel")
    # x265 writes to stderr by itself, past FFmpeg's log level
    quiet = {"x265-params": "log-level=none"} if encoder == "libx265" else {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "probe.mkv")
        with av.open(path, "w") as container:
            stream = cast(av.VideoStream, container.add_stream(encoder, rate=Fraction(25), options=quiet))
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            frame = av.VideoFrame(64, 64, "yuv420p")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with av.open(path) as container:
            decoded = sum(1 for _ in container.decode(video=0))
    version = ".".join(map(str, library_versions["libavcodec"]))
    if decoded != 1:
        return Finding(name, "broken", f"{encoder} wrote a frame, the decoder returned {decoded}", "reinstall av")
    return Finding(
        name,
        "ok",
        f"{encoder} wrote a frame and FFmpeg {version} read it",
    )


def _driver() -> Finding:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Finding("GPU driver", "missing", "libcuda.so.1 was not found", "install the NVIDIA driver to use a GPU")
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    status = driver.cuInit(0)
    if status:
        return Finding("GPU driver", "broken", f"cuInit gave {status}", "check nvidia-smi and the driver's state")
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(128)
        driver.cuDeviceGetName(name, 128, index)
        names.append(name.value.decode())
    text = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}, {', '.join(names) or 'no device'}"
    return Finding("GPU driver", "ok" if names else "broken", text, "" if names else "check that a device is visible")


def _nvrtc() -> Finding:
    try:
        from kernels.compile import compile_cubin

        size = len(compile_cubin("sm_80"))
    except ImportError as error:
        return Finding("CUDA", "missing", str(error), 'for a GPU: pip install "face-engine[cuda13]" (or cuda12)')
    return Finding("CUDA", "ok", f"NVRTC compiled all kernels for sm_80: {size} bytes")


def _tensorrt() -> Finding:
    import importlib

    for module in ("tensorrt_rtx", "tensorrt"):
        try:
            trt = importlib.import_module(module)
        except ImportError:
            continue
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        state: State = "ok" if builder is not None else "broken"
        return Finding("TensorRT", state, f"{module} {trt.__version__} made a builder")
    return Finding(
        "TensorRT",
        "missing",
        "neither tensorrt_rtx nor tensorrt",
        'for a GPU: pip install "face-engine[rtx]" (GeForce, RTX) or [trt]',
    )


def _nvidia_codec(codec: str, mode: Literal["r", "w"], name: str) -> Finding:
    import av
    import av.error

    try:
        context = cast(av.VideoCodecContext, av.Codec(codec, mode).create())
        if mode == "w":
            context.width, context.height, context.pix_fmt = 256, 256, "nv12"
            context.time_base = Fraction(1, 25)
        context.open()
    except (av.error.FFmpegError, ValueError) as error:
        return Finding(name, "missing", f"{codec}: {error}", f"{name} needs an NVIDIA GPU that has it, and its driver")
    return Finding(name, "ok", f"{codec} opened")


def _models() -> Finding:
    from models.contract import contract_names
    from models.model_files import find, installed

    held = installed()
    for name in held:
        find(name)
    own = [name for name in held if not name.startswith("tiny_")]
    shown = ", ".join(own) or "none (drawn faces only)"
    text = f"{len(held)} of {len(contract_names())} contracts have a file; own: {shown}"
    return Finding("models", "ok", text, "" if own else "add your own: python -m models add FILE.onnx")


def _plans() -> Finding:
    from models.plan_file import Manifest, listed, plan_folder

    found = listed()
    refused = [str(state) for _, state in found if not isinstance(state, Manifest)]
    if refused:
        return Finding("plans", "broken", refused[0], "python -m build_engines prune, then build again")
    text = f"{len(found)} whole in {plan_folder()}"
    return Finding("plans", "ok" if found else "missing", text, "" if found else "python -m build_engines PROFILE")


def _aac() -> Finding:
    """The sound of a talking head, where a container does not take it as it is."""
    from engine.talk.track import EncodedTrack, audio_frame

    track = EncodedTrack(48000, 2)
    try:
        track.take(audio_frame(np.zeros((4800, 2), np.float32), 48000))
        packets = list(track.packets(None))
    finally:
        track.close()
    state: State = "ok" if len(packets) >= 5 else "broken"
    return Finding("AAC", state, f"4800 samples became {len(packets)} packets", "" if packets else "reinstall av")


def _microphone() -> Finding:
    import av

    cards = Path("/proc/asound/cards")
    held = [line for line in cards.read_text().splitlines() if "[" in line] if cards.is_file() else []
    if "alsa" not in av.formats_available:
        return Finding("microphone", "missing", "this FFmpeg has no ALSA", "pipe the sound in: --audio -")
    do = "" if held else "only for --audio alsa:NAME: pass a sound card through"
    return Finding("microphone", "ok" if held else "missing", "; ".join(map(str.strip, held)) or "no sound card", do)


def _templates() -> Finding:
    from engine.template.folder import template_folder

    folder = template_folder()
    count = len(list(folder.glob("*/template.json")))
    do = "" if count else "python -m engine prepare VIDEO --profile PROFILE, or leave it to run"
    return Finding("templates", "ok" if count else "missing", f"{count} prepared in {folder}", do)
