"""Embedding tables: made once, straight to disk, resumable, memory-mapped when read.

A table is a folder:

    table.json    format, encoder, fingerprint, modality, dim, rows, vectors, failed, checksums, plan (hash of what was embedded),
                  parts (stretches of rows, [first, behind the last], that are each one of several of a row of the data);
                  of an encoder of one's own, plugins and plugin_sums (`close.plugins.plugins_said`)
    vectors.npy   (U, D) float32 unit rows, one for each distinct text or file
    norms.npy     (U,) float32: the raw norms, so that means of raw vectors can be formed
    keys.npy      (U,) uint64: a hash of each distinct text or file
    index.npy     (N,) int64: the vector of each row
    ids.bin, ids.npy   the row ids in UTF-8 and their (N + 1,) offsets
    checksums.json     CRC-32 of every file above; of the vectors, of each block of about 1 MiB

It is built in `NAME.partial` and renamed when it is whole, so that a folder without that ending is a whole table.

A damaged table gives an error, and never other vectors: opening it verifies all but the vectors (about 1 GB/s: a third of a
second for ten million rows), and each block of vectors is verified when it is first read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from close.data.rows import Modality
from close.errors import DataError, MismatchError, MissingError, RecipeError, reason, shown, warn_once
from close.io.files import read_json, whole, write_text
from close.io.keys import text_key
from close.io.media import picture_suffixes
from close.plugins import tell_changed
from close.vectors.arrays import CheckedRows, checksums, map_array, vectors_sum, write_rows
from close.vectors.checked import as_array, refuse_bad_rows
from close.vectors.parts import JoinedArrays, find_parts, is_plain

__all__ = ["EmbeddingTable", "tell_cut"]

FORMAT = 1
CHUNK = 4096
VECTORS, FAILURES, CHECKSUMS = "vectors.npy", "failures.jsonl", "checksums.json"
FILES = "ids.bin", "ids.npy", "index.npy", "keys.npy", "norms.npy", "table.json", VECTORS

_log = logging.getLogger(__name__)


@cache
def _tell_unchecked(folder: Path) -> None:
    _log.warning(
        "%s: made before tables had checksums, so that damage in it may not be seen; remove it and make it anew", folder
    )


class Ids(Sequence[str]):
    """Row ids, memory-mapped.

    Raises:
        MissingError: a file of theirs is gone. DataError: the files do not fit together, or an id is not UTF-8.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets = map_array(folder / "ids.npy", np.int64, 1)
        blob = folder / "ids.bin"
        if not blob.is_file():
            raise MissingError(f"{blob}: no such file")
        self._blob = np.memmap(blob, dtype=np.uint8, mode="r") if blob.stat().st_size else np.empty(0, np.uint8)
        ends = self._offsets[[0, -1]].tolist() if len(self._offsets) else None
        if ends != [0, len(self._blob)] or (np.diff(self._offsets) < 0).any():
            raise DataError(f"{blob}: the ids' places in it are wrong")

    def __reduce__(self) -> Any:
        return Ids, (self._folder,)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start, end = self._offsets[index % len(self) :][:2]
        try:
            return bytes(self._blob[start:end]).decode()
        except UnicodeDecodeError:
            raise DataError(f"{self._folder}: the id of row {index} is not UTF-8; remove it and make it anew") from None


def _mapped(place: Path) -> Any:
    return JoinedArrays(find_parts(place)) if place.is_dir() else map_array(place)


def how_made(path: Path, modality: Modality | None = None) -> str:
    """What to do where something else than embeddings is given, for a message."""
    if is_plain(path):
        return f"it is of vectors; `close embed vectors {path} ROWS --encoder … --out TABLE` makes a table"
    what = "a file" if path.is_file() else "a folder of something else"
    seen = path.is_dir() or path.suffix.lower() in picture_suffixes()
    pictures = modality == "image" or (modality is None and seen)
    verb = "close embed images" if pictures else "close embed text"
    return f"it is {what}; `{verb} {path} --encoder … --out TABLE` makes a table"


