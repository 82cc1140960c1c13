"""What was measured of lip-sync and is committed keeps what was promised; the tables show it."""

from __future__ import annotations

from tests.benchmark.lipsync_table import BEGIN, END, NAMES, table
from tests.benchmark.readme_table import load


def test_the_promised_generators_hold_their_rate_on_one_core_and_no_cut_of_sound_shows() -> None:
    held = load("lipsync_cost")
    assert held["threads"] == 1
    assert set(held["pipelines"]) == set(NAMES)
    for name in ("ultralight_half", "dinet_mini_2"):
        one = held["pipelines"][name]
        assert one["fps"] == 25.0
        assert one["frame_with_listening_ms"] <= 40.0
    cut = {name: one["max_difference"] for name, one in held["pipelines"].items() if "max_difference" in one}
    assert cut == dict.fromkeys(("ultralight_half", "ultralight_hubert", "ultralight_wenet", "wav2lip_96"), 0)


def test_the_default_paste_is_the_best_one_measured() -> None:
    """By agreement around: no worse in the mouth than without texture, far better on skin; at best 0.1 dB is left."""
    for ways in load("mouth_texture")["psnr_db"].values():
        chosen, plain = ways["by agreement 24..96"], ways["without texture"]
        assert chosen["all"] >= max(one["all"] for one in ways.values()) - 0.1
        assert chosen["mouth"] >= plain["mouth"] - 0.03
        assert chosen["skin"] >= plain["skin"] + 3.0


def test_the_tables_show_every_row() -> None:
    lines = table().splitlines()
    assert (lines[0], lines[-1]) == (BEGIN, END)
    assert all(any(line.startswith(f"| {name} |") for line in lines) for name in NAMES.values())
