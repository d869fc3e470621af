"""Where the evaluations of a run lie, and what tells one from another: rows, pictures, and tables that were given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from close.data.rows import Modality, RowFile
from close.data.shards import open_rows
from close.errors import DataError, MissingError
from close.evaluation.metrics import METRICS
from close.io.keys import text_key
from close.io.parts import file_of
from close.io.plain import read_plain
from close.vectors.table import EmbeddingTable

__all__ = ["evaluation_folder", "is_fed", "kept_scores", "looked_at", "table_sum"]


def kept_scores(file: Path) -> dict[str, Any]:
    """What a file of scores says; nothing where it is not there, or is damaged: scores can be made again."""
    try:
        found = read_plain(file)
    except (MissingError, DataError):
        return {}
    scores = found.get("scores")
    keys = [score.key for score in METRICS.scores()]
    if not isinstance(scores, dict) or not all(
        isinstance(scores.get(key, 0.0), (int, float, type(None))) for key in keys
    ):
        return {}
    return found


def evaluation_folder(
    folder: Path,
    data: str | Path,
    sha256: str,
    modality: Modality,
    decode: str | None = None,
    limit: int | None = None,
    pictures: Callable[[], dict[str, str]] | None = None,
    given: EmbeddingTable | None = None,
) -> Path:
    """Where the evaluation of a data file lies, or goes: by its name, and where another has that by what it is of.

    Args:
        folder: of a run's evaluations. sha256: of the data file's rows. limit: of its first examples alone.
        pictures: what `looked_at` says of these. given: the table that it was fed, where it was no encoder.
    """
    ways = [modality, *([decode] if decode else []), *([f"first{limit}"] if limit else [])]
    stem, more = Path(data).stem, "-".join(ways)
    pictures = pictures or cache(lambda: looked_at(open_rows(data), modality, given))
    others = sorted(folder.glob(f"{escape(stem)}-{sha256[:8]}-{'?' * 16}-{more}"))  # of one sum, by their pictures
    for place in (folder / f"{stem}-{more}", folder / f"{stem}-{sha256[:8]}-{more}", *others):
        found = kept_scores(place / "scores.json")
        alike = found.get("data_sha256") == sha256
        if not found:
            return place
        if is_fed(found, given) and (
            _is_one_file(found, data, alike) or (alike and pictures().items() <= found.items())
        ):
            return place
    return folder / "-".join((stem, sha256[:8], *pictures().values(), more))


def looked_at(rows: RowFile, modality: Modality, given: EmbeddingTable | None = None) -> dict[str, str]:
    """What tells the state of the pictures that are looked at, which rows only name: sizes and times of change.

    Their names the rows' sum tells; where they lie does not matter, so that data which is moved with its times stays known.
    In the encoder's place it tells a table's.
    """
    if given is not None:
        return {f"{modality}s_key": table_sum(given)[:16]}
    if modality != "image":
        return {}
    files = dict.fromkeys(file_of(path) for path in dict.fromkeys(path for row in rows for path in row.images))
    return {"images_key": f"{text_key(str([_state(file) for file in files])):016x}"}


def table_sum(table: EmbeddingTable) -> str:
    """What tells a table from others: of what it was made."""
    return str(table.info.get("plan"))


def is_fed(found: Mapping[str, Any], given: EmbeddingTable | None) -> bool:
    """Whether an evaluation was fed this table, or no table."""
    fed = found.get("vectors")
    known = str(fed.get("sum")) if isinstance(fed, Mapping) else None
    return known == (None if given is None else table_sum(given))


def _state(file: Path) -> list[int]:
    """Size and time of change; nothing of what is no file."""
    try:
        about = file.stat()
    except (OSError, ValueError):
        return []
    return [about.st_size, about.st_mtime_ns]


def _is_one_file(found: Mapping[str, Any], data: str | Path, alike: bool) -> bool:
    """Whether an evaluation is of this place, whose content may have changed; a name from another folder says little."""
    known = found.get("data_place", found.get("data"))
    if not isinstance(known, str) or not (alike or Path(known).is_absolute()):
        return False
    return Path(known).resolve() == Path(data).resolve()
