"""The table of twins: who builds each, what it must cost, which options it takes; and the file it becomes.

Random weights: for cost and tests only. Beside each twin stand the numbers of the published network and how they were
counted; a test holds every twin within 3 % of both.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from models.twins import audio, detectors, dinet, embedders, landmarks, lipsync, masks, restorers, swappers
from models.twins.builder import Graph, TwinError

__all__ = ["TWINS", "Count", "Twin", "cache_folder", "count_twin", "graph_of", "twin_names", "write_twin"]

Option = int | float | str
Options = Mapping[str, Option]


@dataclass(frozen=True)
class Count:
    """What the published file or code costs: parameters, and multiply-adds of one run at batch 1; `note`: of what."""

    parameters: float
    macs: float
    note: str = ""


@dataclass(frozen=True)
class Twin:
    """One twin. `fixed` goes to the builder as it is; `options` are the user's, with their defaults.

    `batch` is a number or "n" (free); `half` stores weights and computes in FP16 between FP32 inputs and outputs.
    `parts` are further sets of options with a published count of their own. `contract` is the contract that the file
    serves, where it is not the one of the same name.
    """

    name: str
    of: str
    build: Callable[..., None]
    expected: Count
    fixed: Options = field(default_factory=dict)
    options: Options = field(default_factory=dict)
    parts: tuple[tuple[Options, Count], ...] = ()
    batch: int | str = 1
    half: bool = False
    opset: int = 13
    contract: str = ""

    @property
    def defaults(self) -> dict[str, Option]:
        """Every option with its default."""
        return {"batch": self.batch, "half": self.half, **self.options}


_SIZE = {"size_px": 0, "candidates": 200}
_POSITIVE = ("activation_scale", "candidates", "narrow")
_TABLE = (
    Twin(
        "inswapper_128",
        "inswapper_128.onnx",
        swappers.inswapper,
        Count(138.293e6, 174.58e9),
        options={"activation_scale": 1.0, "narrow": 1},
    ),
    Twin(
        "inswapper_128_fp16",
        "inswapper_128_fp16.onnx",
        swappers.inswapper,
        Count(138.293e6, 174.58e9),
        options={"activation_scale": 1.0, "narrow": 1},
        half=True,
    ),
    Twin(
        "hyperswap_1a_256",
        "hyperswap_1a_256.onnx",
        swappers.hyperswap,
        Count(201.24e6, 31.93e9),
        options={"narrow": 1},
        half=True,
        opset=15,
    ),
    Twin(
        "det_10g",
        "det_10g.onnx",
        detectors.scrfd_10g,
        Count(4.230e6, 13.34e9, "640 x 640"),
        fixed={"names": "numbers"},
        options=_SIZE,
    ),
    Twin(
        "scrfd_10g_bnkps",
        "scrfd_10g_bnkps.onnx",
        detectors.scrfd_10g,
        Count(4.230e6, 13.34e9, "640 x 640"),
        fixed={"names": "words"},
        options=_SIZE,
    ),
    Twin(
        "scrfd_500m",
        "det_500m.onnx",
        detectors.scrfd_500m,
        Count(0.631e6, 0.734e9, "640 x 640"),
        options=_SIZE,
    ),
    Twin(
        "scrfd_500m_bnkps",
        "scrfd_500m_bnkps.onnx",
        detectors.scrfd_500m,
        Count(0.631e6, 0.734e9, "640 x 640"),
        fixed={"batched": True},
        options=_SIZE,
    ),
    Twin(
        "w600k_r50",
        "w600k_r50.onnx",
        embedders.iresnet50,
        Count(43.591e6, 6.309e9),
        batch="n",
    ),
    Twin(
        "gfpgan_1.4",
        "GFPGANv1.4.onnx",
        restorers.gfpgan,
        Count(
            84.34e6,
            197.77e9,
            "86.44 M less 2.10 M of the unused mapping network",
        ),
        options={"activation_scale": 1.0, "narrow": 1},
    ),
    Twin(
        "bisenet_resnet_18",
        "bisenet_resnet_18.onnx",
        masks.bisenet,
        Count(13.30e6, 13.77e9, "with the backbone's unused classifier: 13.8 M"),
        fixed={"depth": 18},
        options={"auxiliary": True},
        parts=(({"auxiliary": False}, Count(13.30e6, 13.39e9, "main head only")),),
    ),
    Twin(
        "bisenet_resnet_34",
        "bisenet_resnet_34.onnx",
        masks.bisenet,
        Count(
            23.39e6,
            23.44e9,
            "23.9 M less 0.51 M of the backbone's unused classifier",
        ),
        fixed={"depth": 34},
        options={"auxiliary": True},
        parts=(({"auxiliary": False}, Count(23.39e6, 23.05e9, "main head only")),),
    ),
    Twin("xseg_1", "xseg_1.onnx", masks.xseg, Count(17.57e6, 13.79e9)),
    Twin("2dfan4", "2dfan4.onnx", landmarks.fan4, Count(23.82e6, 25.24e9)),
    Twin(
        "wenet_encoder",
        "encoder.onnx",
        audio.wenet_tiny3,
        Count(26.3e6, 1.12e9),
    ),
    Twin(
        "dh_live_audio2bs",
        "lstm_model_epoch_325.pkl",
        audio.audio2bs,
        Count(0.644e6, 0.65e6, "one video frame"),
        options={"frames": 2},
    ),
    Twin(
        "dinet_mini_2",
        "epoch_40_new.pth",
        dinet.dinet_mini,
        Count(0.516e6, 149.8e6, "51.7 M a frame and 98.1 M once"),
        options={"part": "full"},
        parts=(
            ({"part": "frame"}, Count(0.123e6, 51.7e6)),
            ({"part": "ref"}, Count(0.393e6, 98.1e6)),
        ),
    ),
    Twin(
        "dinet_five_ref",
        "DH_live's DINet_five_Ref",
        dinet.dinet_five_ref,
        Count(9.41e6, 54.25e9),
        options={"part": "full", "volumetric": False, "narrow": 1},
        parts=(
            (
                {"part": "frame"},
                Count(6.58e6, 36.0e9, "parameters by what the other part leaves"),
            ),
            (
                {"part": "ref"},
                Count(2.83e6, 18.25e9, "parameters by what the other part leaves"),
            ),
        ),
        opset=16,
    ),
    Twin(
        "dinet_3_3_256",
        "DINetV1(3, 3, 256) by its contract, not the vendor's network",
        dinet.dinet,
        Count(19.30e6, 85.8e9, "256 x 256"),
        options={"volumetric": False, "narrow": 1},
        opset=16,
        contract="heygem_dinet_v1",
    ),
    Twin(
        "dinet",
        "DINet at 416 x 320",
        dinet.dinet,
        Count(19.19e6, 179.4e9),
        fixed={"height_px": 416, "width_px": 320, "ref_channels": 15, "audio_channels": 29, "audio_steps": 5},
        options={"volumetric": False, "narrow": 1},
        opset=16,
    ),
    Twin(
        "ultralight_wenet",
        "Ultralight U-Net for wenet features",
        lipsync.ultralight,
        Count(12.80e6, 3.398e9),
        fixed={"audio": "wenet"},
    ),
    Twin(
        "ultralight_hubert",
        "Ultralight U-Net for HuBERT features",
        lipsync.ultralight,
        Count(12.16e6, 3.164e9),
        fixed={"audio": "hubert"},
    ),
    Twin(
        "ultralight_half",
        "Ultralight U-Net of half width for HuBERT features",
        lipsync.ultralight,
        Count(3.09e6, 0.825e9),
        fixed={"audio": "hubert", "half_width": True},
        contract="ultralight_hubert",
    ),
    Twin(
        "wav2lip_96",
        "wav2lip.pth",
        lipsync.wav2lip,
        Count(36.30e6, 3.967e9),
        batch="n",
    ),
)
TWINS: Mapping[str, Twin] = {twin.name: twin for twin in _TABLE}


def twin_names() -> tuple[str, ...]:
    """The names of all twins, sorted."""
    return tuple(sorted(TWINS))


def cache_folder() -> Path:
    """Where twins are kept: `$XDG_CACHE_HOME/face-engine/twins`, else `~/.cache/...`; not created here."""
    own = os.environ.get("XDG_CACHE_HOME")
    return (Path(own) if own else Path.home() / ".cache") / "face-engine" / "twins"


def count_twin(name: str, **options: Option) -> Count:
    """Parameters and multiply-adds of a twin as built, without making its weights."""
    graph = graph_of(name, options, weights=False)
    return Count(graph.parameters, graph.macs, "counted while building")


def graph_of(name: str, options: Options, *, seed: int = 0, weights: bool = True) -> Graph:
    """The graph of a twin under these options; raises TwinError for an unknown name or an option that does not fit."""
    twin = _twin(name)
    chosen = _chosen(twin, options)
    batch, half = chosen.pop("batch"), bool(chosen.pop("half"))
    graph = Graph(
        twin.name,
        seed=seed,
        opset=20 if chosen.get("volumetric") else twin.opset,
        batch=batch if isinstance(batch, str) else int(batch),
        half=half,
        weights=weights,
        sizes={**detectors.sizes_of(detectors.COUNTED_AT_PX), "t": 2, "t_half": 1},
    )
    twin.build(graph, **twin.fixed, **chosen)
    return graph


def write_twin(name: str, folder: Path | None = None, *, seed: int = 0, **options: Option) -> Path:
    """The twin's ONNX file, written once; random weights: for cost and tests only.

    The file's name holds a digest of name, seed, options and the source of this package, so that another builder
    never serves an older file. It appears under that name only when complete. `folder` defaults to cache_folder().
    Raises TwinError for an unknown name, an option that does not fit, or a folder that cannot be written.
    """
    twin = _twin(name)
    chosen = _chosen(twin, options)
    if seed < 0:
        raise TwinError(f"twin {name}: wanted a seed from 0 on, got {seed}; correct it")
    facts = {
        "twin": name,
        "seed": str(seed),
        "options": json.dumps(chosen, sort_keys=True),
        "builder": builder_digest(),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    path = (folder if folder is not None else cache_folder()) / f"{name}-{digest[:12]}.onnx"
    if path.exists():
        return path
    graph = graph_of(name, chosen, seed=seed)
    notes = {**facts, "of": twin.of, "parameters": str(graph.parameters), "macs": str(graph.macs)}
    try:
        _save_whole(graph, path, notes)
    except OSError as error:
        raise TwinError(f"{path}: wanted to write a twin there, got {error}; free space or give a folder") from error
    return path


def _save_whole(graph: Graph, path: Path, notes: Mapping[str, str]) -> None:
    """The file under its final name when complete, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    os.close(handle)
    try:
        graph.save(Path(temporary), notes)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@cache
