"""Text files as they come: which encoding, which lines, and whether plain text is plain."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from close.data.columns import Skip, is_known
from close.errors import DataError
from close.io.files import check_file

__all__ = ["FIRST_LINES", "NAMED", "TextFile", "check_plain", "not_plain", "plain_caption", "plain_lines", "token"]

FIRST_LINES = 20
"""Lines that are looked at to tell what a file is."""

_SUFFIX = r"\.(?:avif|bmp|gif|hei[cf]|hif|jfif|jpe?g|png|tiff?|webp|flac|mp3|ogg|wav|avi|mkv|mov|mp4|webm)(?:\.\d+)?"
NAMED = re.compile(rf"""["']?[^,;|\t]*{_SUFFIX}(?:\#\d+)?["']?\s*[,;|\t ]\s*\S""", re.IGNORECASE)
"""A line that begins with the name of a picture, recording or film."""
_TOKEN = re.compile(rf"(\S+?{_SUFFIX})(\#\d+)?[\t ]", re.IGNORECASE)
_FILE = re.compile(rf"""["']?\S*[^\s.]{_SUFFIX}["']?""", re.IGNORECASE)
_CELL = re.compile(r"""["']?[\w#.-]+["']?""")
_BESIDE = ("url", "image_url", "link", "split", "index", "key", "number", "width", "height")
"""Names that columns have in tables of captions, and that are no key of a row."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNMARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


class TextFile:
    """A text file, decoded as a stream; bytes that are not in its encoding come as halves of characters, which `check` tells.

    Args:
        encoding: any name of it; a byte-order mark decides between the spellings of Unicode, and is taken off.
    Attributes:
        codec: the encoding that it is read in. start: the bytes of the mark.
    Raises:
        MissingError, DataError: no such file, or no file that can be read from start to end (a folder, a pipe).
    """

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        check_file(path)
        self.path = path
        name = codecs.lookup(encoding).name
        with path.open("rb") as file:
            head = file.read(4)
        marked = ((codec, len(mark)) for mark, codec in _MARKS if head.startswith(mark) and name.startswith("utf"))
        self.codec, self.start = next(marked, (_UNMARKED.get(name, name), 0))
        self._errors = "surrogatepass" if self.codec.startswith(("utf-16", "utf-32")) else "surrogateescape"

    def lines(self, newline: str = "\n") -> Iterator[str]:
        """Yield the lines with their ends; `newline=""` also takes the ends of other systems, as a table has them."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            text = io.TextIOWrapper(file, encoding=self.codec, errors=self._errors, newline=newline)
            try:
                yield from text
            except UnicodeError as error:
                raise DataError(f"{self.path}: not {self.codec.upper()} ({error}); it is in another encoding") from None

    def decode(self, content: bytes) -> str:
        """Some of the file's bytes as text."""
        return content.decode(self.codec, self._errors)

    def size(self, text: str) -> int:
        """The bytes that a part of the file's text takes."""
        return len(text) if text.isascii() and self.codec == "utf-8" else len(text.encode(self.codec, self._errors))

    def check(self, text: str, where: str) -> None:
        """Refuse text that is not in the file's encoding.

        Raises:
            DataError: names the byte of the text.
        """
        if text.isascii() or not (half := re.search("[\ud800-\udfff]", text)):
            return
        form = {".txt": "txt", ".jsonl": "jsonl", ".json": "FORMAT"}.get(self.path.suffix.lower(), "csv")
        hint = f"save it as UTF-8, or say what it is: close convert {form} IN OUT --encoding cp1252 (or latin-1, …)"
        raise DataError(
            f"{where}: not {self.codec.upper()} at byte {self.size(text[: half.start()])} of the line; "
            + (hint if self.codec == "utf-8" else "the file is in another encoding")
        )


def plain_lines(file: TextFile, *, captions: bool = True) -> Iterator[tuple[int, int, str]]:
    """Yield (number, position in bytes, line); without empty ones, but for those between captions, which are told."""
    position, empty = file.start, list[tuple[int, int, str]]()
    for number, line in enumerate(file.lines("" if captions else "\n"), 1):
        if line.strip():
            yield from empty
            empty.clear()
            yield number, position, line
        elif captions:
            empty.append((number, position, line))
        position += file.size(line)


def plain_caption(line: str) -> str:
    """The caption of a line.

    Raises:
        Skip: there is none.
    """
    if caption := line.strip():
        return caption
    raise Skip("an empty line")


def check_plain(file: TextFile) -> None:
    """Refuse a text file that does not hold one caption a line.

    Raises:
        DataError: says what it looks like, and what reads that.
    """
    if (found := not_plain(list(islice(file.lines(""), FIRST_LINES)))) is not None:
        raise DataError(f"{file.path}: expected one caption a line, but this looks like {found}")


def not_plain(lines: Sequence[str]) -> str | None:
    """What the first lines of a text file are, where they are no captions; and what reads it.

    Args:
        lines: the first ones of the file, `FIRST_LINES` of them or fewer.
    """
    given = [line.strip() for line in lines if line.strip()]
    if not given:
        return None
    if re.match(r'[\[{]\s*(?:$|["\[{\]}])', given[0]):
        return "JSON: name it .jsonl if each line is one row, else `close convert` reads it (coco, karpathy, …)"
    if all(NAMED.match(line) for line in given) or _is_table(given):
        return "a table: `close convert csv` reads it, as does everything else once its name ends in .csv"
    if all(_FILE.fullmatch(line) for line in given):
        return "a list of file names: `close convert folder` and `close embed images` take the folder of the files"
    return None


def _is_table(given: list[str]) -> bool:
    """Whether the first line names columns, or a tab or bar parts each line into as many cells."""
    for delimiter in "\t|,;":
        names = [name.strip() for name in given[0].split(delimiter)]
        parts = sorted(line.count(delimiter) for line in given)
        if len(names) == 1 or parts[len(parts) // 2] < len(names) - 1:
            continue
        if delimiter == "\t" or (delimiter == "|" and len(parts) > 1 and parts[0] == parts[-1]):
            return True
        cells = [name.strip("\"'").lower() for name in names]
        if all(map(_CELL.fullmatch, names)) and sum(cell in _BESIDE or is_known(cell) for cell in cells) > 1:
            return True
    return False


def token(line: str) -> tuple[str, str, str] | None:
    """Name, number ("#0") and caption of a line of Flickr8k's and Flickr30k's token files; None where it is none."""
    found = _TOKEN.match(line)
    caption = line[found.end() :].strip() if found else ""
    return (found[1], found[2] or "", caption) if found and caption and "\t" not in caption else None
