"""Embedding tables built: in chunks, straight to disk, going on where a stopped build was."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.data.rows import PartName, Row, RowFile, named_images, named_sources
from close.data.shards import is_rows, open_rows
from close.encoders import ContrastiveEncoder, as_encoder
from close.errors import CloseError, DataError, OutputExistsError, RecipeError, written
from close.io.files import read_json, write_json
from close.io.jobs import clear, exclusively, is_temporary, not_begun_here
from close.io.keys import file_key, text_key
from close.io.media import media_below, some
from close.io.plain import read_plain
from close.vectors.arrays import checksums, map_array, rows_in_block
from close.vectors.checked import refuse_bad_rows
from close.vectors.made_by import about_vectors
from close.vectors.table import CHECKSUMS, CHUNK, FAILURES, FILES, FORMAT, VECTORS, EmbeddingTable, Ids, tell_cut

__all__ = ["Sources", "TableBuilder", "embed_images", "embed_texts", "find_images", "images_of"]

Progress = Callable[[int, int], None]
Features = Any
"""(n, D) float32 array or tensor."""
Encoded = tuple[Features, dict[int, str]] | tuple[Features, dict[int, str], int]
"""Features, the reason of each that failed, and of texts how many were cut."""
Encode = Callable[[NDArray[np.int64]], Encoded]
Engine = Callable[[Encode, Sequence[NDArray[np.int64]]], Iterable[Encoded]]
"""What runs the encoding of chunks: `map`, or something that spreads it and keeps its order (`close.io.cluster`)."""
IMAGE_CHUNK = 256
"""Files between two marks on disk, and for a worker at a time. One accelerator is through with pictures at once: `CHUNK`."""
UNIT = 1e-6
"""How far from 1 the length of a row may be that was brought to unit length in float32."""
_SYSTEMS = re.compile(r"\.nfs\w+|\.fuse_hidden\w+|\.DS_Store|\._.+")
"""Hidden files that the system itself puts beside others."""


class TableBuilder:
    """Builds a table in chunks of distinct items; a killed build continues at the chunk it was in.

    Args:
        folder: the table's folder; must not exist, or hold the same table.
        about: encoder, fingerprint, modality, dim, and whatever else decides what the vectors are.
        chunk: items between two marks on disk.
        distinct: give equal keys one vector.
        context: tokens of a text that the encoder reads; the table keeps it, and how many of the texts were cut.
        of_rows: the ids are of a data file's rows, which say what is a part of one (`PartName`); the table keeps that.
        as_given: rows that are of unit length already, up to rounding, stay as they are to the bit.
    """

    def __init__(
        self,
        folder: str | Path,
        about: dict[str, Any],
        *,
        chunk: int = CHUNK,
        distinct: bool = True,
        context: int | None = None,
        of_rows: bool = True,
        as_given: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        self.state = self.folder.with_name(self.folder.name + ".partial.json")
        self.about, self.chunk, self.distinct = about, chunk, distinct
        self.context, self.of_rows, self.as_given = context, of_rows, as_given

    def build(
        self,
        rows: Iterable[tuple[str, int]],
        encode: Encode,
        progress: Progress | None = None,
        engine: Engine = map,
    ) -> EmbeddingTable:
        """Encode what is new and return the whole table.

        Args:
            rows: (id, key) of each row.
            encode: positions of rows → (n, D) raw features, and the reason of each (by position) that failed.
            progress: called with (done, all) distinct items, first before any work.
            engine: runs `encode` over the chunks.
        Raises:
            OutputExistsError: the folder holds something else, or another process is building it.
            DataError: a vector is zero or not finite; every item failed.
        """
        with exclusively(self.folder, "is being built"):
            ids, first, index, keys, parts = self._plan(rows)
            if self.folder.exists():
                return self._existing()
            state = self._prepare(ids, len(first))
            if progress:
                progress(state["done"], len(first))
            starts = range(state["done"], len(first), self.chunk)
            chunks = [first[start : start + self.chunk] for start in starts]
            for start, chunk, (features, failures, *cut) in zip(starts, chunks, engine(encode, chunks), strict=True):
                self._write(start, self._check(features, chunk, failures))
                state["failures"] |= {str(position): reason for position, reason in failures.items()}
                state["done"] = start + len(chunk)
                state["cut"] = state.get("cut", 0) + sum(cut)
                write_json(self.state, state)
                if progress:
                    progress(state["done"], len(first))
            return self._finish(first, index, keys, parts, state)

    def _plan(
        self, rows: Iterable[tuple[str, int]]
    ) -> tuple[list[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        blob, offsets, keys, parts = bytearray(), array("q", [0]), array("Q"), bytearray()
        for name, key in rows:
            blob += name.encode("utf-8", "backslashreplace")
            offsets.append(len(blob))
            keys.append(key)
            parts.append(isinstance(name, PartName))
        all_keys = np.frombuffer(keys, dtype=np.uint64)
        if self.distinct:
            _, first, inverse = np.unique(all_keys, return_index=True, return_inverse=True)
            order = np.argsort(first)
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            first, index = first[order], rank[inverse]
        else:
            first = index = np.arange(len(all_keys))
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode())
        for part in (blob, offsets, keys):
            digest.update(memoryview(part))
        self.plan = digest.hexdigest()
        flags = np.frombuffer(parts, dtype=np.bool_)
        return [blob, offsets], first.astype(np.int64), index.astype(np.int64), all_keys[first], flags

    def _existing(self) -> EmbeddingTable:
        table = EmbeddingTable(self.folder) if (self.folder / "table.json").is_file() else None
        if table is None or table.info.get("plan") != self.plan:
            raise OutputExistsError(f"{self.folder} holds something else; choose another output or remove it")
        self._clear()
        return table

    def _clear(self) -> None:
        """Remove what the build has begun; what lies there and is not of one stays."""
        with suppress(CloseError):
            if self.state.is_file() and "plan" in read_plain(self.state):
                self.state.unlink()
            self._remove(self.partial)

    def _remove(self, folder: Path) -> None:
        """Remove what this build, or one that was only begun, has left.

        Raises:
            OutputExistsError: it is something else.
        """
        if not os.path.lexists(folder):
            return
        held = folder.iterdir() if folder.is_dir() else [Path()]
        names = {path.name for path in held if not (is_temporary(path) or _SYSTEMS.fullmatch(path.name))}
        other = "table.json" in names and read_plain(folder / "table.json").get("plan") != self.plan
        if other or folder.is_symlink() or names - {*FILES, FAILURES, CHECKSUMS}:
            raise not_begun_here(folder)
        shutil.rmtree(folder)

    def _prepare(self, ids: list[Any], count: int) -> dict[str, Any]:
        """The state to continue from; anew where there is none, or where its folder was removed."""
        state = read_json(self.state) if self.state.is_file() else None
        if state is not None and self.partial.is_dir():
            if not _is_state(state, count):
                raise DataError(f"{self.state}: damaged; remove it and {self.partial.name} to start anew")
            if state.get("plan") != self.plan:
                why = "belongs to another job (other data or encoder)"
                raise OutputExistsError(f"{self.partial} {why}; remove it and {self.state.name} to start anew")
            return state
        if state is not None and not (isinstance(state, dict) and "plan" in state):
            raise not_begun_here(self.state)
        self._remove(self.partial)
        self.partial.mkdir()
        (self.partial / "ids.bin").write_bytes(ids[0])
        np.save(self.partial / "ids.npy", np.frombuffer(ids[1], dtype=np.int64))
        for name, shape in (("vectors", (count, self.about["dim"])), ("norms", (count,))):
            np.lib.format.open_memmap(self.partial / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
        state = {"plan": self.plan, "done": 0, "failures": {}}
        write_json(self.state, state)
        return state

    def _check(self, features: Features, rows: NDArray[np.int64], failures: dict[int, str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = np.asarray(features)
        norms = np.linalg.norm(vectors, axis=1)
        read = ~np.isin(rows, list(failures)) if failures else slice(None)
        refuse_bad_rows(norms[read], rows[read], f"{self.folder}: the vector of")
        return vectors

    def _write(self, start: int, vectors: NDArray[np.float32]) -> None:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if self.as_given:
            norms[np.abs(norms - 1) <= UNIT] = 1
        self._put("norms", start, norms)
        self._put("vectors", start, vectors / norms)

    def _put(self, name: str, start: int, values: NDArray[np.float32]) -> None:
        """Plain writes at an offset: pages of a memory map would count as this process's memory."""
        path, row_bytes = self.partial / f"{name}.npy", values[0].nbytes
        array: Any = map_array(path, np.float32, 2 if name == "vectors" else 1)
        with path.open("r+b") as file:
            file.seek(array.offset + start * row_bytes)
            file.write(np.ascontiguousarray(values).tobytes())

    def _finish(
        self,
        first: NDArray[np.int64],
        index: NDArray[np.int64],
        keys: NDArray[np.uint64],
        parts: NDArray[np.bool_],
        state: dict[str, Any],
    ) -> EmbeddingTable:
        """Complete the folder and give it its name; every step may be killed and done again."""
        whole, failed = self.partial, 0
        failures = {int(row): why for row, why in state["failures"].items()}
        if failures:
            kept = ~np.isin(first, list(failures))
            if not kept.any():
                self._clear()
                raise DataError(f"{self.folder}: no item could be embedded; the first: {next(iter(failures.values()))}")
            rows = kept[index]
            whole, failed = self._without_failed(kept, rows, failures), int((~rows).sum())
            index, keys, parts = (np.cumsum(kept) - 1)[index[rows]], keys[kept], parts[rows]
        np.save(whole / "index.npy", index)
        np.save(whole / "keys.npy", keys)
        counts: dict[str, Any] = {"rows": len(index), "vectors": len(keys), "failed": failed}
        counts |= {"context": self.context, "cut": state["cut"]} if self.context else {}
        counts |= {"parts": _stretches(parts)} if self.of_rows else {}
        about = {"format": FORMAT, **self.about, **counts, "plan": self.plan, "checksums": "crc32"}
        write_json(whole / "table.json", about)
        write_json(whole / CHECKSUMS, _checksums(whole))
        clear(whole)  # of what a killed one was about to write
        os.replace(whole, self.folder)
        self._clear()
        return EmbeddingTable(self.folder)

    def _without_failed(self, kept: NDArray[np.bool_], rows: NDArray[np.bool_], failures: dict[int, str]) -> Path:
        """A second folder, made from the partial one, that leaves out what failed and lists the reasons."""
        whole = self.partial.with_name(self.folder.name + ".whole")
        self._remove(whole)
        whole.mkdir()
        ids = Ids(self.partial)
        reasons = [{"id": ids[row], "reason": failures[row]} for row in sorted(failures)]
        lines = "".join(json.dumps(reason, ensure_ascii=False) + "\n" for reason in reasons)
        (whole / FAILURES).write_text(lines, encoding="utf-8", errors="backslashreplace")
        names = [ids[int(row)].encode() for row in np.flatnonzero(rows)]
        (whole / "ids.bin").write_bytes(b"".join(names))
        np.save(whole / "ids.npy", np.cumsum([0, *map(len, names)], dtype=np.int64))
        for name in ("vectors", "norms"):
            np.save(whole / f"{name}.npy", map_array(self.partial / f"{name}.npy")[kept])
        return whole