class EmbeddingTable:
    """A whole table, memory-mapped. `table[i:j]` and `table[array]` are (n, D) float32 unit rows.

    Attributes:
        ids: row ids (N).
        encoder: name of the encoder. fingerprint: of its weights. modality: "text" or "image".
        vectors: (U, D) the distinct vectors. norms: (U,). index: (N,) vector of each row.
    Raises:
        MissingError: there is no table. DataError: it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        if not (self.path / "table.json").is_file():
            partial = Path(f"{self.path}.partial")
            hint = " (an unfinished one is there: run the same `close embed` again)" if partial.is_dir() else ""
            if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir())):
                hint = f" ({how_made(self.path)})"
            raise MissingError(f"{self.path}: no embedding table there{hint}")
        self.info = read_json(self.path / "table.json")
        sums = self._verified()
        tell_changed(self.path.resolve(), self.info, "this table was made, and its encoder may give other vectors now")
        try:
            self.encoder: str = self.info["encoder"]
            self.fingerprint: str = self.info["fingerprint"]
            self.modality: Modality = self.info["modality"]
            self.dim: int = self.info["dim"]
            sizes = self.info["rows"], self.info["vectors"], self.dim
            self.ids = Ids(self.path)
            self.vectors = CheckedRows(self.path / "vectors.npy", sums)
            self.norms = map_array(self.path / "norms.npy", np.float32, 1)
            self.keys = map_array(self.path / "keys.npy", np.uint64, 1)
            self.index = map_array(self.path / "index.npy", np.int64, 1)
        except (KeyError, TypeError, MissingError, DataError) as error:
            raise DataError(
                f"{self.path}: the table is damaged ({reason(error)}); remove it and make it anew"
            ) from None
        rows, vectors = len(self.ids), len(self.vectors)
        inside = rows and vectors and self.index.min() >= 0 and self.index.max() < vectors
        if sizes != (rows, *self.vectors.shape) or not inside or len(self.index) != rows:
            raise DataError(f"{self.path}: the embedding table's files do not fit together; remove it and make it anew")
        if not len(self.norms) == len(self.keys) == vectors or not ((self.norms > 0) & np.isfinite(self.norms)).all():
            raise DataError(
                f"{self.path}: the embedding table's norms and keys do not fit it; remove it and make it anew"
            )
        self._order: NDArray[np.int64] | None = None

    def _verified(self) -> list[int] | None:
        """Compare all files but the vectors with their checksums; those of the vectors."""
        if not isinstance(self.info, dict):
            raise DataError(f"{self.path}: table.json says nothing of a table; remove it and make it anew")
        file = self.path / CHECKSUMS
        if not file.is_file() and "checksums" not in self.info:
            _tell_unchecked(self.path)
            return None
        sums = read_json(file)
        names = {name for name in (*FILES, FAILURES) if (self.path / name).is_file()}
        damaged = {*(sums if isinstance(sums, dict) else ())} ^ names | {*FILES} - names
        damaged = damaged or {name for name in names - {VECTORS} if checksums(self.path / name) != sums[name]}
        if damaged:
            raise DataError(
                f"{self.path}: the embedding table is damaged ({min(damaged)} is not as it was); remove it and make it anew"
            )
        return sums[VECTORS] if isinstance(sums[VECTORS], list) else []

    def verify(self) -> None:
        """Read every block of the vectors.

        Raises:
            DataError: one is damaged.
        """
        for start in range(0, len(self.vectors), CHUNK):
            _ = self.vectors[start : start + CHUNK]

    def __reduce__(self) -> Any:
        return type(self), (self.path,)  # other processes map the files for themselves

    def __repr__(self) -> str:
        about = f"{len(self)} rows, dim={self.dim}, modality={self.modality!r}, encoder={self.encoder!r}"
        return f"EmbeddingTable({str(self.path)!r}: {about})"

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self.index), self.dim

    @property
    def parts(self) -> NDArray[np.bool_] | None:
        """(N,) whether a row is one of several of a row of the data (`x#0`, `x#1`, …); None of a table that does not say."""
        found = np.zeros(len(self), np.bool_)
        try:
            for first, behind in self.info["parts"]:
                found[first:behind] = True
        except KeyError:
            return None
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.path}: the table is damaged ({reason(error)}); remove it and make it anew"
            ) from None
        return found

    @property
    def failures(self) -> list[dict[str, str]]:
        """What could not be embedded and is left out: {"id", "reason"} each."""
        path = self.path / FAILURES
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            return [{"id": str(line["id"]), "reason": str(line["reason"])} for line in map(json.loads, lines)]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{path}: damaged ({reason(error)}); remove it and make it anew") from None

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        return self.vectors[self.index[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.float32]:
        each = len(self.index) == len(self.vectors) and bool((self.index == np.arange(len(self.index))).all())
        rows = self.vectors[:] if each else self[:]  # a vector each: mapped, as they lie on disk
        return np.array(rows, dtype=dtype) if copy else np.asarray(rows, dtype=dtype)

    def raw(self, vectors: Any) -> NDArray[np.float32]:
        """Distinct vectors by position, with their raw norms."""
        return self.vectors[vectors] * self.norms[vectors][..., None]

    def locate(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Positions among the distinct vectors of texts that were embedded.

        Raises:
            DataError: a text is not in the table.
        """
        if self._order is None:
            self._order = np.argsort(self.keys, kind="stable")
        wanted = np.array([text_key(text) for text in texts], dtype=np.uint64)
        place = np.searchsorted(self.keys, wanted, sorter=self._order).clip(max=len(self.keys) - 1)
        found = self._order[place]
        missing = np.flatnonzero(self.keys[found] != wanted)
        if len(missing):
            text = texts[missing[0]]
            raise DataError(f"{self.path}: the text {text!r} is not in this table; embed the data file again")
        return found

    def export(self, path: str | Path) -> None:
        """Write the (N, D) rows block by block: as a plain `.npy`, with the ids in `.ids.txt`, or as `.parquet` (id, vector).

        Raises:
            RecipeError: the name ends otherwise.
        """
        target = Path(path)
        if target.suffix not in (".npy", ".parquet"):
            raise RecipeError(f"{target}: rows are exported to a name that ends in .npy or .parquet")
        with whole(target) as partial:
            if target.suffix == ".parquet":
                self._write_parquet(partial)
                return
            write_rows(partial, self.shape, (self[start : start + CHUNK] for start in range(0, len(self), CHUNK)))
            names = (name.replace("\n", "\\n").replace("\r", "\\r") for name in self.ids)
            write_text(target.with_suffix(".ids.txt"), "".join(f"{name}\n" for name in names))

    def _write_parquet(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        vector = pa.list_(pa.float32(), self.dim)
        schema = pa.schema(
            {"id": pa.string(), "vector": vector}, {"encoder": self.encoder, "fingerprint": self.fingerprint}
        )
        with parquet.ParquetWriter(path, schema) as writer:
            for start in range(0, len(self), CHUNK):
                rows = self[start : start + CHUNK]
                ids = [self.ids[i] for i in range(start, start + len(rows))]
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=vector)
                writer.write_table(pa.table([pa.array(ids), vectors], schema=schema))

    @classmethod
    def from_numpy(
        cls,
        vectors: Any,
        folder: str | Path,
        *,
        encoder: str = "unknown",
        fingerprint: str = "unknown",
        modality: Modality = "text",
        ids: Sequence[str] | None = None,
        texts: Sequence[str] | None = None,
        of_rows: bool = False,
        rows_sum: str | None = None,
    ) -> EmbeddingTable:
        """A table of vectors made elsewhere; rows are brought to unit length and their norms kept.

        Rows of unit length, to 1e-6, stay as they are to the bit: an exported table comes back as the same vectors.

        Args:
            vectors: (N, D) array, memory map, or path of a `.npy` or of a folder of such parts.
            modality: "text" or "image". ids: of the rows, texts or whole numbers; their places without them.
            texts: what was embedded, so that training finds the vectors by text.
            of_rows: the ids are of a data file's rows, which say what is a part of one (`PartName`).
            rows_sum: that file's SHA-256.
        Raises:
            DataError: not (N, D) numbers, or a row is zero or not finite (named); an id or a text is none. Nothing is left in the
                folder's place.
            OutputExistsError: the folder is there already, and holds something else.
        """
        rows: Any = as_array(vectors, "vectors") if not isinstance(vectors, (str, Path)) else _mapped(Path(vectors))
        where = f"{vectors}: " if isinstance(vectors, (str, Path)) else ""
        if len(rows.shape) != 2 or not rows.shape[0] or rows.dtype.kind not in "fiu":
            raise DataError(f"{where}embeddings are (N, D) numbers with N ≥ 1, not {rows.dtype} of shape {rows.shape}")
        named = ids if ids is not None else getattr(rows, "names", None)
        names: list[Any] = [
            str(name) if isinstance(name, Integral) else name for name in (range(len(rows)) if named is None else named)
        ]
        if modality not in get_args(Modality):
            raise RecipeError(f"modality is 'text' or 'image', not {shown(modality)}")
        for what, given in (("ids", names), ("texts", texts)):
            if given is None:
                continue
            for place, text in enumerate(given):
                if not isinstance(text, str):
                    raise DataError(f"{what} are texts, and that of row {place} is {shown(text)}")
            if len(given) != len(rows):
                raise MismatchError(f"{len(given)} {what} for {len(rows)} vectors")
        for start in range(0, len(rows), CHUNK):
            norms = np.linalg.norm(np.asarray(rows[start : start + CHUNK], dtype=np.float32), axis=1)
            refuse_bad_rows(norms, slice(start, start + CHUNK), f"{where or f'{folder}: '}the vector of", len(rows))
        keys = [text_key(text) for text in (texts if texts is not None else names)]

        from close.vectors.build import TableBuilder

        def encode(positions: NDArray[np.int64]) -> tuple[NDArray[np.float32], dict[int, str]]:
            return np.asarray(rows[positions], dtype=np.float32), {}

        about = {"encoder": encoder, "fingerprint": fingerprint, "modality": modality, "dim": rows.shape[1]}
        about |= {"sha256": vectors_sum(rows)} | ({"rows_sum": rows_sum} if rows_sum else {})
        builder = TableBuilder(folder, about, distinct=False, of_rows=of_rows, as_given=True)
        return builder.build(zip(names, keys, strict=True), encode)


def tell_cut(path: Path, table: EmbeddingTable) -> None:
    """Say how many texts of a data file the encoder has cut: once, however often a run of runs opens the table."""
    if cut := table.info.get("cut"):
        from close.encoders.base import told_cut  # torch, which a look at a table need not load

        warn_once(_log, f"{path}: {told_cut(cut, table.info['vectors'], table.info['context'])}")
