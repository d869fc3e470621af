"""Films with captions: MSR-VTT and MSVD.

Xu et al. (2016), "MSR-VTT: A Large Video Description Dataset for Bridging Video and Language"; Chen and Dolan (2011), "Collecting
Highly Parallel Data for Paraphrase Evaluation".
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from close.data.columns import Skip
from close.data.readers.base import READERS, Reader, Values, get, text
from close.data.readers.json_stream import json_items
from close.data.text import TextFile
from close.errors import DataError, shown

__all__ = ["MsrVtt", "Msvd"]


class _Films(Reader):
    """A row for each caption, or for each film with its captions as references; `image` is the film's frames."""

    uses: ClassVar[tuple[str, ...]] = ("images", "per", "split", "frames")
    ending: ClassVar[str]

    def by_film(self, captions: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Records (film, captions, id) as `per` says: of films, captions are held in memory."""
        films: dict[str, tuple[str, list[str]]] = {}
        counts: dict[str, int] = {}
        for where, record in captions:
            if isinstance(record, (DataError, Skip)):
                yield where, record
                continue
            film, caption, name = record
            number = counts[film] = counts.get(film, -1) + 1
            if self.per == "image":
                films.setdefault(film, (where, []))[1].append(caption)
            else:
                yield where, (film, [caption], name or f"{film}#{number}")
        for film, (where, own) in films.items():
            yield where, (film, own, film)

    def row(self, record: Any, where: str) -> Values:
        film, captions, name = record
        values: Values = {"id": name, "group": film, "image": self.film(film, self.ending, where)}
        return values | ({"references": captions} if self.per == "image" else {"source": captions[0]})


@READERS.register("msr-vtt")
class MsrVtt(_Films):
    """`{"videos": [{"video_id", "split", …}], "sentences": [{"video_id", "sen_id", "caption"}]}`; films are `video0.mp4`.

    Captions stream; of each film its split is held in memory.
    """

    reads = "MSR-VTT's JSON: train_val_videodatainfo.json, test_videodatainfo.json"
    ending = ".mp4"

    def records(self) -> Iterator[tuple[str, Any]]:
        encoding, splits = self.options.encoding, dict[str, str]()
        for where, video in json_items(self.path, "videos", encoding=encoding):
            name = text(video, "video_id", where)  # first: it says that a record is no object
            splits[name] = str(video.get("split", ""))

        def captions() -> Iterator[tuple[str, Any]]:
            for where, sentence in json_items(self.path, "sentences", encoding=encoding):
                try:
                    film, caption = (text(sentence, key, where) for key in ("video_id", "caption"))
                    if film not in splits:
                        raise DataError(f"{where}: 'video_id' is {shown(film)}, but no video has that id")
                    self.in_split(splits[film])
                    yield where, (film, caption, f"{film}#{get(sentence, 'sen_id', (int, str), where)}")
                except (DataError, Skip) as error:
                    yield where, error

        yield from self.by_film(captions())


@READERS.register("msvd")
class Msvd(_Films):
    """Films are `VIDEO_START_END.avi`, as the text file names them, which is English; the table has many languages."""

    reads = "MSVD's captions: AllVideoDescriptions.txt, video_corpus.csv"
    uses: ClassVar[tuple[str, ...]] = ("images", "per", "frames", "language")
    ending = ".avi"

    def records(self) -> Iterator[tuple[str, Any]]:
        file = TextFile(self.path, self.options.encoding)
        yield from self.by_film(self._table(file) if self.path.suffix.lower() == ".csv" else self._lines(file))

    def _lines(self, file: TextFile) -> Iterator[tuple[str, Any]]:
        """`vid_0_5 a man is cooking`; lines that begin with # are remarks."""
        for number, line in enumerate(file.lines(), 1):
            where, words = f"{self.path}:{number}", line.split(maxsplit=1)
            if not words or words[0].startswith("#"):
                continue
            try:
                file.check(line, where)
                if len(words) < 2:
                    raise DataError(f"{where}: expected a film's name and a caption, found {shown(line.strip())}")
                yield where, (words[0], words[1].strip(), "")
            except DataError as error:
                yield where, error

    def _table(self, file: TextFile) -> Iterator[tuple[str, Any]]:
        """`VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description`."""
        wanted = (self.options.language or "English").lower()
        for where, record in _records(file):
            try:
                if isinstance(record, DataError):
                    raise record
                language = text(record, "Language", where)
                if language.lower() != wanted:
                    raise Skip(f"language {language}")
                film = "_".join(text(record, key, where) for key in ("VideoID", "Start", "End"))
                yield where, (film, text(record, "Description", where), "")
            except (DataError, Skip) as error:
                yield where, error


def _records(file: TextFile) -> Iterator[tuple[str, Any]]:
    """The lines of a table with a header, by its names."""
    reader = csv.reader(file.lines(newline=""))
    try:
        names = next(reader, [])
        for cells in reader:
            where = f"{file.path}:{reader.line_num}"
            try:
                file.check(" ".join(cells), where)
                if any("\n" in cell for cell in cells):
                    raise DataError(f"{where}: a cell of several lines, expected one; close the quote that opens it")
                if len(cells) != len(names):
                    told = f"{len(cells)} cells, expected {len(names)}; put a cell that has commas into quotes"
                    raise DataError(f"{where}: {told}")
                yield where, dict(zip(names, cells, strict=True))
            except DataError as error:
                yield where, error
    except csv.Error as error:
        raise DataError(f"{file.path}:{reader.line_num}: no table ({error})") from None
