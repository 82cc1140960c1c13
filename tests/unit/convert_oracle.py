"""Published networks a second time: functions over a state dict by its published names, without our modules.

Weights of the same shape that change places (two norms of a block, the two feed-forwards of a layer) leave names,
parameters and multiply-adds as they are. Only a second way through the same names shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

__all__ = ["ORACLES"]

State = Mapping[str, Any]


class Weights:
    """Layers of a state dict by name."""

    def __init__(self, state: State) -> None:
        self.state = state

    def conv(self, x: Any, name: str, stride: Any = 1, pad: Any = None, groups: int = 1, dilation: int = 1) -> Any:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        pad = weight.shape[-1] // 2 if pad is None else pad
        run = F.conv1d if weight.ndim == 3 else F.conv2d
        return run(x, weight, bias, stride, pad, dilation, groups)

    def norm(self, x: Any, name: str) -> Any:
        """A batch norm that runs."""
        of = [self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *of)

    def dense(self, x: Any, name: str) -> Any:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def layer_norm(self, x: Any, name: str) -> Any:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-5)

    def group_norm(self, x: Any, name: str) -> Any:
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-5)

    def count(self, name: str) -> int:
        """How many members a list of modules has."""
        inside = [key[len(name) + 1 :].split(".")[0] for key in self.state if key.startswith(f"{name}.")]
        return len(set(inside))


def ultralight(state: State, image: Any, audio: Any) -> Any:
    w = Weights(state)

    def inverted(x: Any, name: str, stride: int = 1, residual: bool = True) -> Any:
        y = F.relu(w.norm(w.conv(x, f"{name}.conv.0"), f"{name}.conv.1"))
        y = F.relu(w.norm(w.conv(y, f"{name}.conv.3", stride, 1, y.shape[1]), f"{name}.conv.4"))
        y = w.norm(w.conv(y, f"{name}.conv.6"), f"{name}.conv.7")
        return x + y if residual else y

    def double(x: Any, name: str, stride: int = 1) -> Any:
        x = inverted(x, f"{name}.double_conv.0", stride, residual=False)
        return inverted(x, f"{name}.double_conv.1")

    wenet, a = audio.shape[1] == 128, "audio_model"
    x1 = inverted(image, "inc.inconv.0", residual=False)
    x2 = double(x1, "down1.maxpool_conv.0", 2)
    x3 = double(x2, "down2.maxpool_conv.0", 2)
    x4 = double(x3, "down3.maxpool_conv.0", 2)
    x5 = double(x4, "down4.maxpool_conv.0", 2)
    y = inverted(inverted(audio, f"{a}.conv1", residual=False), f"{a}.conv2", residual=wenet)
    y = F.relu(w.norm(w.conv(y, f"{a}.conv3", (1, 2) if wenet else 2, 1), f"{a}.bn3"))
    y = F.relu(w.norm(w.conv(inverted(y, f"{a}.conv4"), f"{a}.conv5", 2, 3), f"{a}.bn5"))
    y = inverted(inverted(y, f"{a}.conv6"), f"{a}.conv7")
    x = double(double(torch.cat([x5, y], 1), "fuse_conv.0"), "fuse_conv.1")
    for name, skip in (("up1", x4), ("up2", x3), ("up3", x2), ("up4", x1)):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = double(torch.cat([x, skip], 1), f"{name}.conv")
    return torch.sigmoid(w.conv(x, "outc.conv"))


def wav2lip(state: State, mel: Any, image: Any) -> Any:
    w = Weights(state)
    last = state["face_encoder_blocks.6.0.conv_block.0.weight"].shape[-1] if image.shape[2] == 96 else 4

    def block(x: Any, name: str, stride: Any = 1, pad: Any = None) -> Any:
        """A residual block where it keeps channels and size, and is not the first of its level."""
        y = w.norm(w.conv(x, f"{name}.conv_block.0", stride, pad), f"{name}.conv_block.1")
        return F.relu(x + y if y.shape == x.shape and state[f"{name}.conv_block.0.weight"].shape[-1] == 3 else y)

    feats, x = [], image
    levels = w.count("face_encoder_blocks")
    for level in range(levels):
        name = f"face_encoder_blocks.{level}"
        for number in range(w.count(name)):
            end = level == levels - 1
            x = block(x, f"{name}.{number}", 2 if number == 0 < level and not end else 1, 0 if end else None)
        feats.append(x)
    x = mel
    strides = {3: (3, 1), 6: (3, 3), 9: (3, 2)}
    for number in range(13):
        x = block(x, f"audio_encoder.{number}", strides.get(number, 1), 0 if number > 10 else None)
    for level in range(w.count("face_decoder_blocks")):
        name = f"face_decoder_blocks.{level}"
        if level == 0:
            x = block(x, f"{name}.0", 1, 0)
        else:
            weight, bias = (state[f"{name}.0.conv_block.0.{part}"] for part in ("weight", "bias"))
            how = (1, 0, 0) if level == 1 else (2, 1, 1)
            x = F.relu(w.norm(F.conv_transpose2d(x, weight, bias, *how), f"{name}.0.conv_block.1"))
            assert level > 1 or x.shape[2] == last
        for number in range(1, w.count(name)):
            x = block(x, f"{name}.{number}")
        x = torch.cat([x, feats.pop()], 1)
    return torch.sigmoid(w.conv(block(x, "output_block.0"), "output_block.1"))


class Warping(Weights):
    """Blocks of the DINet family."""

    def block(self, x: Any, name: str, stride: int = 1, up: bool = False) -> Any:
        x = F.interpolate(x, scale_factor=2) if up else x
        return F.relu(self.norm(self.conv(x, f"{name}.conv", stride), f"{name}.norm"))

    def residual(self, x: Any, name: str) -> Any:
        y = self.conv(F.relu(self.norm(x, f"{name}.norm1")), f"{name}.conv1")
        return x + self.conv(F.relu(self.norm(y, f"{name}.norm2")), f"{name}.conv2")

    def chain(self, x: Any, name: str, kinds: str) -> Any:
        """One letter a block: same, down, up, residual."""
        for number, kind in enumerate(kinds):
            at = f"{name}.{number}"
            x = self.residual(x, at) if kind == "r" else self.block(x, at, 2 if kind == "d" else 1, kind == "u")
        return x

    def warp(self, x: Any, vector: Any) -> Any:
        """As published: a volume of channels sampled in three dimensions."""
        n, channels, height, width = x.shape
        p = F.relu(self.dense(vector, "adaAT.commn_linear.0"))
        size = (2 * torch.sigmoid(self.dense(p, "adaAT.scale.0"))).view(n, channels, 1, 1, 1)
        angle = (3.14159 * torch.tanh(self.dense(p, "adaAT.rotation.0"))).view(n, channels, 1, 1)
        shift = torch.tanh(self.dense(p, "adaAT.translation.0")).view(n, channels, 1, 1, 2)
        z, y, column = torch.meshgrid(*(torch.linspace(-1, 1, k) for k in (channels, height, width)), indexing="ij")
        turned = [angle.cos() * column - angle.sin() * y, angle.sin() * column + angle.cos() * y]
        flat = torch.stack(turned, -1) * size + shift
        grid = torch.cat([flat, z.expand(n, -1, -1, -1).unsqueeze(-1)], -1)
        return F.grid_sample(x.unsqueeze(1), grid, align_corners=False).squeeze(1)


def dinet(state: State, source: Any, reference: Any, audio: Any) -> Any:
    w = Warping(state)
    x, ref = w.chain(source, "source_in_conv", "sdd"), w.chain(reference, "ref_in_conv", "sdd")
    image = w.chain(torch.cat([x, ref], 1), "trans_conv", "sssdssdsdsd").mean((2, 3))
    vector = torch.cat([image, w.chain(audio, "audio_encoder", "srdrds").mean(2)], 1)
    moved = w.warp(w.chain(ref, "appearance_conv_list.0", "rrrr"), vector)
    moved = w.chain(moved, "appearance_conv_list.1", "rrrr")
    y = w.chain(torch.cat([x, moved], 1), "out_conv", "suru")
    return torch.sigmoid(w.conv(y, "out_conv.4"))


def five_ref(state: State, source: Any, reference: Any) -> Any:
    w = Warping(state)
    x, ref = w.chain(source, "source_in_conv", "sdd"), w.chain(reference, "ref_in_conv", "sdd")
    vector = w.chain(torch.cat([x, ref], 1), "trans_conv", "ssdsdsdsd").mean((2, 3))
    moved = w.warp(w.chain(ref, "appearance_conv_list.0", "rr"), vector)
    moved = w.chain(moved, "appearance_conv_list.1", "rr")
    y = w.chain(torch.cat([x, moved], 1), "out_conv", "suru")
    return torch.sigmoid(w.conv(y, "out_conv.4"))


def mini_1(state: State, source: Any, reference: Any) -> Any:
    w = Warping(state)
    x, ref = w.chain(source, "source_in_conv", "sdd"), w.chain(reference, "ref_in_conv", "sdsd")
    vector = w.chain(torch.cat([x, ref], 1), "trans_conv", "dd").mean((2, 3))
    moved = w.chain(w.warp(ref, vector), "appearance_conv", "r")
    y = w.chain(torch.cat([x, moved], 1), "out_conv", "susu")
    return torch.sigmoid(w.conv(y, "out_conv.4"))


def mini_2(state: State, source: Any, reference: Any) -> Any:
    w = Weights(state)

    def separable(x: Any, name: str, stride: int = 1) -> Any:
        return w.conv(w.conv(x, f"{name}.depthwise", stride, 1, x.shape[1]), f"{name}.pointwise")

    style, x = reference, source
    for number in (0, 2, 4):
        style = F.leaky_relu(w.conv(style, f"appearance_encoder.{number}", 2), 0.1)
        x = F.leaky_relu(separable(x, f"motion_encoder.{number}", 2), 0.1)
    style = w.conv(style.mean((2, 3), keepdim=True), "appearance_encoder.7").flatten(1)
    for number in range(4):
        name = f"decoder_blocks.{number}"
        x = F.interpolate(x, scale_factor=2) if number else x
        x = separable(x, f"{name}.conv") if number in (1, 2) else w.conv(x, f"{name}.conv")
        hidden = w.dense(F.relu(w.dense(style, f"{name}.adain.mlp.0")), f"{name}.adain.mlp.2")
        scale, bias, slope = (part[..., None, None] for part in hidden.chunk(3, 1))
        unit, gate = F.instance_norm(x), torch.sigmoid(slope * x)
        x = F.relu(gate * (unit * (1 + scale) + bias) + (1 - gate) * unit)
        if number in (1, 2):
            x = x + w.conv(F.avg_pool2d(source, 4 if number == 1 else 2), f"skip_fuse{number - 1}")
    return torch.sigmoid(w.conv(x, "final_conv"))


def audio2bs(state: State, x: Any, h0: Any, c0: Any) -> tuple[Any, Any, Any]:
    w = Weights(state)
    n = x.shape[0]
    y = w.norm(w.dense(x.reshape(-1, 160), "downsample.0"), "downsample.1")
    y = w.dense(F.leaky_relu(y, 0.2), "downsample.3").view(n, -1, 80)
    hidden, cells = [], []
    for layer in range(2):
        h, c, rows = h0[layer], c0[layer], []
        for step in range(y.shape[1]):
            gates = F.linear(y[:, step], state[f"LSTM.weight_ih_l{layer}"], state[f"LSTM.bias_ih_l{layer}"])
            gates = gates + F.linear(h, state[f"LSTM.weight_hh_l{layer}"], state[f"LSTM.bias_hh_l{layer}"])
            taken, forgotten, fresh, shown = gates.chunk(4, 1)
            c = torch.sigmoid(forgotten) * c + torch.sigmoid(taken) * torch.tanh(fresh)
            h = torch.sigmoid(shown) * torch.tanh(c)
            rows.append(h)
        y = torch.stack(rows, 1)
        hidden.append(h)
        cells.append(c)
    z = y.reshape(-1, 192)
    for dense, norm in ((0, 1), (3, 4)):
        z = F.leaky_relu(w.norm(w.dense(z, f"fc.{dense}"), f"fc.{norm}"), 0.2)
    return w.dense(z, "fc.6").view(n, -1, 6), torch.stack(hidden), torch.stack(cells)


def tiny3(state: State, chunk: Any, offset: Any, att_cache: Any, cnn_cache: Any) -> tuple[Any, Any, Any]:
    w = Weights(state)
    x = (chunk - state["encoder.global_cmvn.mean"]) * state["encoder.global_cmvn.istd"]
    for number in (0, 2):
        x = F.relu(w.conv(x, f"encoder.embed.conv.{number}", 2, 0))
    x = w.dense(x.permute(0, 2, 1, 3).flatten(2), "encoder.embed.out.0") * math.sqrt(512)
    place = torch.arange(32) + offset - 16
    rates = 10000.0 ** (-torch.arange(0, 512, 2) / 512)
    table = torch.zeros(1, 32, 512)
    table[0, :, 0::2], table[0, :, 1::2] = torch.sin(place[:, None] * rates), torch.cos(place[:, None] * rates)
    caches, pasts = [], []
    for number in range(3):
        name = f"encoder.encoders.{number}"

        def fed(x: Any, of: str, name: str = name) -> Any:
            return w.dense(F.silu(w.dense(x, f"{name}.{of}.w_1")), f"{name}.{of}.w_2")

        def heads(x: Any, of: str, name: str = name) -> Any:
            return w.dense(x, f"{name}.self_attn.{of}").view(1, -1, 8, 64).transpose(1, 2)

        x = x + 0.5 * fed(w.layer_norm(x, f"{name}.norm_ff_macaron"), "feed_forward_macaron")
        y = w.layer_norm(x, f"{name}.norm_mha")
        query = heads(y, "linear_q")
        key = torch.cat([att_cache[number : number + 1, ..., :64], heads(y, "linear_k")], 2)
        value = torch.cat([att_cache[number : number + 1, ..., 64:], heads(y, "linear_v")], 2)
        caches.append(torch.cat([key, value], 3)[:, :, 16:])
        u, v = (state[f"{name}.self_attn.pos_bias_{one}"][:, None] for one in "uv")
        scores = (query + u) @ key.mT + (query + v) @ heads(table, "linear_pos").mT
        mixed = (torch.softmax(scores / 8, 3) @ value).transpose(1, 2).flatten(2)
        x = x + w.dense(mixed, f"{name}.self_attn.linear_out")
        y = torch.cat([cnn_cache[number], w.layer_norm(x, f"{name}.norm_conv").mT], 2)
        pasts.append(y[None, :, :, -14:])
        y = F.glu(w.conv(y, f"{name}.conv_module.pointwise_conv1"), 1)
        y = w.conv(y, f"{name}.conv_module.depthwise_conv", 1, 0, 512).mT
        y = F.silu(w.layer_norm(y, f"{name}.conv_module.norm")).mT
        x = x + w.conv(y, f"{name}.conv_module.pointwise_conv2").mT
        x = x + 0.5 * fed(w.layer_norm(x, f"{name}.norm_ff"), "feed_forward")
        x = w.layer_norm(x, f"{name}.norm_final")
    return w.layer_norm(x, "encoder.after_norm"), torch.cat(caches), torch.cat(pasts)


def feather_hubert(state: State, samples: Any) -> Any:
    w = Weights(state)
    x = samples[:, None]
    for number, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        name = f"frontend.layers.{number}"
        x = F.gelu(w.group_norm(w.conv(x, f"{name}.conv", stride, 0), f"{name}.norm"))
    for number in range(w.count("encoder")):
        name, reach = f"encoder.{number}", (1, 2, 4, 8)[number % 4]
        y = w.conv(w.group_norm(x, f"{name}.norm"), f"{name}.pw_expand")
        y = F.gelu(w.conv(y, f"{name}.dw_conv", 1, 2 * reach, y.shape[1], reach))
        x = x + w.conv(y, f"{name}.pw_project")
    return w.conv(F.gelu(w.group_norm(x, "final_norm")), "proj").mT


ORACLES: dict[str, Callable[..., Any]] = {
    "ultralight_wenet": ultralight,
    "ultralight_hubert": ultralight,
    "wav2lip_96": wav2lip,
    "wav2lip_gan_96": wav2lip,
    "wav2lip_256": wav2lip,
    "dinet": dinet,
    "dinet_five_ref": five_ref,
    "dinet_mini_1": mini_1,
    "dinet_mini_2": mini_2,
    "dh_live_audio2bs": audio2bs,
    "wenet_encoder": tiny3,
    "feather_hubert": feather_hubert,
}
