"""The table of what can be converted: contract -> published topology, and why others can't. READ THIS FIRST.

A network is named by module and function, so that the table can be read without PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.contract import contract_names, load_contract
from models.convert.errors import ConvertError

__all__ = ["PARTS", "TOPOLOGIES", "Part", "Topology", "topology_of"]


@dataclass(frozen=True)
class Part:
    """One half of a network that is cut where its users cache.

    `method` of the network computes it. `inputs` and `outputs` are names of the file: those of the contract's tensors,
    and those that go from the half that runs once for a person to the half of every frame.
    """

    method: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Topology:
    """How the network of a contract is rebuilt.

    `build` is "module:function" below models.convert.nets, called with the shapes of the file and `fixed`. `unused`
    are patterns of names that the published file holds besides, and that no output depends on.
    """

    of: str
    build: str
    fixed: Mapping[str, str | int] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)


PARTS = ("full", "ref", "frame")
_KEPT = ("ref_feature", "ref_appearance")
_WARPED = {
    "ref": Part("ref", ("reference",), _KEPT),
    "frame": Part("frame", ("source", *_KEPT), ("output",)),
}
# for a time its training took 8 frames before and 8 from a frame's own on: 256 or 32 channels of audio
_ULTRALIGHT = "a person's checkpoint, full or half width, for windows of 8 frames (one for 16 has twice the channels)"
_HEADS = r"conv_out(16|32)\."
_WAV2LIP = Topology("wav2lip.pth or wav2lip_gan.pth", "wav2lip:build", {"side_px": 96})

TOPOLOGIES: Mapping[str, Topology] = {
    "ultralight_wenet": Topology(_ULTRALIGHT, "ultralight:build", {"audio": "wenet"}),
    "ultralight_hubert": Topology(_ULTRALIGHT, "ultralight:build", {"audio": "hubert"}),
    "wav2lip_96": _WAV2LIP,
    "wav2lip_gan_96": _WAV2LIP,
    "wav2lip_256": Topology("LiveTalking's wav2lip256.pth", "wav2lip:build", {"side_px": 256}),
    "dinet": Topology(
        "DINet's clip-trained checkpoint",
        "dinet:build",
        parts={
            "ref": Part("ref", ("reference",), _KEPT),
            "frame": Part("frame", ("source", "audio", *_KEPT), ("output",)),
        },
    ),
    "dinet_five_ref": Topology("DH_live's DINet_five_Ref", "dinet:build_five_ref", parts=_WARPED),
    "dinet_mini_1": Topology(
        "DH_live's first DINet_mini",
        "dh_live:build_mini_1",
        parts={
            "ref": Part("ref", ("reference",), ("ref_feature",)),
            "frame": Part("frame", ("source", "ref_feature"), ("output",)),
        },
    ),
    "dinet_mini_2": Topology(
        "DH_live's epoch_40_new.pth",
        "dh_live:build_mini_2",
        parts={
            "ref": Part("ref", ("reference",), ("style",)),
            "frame": Part("frame", ("source", "style"), ("output",)),
        },
    ),
    "dh_live_audio2bs": Topology("DH_live's lstm_model_epoch_325.pkl or _560.pth", "dh_live:build_audio2bs"),
    # the recogniser's decoders, and a layer that the encoder saves and never calls
    "wenet_encoder": Topology(
        "final.pt of unified_conformer_tiny3", "wenet:build", unused=(r"decoder\.", r"ctc\.", r".*\.concat_linear\.")
    ),
    "feather_hubert": Topology("FeatherTalk's student of HuBERT", "feather_hubert:build"),
    "bisenet_79999": Topology(
        "79999_iter.pth", "bisenet:build", {"depth": 18, "names": "face-parsing.PyTorch"}, (_HEADS, r"cp\.resnet\.fc\.")
    ),
    "bisenet_resnet_18": Topology(
        "resnet18.pt", "bisenet:build", {"depth": 18, "names": "face-parsing"}, (_HEADS, r"fpn\.backbone\.fc\.")
    ),
    "bisenet_resnet_34": Topology(
        "resnet34.pt", "bisenet:build", {"depth": 34, "names": "face-parsing"}, (_HEADS, r"fpn\.backbone\.fc\.")
    ),
    # the mapping network (latents come from the picture here) and the small pictures that training looks at
    "gfpgan_1.4": Topology("GFPGANv1.4.pth", "gfpgan:build", unused=(r"toRGB\.", r"stylegan_decoder\.style_mlp\.")),
    "codeformer": Topology("codeformer.pth", "codeformer:build"),
}

_REASONS = {
    "heygem_dinet_v1": "the vendor's network is closed",
    "heygem_wenet": "its published settings leave open how its convolutions are padded and normed",
    "duix_unet_128": "it is published for ncnn, whose weights have no names",
    "duix_unet_160": "it is published for ncnn, whose weights have no names",
    "hubert_large": "its publisher's library exports it",
    "whisper_tiny_encoder": "its publisher's library exports it",
    "musetalk_unet": "its publisher's library exports it",
    "musetalk_vae_decoder": "its publisher's library exports it",
    "musetalk_vae_encoder": "its publisher's library exports it",
}


def topology_of(wanted: str, part: str = "full") -> Topology:
    """The topology of a contract; raises ConvertError with the list of what there is, and why not."""
    if wanted not in contract_names():
        raise ConvertError(
            f"--as: wanted one of {', '.join(TOPOLOGIES)}, got {wanted!r}, which is no contract; correct the name"
        )
    if wanted not in TOPOLOGIES:
        reason = _REASONS.get(wanted) or f"it is published as ONNX: python -m models add {load_contract(wanted).file}"
        raise ConvertError(f"--as: wanted one of {', '.join(TOPOLOGIES)}, got {wanted}; {reason}")
    topology = TOPOLOGIES[wanted]
    if part != "full" and part not in topology.parts:
        cut = ", ".join(name for name, one in TOPOLOGIES.items() if part in one.parts)
        raise ConvertError(
            f"--part: wanted full for {wanted}, got {part!r}; it is a part of {cut}"
            if cut
            else f"--part: wanted one of {', '.join(PARTS)}, got {part!r}; correct the name"
        )
    return topology
