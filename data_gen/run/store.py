"""The output on disk: a journal of answers, and the rows that follow from it.

    FILE                  accepted rows, JSONL
    FILE.rejected.jsonl   rejected rows and failed requests, with the reason and the raw text
    FILE.journal          the truth: one line of parameters, then one line per answer, as it came

Answers are appended to the journal when they come, each with a single write, and synced to the disk before any row made
of them is written. Both row files are functions of the journal: a run that continues makes them again from its first
line, checks every row that is there byte by byte, and goes on where they end. So a kill or a power loss at any moment
costs at most answers that no row was made of, and half-written last lines are cut off. FILE.lock is held meanwhile.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from io import BytesIO, FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from data_gen.errors import InputError, OutputError, shown
from data_gen.text.files import json_line, parse_json
from data_gen.verbs import Row

__all__ = ["Answer", "Journal", "RowFile", "Store", "begun", "now"]

_FORMAT = 3  # before: other rules for what can be read, what is a word, and which rows of one answer are alike

_to_disk = getattr(os, "fdatasync", os.fsync)  # macOS and Windows have no fdatasync


def _open(path: Path) -> FileIO:
    """A file to append to, without a buffer.

    Raises:
        OutputError: it can't be opened.
    """
    if path.exists() and not path.is_file():
        raise OutputError(
            f"can't write {path}: it is {'a folder' if path.is_dir() else 'no file, but a pipe or a device'}"
        )
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}") from None


def _append(file: FileIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) or 0 :]


@dataclass(frozen=True)
class Answer:
    """An answer as the journal keeps it; `error` where there was none, `cut` where it is not whole: why."""

    index: int
    time: str
    text: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    verdicts: tuple[str, ...] = ()
    error: str = ""
    cut: str = ""


_KINDS = {field.name: field.type for field in fields(Answer)}


def _record(line: bytes) -> dict[str, Any] | Answer | None:
    """What a line of the journal holds; None where it is damaged."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    if "lost" in record:
        names = {"lost", "tokens_in", "tokens_out"}
        return record if set(record) == names and all(map(_is_count, record.values())) else None
    if "batch" in record:
        fits = all(isinstance(record[name], str) for name in ("batch", "id") if name in record)
        fits &= set(record) <= {"batch", "id", "done", "cut"} and _are_cut(record.get("cut", {}))
        return record if fits else None
    if not {"index", "time"} <= set(record) <= set(_KINDS):
        return None
    for name, value in record.items():
        if _KINDS[name] == "int" and not _is_count(value):
            return None
        if _KINDS[name] == "str" and not isinstance(value, str):
            return None
    verdicts = record.get("verdicts", [])
    if not isinstance(verdicts, list) or not all(isinstance(verdict, str) for verdict in verdicts):
        return None
    return Answer(**{**record, "verdicts": tuple(verdicts)})


def _holds_more(file: BinaryIO) -> bool:
    """Whether more follows than tries without an answer, which hold nobody to their parameters."""
    return any(not (line.startswith(b'{"lost"') and _record(line)) for line in file)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**12


def _are_cut(kept: object) -> bool:
    """Whether these are answers that were cut off, by number of request: two counts of tokens after the room, and why."""
    return isinstance(kept, dict) and all(
        number.isascii() and number.isdigit() and len(number) < 13
        and isinstance(cut, list) and len(cut) == 4 and all(map(_is_count, cut[:3])) and isinstance(cut[3], str)
        for number, cut in kept.items()
    )  # fmt: skip


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def begun(out: Path) -> dict[str, Any]:
    """How the run of an output began: its `params`, and its `names`. Empty where it has no journal that can be read."""
    path = Path(f"{out}.journal")
    try:
        with path.open("rb") if path.is_file() else BytesIO() as file:
            head = parse_json(file.readline().decode("utf-8", "replace"), str(path))
    except (OSError, InputError):
        return {}
    parts = {name: head.get(name) for name in ("params", "names")} if isinstance(head, dict) else {}
    return {name: part for name, part in parts.items() if isinstance(part, dict)}


