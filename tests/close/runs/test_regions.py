"""Boxes and tiles of pictures: what is said of them is said of the piece cut out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from close.data.readers import ReadOptions, read_rows
from close.encoders.pictures import open_picture
from close.errors import DataError, RecipeError, UnknownNameError
from close.runs.evaluate import evaluate
from close.runs.pipeline import load

BOXES = [[2, 3, 10, 8], [0, 0, 5, 12.4]]


@pytest.fixture(scope="module")
def captioner(run):
    return load(run)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """64 × 48, noise, so that every piece of it is another."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(path)
    return path


def cut(photo: Path, box) -> Image.Image:
    left, top, width, height = box
    return Image.open(photo).crop((round(left), round(top), round(left + width), round(top + height)))


def said(outputs) -> list[tuple[str, float]]:
    return [(output.text, pytest.approx(output.score, abs=1e-5)) for output in outputs]


def test_a_part_by_its_name_is_the_piece_cut_out(photo):
    for box in BOXES:
        part = open_picture(f"{photo}#xywh={','.join(map(str, box))}")
        assert np.array_equal(np.asarray(part), np.asarray(cut(photo, box)))
    quarter = open_picture(f"{photo}#xywh=percent:50,0,50,50")
    assert np.array_equal(np.asarray(quarter), np.asarray(Image.open(photo).crop((32, 0, 64, 24))))
    beyond = open_picture(f"{photo}#xywh=pixel:-5,40,20,100")  # as far as it lies inside
    assert np.array_equal(np.asarray(beyond), np.asarray(Image.open(photo).crop((0, 40, 15, 48))))


def test_a_file_that_is_called_so_is_itself(photo, tmp_path):
    own = tmp_path / "photo.png#xywh=0,0,1,1"
    own.write_bytes(photo.read_bytes())
    assert open_picture(own).size == (64, 48)


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("xywh=64,0,5,5", "of the box 64,0,5,5 .* no pixel lies inside the picture of 64 × 48"),
        ("xywh=-9,0,5,5", "no pixel lies inside"),
        ("xywh=0,0,0.2,5", "no pixel lies inside"),
        ("xywh=0,0,5,-5", "expected xywh=left,top,width,height"),
        ("xywh=0,0,5", "expected xywh=left,top,width,height"),
        ("xywh=0,nan,5,5", "expected xywh"),
        ("xywh=inch:0,0,5,5", "expected xywh"),
        ("xywh=0,0,1e308,5", None),
    ],
)
def test_a_box_that_is_none(photo, part, what):
    if what is None:
        assert open_picture(f"{photo}#{part}").size == (64, 5)
        return
    with pytest.raises(DataError, match=f"photo.png: .*{what}"):
        open_picture(f"{photo}#{part}")


class TestPython:
    def test_boxes(self, captioner, photo):
        wanted = captioner([cut(photo, box) for box in BOXES], num_beams=1)
        for item in (photo, str(photo), photo.read_bytes(), Image.open(photo), np.asarray(Image.open(photo)), [photo]):
            outputs = captioner(item, boxes=BOXES, num_beams=1)
            assert said(outputs) == said(wanted)
        assert [output.item for output in captioner(photo, boxes=BOXES)] == [
            f"{photo}#xywh=2,3,10,8",
            f"{photo}#xywh=0,0,5,12.4",
        ]
        assert said(captioner(photo, boxes=np.array(BOXES), num_beams=1)) == said(wanted)

    def test_tiles(self, captioner, photo):
        """Two rows of three: the whole first, then in reading order; a run of means takes their mean."""
        pieces = [cut(photo, (64 * c / 3, 24 * r, 64 / 3, 24)) for r in range(2) for c in range(3)]
        (wanted,) = captioner([[Image.open(photo), *pieces]], num_beams=1)
        for item in (photo, Image.open(photo)):
            assert said([captioner(item, tiles=(2, 3), num_beams=1)]) == said([wanted])

    def test_what_is_none(self, captioner, photo):
        outputs = captioner(photo, boxes=[[100, 0, 5, 5], BOXES[0]], num_beams=1)
        assert "no pixel lies inside" in outputs[0].error
        assert not outputs[1].error
        with pytest.raises(DataError, match="boxes are of one picture, and 2 items"):
            captioner([photo, photo], boxes=BOXES)
        for box in ([1, 2, 3], [0, 0, 0, 5], [0, 0, 5, "x"], 7, "abcd"):
            with pytest.raises(DataError, match="a box is"):
                captioner(photo, boxes=[box])
        with pytest.raises(RecipeError, match="tiles are ROWSxCOLUMNS"):
            captioner(photo, tiles=(0, 2))
        with pytest.raises(DataError, match="has several"):
            captioner([[photo, photo]], tiles=(2, 2))


COCO = {
    "images": [{"id": 7, "file_name": "photo.png", "width": 64, "height": 48}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": BOXES[0], "area": 80, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": BOXES[1], "caption": "a left edge"},
    ],
    "categories": [{"id": 3, "name": "traffic light", "supercategory": "outdoor"}],
}
GENOME = [
    {
        "id": 7,
        "regions": [
            {"region_id": 10 + i, "image_id": 7, "x": x, "y": y, "width": w, "height": round(h), "phrase": f"thing {i}"}
            for i, (x, y, w, h) in enumerate(BOXES)
        ],
    }
]


