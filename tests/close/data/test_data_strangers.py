"""Files of strangers: what they name outside their folder is refused, what never ends is refused, and time grows with size."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from test_readers_formats import COCO, KARPATHY, NEWS, QUESTIONS, SNLI, TEXTCAPS, VQA_E, lines, put

from close.data.readers import READERS, ReadOptions, read_rows
from close.data.readers.json_stream import _Text, json_items
from close.data.rows import RowFile
from close.errors import CloseError, DataError

OUTSIDE = ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "..", ".", "a\0.jpg"]


def named(name: str) -> dict[str, tuple[str, Any]]:
    """A file in each format that names files, with this name in it."""
    changed = json.loads(json.dumps({"coco": COCO, "karpathy": KARPATHY, "visualnews": NEWS, "textcaps": TEXTCAPS}))
    for image in changed["coco"]["images"]:
        image["file_name"] = name
    for image in changed["karpathy"]["images"]:
        image |= {"filename": name, "filepath": ""}
    changed["visualnews"][0]["image_path"] = name
    changed["textcaps"]["data"][0]["image_path"] = name
    return {
        **{kind: ("x.json", value) for kind, value in changed.items()},
        "csv": ("x.csv", f'image,caption\n"{name}",A dog\n'),
        "jsonl": ("x.jsonl", lines([{"source": "A dog", "image": name}])),
    }


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
@pytest.mark.parametrize("kind", named(""))
def test_pictures_outside_the_folder_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    put(tmp_path / "secret.jpg", "x")
    put(tmp_path / "in" / "bbc/articles/7.txt", "Rain.")
    file, value = named(name)[kind]
    path = put(tmp_path / "in" / file, value)
    with pytest.raises(DataError, match="is not below"):
        list(read_rows(kind, path))
    if kind == "csv":
        with pytest.raises(DataError, match=r"is not below .*--images FOLDER"):
            RowFile(path)


def test_folders_that_are_said_may_be_named_by_their_whole_path(tmp_path: Path) -> None:
    put(tmp_path / "pictures" / "a.jpg", "x")
    path = put(tmp_path / "in" / "x.csv", f"image,caption\n{tmp_path}/pictures/a.jpg,A dog\n")
    (row,) = read_rows("csv", path, options=ReadOptions(images=tmp_path / "pictures"), folder=tmp_path)
    assert row["image"] == os.path.join("pictures", "a.jpg")


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/passwd", "../in2/secret.txt"])
def test_articles_outside_the_folder_are_no_training_text(tmp_path: Path, name: str) -> None:
    for place in ("secret.txt", "in2/secret.txt", "deep/in2/secret.txt"):
        put(tmp_path / place, "the secret")
    path = put(tmp_path / "deep" / "in" / "data.json", [NEWS[0] | {"article_path": name}])
    with pytest.raises(DataError, match="is not below"):
        list(read_rows("visualnews", path))


def test_links_and_devices_of_a_tar_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name, kind, target in (
            ("0.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("0.json", tarfile.FIFOTYPE, ""),
            ("0.png", tarfile.LNKTYPE, "/etc/hosts"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            archive.addfile(link)
        caption = tarfile.TarInfo("0.txt")
        caption.size = 5
        archive.addfile(caption, io.BytesIO(b"A dog"))
    (row,) = read_rows("webdataset", tmp_path / "t.tar", options=ReadOptions(images=tmp_path / "out"))
    assert (row["source"], "image" in row) == ("A dog", False)
    assert not (tmp_path / "out").exists()


@pytest.fixture(params=["fifo", "device", "socket"])
def endless(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place that can be opened and never ends, or never begins."""
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    if request.param == "device":
        yield Path("/dev/zero")
    elif request.param == "fifo":
        os.mkfifo("pipe")
        yield Path("pipe")
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s")
            yield Path("s")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
def test_what_never_ends_is_refused_by_every_format(tmp_path: Path, endless: Path) -> None:
    own = [name for name in READERS if name not in READERS.origins]
    for name in own:
        with pytest.raises(CloseError, match=r"is a pipe, a device or a socket|expected a folder"):
            list(read_rows(name, endless))
    with pytest.raises(CloseError, match="pipe"):
        list(read_rows("vqa", put(tmp_path / "q.json", QUESTIONS), options=ReadOptions(annotations=endless)))
    with pytest.raises(CloseError, match="pipe"):
        list(read_rows("vqa", tmp_path / "q.json", options=ReadOptions(captions=endless)))
    for suffix in (".jsonl", ".txt", ".csv"):
        os.symlink(endless.absolute(), f"x{suffix}")
        with pytest.raises(CloseError, match="pipe"):
            RowFile(Path(f"x{suffix}"))
    for name, suffix in (("parquet", ".parquet"), ("webdataset", ".tar")):
        (tmp_path / name).mkdir()
        os.symlink(endless.absolute(), tmp_path / name / f"x{suffix}")
        with pytest.raises(CloseError, match="pipe"):
            list(read_rows(name, tmp_path / name))
    os.symlink(endless.absolute(), "7.txt")
    with pytest.raises(CloseError, match="pipe"):
        list(read_rows("visualnews", put(tmp_path / "n.json", [NEWS[0] | {"article_path": "7.txt"}])))


def test_every_format_is_tried_with_another_ones_file(tmp_path: Path) -> None:
    values = [COCO, KARPATHY, NEWS, QUESTIONS, VQA_E, TEXTCAPS, lines(SNLI), "image,caption\na.jpg,A dog\n", "A dog\n"]
    for number, value in enumerate(values):
        path = put(tmp_path / f"{number}.json", value)
        for name in READERS:
            with suppress(CloseError):
                list(read_rows(name, path))


@pytest.mark.parametrize(
    "text",
    ['{"a": {"b": 1, "c": {}}, "d": {}, "images": [7]}', '{"images": [7], "a": {}}', '{ "e" : [ ] ,"images":[ 7 ] }'],
)
@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_objects_are_stepped_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, chunk: int) -> None:
    monkeypatch.setattr("close.data.readers.json_stream._CHUNK", chunk)
    assert [item for _, item in json_items(put(tmp_path / "x.json", text), "images")] == [7]


def test_a_long_object_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("close.data.readers.json_stream._CHUNK", 64)
    text = json.dumps({"info": {str(n): {"a": [n, "x"]} for n in range(3000)}, "images": []})
    file = _Text(put(tmp_path / "long.json", text), "utf-8")
    looked, decode = [], file.decode
    monkeypatch.setattr(file, "decode", lambda buffer, place: (looked.append(len(buffer)), decode(buffer, place))[1])
    for name in file.names():
        file.skip(name)
    assert max(looked) < 300
