"""The numbers of the published model files stand in their contracts, family by family."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.contract import Contract, contract_names, load_contract, load_template

ALL = [load_contract(name) for name in contract_names()]
RAW, UNIT, SIGNED, SCRFD = ((0.0,), (1.0,)), ((0.0,), (255.0,)), ((127.5,), (127.5,)), ((127.5,), (128.0,))
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def of_role(role: str) -> list[Contract]:
    found = [contract for contract in ALL if contract.role == role]
    assert found
    return found


def facts(contract: Contract, table: str) -> Any:
    found = getattr(contract, table)
    assert found is not None
    return found


def test_detectors_have_an_output_for_every_stride_and_kind() -> None:
    for contract in of_role("detector"):
        detector = facts(contract, "detector")
        kinds = {"scrfd": ("score", "bbox", "kps"), "yunet": ("cls", "obj", "bbox", "kps"), "yoloface": ()}
        for stride in detector.strides:
            assert {f"{kind}_{stride}" for kind in kinds[detector.kind]} <= set(contract.outputs)
            rows = contract.outputs[f"bbox_{stride}"].shape[-2] if kinds[detector.kind] else ""
            assert isinstance(rows, str) or rows == (640 // stride) ** 2 * detector.anchors
    yolo = load_contract("yoloface_8n")
    assert yolo.outputs["rows"].shape == (1, 20, sum((640 // stride) ** 2 for stride in (8, 16, 32)))
    rows = facts(yolo, "detector").yoloface
    assert (rows.box_row, rows.score_row, rows.points_row, rows.values_per_point) == (0, 4, 5, 3)
    assert facts(load_contract("yunet_2023_mar"), "detector").yunet.score == "product"


def test_detectors_as_published() -> None:
    # colour, (mean, std), grows small pictures, place, (score, overlap), input names
    insight = ("rgb", SCRFD, True, "top_left", (0.5, 0.4), ("input.1",))
    ours = {
        contract.name: (
            contract.inputs["image"].colour,
            (contract.inputs["image"].mean, contract.inputs["image"].std),
            facts(contract, "detector").enlarges,
            facts(contract, "detector").letterbox,
            (facts(contract, "detector").score_threshold, facts(contract, "detector").iou_threshold),
            contract.inputs["image"].names,
        )
        for contract in of_role("detector")
    }
    assert ours == {
        "det_10g": insight,
        "tiny_detector": insight,
        "scrfd_500m": insight,
        "scrfd_500m_bnkps": insight,
        "scrfd_2.5g_bnkps": insight,
        "scrfd_10g_bnkps": insight,
        "scrfd_500m_640": insight,
        "scrfd_2.5g_kps": ("rgb", SCRFD, True, "centred", (0.5, 0.5), ("input.1",)),
        "scrfd_2.5g": ("bgr", SCRFD, False, "top_left", (0.5, 0.4), ("input",)),
        "retinaface_10g": ("bgr", SCRFD, False, "top_left", (0.5, 0.4), ("input",)),
        "yoloface_8n": ("bgr", UNIT, False, "top_left", (0.5, 0.4), ("input", "images")),
        "yunet_2023_mar": ("bgr", RAW, False, "top_left", (0.5, 0.4), ("input",)),
    }
    for contract in of_role("detector"):
        detector = facts(contract, "detector")
        assert (detector.strides, detector.pad_value) == ((8, 16, 32), 0.0)
        assert detector.anchors == (2 if detector.kind == "scrfd" else 1)
    assert load_contract("scrfd_500m_640").inputs["image"].shape == (1, 3, 640, 640)


def test_output_names_of_det_10g() -> None:
    for name in ("det_10g", "retinaface_10g"):
        outputs = load_contract(name).outputs
        assert [outputs[f"{kind}_{s}"].names[0] for kind in ("score", "bbox", "kps") for s in (8, 16, 32)] == [
            "448", "471", "494", "451", "474", "497", "454", "477", "500",
        ]  # fmt: skip


def test_pictures_that_enter_one_network() -> None:
    # shape, colour, (mean, std), template
    insight, ff512 = ("rgb", RAW, ""), ("rgb", SIGNED, "facefusion_ffhq_512")
    xseg, parser = ((1, 256, 256, 3), "bgr", UNIT, ""), ((1, 3, 512, 512), "rgb", IMAGENET, "")
    face_attr = ((132.38155592, 110.99284567, 102.62942472), (68.5106407, 61.65929394, 58.61700102))
    ours = {
        contract.name: (spec.shape, spec.colour, (spec.mean, spec.std), contract.template)
        for contract in ALL
        for name, spec in contract.inputs.items()
        if name == "image" and contract.role not in ("detector", "lipsync") and not contract.drawn_faces_only
    }
    assert ours == {
        "w600k_r50": (("n", 3, 112, 112), "rgb", SIGNED, "arcface_112"),
        "w600k_mbf": (("n", 3, 112, 112), "rgb", SIGNED, "arcface_112"),
        "arcface_w600k_r50": ((1, 3, 112, 112), "rgb", SIGNED, "facefusion_arcface_112_v2"),
        "2d106det": (("n", 3, 192, 192), *insight),
        "1k3d68": (("n", 3, 192, 192), *insight),
        "genderage": (("n", 3, 96, 96), *insight),
        "2dfan4": ((1, 3, 256, 256), "bgr", UNIT, ""),
        "peppa_wutz": ((1, 3, 256, 256), "bgr", UNIT, ""),
        "pfpld": ((1, 3, 112, 112), "rgb", UNIT, ""),
        "fairface": ((1, 3, 224, 224), "rgb", IMAGENET, "facefusion_arcface_112_v2"),
        "face_attr": ((1, 3, 512, 512), "rgb", face_attr, ""),
        "gfpgan_1.4": ((1, 3, 512, 512), *ff512),
        "gfpgan_1024": ((1, 3, 512, 512), "rgb", SIGNED, "ffhq_512"),
        "gpen_bfr_256": ((1, 3, 256, 256), "rgb", SIGNED, "facefusion_arcface_128"),
        "gpen_bfr_512": ((1, 3, 512, 512), *ff512),
        "gpen_bfr_1024": ((1, 3, 1024, 1024), *ff512),
        "gpen_bfr_2048": ((1, 3, 2048, 2048), *ff512),
        "codeformer": ((1, 3, 512, 512), *ff512),
        "bisenet_resnet_18": parser,
        "bisenet_resnet_34": parser,
        "bisenet_79999": parser,
        "xseg_1": xseg,
        "xseg_2": xseg,
        "xseg_3": xseg,
        "xseg_211104": xseg,
        "xseg_model": ((1, 3, 256, 256), "rgb", UNIT, ""),
        "occluder": ((1, 3, 256, 256), "rgb", UNIT, ""),
        "musetalk_vae_encoder": (("n", 3, 256, 256), "rgb", SIGNED, ""),
    }
    assert np.allclose(np.divide(IMAGENET, 255), [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    assert all(load_contract(name).inputs["image"].layout == "nhwc" for name in ("xseg_1", "xseg_211104"))


def test_swappers_as_published() -> None:
    # template, side, (mean, std) in, source, identity map, unit length at the input, (mean, std) out
    v1, ghost = "facefusion_arcface_112_v1", ("embedding", "crossface_ghost", False, SIGNED)
    inswapper = ("arcface_128", 128, UNIT, "embedding", "", True, UNIT)
    hyperswap = ("facefusion_arcface_128", 256, SIGNED, "embedding", "", True, SIGNED)
    pinned = {
        "inswapper_128": inswapper,
        "inswapper_128_fp16": inswapper,
        "reswapper_128": inswapper,
        "reswapper_256": ("reswapper_256", 256, UNIT, "embedding", "", True, UNIT),
        "hyperswap_1a_256": hyperswap,
        "hyperswap_1b_256": hyperswap,
        "hyperswap_1c_256": hyperswap,
        "simswap_256": (v1, 256, IMAGENET, "embedding", "crossface_simswap", True, UNIT),
        "simswap_unofficial_512": (v1, 512, UNIT, "embedding", "crossface_simswap", True, UNIT),
        "ghost_1_256": (v1, 256, SIGNED, *ghost),
        "ghost_2_256": (v1, 256, SIGNED, *ghost),
        "ghost_3_256": (v1, 256, SIGNED, *ghost),
        "hififace_unofficial_256": (
            "facefusion_mtcnn_512", 256, SIGNED, "embedding", "crossface_hififace", True, SIGNED,
        ),
        "blendswap_256": ("facefusion_ffhq_512", 256, UNIT, "picture", "", True, UNIT),
        "uniface_256": ("facefusion_ffhq_512", 256, SIGNED, "picture", "", True, SIGNED),
    }  # fmt: skip
    ours = {}
    for contract in of_role("swapper"):
        if contract.drawn_faces_only or contract.name.startswith("dfm"):
            continue
        swapper, target, out = facts(contract, "swapper"), contract.inputs["target"], contract.outputs["output"]
        ours[contract.name] = (
            contract.template, target.shape[-1], (target.mean, target.std), swapper.source, swapper.identity_map,
            swapper.unit_source, (out.mean, out.std),
        )  # fmt: skip
        assert target.shape == out.shape == (1, 3, target.shape[-1], target.shape[-1])
        assert (target.colour, out.colour, target.layout) == ("rgb", "rgb", "nchw")
        assert (contract.emap is not None) == ("inswapper" in contract.name or "reswapper" in contract.name)
        assert all(side % int(target.shape[-1]) == 0 for side in swapper.boost_sizes_px)
        assert (swapper.mix == 0.35) == ("facefusion" in contract.used_by and swapper.source == "embedding")
        assert contract.emap is None or contract.emap.normalise_latent == swapper.unit_source
        assert swapper.unit_target == ("ghost" not in contract.name)
        source = contract.inputs["source"]
        if swapper.source == "embedding":
            assert source.shape == (1, 512)
        else:
            assert (source.colour, source.mean, source.std) == ("rgb", *UNIT)
    assert ours == pinned


def test_swappers_that_take_a_picture_align_it_their_own_way() -> None:
    blend, uniface = load_contract("blendswap_256"), load_contract("uniface_256")
    assert (blend.inputs["source"].shape[-1], facts(blend, "swapper").source_template) == (
        112,
        "facefusion_arcface_112_v2",
    )
    assert (uniface.inputs["source"].shape[-1], facts(uniface, "swapper").source_template) == (
        256,
        "facefusion_ffhq_512",
    )


def test_dfm_files_as_published() -> None:
    for name, inputs in (("dfm", ["target"]), ("dfm_morph", ["target", "morph"])):
        contract = load_contract(name)
        target, face, deep = contract.inputs["target"], contract.outputs["output"], facts(contract, "swapper").deep
        assert (list(contract.inputs), contract.template) == (inputs, "facefusion_dfl_whole_face")
        assert (target.names, target.shape, target.layout, target.colour) == (
            ("in_face:0",), ("n", "side", "side", 3), "nhwc", "bgr",
        )  # fmt: skip
        assert (target.mean, target.std, face.mean, face.std, face.colour) == (*UNIT, *UNIT, "bgr")
        assert [spec.names[0] for spec in contract.outputs.values()] == [
            "out_face_mask:0", "out_celeb_face:0", "out_celeb_face_mask:0",
        ]  # fmt: skip
        assert (deep.sharpen, deep.sharpen_sigma_px) == (1.75, 2.0)
        assert (deep.erode_px, deep.erode_times, deep.mask_sigma_px) == (3, 2, 6.25)


def test_landmark_networks_as_published() -> None:
    # points, values a point, skipped, (value + offset) * scale, px of the box's longer side, full score
    pinned = {
        "2d106det": (106, 2, 0, 1.0, 96.0, 192 / 1.5, 1.0),
        "1k3d68": (68, 3, 1103 - 68, 1.0, 96.0, 192 / 1.5, 1.0),
        "2dfan4": (68, 3, 0, 0.0, 256 / 64, 195.0, 0.9),
        "peppa_wutz": (68, 3, 0, 0.0, 256 / 64, 195.0, 0.95),
        "fan_68_5": (68, 2, 0, 0.0, 1.0, 0.0, 1.0),
        "pfpld": (98, 2, 0, 0.0, 112.0, 0.0, 1.0),
    }
    ours = {}
    for contract in of_role("landmarks"):
        if contract.drawn_faces_only:
            continue  # ours, in the form of 2dfan4
        f = facts(contract, "landmarks")
        ours[contract.name] = (
            f.points, f.values_per_point, f.skip, f.offset, f.scale_px, f.box_side_px, f.full_score,
        )  # fmt: skip
        shape = contract.outputs["points"].shape
        assert (
            int(np.prod([size for size in shape if isinstance(size, int)])) == (f.points + f.skip) * f.values_per_point
        )
        assert len(f.to_5) in (0, 5)
        assert len(f.to_68) in (0, 68)
        assert all(0 <= index < f.points for group in f.to_68 for index in group)
        assert all(0 <= index < 68 for group in f.to_5 for index in group)
    assert ours == pinned
    fan, pfpld = facts(load_contract("2dfan4"), "landmarks"), facts(load_contract("pfpld"), "landmarks")
    assert fan.to_5 == (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,))
    assert (fan.upright, fan.score, fan.dark.below_l, fan.dark.clip, fan.dark.tiles) == (True, "heatmap_peak", 30, 2, 8)
    assert pfpld.grow == (0.1, 0.0, 0.11, 0.1)
    assert (pfpld.to_68[16], pfpld.to_68[17], pfpld.to_68[22], pfpld.to_68[27]) == ((32,), (33,), (42,), (51,))
    assert (pfpld.to_68[37], pfpld.to_68[43], pfpld.to_68[48], pfpld.to_68[67]) == ((60, 62), (68, 70), (76,), (95,))


def test_attributes_as_published() -> None:
    assert facts(load_contract("genderage"), "attributes").box_side_px == 96 / 1.5
    fairface, scores = load_contract("fairface"), facts(load_contract("face_attr"), "attributes").labels["scores"]
    assert [len(facts(fairface, "attributes").labels[name]) for name in ("race", "gender", "age")] == [7, 2, 9]
    assert (len(scores), scores[8]) == (10, "blur")


def test_restorers_as_published() -> None:
    ways = {name: facts(load_contract(name), "restorer").paste for name in map(lambda c: c.name, of_role("restorer"))}
    for paste in ways.values():
        for system, way in paste.items():
            if system == "facefusion":
                assert (way.border, way.mask, way.width, way.blend) == ("replicate", "box", 0.3, 0.8)
    gan = ways["gfpgan_1.4"]["gfpganer"]
    assert (gan.template, gan.border, gan.border_bgr) == ("ffhq_512", "constant", (135.0, 133.0, 132.0))
    assert (gan.classes, gan.blur_px, gan.sigma_px, gan.blur_times, gan.rim_px) == (
        (*range(1, 14), 15),
        101,
        11.0,
        2,
        10,
    )
    live = ways["gfpgan_1024"]["deep_live_cam"]
    assert (live.mask, live.width, live.result_px, live.every) == ("ramp", 0.05, 512, 2)
    assert ways["gpen_bfr_512"]["deep_live_cam"].template == "dlc_gpen"
    assert (ways["gpen_bfr_256"]["deep_live_cam"].width, "deep_live_cam" in ways["gpen_bfr_1024"]) == (1 / 16, False)
    assert load_contract("gfpgan_1024").outputs["output"].shape == (1, 3, 1024, 1024)
    code = load_contract("codeformer")
    assert (code.inputs["fidelity"].dtype, code.inputs["fidelity"].shape, code.constants) == (
        "float64", (1,), {"fidelity": 0.5},
    )  # fmt: skip


def test_masks_as_published() -> None:
    for contract in of_role("mask"):
        mask = facts(contract, "mask")
        if mask.kind == "classes":
            assert len(mask.labels) == contract.outputs["classes"].shape[1] == 19
    region, heygem = facts(load_contract("bisenet_resnet_34"), "mask"), facts(load_contract("bisenet_79999"), "mask")
    assert (region.keep, region.sigma_px, region.remap) == ((1, 2, 3, 4, 5, 6, 10, 11, 12, 13), 5.0, (0.5, 1.0))
    assert (heygem.keep, heygem.blur_px, heygem.rim_px) == ((*range(1, 14), 15), 201, 10)
    assert (region.labels[1], region.labels[10], region.labels[17]) == ("skin", "nose", "hair")
    assert facts(load_contract("xseg_1"), "mask").remap == (0.5, 1.0)
    assert facts(load_contract("xseg_model"), "mask").zero_below == 0.1
    assert facts(load_contract("occluder"), "mask").kind == "logit"


def test_speech_encoders_as_published() -> None:
    # vectors a second, kind, full scale, hop, window, bands, low, high, front and back padding
    duix = ("log_mel", 1.0, 160, 800, 80, 0.0, 8000.0)
    pinned = {
        "wenet_encoder": (20.0, "kaldi_fbank", 32768.0, 160, 400, 80, 20.0, 8000.0, 32 * 160, 35 * 160),
        "duix_wenet": (25.0, *duix, 0, 0),
        "heygem_wenet": (25.0, *duix, 6400, 6400),
        "hubert_large": (50.0, "waveform", 1.0, 320, 400, 0, 0.0, 0.0, 0, 0),
        "feather_hubert": (50.0, "waveform", 1.0, 320, 400, 0, 0.0, 0.0, 0, 0),
        "dh_live_audio2bs": (25.0, "kaldi_fbank", 1.0, 320, 800, 80, 20.0, 8000.0, 320, 0),
        "whisper_tiny_encoder": (50.0, "log_mel", 1.0, 160, 400, 80, 0.0, 8000.0, 0, 0),
    }
    ours = {}
    for contract in of_role("audio_encoder"):
        audio = facts(contract, "audio")
        f = audio.features
        assert f.sample_rate_hz == 16000
        ours[contract.name] = (
            audio.rate_hz, f.kind, f.peak, f.hop_samples, f.window_samples, f.bins, f.low_hz, f.high_hz,
            audio.pad_front, audio.pad_behind,
        )  # fmt: skip
    assert ours == pinned
    wenet, shapes = load_contract("wenet_encoder"), load_contract("dh_live_audio2bs")
    assert {name: spec.shape for name, spec in wenet.inputs.items()} == {
        "chunk": (1, 1, 67, 80), "offset": (1,), "att_cache": (3, 8, 16, 128), "cnn_cache": (3, 1, 512, 14),
    }  # fmt: skip
    assert [spec.shape for spec in wenet.outputs.values()] == [(1, 16, 512), (3, 8, 16, 128), (3, 1, 512, 14)]
    assert (wenet.constants, wenet.inputs["offset"].dtype) == ({"offset": 100.0}, "int64")
    audio = facts(wenet, "audio")
    assert (audio.chunk, audio.step_samples, audio.zero_state) == (16 * 4 + 6 - 3, 16000 // 20, True)
    assert facts(shapes, "audio").state == {"hn": "h0", "cn": "c0"}
    assert (shapes.inputs["h0"].shape, shapes.outputs["shapes"].shape) == ((2, "n", 192), ("n", "rows", 6))
    f = facts(load_contract("duix_wenet"), "audio").features
    assert (f.fft, f.window, f.preemphasis, f.log_scale, f.log_floor, f.floor, f.log_offset) == (
        1024, "hann", 0.97, 10.0, 1e-5, "added", -20.0,
    )  # fmt: skip


def test_lip_sync_networks_as_published() -> None:
    # crop, inner, blank, frames before and after, (mean, std), colour, paste
    hubert = ((168, 168), (4, 4, 160, 160), (5, 5, 150, 145), 4, 4, UNIT, "bgr", "hard")
    wav2lip = ((96, 96), (0, 0, 96, 96), (0, 48, 96, 48), 0, 16, UNIT, "bgr", "hard")
    none = (0, 0, 0, 0)
    pinned = {
        "ultralight_wenet": hubert,
        "ultralight_hubert": hubert,
        "duix_unet_160": ((168, 168), (4, 4, 160, 160), (5, 5, 150, 145), 10, 10, SIGNED, "rgb", "mask"),
        "duix_unet_128": ((134, 134), (3, 3, 128, 128), (4, 4, 120, 120), 10, 10, SIGNED, "rgb", "mask"),
        "heygem_dinet_v1": ((256, 256), (0, 0, 256, 256), (30, 83, 196, 163), 10, 10, UNIT, "rgb", "unknown"),
        "dinet_mini_2": ((184, 184), (36, 52, 112, 80), none, 0, 0, UNIT, "rgb", "mask"),
        "dinet_mini_1": ((128, 128), none, none, 0, 0, UNIT, "rgb", "unknown"),
        "dinet_five_ref": ((256, 256), none, none, 0, 0, UNIT, "bgr", "feather"),
        "dinet": ((320, 416), (0, 0, 320, 416), (32, 128, 256, 256), 2, 3, UNIT, "rgb", "hard"),
        "wav2lip_96": wav2lip,
        "wav2lip_gan_96": wav2lip,
        "tiny_lipsync": ((96, 96), (0, 0, 96, 96), (5, 14, 86, 79), 5, 11, UNIT, "bgr", "feather"),  # ours
        "wav2lip_256": ((256, 256), (0, 0, 256, 256), (0, 128, 256, 128), 0, 16, UNIT, "bgr", "hard"),
        "musetalk_unet": ((256, 256), (0, 0, 256, 256), (0, 128, 256, 128), 2, 3, ((), ()), "", "mask"),
    }
    ours = {}
    for contract in of_role("lipsync"):
        f, out = facts(contract, "lipsync"), contract.outputs["output"]
        ours[contract.name] = (
            f.crop_px, f.inner_xywh_px, f.blank_xywh_px, f.before, f.after, (out.mean, out.std), out.colour, f.paste,
        )  # fmt: skip
        inner, blank = f.inner_xywh_px, f.blank_xywh_px
        assert inner[0] + inner[2] <= f.crop_px[0]
        assert inner[1] + inner[3] <= f.crop_px[1]
        if inner[2] and out.colour:
            assert out.shape[-2:] == (inner[3], inner[2])
        if blank[2]:
            assert blank[0] + blank[2] <= inner[2]
            assert blank[1] + blank[3] <= inner[3]
        for name, pictures in f.stack.items():
            channels = contract.inputs[name].shape[1]
            assert isinstance(channels, int)
            assert len(pictures) <= channels
    assert ours == pinned


def test_lip_sync_tensors_and_mel_bands_as_published() -> None:
    shapes = {
        name: {key: spec.shape for key, spec in load_contract(name).inputs.items()}
        for name in ("ultralight_wenet", "ultralight_hubert", "heygem_dinet_v1", "dinet_mini_2", "dinet", "wav2lip_96")
    }
    assert shapes == {
        "ultralight_wenet": {"image": (1, 6, 160, 160), "audio": (1, 128, 16, 32)},
        "ultralight_hubert": {"image": (1, 6, 160, 160), "audio": (1, 16, 32, 32)},
        "heygem_dinet_v1": {"source": ("n", 3, 256, 256), "reference": ("n", 3, 256, 256), "audio": ("n", 256, 20)},
        "dinet_mini_2": {"source": (1, 3, 80, 112), "reference": (1, 12, 80, 112)},
        "dinet": {"source": (1, 3, 416, 320), "reference": (1, 15, 416, 320), "audio": (1, 29, 5)},
        "wav2lip_96": {"mel": ("n", 1, 80, 16), "image": ("n", 6, 96, 96)},
    }
    assert 8 * 16 * 512 == 128 * 16 * 32
    assert 8 * 2 * 1024 == 16 * 32 * 32
    mel = facts(load_contract("wav2lip_96"), "lipsync").features
    assert (mel.fft, mel.window_samples, mel.hop_samples, mel.low_hz, mel.high_hz) == (800, 800, 200, 55.0, 7600.0)
    for magnitude in (1e-7, 1e-3, 0.5, 1e3):  # the published form: clip(8 * (S + 100) / 100 - 4, -4, 4)
        decibel = mel.log_scale * np.log10(max(mel.log_floor, magnitude)) + mel.log_offset
        assert decibel == 20 * np.log10(max(1e-5, magnitude)) - 20
        ours = np.clip(decibel * mel.scale + mel.shift, -mel.clip, mel.clip)
        assert np.isclose(ours, np.clip(8 * (decibel + 100) / 100 - 4, -4, 4))
    five_ref = facts(load_contract("dinet_five_ref"), "lipsync")
    assert (five_ref.feather_px, len(five_ref.stack["reference"])) == (20, 10)
    assert facts(load_contract("musetalk_vae_decoder"), "autoencoder").latent_scale == 0.18215


def test_templates_as_published() -> None:
    fractions = {
        "dlc_gpen": (0.31556875, 0.4615741, 0.65343645, 0.8246919),
        "facefusion_arcface_112_v1": (0.35473214, 0.45658929, 0.62086607, 0.776875),
        "facefusion_arcface_112_v2": (0.34191607, 0.46157411, 0.63151696, 0.82325089),
        "facefusion_arcface_128": (0.36167656, 0.40387734, 0.61507734, 0.72034453),
        "facefusion_dfl_whole_face": (0.35342266, 0.39285716, 0.59821427, 0.68750011),
        "facefusion_ffhq_512": (0.37691676, 0.46864664, 0.61150205, 0.72490465),
        "facefusion_mtcnn_512": (0.36562865, 0.46733799, 0.61178945, 0.77476328),
        "facefusion_styleganex_384": (0.42353745, 0.52289879, 0.57015325, 0.68306005),
    }
    for name, ends in fractions.items():
        template = load_template(name)
        assert (template.size_px, (*template.points_px[0], *template.points_px[4])) == (1, ends)
    for ours, theirs in (
        ("arcface_112", "facefusion_arcface_112_v2"),
        ("arcface_128", "facefusion_arcface_128"),
        ("ffhq_512", "facefusion_ffhq_512"),
    ):
        pixels = load_template(ours)
        assert np.allclose(np.divide(pixels.points_px, pixels.size_px), load_template(theirs).points_px, atol=1e-8)
    rule = np.multiply(load_template("arcface_128").points_px, 2) + 128 / 32768 * 256 - 0.5
    assert np.allclose(load_template("reswapper_256").points_px, rule, atol=1e-9)
    assert load_template("heygem_gfpgan_512").points_px[3] == (199.85, 397.31)
