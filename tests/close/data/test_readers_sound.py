"""Captions of recordings, in the layouts in which they are published."""

import json

import pytest

from close.data.readers import ReadOptions, ReadSummary, read_rows
from close.data.rows import RowFile
from close.errors import DataError, MissingError

CLOTHO = """file_name,caption_1,caption_2,caption_3,caption_4,caption_5
Distorted AM Radio noise.wav,Noise of a TV,"A television blares, while someone talks",Loud static,A buzz,heavy static
Page.wav,A person wraps a gift,wrapping,He sighed,papers are turned,A person flips pages
"""
AUDIOCAPS = """audiocap_id,youtube_id,start_time,caption
91139,r1nicOVtvkQ,130,A woman talks nearby as water pours
58146,_J_bsbDj__8,30,"Multiple clanging, and clanking sounds"
58147,_J_bsbDj__8,30,Clanking of metal
103549,gone0000000,30,A dog barks
"""
DRCAP = {
    "key": "Santa Motor",
    "prompt": "<AAC>",
    "source": "/data/Clotho/evaluation/Santa Motor.wav",
    "target": "A machine whines.",
    "target_len": 10,
    "similar_captions": ["A mini-fan motor."],
}


def test_clotho_is_a_table_read_as_it_is_and_converted(tmp_path):
    (tmp_path / "clotho.csv").write_text(CLOTHO)
    rows = RowFile(tmp_path / "clotho.csv")
    assert len(rows) == 10
    assert rows[1].source == ("A television blares, while someone talks",)
    assert rows[1].image == tmp_path / "Distorted AM Radio noise.wav"
    assert [row.group for row in rows] == ["Distorted AM Radio noise.wav"] * 5 + ["Page.wav"] * 5
    each = list(read_rows("csv", tmp_path / "clotho.csv", options=ReadOptions(per="image")))
    assert [len(row["references"]) for row in each] == [5, 5]


def test_audiocaps_with_its_clips_by_the_names_of_downloads(tmp_path):
    (tmp_path / "test.csv").write_text(AUDIOCAPS)
    assert [(row.id, row.group) for row in RowFile(tmp_path / "test.csv")][1:3] == [
        ("58146", "_J_bsbDj__8"),
        ("58147", "_J_bsbDj__8"),
    ]
    clips = tmp_path / "clips"
    clips.mkdir()
    beside = ("Yr1nicOVtvkQ.info.json", "Yr1nicOVtvkQ.mp4", "_J_bsbDj__8_30.f1.wav.part")  # as yt-dlp leaves them
    for name in ("Yr1nicOVtvkQ.wav", "_J_bsbDj__8_30.flac", "notes.txt", ".hidden", *beside):
        (clips / name).touch()
    (clips / "_J_bsbDj__8_30.flac").unlink()
    (clips / "_J_bsbDj__8_30.flac").symlink_to(tmp_path / "elsewhere")  # what is not there is told when it is read
    summary, options = ReadSummary(), ReadOptions(images=clips, per="image")
    rows = list(read_rows("audiocaps", tmp_path / "test.csv", options=options, summary=summary, folder=tmp_path))
    assert [(row["id"], row["image"], len(row["references"])) for row in rows] == [
        ("r1nicOVtvkQ", "clips/Yr1nicOVtvkQ.wav", 1),
        ("_J_bsbDj__8", "clips/_J_bsbDj__8_30.flac", 2),
    ]
    assert summary.skipped == {"no recording": 1}
    with pytest.raises(MissingError, match="no such folder"):
        list(read_rows("audiocaps", tmp_path / "test.csv", options=ReadOptions(images=tmp_path / "gone")))
    (tmp_path / "clotho.csv").write_text(CLOTHO)
    with pytest.raises(DataError, match=r"clotho\.csv:1: no column 'youtube_id'"):
        list(read_rows("audiocaps", tmp_path / "clotho.csv", options=ReadOptions(images=clips)))


@pytest.mark.parametrize("name", ["Yr1nicOVtvkQ.opus", "r1nicOVtvkQ_130.AIFF", "r1nicOVtvkQ"])
def test_clips_of_rarer_kinds_are_found(tmp_path, name):
    """Recordings are opened by their content, so these can be heard."""
    (tmp_path / "test.csv").write_text(AUDIOCAPS)
    (tmp_path / name).touch()
    (tmp_path / "r1nicOVtvkQ.description").touch()
    options = ReadOptions(images=tmp_path, per="image")
    (row,) = read_rows("audiocaps", tmp_path / "test.csv", options=options, folder=tmp_path)
    assert row["image"] == name


def test_wsacs_list_of_captions_without_the_tables_first_line(tmp_path):
    (tmp_path / "clotho.json").write_text(json.dumps(["caption_1", "caption_2", "a dog barks", "rain falls"]))
    summary = ReadSummary()
    rows = list(read_rows("json", tmp_path / "clotho.json", summary=summary))
    assert [row["source"] for row in rows] == ["a dog barks", "rain falls"]
    assert summary.skipped == {"a column's name": 2}
    (tmp_path / "wrong.json").write_text(json.dumps(["a dog barks", 7]))
    with pytest.raises(DataError, match=r"wrong\.json: record\[1\]: expected an object"):
        list(read_rows("json", tmp_path / "wrong.json"))


def test_drcaps_lines(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(DRCAP) + "\n")
    (row,) = read_rows("drcap", path)
    assert (row["source"], row["target"], row["group"]) == ("A machine whines.", "A machine whines.", "Santa Motor")
    assert row["meta"] == {"source": DRCAP["source"], "similar_captions": DRCAP["similar_captions"]}
    with pytest.raises(DataError, match=r"test\.jsonl:1: image 'Santa Motor\.wav' is not in"):
        list(read_rows("drcap", path, options=ReadOptions(images=tmp_path)))
    (tmp_path / "Santa Motor.wav").touch()
    (row,) = read_rows("drcap", path, options=ReadOptions(images=tmp_path), folder=tmp_path)
    assert row["image"] == "Santa Motor.wav"
    path.write_text(json.dumps(DRCAP | {"target": 3}) + "\n")
    with pytest.raises(DataError, match=r"test\.jsonl:1: 'target' is 3"):
        list(read_rows("drcap", path))