class TestFiles:
    def test_on_the_command_line(self, captioner, run, photo, tmp_path, cli):
        """COCO's, Visual Genome's, rows and a plain list say the same; a file goes on."""
        (tmp_path / "7.jpg").write_bytes(photo.read_bytes())  # as Visual Genome calls it
        (tmp_path / "photo.png").write_bytes(photo.read_bytes())
        wanted = said(captioner(photo, boxes=BOXES, num_beams=1))
        found = [{"image_id": 7, "category_id": 1, "bbox": box, "score": 0.5} for box in BOXES]
        files = {
            "instances.json": COCO,
            "region_descriptions.json": GENOME,
            "list.json": BOXES,
            "detections.json": found,
        }
        for name, content in files.items():
            (tmp_path / name).write_text(json.dumps(content))
        rows = list(read_rows("coco-boxes", tmp_path / "instances.json", folder=tmp_path))
        tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
        for name in (*files, "rows.jsonl"):
            item = [photo] if name == "list.json" else [tmp_path] if name == "instances.json" else []
            ran = cli("caption", run, *item, "--boxes", tmp_path / name, "--json", "--num-beams", 1)
            lines = [json.loads(line) for line in ran.out.splitlines()]
            assert [line["text"] for line in lines] == [text for text, _ in wanted], name
        out = tmp_path / "out.jsonl"
        cli("caption", run, tmp_path, "--boxes", tmp_path / "instances.json", "--out", out, "--num-beams", 1)
        assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == [text for text, _ in wanted]

    def test_tiles_on_the_command_line(self, captioner, run, photo, cli, refused, told):
        ran = cli("caption", run, photo, "--tiles", "2x2", "--json", "--num-beams", 1)
        (line,) = map(json.loads, ran.out.splitlines())
        assert line["text"] == captioner(photo, tiles=(2, 2), num_beams=1).text
        assert "rows and columns as 2x2" in refused("caption", run, photo, "--tiles", "two")
        assert "tiles are ROWSxCOLUMNS" in told("caption", run, photo, "--tiles", "1x1")
        assert "one picture, or the folder" in refused("caption", run, photo, photo, "--boxes", photo)

    def test_bad_boxes_are_one_line(self, run, photo, tmp_path, told):
        path = tmp_path / "boxes.json"
        for content, what in {
            "[[900, 0, 5, 5]]": "no pixel lies inside the picture of 64 × 48",
            "[[1, 2]]": "boxes.json: record[0]: a box is [left, top, width, height]",
            "[]": "it is empty",
            "[[1, 2, 3": "boxes.json",
        }.items():
            path.write_text(content)
            assert what in told("caption", run, photo, "--boxes", path)
        path.write_text(json.dumps(COCO | {"images": [{"id": 7, "file_name": "gone.png"}]}))
        assert "gone.png" in told("caption", run, "--boxes", path)
        assert "no such file" in told("caption", run, photo, "--boxes", tmp_path / "nothing.json")

    def test_files_that_are_of_something_else(self, run, photo, tmp_path, told, refused, captioner):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(COCO))
        assert "give the folder that they are in" in told("caption", run, photo, "--boxes", path)
        path.write_text("[[1, 2, 3, 4]]")
        assert "give that picture, not a folder" in told("caption", run, photo.parent, "--boxes", path)
        assert "an item of its own" in refused("caption", run, photo, "--boxes", path, "--together")
        path.write_text("[1, 2, 3, 4]")
        assert "boxes are a list of them, [[…], …]" in told("caption", run, photo, "--boxes", path)
        with pytest.raises(DataError, match="boxes are a list of them"):
            captioner(photo, boxes=[1, 2, 3, 4])
        with pytest.raises(DataError, match="it is empty"):
            captioner(photo, boxes=[])

    @pytest.mark.parametrize("tiles", ["2", (2,), 2, "axb", (2, 2, 2)])
    def test_numbers_of_tiles(self, captioner, photo, tiles):
        with pytest.raises(RecipeError, match="tiles are ROWSxCOLUMNS"):
            captioner(photo, tiles=tiles)

    def test_a_setting_that_is_none(self, captioner, photo):
        with pytest.raises(UnknownNameError, match="unknown setting 'box': did you mean 'boxes'"):
            captioner(photo, box=[[1, 2, 3, 4]])

    def test_rows_of_which_no_picture_can_be_read(self, run, tmp_path):
        (tmp_path / "bad.png").write_bytes(b"none")
        (tmp_path / "rows.jsonl").write_text('{"source": "a dog", "image": "bad.png"}\n')
        with pytest.raises(DataError, match=r"^.*rows\.jsonl: no item could be embedded"):
            evaluate(run, tmp_path / "rows.jsonl")

    def test_tiles_as_the_command_line_has_them(self, captioner, photo):
        assert captioner(photo, tiles="2X2", num_beams=1).text == captioner(photo, tiles=(2, 2), num_beams=1).text

    def test_rows_of_boxes_are_evaluated(self, captioner, run, photo, tmp_path):
        """Regions of one picture are pictures of their own; a table of them is made once."""
        (tmp_path / "7.jpg").write_bytes(photo.read_bytes())
        (tmp_path / "g.json").write_text(json.dumps(GENOME))
        rows = list(
            read_rows("visual-genome", tmp_path / "g.json", folder=tmp_path, options=ReadOptions(images=tmp_path))
        )
        assert rows[0] == {
            "id": "10",
            "source": "thing 0",
            "image": "7.jpg#xywh=2,3,10,8",
            "meta": {"image_id": 7, "box": [2, 3, 10, 8]},
        }
        data = tiny.write_jsonl(tmp_path / "regions.jsonl", rows)
        found = evaluate(run, data, folder=tmp_path / "scores", metrics=["bleu"], num_beams=1)
        assert found["rows"] == 2
        lines = [json.loads(line) for line in (tmp_path / "scores" / "predictions.jsonl").read_text().splitlines()]
        whole = [[2, 3, 10, 8], [0, 0, 5, 12]]
        assert [line["text"] for line in lines] == [o.text for o in captioner(photo, boxes=whole, num_beams=1)]
