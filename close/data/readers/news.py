"""VisualNews: a list of `{"id", "caption", "image_path", "article_path", "topic", "source"}`, each article in a text file.

Liu et al. (2021), "Visual News: Benchmark and Challenges in News Image Captioning".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from close.data.readers.base import READERS, Reader, Values, get, text
from close.data.readers.json_stream import json_items
from close.errors import DataError, shown
from close.io.files import below, check_file

__all__ = ["VisualNews"]


@READERS.register("visualnews")
class VisualNews(Reader):
    """Source and target the caption, context the article, white space made single. Streams.

    Articles are looked for beside the JSON file, or in `images`, where the pictures are.
    """

    reads = "VisualNews' data.json, with the articles in files beside it"

    def records(self) -> Iterator[tuple[str, Any]]:
        yield from json_items(self.path, None, encoding=self.options.encoding)

    def row(self, record: Any, where: str) -> Values:
        name = get(record, "article_path", str, where)
        article = below(self.pictures, name)
        if article is None:
            raise DataError(f"{where}: the article {shown(name)} is not below {self.pictures}")
        try:
            check_file(article, "a text")
            content = " ".join(Path(article).read_text(encoding="utf-8-sig").split())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{where}: the article {article} can't be read ({error.__class__.__name__})") from None
        if not content:
            raise DataError(f"{where}: the article {article} is empty")
        caption = text(record, "caption", where)
        return {
            "id": get(record, "id", (int, str), where),
            "source": caption,
            "context": content,
            "target": caption,
            "image": self.image(get(record, "image_path", str, where).removeprefix("./"), where),
            "meta": {key: record[key] for key in ("topic", "source") if key in record},
        }