def builder_digest() -> str:
    """The version of the builder: SHA-256 over the source files of this package, 12 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _twin(name: str) -> Twin:
    if name not in TWINS:
        raise TwinError(f"twin {name}: wanted one of {', '.join(twin_names())}, got {name!r}; correct the name")
    return TWINS[name]


def _chosen(twin: Twin, options: Options) -> dict[str, Any]:
    """Defaults overlaid with options, each of its default's type."""
    chosen: dict[str, Any] = dict(twin.defaults)
    for key, value in options.items():
        if key not in chosen:
            raise TwinError(f"twin {twin.name}: wanted one of the options {', '.join(chosen)}, got {key}; correct it")
        chosen[key] = _batch(twin, value) if key == "batch" else _typed(twin, key, value, chosen[key])
    return chosen


def _batch(twin: Twin, value: Option) -> Option:
    if value == "n":
        return "n"
    if str(value).isdigit() and int(value) > 0:
        return int(value)
    raise TwinError(
        f'twin {twin.name}: wanted batch as a number from 1 on or "n" for a free one, got {value}; correct it'
    )


def _typed(twin: Twin, key: str, value: Option, default: Option) -> Option:
    """The option in its default's type; a command line brings text."""
    if isinstance(default, bool):
        known = {"true": True, "false": False, "1": True, "0": False}
        if str(value).lower() in known:
            return known[str(value).lower()]
    else:
        with suppress(ValueError):
            found = type(default)(str(value))
            if key not in _POSITIVE or 0 < float(found) < float("inf"):
                return found
    raise TwinError(
        f"twin {twin.name}: wanted {key} as {type(default).__name__} like {default}, got {value!r}; correct it"
    )
