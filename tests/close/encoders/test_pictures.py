"""What Pillow can open is a picture: upright, RGB, eight bits, and never larger than told."""

from __future__ import annotations

import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from close.encoders.pictures import open_picture
from close.errors import DataError, MissingError
from close.io.media import media_below, picture_formats, picture_suffixes

GREY = Image.fromarray(np.add.outer(np.arange(16) * 16, np.arange(16)).astype(np.uint8))
"""Every shade once."""
MODES = ("L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
NUMBERS = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def pixels(picture: Image.Image) -> np.ndarray:
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


WANTED = pixels(GREY.convert("RGB"))


def in_mode(mode: str) -> Image.Image:
    if mode in ("La", "RGBa"):
        return in_mode(mode.upper()).convert(mode)
    if mode in ("P", "PA"):
        return GREY.convert("P").convert(mode)
    return (GREY if mode in NUMBERS else GREY.convert("RGB")).convert(mode)


@pytest.mark.parametrize("mode", [*MODES, *NUMBERS])
def test_every_mode_ends_in_the_same_eight_bits(mode):
    picture = in_mode(mode)
    assert picture.mode == mode
    assert abs(pixels(open_picture(picture)) - WANTED).max() <= (3 if mode in ("LAB", "YCbCr", "HSV") else 0)


def test_two_shades():
    assert set(np.unique(pixels(open_picture(GREY.convert("1"))))) == {0, 255}


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        (np.asarray(GREY).astype(np.uint16) * 257, "x.png"),
        (np.asarray(GREY).astype(np.uint16) * 257, "x.tif"),
        (np.asarray(GREY).astype(np.int32) * 257, "x.tif"),
        (np.asarray(GREY).astype(np.uint16) * 16 + 15, "x.tif"),  # 12 bits of 16, as of radiographs
        (np.asarray(GREY).astype(np.uint16) * 4 + 3, "x.png"),
        (np.asarray(GREY).astype(np.float32) * 64, "x.tif"),
        (np.asarray(GREY).astype(np.int32) * 1_000_000 - 3, "x.tif"),
        (np.asarray(GREY).astype(np.float32) / 255, "x.tif"),
        (np.asarray(GREY).astype(np.float32) / 255, "x.pfm"),
        (np.asarray(GREY).astype(np.float32), "x.tif"),
        (np.asarray(GREY).astype(np.float32) * 257, "x.tif"),
        (np.asarray(GREY).astype(np.float32) - 128, "x.tif"),
        (np.asarray(GREY).astype(np.float32) * 1e30, "x.tif"),
    ],
)
def test_more_than_eight_bits_keep_their_contrast(numbers, name, tmp_path):
    Image.fromarray(numbers).save(tmp_path / name)
    assert abs(pixels(open_picture(tmp_path / name)) - WANTED).max() <= 1


def test_numbers_that_are_none():
    numbers = np.asarray(GREY).astype(np.float32)
    numbers[0, 1], numbers[0, 2], numbers[0, 3] = np.nan, np.inf, -np.inf
    found = pixels(open_picture(Image.fromarray(numbers)))
    assert (found[0, 1:4] == 0).all()
    assert (found[1:] == WANTED[1:]).all()
    assert (pixels(open_picture(Image.fromarray(np.full((2, 2), np.nan, np.float32)))) == 0).all()


def test_pillow_images_are_turned_as_files_are():
    array = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    for orientation in range(1, 9):
        exif, out = Image.Exif(), io.BytesIO()
        exif[0x0112] = orientation
        Image.fromarray(array).save(out, "PNG", exif=exif)
        Path("x.png").write_bytes(out.getvalue())
        lazy, loaded = Image.open("x.png"), Image.open(io.BytesIO(out.getvalue()))
        loaded.load()
        wanted = pixels(open_picture("x.png"))
        assert wanted.shape[:2] == ((8, 12) if orientation < 5 else (12, 8))
        for picture in (lazy, loaded, open_picture(loaded)):  # and not twice
            assert (pixels(open_picture(picture)) == wanted).all()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03", b"Exif\0\0" * 2, b"Exif\0\0II"]
)
def test_a_broken_exif_block_is_no_reason_to_refuse_a_picture(exif, tmp_path):
    GREY.convert("RGB").save(tmp_path / "plain.jpg", quality=95)
    whole = (tmp_path / "plain.jpg").read_bytes()
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "broken.jpg").write_bytes(whole[:2] + block + whole[2:])
    assert (pixels(open_picture(tmp_path / "broken.jpg")) == pixels(open_picture(tmp_path / "plain.jpg"))).all()


