"""Plain text that is not plain is refused wherever it is read, with what reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from close.data.readers import read_rows
from close.data.rows import RowFile
from close.errors import DataError

TABLES = {
    "flickr8k": 'image,caption\n1_aa.jpg,A child in pink .\n2_bb.jpg,"A girl , in pink ."\n',
    "semicolons": "image;caption\na.jpg;A dog, running\n",
    "one row": "file_name,raw_caption\n",
    "bars": "image_name| comment_number| comment\n1.jpg| 0| Two young men .\n",
    "token": "1_aa.jpg#0\tA child .\n1_aa.jpg#1\tA girl .\n",
    "token with blanks": "1_aa.jpg#0 A child .\n1_aa.jpg#1 A girl .\n",
    "names first": "my dog.png,A dog\nmy cat.jfif,A cat\n",
    "urls": "A bus station\thttp://x/1\nA dog\thttp://x/2\n",
    "numbers": "100026\tA child .\n100027\tA girl .\n",
    "numbered": "file_name,caption_1,caption_2\n1.wav,Rain .,Rain falls .\n",
    "addresses": "url,caption\nhttp://x/1,A dog\n",
    "marked": "\ufeffimage,caption\na.jpg,A dog\n",
}
JSON = {"rows": '{"source": "a dog"}\n', "list": '[{"caption": "a dog"}]', "pretty": '{\n  "images": []\n}\n'}
NAMES = {"names": "a.jpg\nsub/b.PNG\n", "sounds": "rain.wav\nwind.flac\n", "one": "beach.jpeg"}
PLAIN = [
    "A dog, a cat; and a horse.\nText, an image.\nCaption this | please\n",
    "[laughs] a man speaks\n{sic} a dog\n",
    "A file photo of rain.jpg files\na dog.\n",
    "image\ncaption\n",
    "1girl, solo, text\n1boy, sign, text\n",
    "yes\nno\n2\nhot dog\n",
    "a sign that says 'image, caption'\n",
]


def refused(path: Path, words: str) -> None:
    with pytest.raises(DataError, match=words):
        RowFile(path)
    with pytest.raises(DataError, match=words):
        list(read_rows("txt", path))


@pytest.mark.parametrize("name", [*TABLES, *JSON, *NAMES])
def test_what_is_no_plain_text_is_refused_with_its_reader(tmp_path: Path, name: str) -> None:
    path = tmp_path / "captions.txt"
    path.write_text((TABLES | JSON | NAMES)[name], encoding="utf-8")
    refused(path, "close convert csv" if name in TABLES else "JSON" if name in JSON else "list of file names")


@pytest.mark.parametrize("name", [*TABLES, *JSON])
def test_captions_beside_pictures_are_plain_text_too(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text((TABLES | JSON)[name], encoding="utf-8")
    with pytest.raises(DataError, match="expected one caption a line"):
        list(read_rows("folder", tmp_path))


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "captions.txt"
    path.write_text(text, encoding="utf-8")
    assert [row.source[0] for row in RowFile(path)] == text.splitlines()
    assert [row["source"] for row in read_rows("txt", path)] == text.splitlines()