def _stretches(flags: NDArray[np.bool_]) -> list[list[int]]:
    """Where the set flags lie, [first, behind the last] each."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return edges.reshape(-1, 2).tolist()


def _is_state(state: Any, count: int) -> bool:
    """Whether this is what is kept of a build of so many items."""
    if not isinstance(state, dict) or not isinstance(state.get("failures"), dict):
        return False
    counts = state.get("done"), state.get("cut", 0)
    rows = all(row.isdecimal() and isinstance(why, str) for row, why in state["failures"].items())
    return rows and all(type(number) is int and 0 <= number <= count for number in counts)


def _checksums(folder: Path) -> dict[str, list[int]]:
    """Of every file of a table but the one that they are written to."""
    vectors: Any = map_array(folder / VECTORS, np.float32, 2)
    row_bytes = 4 * vectors.shape[1]
    blocks = {VECTORS: (vectors.offset, row_bytes * rows_in_block(row_bytes))}
    names = sorted(path.name for path in folder.iterdir() if path.name in (*FILES, FAILURES))
    return {name: checksums(folder / name, *blocks.get(name, ())) for name in names}


class Sources:
    """The source texts of rows, one after the other, by position."""

    def __init__(self, rows: RowFile) -> None:
        self.rows = rows
        self.starts = np.cumsum([0, *(len(row.source) for row in rows)], dtype=np.int64)

    def named(self) -> Iterator[tuple[str, int]]:
        """(id, key) of each."""
        for row in self.rows:
            for name, text in named_sources(row):
                yield name, text_key(text)

    def texts(self, positions: NDArray[np.int64]) -> list[str]:
        """The texts at some positions."""
        owners = np.searchsorted(self.starts, positions, side="right") - 1
        return [self.rows[int(i)].source[int(p - self.starts[i])] for i, p in zip(owners, positions, strict=True)]


def embed_texts(
    rows: RowFile | str | Path,
    encoder: ContrastiveEncoder | str | Path,
    folder: str | Path,
    *,
    batch_size: int = 256,
    progress: Progress | None = None,
    engine: Engine = map,
) -> EmbeddingTable:
    """The table of the source texts of rows, or of a data file; each distinct text is encoded once.

    Raises:
        OutputExistsError: the folder holds something else, or is being built.
        DataError: no row has a source.
    """
    rows, model = open_rows(rows), as_encoder(encoder)
    sources = Sources(rows)
    if not sources.starts[-1]:
        raise DataError(f"{rows.path}: no row has a 'source' text to embed")

    def encode(positions: NDArray[np.int64]) -> tuple[Features, dict[int, str], int]:
        features, cut = model.read_texts(sources.texts(positions), batch_size)
        return features, {}, cut

    builder = TableBuilder(folder, about_vectors(model, "text", batch_size), chunk=CHUNK, context=model.context)
    table = builder.build(sources.named(), encode, progress, engine)
    tell_cut(rows.path, table)
    return table


def embed_images(
    images: Sequence[tuple[str, Path]] | str | Path,
    encoder: ContrastiveEncoder | str | Path,
    folder: str | Path,
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
    engine: Engine = map,
) -> EmbeddingTable:
    """The table of files of the second modality: of a folder, a data file, or (id, path); each distinct file is encoded once.

    Files that can't be read are left out, and listed with the reason in the table's `failures.jsonl`.

    Raises:
        OutputExistsError: the folder holds something else, or is being built.
        DataError: no file could be read.
    """
    model = as_encoder(encoder)
    found = find_images(images, model.item_suffixes) if isinstance(images, (str, Path)) else images

    def encode(positions: NDArray[np.int64]) -> tuple[Features, dict[int, str]]:
        features, errors = model.image_features([found[int(i)][1] for i in positions], batch_size)
        return features, {int(positions[i]): str(error) for i, error in errors.items()}

    named = ((name, file_key(path)) for name, path in found)
    at_once = engine is map and model.device.type != "cpu" and model.items == "images"
    builder = TableBuilder(folder, about_vectors(model, "image", batch_size), chunk=CHUNK if at_once else IMAGE_CHUNK)
    return builder.build(named, encode, progress, engine)


def find_images(
    path: str | Path, suffixes: Sequence[str], columns: Mapping[str, str | int] | None = None
) -> list[tuple[str, Path]]:
    """(id, file) of a folder's files, at any depth and in order, or of rows with an image: of a data file, or of shards.

    Args:
        suffixes: of files that are taken. columns: as `close.data.shards.open_rows` takes them.
    Raises:
        MissingError: no such file or folder. DataError: there is no image in it. RecipeError: columns of what has none.
    """
    place, found = Path(path), []
    if place.is_dir():
        found = [(written(file.relative_to(place).as_posix()), file) for file in media_below(place, suffixes)]
    elif place.suffix.lower() in suffixes:
        found = [(place.name, place)]
    if found and columns:
        raise RecipeError(f"{path}: pictures themselves, which have no columns (--columns is for rows that name them)")
    if not found and (is_rows(place) or not place.is_dir()):
        found = images_of(open_rows(place, columns))
    if not found:
        raise DataError(f"{path}: no image in it (looked for {some(suffixes)}, or rows with an 'image')")
    return found


def images_of(rows: Iterable[Row]) -> list[tuple[str, Path]]:
    """(id, file) of the rows' images: a row's id, or `id#0`, `id#1`, … of several."""
    return [named for row in rows for named in named_images(row)]