class Journal:
    """Append-only answers of one run, locked against other processes.

    Args:
        path: of the journal.
        params: everything that the rows depend on; a journal with other parameters is refused.
        names: what files are called in the rows; kept for a call that names the same files otherwise.

    Raises:
        OutputError: another process holds it, it belongs to another run, or it can't be opened.
    """

    def __init__(self, path: Path, params: Mapping[str, Any], names: Mapping[str, str]) -> None:
        self._path, self._names = path, names
        self._file = _open(path)
        self._lock = FileLock(path.with_suffix(".lock"))
        try:
            self._acquire()
            self._check(params)
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> None:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise OutputError(f"another process is writing {self._path.with_suffix('')}") from None
        except OSError as error:
            raise OutputError(f"can't lock {self._path.with_suffix('')}: {error.strerror}") from None

    def _check(self, params: Mapping[str, Any]) -> None:
        with self._path.open("rb") as file:
            line, more = file.readline(), _holds_more(file)
        if not line.endswith(b"\n"):  # new, or killed while its first line was written
            self._begin(params)
            return
        try:
            old = parse_json(line.decode("utf-8", "replace"), str(self._path))
            format_, there = old["data_gen"], old["params"]
        except (InputError, KeyError, TypeError):
            raise OutputError(f"{self._path} is not a journal of data-gen; give another --out") from None
        if format_ != _FORMAT or not isinstance(there, dict):
            raise OutputError(f"{self._path} was written by another version of data-gen; give another --out")
        now = json.loads(json_line(params))
        differing = sorted(key for key in {*now, *there} if now.get(key) != there.get(key))
        if differing and more:
            key = str(differing[0])
            raise OutputError(
                f"{self._path.with_suffix('')} is the output of another run ({key[:40]}: {shown(there.get(key))} there, "
                f"{shown(now.get(key))} now); give another --out"
            )
        if differing:  # no answer ever came: a slip that was corrected
            self._begin(params)
            return
        self._good = len(line)

    def _begin(self, params: Mapping[str, Any]) -> None:
        self._file.truncate(0)
        _append(self._file, json_line({"data_gen": _FORMAT, "params": params, "names": self._names}))
        os.fsync(self._file.fileno())
        self._good = os.fstat(self._file.fileno()).st_size

    def replay(self) -> Iterator[dict[str, Any] | Answer]:
        """Every whole record, in the order written: an answer, what is kept of the Batch API, or what was lost (`Spending`).

        A last line that is not whole is what a kill left: it is cut off at the next write.

        Raises:
            OutputError: a line is damaged, and others follow it.
        """
        with self._path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, 2):
                record = _record(line)
                if record is not None:
                    self._good += len(line)
                    yield record
                elif file.read(1):
                    raise OutputError(
                        f"{self._path}, line {number}: damaged, and more follows; delete the line, or give another --out"
                    )

    def cut(self) -> None:
        """Drop what a kill left half-written; called once, after `replay`."""
        self._file.truncate(self._good)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        _append(self._file, json_line(record))

    def sync(self) -> None:
        """Return when everything written is on the disk."""
        _to_disk(self._file.fileno())

    @property
    def empty(self) -> bool:
        """Whether nothing was ever answered or sent."""
        with self._path.open("rb") as file:
            return not (file.readline() and file.read(1))

    def close(self) -> None:
        """Let another process write."""
        self._file.close()
        if self._lock.is_locked:
            with suppress(OSError):  # Windows can't while it is open, and filelock does it then
                Path(self._lock.lock_file).unlink()  # still held, so that nobody waits for a file that is gone
        self._lock.release()


class RowFile:
    """Rows that follow from the journal: those that are there already are checked, new ones appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open(path)
        self._old = path.open("rb")
        self._checking = True
        self._pending: list[bytes] = []
        self.count = 0

    def add(self, row: Row) -> None:
        """Check or append one row; what is appended is written by `flush`."""
        line = json_line(row)
        self.count += 1
        if self._checking:
            start = self._old.tell()
            there = self._old.readline()
            if there == line:
                return
            if there.endswith(b"\n"):
                raise OutputError(
                    f"{self._path}, line {self.count}: not the row that follows from its journal; was it edited?"
                )
            self._file.truncate(start)
            self._checking = False
        self._pending.append(line)

    def finish_check(self) -> None:
        """Called when the journal is replayed: no more rows may be there than it has answers for."""
        if not self._checking:
            return
        start = self._old.tell()
        if self._old.readline().endswith(b"\n"):
            raise OutputError(
                f"{self._path} holds more than the {self.count} rows that its journal and --count say: give the --count that it "
                "was made with, or more, or another --out"
            )
        self._file.truncate(start)
        self._checking = False

    def flush(self) -> None:
        """Hand the appended rows to the system in one write."""
        if self._pending:
            _append(self._file, b"".join(self._pending))
            self._pending.clear()

    def close(self) -> None:
        """Let go of the file."""
        self._old.close()
        self._file.close()


class Store:
    """The three files of a run; a context manager that holds the lock.

    Args:
        out: the file of accepted rows.
        params, names: see `Journal`.

    Raises:
        OutputError: see `Journal`; or there are rows without a journal.
    """

    def __init__(self, out: Path, params: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
        journal, rejected = Path(f"{out}.journal"), Path(f"{out}.rejected.jsonl")
        if out.is_dir() or not out.parent.is_dir():
            raise OutputError(f"can't write {out}: {'it is a folder' if out.is_dir() else f'no folder {out.parent}'}")
        for path in (out, rejected):
            if path.exists() and path.stat().st_size and not journal.exists():
                raise OutputError(f"{path} is there already, without a journal to continue from; give another --out")
        self._paths = (out, rejected, journal)
        self.journal = Journal(journal, params, names or {})
        try:
            self.accepted, self.rejected = RowFile(out), RowFile(rejected)
        except BaseException:
            self.journal.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self.accepted, self.rejected):
            file.close()
        *rows, _ = self._paths
        if error is not None and self.journal.empty and not any(path.stat().st_size for path in rows):
            with suppress(OSError):  # Windows can't while the journal is open
                for path in self._paths:  # they would tell of a run that never began
                    path.unlink()
        self.journal.close()

    def finish_replay(self) -> None:
        """Everything on the disk is accounted for; from here on it is only appended to."""
        self.accepted.finish_check()
        self.rejected.finish_check()
        self.journal.cut()
        self.flush()

    def flush(self) -> None:
        """Write the rows that were added; the journal was synced before."""
        self.rejected.flush()
        self.accepted.flush()