def test_an_opened_picture_may_be_shared_and_a_cut_one_is_told(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (400, 400, 3), np.uint8)).save(tmp_path / "x.png")
    wanted = pixels(open_picture(tmp_path / "x.png"))
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            opened = Image.open(tmp_path / "x.png")
            assert all((pixels(found) == wanted).all() for found in pool.map(open_picture, [opened] * 8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "x.png").read_bytes()[:50_000])
    with pytest.raises(DataError, match="a PIL image can't be read: image file is truncated"):
        open_picture(Image.open(tmp_path / "cut.png"))


def test_pixels_are_counted_before_they_are_decoded(tmp_path, monkeypatch):
    GREY.convert("RGB").resize((100, 40)).save(tmp_path / "x.png")
    opened = Image.open(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    for limit, words in ((3_999, "100 × 40 pixels"), (1_000, "more than twice as many pixels")):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.warns(Image.DecompressionBombWarning) if limit > 2_000 else pytest.raises(DataError, match=words):
            with pytest.raises(DataError, match=words):
                open_picture(tmp_path / "x.png")
            if limit < 2_000:
                open_picture(tmp_path / "x.png")
        with pytest.raises(DataError, match=f"100 × 40 pixels, and at most {limit:,} are decoded"):
            open_picture(opened)


def test_postscript_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was run"))
    for name in ("x.eps", "x.jpg", "x.tif"):
        (tmp_path / name).write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
        with pytest.raises(DataError, match="can't be read"):
            open_picture(tmp_path / name)
    assert not {".eps", ".ps", ".pdf", ".mpg", ".h5", ".grib"} & set(picture_suffixes())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    for place in (tmp_path / "x.png", tmp_path):
        with pytest.raises(MissingError, match="it is a folder, a pipe or a device"):
            open_picture(place)
    with pytest.raises(MissingError, match=r"no such file$"):
        open_picture("gone.png")


def test_several_pictures_in_a_file(tmp_path):
    frames = [GREY.convert("RGB"), GREY.convert("RGB").rotate(90)]
    for name in ("x.tif", "x.png", "x.webp"):
        options = {"lossless": True} if name == "x.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert (pixels(open_picture(tmp_path / name)) == WANTED).all()


class TestPhones:
    """HEIC, which Pillow reads with the package pillow-heif."""

    def test_it_is_a_picture(self, tmp_path, caplog):
        heif = pytest.importorskip("pillow_heif")
        heif.register_heif_opener()
        sides = Image.new("RGB", (64, 32), (200, 30, 30))
        sides.paste((30, 30, 200), (32, 0, 64, 32))
        turned = Image.Exif()
        turned[0x112] = 6  # to be turned by 90° to the right
        sides.save(tmp_path / "a.HEIC", exif=turned.tobytes())
        assert media_below(tmp_path, picture_suffixes()) == [tmp_path / "a.HEIC"]
        for item in (tmp_path / "a.HEIC", (tmp_path / "a.HEIC").read_bytes()):
            picture = open_picture(item)
            assert picture.size == (32, 64)
            assert np.abs(pixels(picture)[[8, 56], 16] - [[200, 30, 30], [30, 30, 200]]).max() < 12
        (tmp_path / "cut.heic").write_bytes((tmp_path / "a.HEIC").read_bytes()[:300])
        with pytest.raises(DataError, match=r"cut\.heic can't be read"):
            open_picture(tmp_path / "cut.heic")

    def test_without_the_package_it_is_said_how(self, tmp_path, caplog, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
        for known in (picture_formats, picture_suffixes):
            known.cache_clear()
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic")
        try:
            assert media_below(tmp_path, picture_suffixes()) == []
            assert (
                "other files are left out: 1 × .heic; HEIC is read with pip install 'close-toolkit[heic]'"
                in caplog.text
            )
            for item in (tmp_path / "a.heic", (tmp_path / "a.heic").read_bytes()):
                with pytest.raises(DataError, match=r"can't be read: .*; HEIC is read with pip install"):
                    open_picture(item)
            with pytest.raises(DataError, match=r"can't be read: [^;]*$"):
                open_picture(b"no picture")
        finally:
            for known in (picture_formats, picture_suffixes):
                known.cache_clear()


class TestFolder:
    def test_all_that_pillow_reads_and_nothing_hidden(self, tmp_path, caplog):
        formats = {
            "a.JPG": "JPEG",
            "b.jfif": "JPEG",
            "d.ppm": "PPM",
            "e.webp": "WEBP",
            "sub/f.qoi": "QOI",
            "g.tif": "TIFF",
        }
        for name, kind in formats.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            GREY.convert("RGB").save(tmp_path / name, format=kind)
        for name in (
            "._a.jpg",
            ".hidden.png",
            ".thumbs/x.png",
            "__MACOSX/x.png",
            "noext",
            "film.mp4",
            "film.mov",
            "a.txt",
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"\0\5\x16\7")
        (tmp_path / "folder.png").mkdir()
        found = media_below(tmp_path, picture_suffixes())
        assert [path.relative_to(tmp_path).as_posix() for path in found] == sorted(formats)
        assert "other files are left out: " in caplog.text
        assert all(kind in caplog.text for kind in ("1 × .mp4", "1 × .mov", "1 × no ending"))

    def test_linked_folders_are_read_once(self, tmp_path):
        for name in ("photos/b/1.png", "elsewhere/2.png", "elsewhere/deep/3.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            GREY.save(tmp_path / name)
        photos = tmp_path / "photos"
        links = {"a": photos / "b", "train": tmp_path / "elsewhere", "up": tmp_path, "itself": photos}
        for name, target in links.items():
            (photos / name).symlink_to(target, target_is_directory=True)
        found = [path.relative_to(photos).as_posix() for path in media_below(photos, picture_suffixes())]
        assert found == ["b/1.png", "train/2.png", "train/deep/3.png"]

    def test_nothing_is_told_where_nothing_is_left_out(self, tmp_path, caplog):
        GREY.save(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text("its captions")
        media_below(tmp_path, picture_suffixes())
        assert not caplog.text

    def test_a_name_that_is_not_utf8_stops_nothing(self, tmp_path, cli, run):
        folder = tmp_path / "photos"
        folder.mkdir()
        try:
            for name in (b"caf\xe9.png", "café.png".encode(), b"bad\xff.png"):
                Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(b"no picture" if b"bad" in name else _png())
        except OSError:
            pytest.skip("this disk takes only names in UTF-8")
        ran = cli("embed", "images", folder, "--out", tmp_path / "t", "--export", tmp_path / "v.npy")
        assert (ran.code, "Traceback" in ran.err) == (1, False)  # one of three can't be read
        assert r"bad\udcff.png" in (tmp_path / "t" / "failures.jsonl").read_text(encoding="utf-8").replace("\\\\", "\\")
        assert sorted((tmp_path / "v.ids.txt").read_text(encoding="utf-8").split()) == [r"caf\udce9.png", "café.png"]
        ran = cli("caption", run, folder, "--out", tmp_path / "out.jsonl")
        assert (ran.code, "Traceback" in ran.err) == (1, False)
        assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 3
        ran = cli("convert", "folder", folder, tmp_path / "rows.jsonl", "--skip-errors")
        assert (ran.code, "Traceback" in ran.err) == (0, False)
        assert len((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 1  # JSON holds no such name


def _png() -> bytes:
    out = io.BytesIO()
    GREY.save(out, "PNG")
    return out.getvalue()
