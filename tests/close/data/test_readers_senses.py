"""Readers of formats beyond one picture and its captions: two pictures, boxes, films."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_readers_formats import lines, picture, put, rows

from close.data.readers import ReadOptions, ReadSummary, read_rows
from close.data.rows import RowFile
from close.errors import DataError, RecipeError

# as in nlvr2/data of github.com/lil-lab/nlvr; train.json says in which numbered folder the pictures are
NLVR2: list[dict[str, Any]] = [
    {
        "validation": {"77": "True"},
        "sentence": "All the bottles are from the same brand.",
        "left_url": "https://i.pinimg.com/a.jpg",
        "writer": "103",
        "label": "True",
        "right_url": "https://i.pinimg.com/b.jpg",
        "synset": "beer bottle",
        "query": "some beer bottles2",
        "identifier": "train-10171-0-0",
        "directory": 54,
    },
    {
        "sentence": "The left and right image contains seven beer bottles.",
        "label": "False",
        "left_url": "http://x/c.jpg",
        "right_url": "http://x/d.jpg",
        "identifier": "train-10171-3-1",
        "directory": 54,
    },
]


class TestNlvr2:
    def test_rows(self, tmp_path: Path) -> None:
        got = rows("nlvr2", put(tmp_path / "train.json", lines(NLVR2)))
        assert got[0] == {
            "id": "train-10171-0-0",
            "context": "All the bottles are from the same brand.",
            "label": "true",
            "target": "true",
            "image": ["train-10171-0-img0.png", "train-10171-0-img1.png"],
            "meta": {"statement": "train-10171-0"},
        }
        assert got[1]["label"] == "false"
        assert got[1]["meta"] == {"statement": "train-10171-1"}

    def test_pictures_lie_in_numbered_folders_or_beside_each_other(self, tmp_path: Path) -> None:
        """And one of two missing is told, or counted."""
        path, folder = put(tmp_path / "train.json", lines(NLVR2)), tmp_path / "images" / "train"
        for name in ("54/train-10171-0-img0.png", "train-10171-0-img1.png", "54/train-10171-3-img0.png"):
            picture(folder / name)
        with pytest.raises(DataError, match=r"train.json:2: image 'train-10171-3-img1.png' is not in"):
            rows("nlvr2", path, images=folder)
        picture(folder / "54" / "train-10171-3-img1.png")
        got = rows("nlvr2", path, images=folder)
        assert got[0]["image"] == [
            os.path.join("images", "train", "54", "train-10171-0-img0.png"),
            os.path.join("images", "train", "train-10171-0-img1.png"),
        ]

    def test_captions_become_the_sources(self, tmp_path: Path) -> None:
        """What `close caption --out` writes, or rows; without them there is nothing to train on text with."""
        names = [f"train-10171-{pair}-img{side}.png" for pair in (0, 3) for side in (0, 1)]
        said = [{"item": f"/somewhere/54/{name}", "text": f"caption of {name}", "score": -0.1} for name in names[:2]]
        said += [{"image": name, "source": f"caption of {name}"} for name in names[2:]]
        path, captions = put(tmp_path / "train.json", lines(NLVR2)), put(tmp_path / "said.jsonl", lines(said))
        got = rows("nlvr2", path, captions=captions)
        assert [row["source"] for row in got] == [
            [f"caption of {name}" for name in pair] for pair in (names[:2], names[2:])
        ]
        out = put(tmp_path / "out.jsonl", "".join(json.dumps(row) + "\n" for row in got))
        assert RowFile(out)[1].source == (f"caption of {names[2]}", f"caption of {names[3]}")
        with pytest.raises(DataError, match=r"train.json:2: .*said.jsonl has no caption of train-10171-3-img1.png"):
            rows("nlvr2", path, captions=put(tmp_path / "said.jsonl", lines(said[:3])))
        said[2] = {"item": names[2], "text": "", "error": "can't be read"}
        summary, options = ReadSummary(), ReadOptions(captions=put(tmp_path / "said.jsonl", lines(said)))
        (row,) = read_rows("nlvr2", path, options=options, skip_errors=True, summary=summary)
        assert (row["source"], summary.skipped) == (got[0]["source"], {"error": 1})
        with pytest.raises(DataError, match=r"said.jsonl:1: 'image' is 7"):
            rows("nlvr2", path, captions=put(tmp_path / "said.jsonl", lines([{"image": 7, "source": "a"}])))

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"identifier": "train-10171-0"}, "expected split-set-pair-sentence"),
            ({"identifier": "../../x-1-2-3"}, "not below"),
            ({"label": "maybe"}, "'label' is 'maybe', expected True or False"),
            ({"label": None}, "'label' is None"),
            ({"sentence": " "}, "'sentence' is an empty text"),
        ],
    )
    def test_told(self, tmp_path: Path, changes: dict[str, Any], what: str) -> None:
        path = put(tmp_path / "dev.json", lines([NLVR2[0], NLVR2[1] | changes]))
        with pytest.raises(DataError, match="dev.json:2.*" + what):
            list(read_rows("nlvr2", path))

    def test_options_that_mean_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="it takes images, captions"):
            rows("nlvr2", put(tmp_path / "dev.json", lines(NLVR2)), split=("train",))


BOXES: dict[str, Any] = {
    "info": {},
    "images": [{"id": 42, "file_name": "000000000042.jpg", "width": 640, "height": 480}],
    "annotations": [
        {
            "id": 900100002,
            "image_id": 42,
            "category_id": 10,
            "bbox": [1.5, 2.0, 30.25, 40.0],
            "area": 1210.0,
            "segmentation": [[1.5, 2.0, 3.0, 4.0]],
            "iscrowd": 0,
        },
        {"id": 2, "image_id": 42, "bbox": [0, 0, 5, 5], "caption": "A corner."},
        {"id": 3, "image_id": 42, "bbox": [0, 0, 5, 6]},
    ],
    "categories": [{"supercategory": "outdoor", "id": 10, "name": "traffic light"}],
}
GENOME: list[Any] = [
    {
        "id": 107899,
        "regions": [
            {
                "region_id": 4091,
                "width": 120,
                "height": 70,
                "image_id": 107899,
                "phrase": "there is a cup on the desk",
                "y": 1,
                "x": 421,
            }
        ],
    }
]

DETECTED: list[Any] = [{"image_id": 42, "category_id": 18, "bbox": [258.15, 41.29, 348.26, 243.78], "score": 0.236}]


class TestBoxes:
    @pytest.mark.parametrize("name", ["000000000042.jpg", "COCO_val2014_000000000042.jpg", "42.png"])
    def test_what_a_detector_writes(self, tmp_path: Path, name: str) -> None:
        picture(tmp_path / name)
        picture(tmp_path / "000000000142.jpg")
        (got,) = rows("coco-results", put(tmp_path / "detections.json", DETECTED))
        meta = {"image_id": 42, "box": [258.15, 41.29, 348.26, 243.78], "category_id": 18, "score": 0.236}
        assert got == {"id": "1", "image": f"{name}#xywh=258.15,41.29,348.26,243.78", "meta": meta}
        picture(tmp_path / "other_42.jpg")
        with pytest.raises(DataError, match=r"of this number or name; .* and .* do"):
            rows("coco-results", tmp_path / "detections.json")
        named = put(
            tmp_path / "named.json", [DETECTED[0] | {"image_id": key} for key in (name, name.rpartition(".")[0])]
        )
        assert [row["image"] for row in rows("coco-results", named)] == [got["image"]] * 2
        with pytest.raises(DataError, match=r"'image_id' is 43: expected one picture in .* none does"):
            rows("coco-results", put(tmp_path / "other.json", [DETECTED[0] | {"image_id": 43}]))

    def test_coco_boxes_are_parts_of_their_pictures(self, tmp_path: Path) -> None:
        got = rows("coco-boxes", put(tmp_path / "instances.json", BOXES))
        assert got[0] == {
            "id": "900100002",
            "source": "traffic light",
            "label": "traffic light",
            "image": "000000000042.jpg#xywh=1.5,2,30.25,40",
            "meta": {"image_id": 42, "box": [1.5, 2.0, 30.25, 40.0]},
        }
        assert got[1]["source"] == "A corner."
        assert "source" not in got[2]

    def test_visual_genome(self, tmp_path: Path) -> None:
        got = rows("visual-genome", put(tmp_path / "region_descriptions.json", GENOME))
        assert got[0]["image"] == "107899.jpg#xywh=421,1,120,70"
        assert got[0]["source"] == "there is a cup on the desk"

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"bbox": [1, 2, 3]}, "a box is"),
            ({"bbox": [1, 2, 0, 4]}, "a box is"),
            ({"bbox": [1, 2, None, 4]}, "a box is"),
            ({"category_id": 11}, "no category has that id"),
            ({"image_id": 1}, "no image has that id"),
        ],
    )
    def test_told(self, tmp_path: Path, changes: dict[str, Any], what: str) -> None:
        path = put(tmp_path / "b.json", BOXES | {"annotations": [BOXES["annotations"][0] | changes]})
        with pytest.raises(DataError, match=what):
            list(read_rows("coco-boxes", path))

    def test_a_picture_that_is_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "p").mkdir()
        with pytest.raises(DataError, match=r"'107899\.jpg' is not in"):
            rows("visual-genome", put(tmp_path / "g.json", GENOME), images=tmp_path / "p")
        picture(tmp_path / "p" / "107899.jpg")
        assert len(rows("visual-genome", tmp_path / "g.json", images=tmp_path / "p")) == 1


MSRVTT: dict[str, Any] = {
    "info": {"contributor": "Microsoft multimedia challenge"},
    "videos": [
        {
            "category": 9,
            "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
            "video_id": "video0",
            "start time": 137.72,
            "end time": 149.44,
            "split": "train",
            "id": 0,
        },
        {
            "category": 1,
            "url": "https://x",
            "video_id": "video1",
            "start time": 1,
            "end time": 2,
            "split": "validate",
            "id": 1,
        },
    ],
    "sentences": [
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
        {"caption": "a man drives", "video_id": "video1", "sen_id": 3},
        {"caption": "in a drag race", "video_id": "video0", "sen_id": 1},
    ],
}
MSVD = (
    "# Descriptions\n\nmv89psg6zh4_33_46 a bird in a sink keeps getting under the running water\n"
    "mv89psg6zh4_33_46 a bird is bathing\n-wa0umYJVGg_23_41 a boy plays\n"
)
CORPUS = (
    "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n"
    "mv89psg6zh4,33,46,588702,unverified,55,English,A bird is bathing in a sink.\n"
    'mv89psg6zh4,33,46,1,clean,3,German,"Ein Vogel, der badet."\n'
    "-wa0umYJVGg,23,41,2,clean,3,English,A boy plays.\n"
)


class TestFilms:
    def test_msr_vtt(self, tmp_path: Path) -> None:
        path = put(tmp_path / "train_val_videodatainfo.json", MSRVTT)
        got = rows("msr-vtt", path, frames=2)
        assert got[0] == {
            "id": "video0#0",
            "source": "a car is shown",
            "group": "video0",
            "image": ["video0.mp4#frame=1,2", "video0.mp4#frame=2,2"],
        }
        assert [row["id"] for row in got] == ["video0#0", "video1#3", "video0#1"]
        (one,) = rows("msr-vtt", path, split=("validate",), per="image")
        assert [one["id"], one["references"], len(one["image"])] == ["video1", ["a man drives"], 8]

    def test_msvd_in_both_forms(self, tmp_path: Path) -> None:
        for name, content in {"AllVideoDescriptions.txt": MSVD, "video_corpus.csv": CORPUS}.items():
            path = put(tmp_path / name, content)
            got = rows("msvd", path, per="image", frames=1)
            assert [row["id"] for row in got] == ["mv89psg6zh4_33_46", "-wa0umYJVGg_23_41"]
            assert got[0]["image"] == ["mv89psg6zh4_33_46.avi#frame=1,1"]
            assert got[1]["references"][0].lower().startswith("a boy plays")
        (german,) = rows("msvd", path, language="german")
        assert german["source"] == "Ein Vogel, der badet."
        assert german["id"] == "mv89psg6zh4_33_46#0"

    def test_a_folder_of_frames_stands_for_its_film(self, tmp_path: Path) -> None:
        path, films = put(tmp_path / "v.json", MSRVTT), tmp_path / "films"
        picture(films / "video0" / "0001.png")
        (films / "video1.mp4").write_bytes(b"")
        got = rows("msr-vtt", path, images=films, frames=1)
        assert [row["image"] for row in got[:2]] == [
            [os.path.join("films", "video0#frame=1,1")],
            [os.path.join("films", "video1.mp4#frame=1,1")],
        ]
        (films / "video1.mp4").unlink()
        with pytest.raises(DataError, match=r"'video1\.mp4' is not in"):
            rows("msr-vtt", path, images=films)

    @pytest.mark.parametrize(
        ("name", "content", "what"),
        [
            (
                "msr-vtt",
                MSRVTT | {"sentences": [{"caption": "x", "video_id": "video7", "sen_id": 1}]},
                "no video has that id",
            ),
            ("msr-vtt", MSRVTT | {"sentences": [{"caption": "", "video_id": "video0", "sen_id": 1}]}, "empty text"),
            ("msvd", "vid_0_1\n", ":1: expected a film's name and a caption"),
            (
                "msvd",
                f"{CORPUS}v,1,2,3,clean,4,English,a man, smiling, cooks\n",
                ":5: 10 cells, expected 8; put a cell",
            ),
            (
                "msvd",
                f'{CORPUS}v,1,2,3,clean,4,English,"a man\n{CORPUS}w,1,2,3,clean,4,English,"a b"\n',
                "a cell of several lines",
            ),
        ],
    )
    def test_told(self, tmp_path: Path, name: str, content: Any, what: str) -> None:
        path = put(tmp_path / ("x.csv" if CORPUS in content else "x.txt"), content)
        with pytest.raises(DataError, match=what):
            list(read_rows(name, path))
        with pytest.raises(RecipeError, match="frames of a film are a whole number from 1 to 64, not 65"):
            rows(name, tmp_path / "x.txt", frames=65)
