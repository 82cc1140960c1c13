"""Still pictures: upright RGB in, whole and marked files out."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import InputError, OutputError
from engine.video.ai_altered import DIGITAL_SOURCE_TYPE
from engine.video.pictures import is_picture, read_picture, write_picture
from tests.unit.media import U8, exif_jpeg, make_clip, picture_bytes, scene

RGB = scene(2, (46, 34))


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_picture(path)
    return str(caught.value).replace(str(path), "IN")


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "off_by"),
    [
        ("a.png", "png", "rgb24", 0),
        ("a16.png", "png", "rgb48be", 0),
        ("a.bmp", "bmp", "bgr24", 0),
        ("a.tiff", "tiff", "rgb24", 0),
        ("a.jpg", "mjpeg", "yuvj444p", 6),
        ("a.webp", "libwebp", "bgra", 12),
        ("jpeg-in-disguise.png", "mjpeg", "yuvj444p", 6),
        ("100%d.png", "png", "rgb24", 0),
    ],
)
def test_pictures_are_read_as_rgb(tmp_path: Path, name: str, codec: str, pixel_format: str, off_by: int) -> None:
    path = saved(tmp_path / name, picture_bytes(codec, pixel_format, RGB))
    got = read_picture(path)
    assert got.shape == (34, 46, 3)
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    assert np.abs(got.astype(int) - RGB).mean() <= off_by
    assert is_picture(path)


def test_gray_is_spread_over_the_channels(tmp_path: Path) -> None:
    gray = np.repeat(np.arange(0, 250, 5, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0)
    for codec, pixel_format in (("png", "gray"), ("tiff", "gray"), ("png", "ya8"), ("png", "gray16be")):
        got = read_picture(saved(tmp_path / "a", picture_bytes(codec, pixel_format, np.ascontiguousarray(gray))))
        assert np.abs(got.astype(int) - gray).max() <= 1, pixel_format
        assert np.array_equal(got[..., 0], got[..., 2])


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    alpha = np.zeros((34, 46, 1), np.uint8)
    alpha[:, 10:20], alpha[:, 20:] = 128, 255
    got = read_picture(saved(tmp_path / "a.png", picture_bytes("png", "rgba", np.concatenate([RGB, alpha], axis=2))))
    assert (got[:, :10] == 255).all()
    half = (RGB[:, 10:20].astype(int) * 128 + 255 * 127 + 127) // 255
    assert np.array_equal(got[:, 10:20], half)
    assert np.array_equal(got[:, 20:], RGB[:, 20:])


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_exif_turns_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    plain = read_picture(saved(tmp_path / "a.jpg", picture_bytes("mjpeg", "yuvj444p", RGB)))
    got = read_picture(saved(tmp_path / "b.jpg", exif_jpeg(RGB, orientation)))
    assert np.array_equal(got, TURNED[orientation](plain))


def test_files_that_are_no_picture(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pts=[0, 1])
    assert refusal(tmp_path / "none.png") == "IN: wanted a picture file, got no such file; check the path"
    assert refusal(tmp_path) == "IN: wanted a picture file, got a folder; name a file in it"
    assert refusal(saved(tmp_path / "a.png", b"")) == (
        "IN: wanted a picture file, got an empty file; fetch or export it again"
    )
    assert refusal(saved(tmp_path / "a.txt", b"a text\n" * 100)) == (
        "IN: wanted a picture that FFmpeg can read, got Invalid data found when processing input; "
        "give a PNG or JPEG that opens elsewhere"
    )
    assert refusal(clip) == ("IN: wanted a still picture, got mov,mp4,m4a,3gp,3g2,mj2 media; extract a picture from it")
    assert not is_picture(clip)


@pytest.mark.parametrize(("codec", "pixel_format"), [("png", "rgb24"), ("mjpeg", "yuvj420p"), ("tiff", "rgb24")])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_pictures_are_refused(tmp_path: Path, codec: str, pixel_format: str, share: float) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    data = picture_bytes(codec, pixel_format, noise)
    said = refusal(saved(tmp_path / "a.png", data[: int(len(data) * share)]))
    assert said.startswith(
        ("IN: wanted a picture that FFmpeg can read, got ", "IN: wanted a whole picture, got a damaged")
    )


def test_png_is_exact_and_marked(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", RGB)
    assert np.array_equal(read_picture(path), RGB)
    assert f">{DIGITAL_SOURCE_TYPE}<".encode() in path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_jpeg_is_close_and_marked(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.jpg", RGB)
    error = read_picture(path).astype(float) - RGB
    assert 10 * np.log10(255**2 / (error**2).mean()) > 38
    assert b"http://ns.adobe.com/xap/1.0/" in path.read_bytes()
    assert DIGITAL_SOURCE_TYPE.encode() in path.read_bytes()
    plain = write_picture(tmp_path / "b.jpg", RGB, ai_altered=False)
    assert DIGITAL_SOURCE_TYPE.encode() not in plain.read_bytes()


def test_other_readers_open_what_we_write(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV as an independent reader")
    for name, tolerance in (("a.png", 0), ("a.jpg", 3)):
        got: U8 = cv2.imread(str(write_picture(tmp_path / name, RGB)))[..., ::-1]
        assert np.abs(got.astype(int) - RGB).mean() <= tolerance


def test_one_pixel(tmp_path: Path) -> None:
    one = np.array([[[10, 200, 30]]], np.uint8)
    assert np.array_equal(read_picture(write_picture(tmp_path / "a.png", one)), one)


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    source = write_picture(tmp_path / "a.png", RGB)
    for path, said in (
        (tmp_path / "a.webp", "wanted a name that ends in .png or .jpg or .jpeg, got .webp; choose one of these"),
        (tmp_path / "none" / "a.png", f"wanted an existing folder, got no folder {tmp_path}/none; create the folder"),
        (source, "wanted another file than the input, got the input itself; choose another name"),
    ):
        with pytest.raises(OutputError) as caught:
            write_picture(path, RGB, inputs=[source])
        assert said in str(caught.value)
    with pytest.raises(InputError, match=r"wanted uint8 HxWx3 RGB, got float64 \(4, 4, 3\)"):
        write_picture(tmp_path / "b.png", np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_failing_encoder_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_picture(tmp_path / "a.png", RGB)
    before = path.read_bytes()

    def fail(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError) as caught:
        write_picture(path, RGB[::-1])
    assert str(caught.value).endswith(
        "a.png: wanted the picture written, got No space left on device; check disk space"
    )
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_names_decide_where_there_is_no_file(tmp_path: Path) -> None:
    assert is_picture(tmp_path / "out.PNG")
    assert not is_picture(tmp_path / "out.mp4")


def test_the_written_jpeg_is_full_range_bt601(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.jpg", RGB)
    with av.open(io.BytesIO(path.read_bytes()), "r") as container:
        frame = next(container.decode(video=0))
    assert (frame.format.name, int(frame.color_range)) == ("yuvj444p", 2)
