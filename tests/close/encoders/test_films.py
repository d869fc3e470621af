"""Films: frames at even distances, as PyAV decodes them, and of folders; what is broken or empty."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from close.encoders.pictures import open_picture
from close.errors import DataError, MissingError, RecipeError
from close.io.parts import frame_names
from close.runs.evaluate import evaluate
from close.runs.pipeline import load

av = pytest.importorskip("av", reason="the video extra is not installed")

FRAMES = 40


def film(path: Path, count: int = FRAMES, codec: str = "mpeg4", rate: int = 10) -> Path:
    """Frame i is grey, 6 i bright: a frame tells its number."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 20_000_000
        for i in range(count):
            picture = np.full((48, 64, 3), 6 * i, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path


def number(picture: Image.Image) -> int:
    return round(float(np.asarray(picture).mean()) / 6)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "clip.mp4")


@pytest.fixture(scope="module")
def captioner(run):
    return load(run)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv"])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_frames_are_those_in_the_middle_of_equal_shares(tmp_path, ending, count):
    """A frame is seen from its own time on: at t seconds, of ten frames a second, it is frame ⌊10 t⌋."""
    path = film(tmp_path / f"clip{ending}")
    wanted = [int((i - 0.5) / count * FRAMES) for i in range(1, count + 1)]
    assert [number(open_picture(name)) for name in frame_names(path, count)] == wanted


def test_of_a_folder_the_pictures_in_the_middle(tmp_path):
    for i in range(10):
        Image.new("RGB", (8, 8), (20 * i,) * 3).save(tmp_path / f"{i:03}.png")
    found = [np.asarray(open_picture(name)).mean() / 20 for name in frame_names(tmp_path, 4)]
    assert [round(one) for one in found] == [1, 3, 6, 8]


def test_a_film_is_an_item_of_its_frames(captioner, clip, tmp_path, cli):
    """The mean of their vectors, for this run; a folder of frames says the same; so does the command line."""
    frames = [open_picture(name) for name in frame_names(clip, 8)]
    (wanted,) = captioner([frames], num_beams=1)
    output = captioner(clip, num_beams=1)
    assert (output.text, output.score) == (wanted.text, pytest.approx(wanted.score, abs=1e-5))
    for i, frame in enumerate(frames):
        frame.save(tmp_path / f"{i}.png")
    assert captioner(tmp_path, frames=8, num_beams=1).score == pytest.approx(wanted.score, abs=1e-5)
    two = captioner(clip, frames=2, num_beams=1)
    assert two.item == " + ".join(frame_names(clip, 2))
    ran = cli("caption", captioner.name, clip, "--frames", 2, "--json", "--num-beams", 1)
    assert json.loads(ran.out)["text"] == two.text
    (folder := tmp_path / "films").mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "b.mp4").write_bytes(clip.read_bytes())
    assert [one.text for one in captioner(folder, frames=2, num_beams=1)] == [two.text] * 2
    ran = cli("caption", captioner.name, folder, "--frames", 2, "--json", "--num-beams", 1)
    assert [json.loads(line)["text"] for line in ran.out.splitlines()] == [two.text] * 2


def test_rows_of_films_are_evaluated(captioner, clip, tmp_path):
    rows = [{"id": str(i), "image": frame_names(clip, i), "references": ["a dog"]} for i in (1, 2)]
    data = tiny.write_jsonl(tmp_path / "films.jsonl", rows)
    evaluate(captioner, data, folder=tmp_path / "scores", metrics=["bleu"], num_beams=1)
    lines = [json.loads(line) for line in (tmp_path / "scores" / "predictions.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == [captioner(clip, frames=i, num_beams=1).text for i in (1, 2)]


class TestBroken:
    def test_one_line_that_names_the_film(self, captioner, clip, tmp_path, told, cli):
        cut, empty, text, none = (tmp_path / f"{name}.mp4" for name in ("cut", "empty", "text", "none"))
        cut.write_bytes(clip.read_bytes()[:300])
        empty.write_bytes(b"")
        text.write_text("no film")
        none.write_bytes(b"\0" * 100)
        for path in (cut, empty, text, none):
            assert str(path) in told("caption", captioner.name, path)
        assert "no such file" in told("caption", captioner.name, tmp_path / "gone.mp4")
        outputs = captioner([clip, cut], num_beams=1)
        assert (outputs[0].error, bool(outputs[1].error)) == (None, True)

    def test_a_film_without_a_frame(self, tmp_path):
        path = tmp_path / "sound.mkv"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            for packet in [*stream.encode(frame), *stream.encode()]:
                out.mux(packet)
        with pytest.raises(DataError, match=r"sound\.mkv holds no pictures"):
            open_picture(f"{path}#frame=1,8")

    def test_damaged_bytes_are_read_or_told(self, clip, tmp_path):
        content, rng = bytearray(clip.read_bytes()), np.random.default_rng(0)
        path = tmp_path / "damaged.mp4"
        for _ in range(30):
            damaged = bytearray(content)
            for place in rng.integers(0, len(damaged), 20):
                damaged[place] = int(rng.integers(256))
            path.write_bytes(damaged)
            with suppress(DataError):
                assert open_picture(f"{path}#frame=4,8").mode == "RGB"

    def test_a_playlist_opens_no_other_file(self, clip, tmp_path):
        playlist = tmp_path / "list.mp4"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{clip}\n#EXT-X-ENDLIST\n")
        with pytest.raises(DataError, match="can't be read"):
            open_picture(f"{playlist}#frame=1,1")
        playlist.write_text(f"ffconcat version 1.0\nfile {clip}\n")
        with pytest.raises(DataError, match="can't be read"):
            open_picture(f"{playlist}#frame=1,1")

    def test_numbers_that_are_none(self, captioner, clip, tmp_path):
        for part in ("0,8", "9,8", "1", "1,65", "-1,8", "x,8"):
            with pytest.raises(DataError, match="expected frame=NUMBER,COUNT"):
                open_picture(f"{clip}#frame={part}")
        with pytest.raises(RecipeError, match="frames of a film are a whole number from 1 to 64, not 65"):
            captioner(clip, frames=65)
        with pytest.raises(DataError, match="no picture is in this folder"):
            open_picture(f"{tmp_path}#frame=1,8")
        with pytest.raises(MissingError):
            open_picture(f"{tmp_path / 'gone'}#frame=1,8")


class TestMeant:
    """What somebody may have meant is told, or refused; never taken for something else."""

    @pytest.mark.parametrize("ending", [".webm", ".avi"])
    def test_a_film_that_is_cut_off(self, tmp_path, ending):
        whole = film(tmp_path / f"whole{ending}", codec="libvpx" if ending == ".webm" else "mpeg4")
        assert open_picture(f"{whole}#frame=1,4").mode == "RGB"
        content = whole.read_bytes()
        cut = tmp_path / f"cut{ending}"
        cut.write_bytes(content[: 2 * len(content) // 3])
        with pytest.raises(DataError, match=rf"cut off: [\d,]+ of {len(content):,} bytes are there"):
            open_picture(f"{cut}#frame=1,4")

    def test_a_film_of_no_bytes(self, tmp_path):
        (tmp_path / "empty.mp4").touch()
        with pytest.raises(DataError, match=r"film .*empty\.mp4 is empty \(0 bytes\)"):
            open_picture(f"{tmp_path / 'empty.mp4'}#frame=1,4")

    def test_pictures_beside_films(self, captioner, tmp_path, pictures, caplog):
        film(tmp_path / "p00.mp4")
        film(tmp_path / "p00.avi")
        (tmp_path / "p00.png").write_bytes((pictures / "p00.png").read_bytes())
        with pytest.raises(DataError, match="1 pictures and 2 films are in it"):
            captioner(tmp_path, frames=4)
        assert len(captioner(tmp_path, num_beams=1)) == 1
        (told,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
        assert "1 × .avi" in told
        assert "1 × .mp4" in told
        assert "--frames N" in told

    @pytest.mark.parametrize("frames", ["4", 2.5, True, -1])
    def test_numbers_of_frames(self, captioner, clip, frames):
        with pytest.raises(RecipeError, match="a whole number from 1 to 64"):
            captioner(clip, frames=frames)

    def test_frames_of_what_has_none(self, captioner, clip, pictures, told, caplog, tmp_path):
        assert "it is neither" in told("caption", captioner.name, pictures / "p00.png", "--frames", 2)
        with pytest.raises(DataError, match="it is neither"):
            captioner([clip, pictures / "p00.png"], frames=2)
        both = ("caption", captioner.name, clip, "--frames", 2, "--together")
        assert "give one of the two" in told(*both)
        (tmp_path / "boxes.json").write_text("[[0, 0, 5, 5]]")
        boxed = ("caption", captioner.name, pictures / "p00.png", "--boxes", tmp_path / "boxes.json")
        assert "give one of the two" in told(*boxed, "--frames", 2)
        assert "it is a film" in told("caption", captioner.name, clip, "--boxes", tmp_path / "boxes.json")
        (tmp_path / "frames").mkdir()
        (tmp_path / "frames" / "1.png").write_bytes((pictures / "p00.png").read_bytes())
        captioner(tmp_path / "frames", frames=4, num_beams=1)
        assert [record.getMessage() for record in caplog.records if "taken again" in record.getMessage()]
