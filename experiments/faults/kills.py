"""Every long job of the product, killed at every change that it makes to the file system; then the same command again.

    python -m experiments.faults.kills [--jobs "train;caption"] [--points 5 --seed 0] [--out FILE]

A job runs once in peace, which counts its changes: files opened for writing, written to, flushed, closed, moved, removed,
folders made and removed. Then, for each of them, it runs where nothing was, kills itself (SIGKILL) just before that change, and
runs again. The second run has to end as the one in peace did, and to leave the same files with the same content.

A process is forked for each run, so that torch is loaded once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
RECIPE = """
data: {train: captions.jsonl}
language_model: t5
adapter: [{gaussian: {cosine: 0.8}}]
training:
  {batch_size: 8, learning_rate: 1.0e-2, save_strategy: steps, save_steps: 1, max_steps: 2, save_total_limit: 1}
"""
SHORT = RECIPE.replace("save_steps: 1, max_steps: 2", "max_steps: 1").replace("steps,", "'no',")
JOBS: dict[str, list[str]] = {
    "embed text": ["embed", "text", "captions.jsonl", "--out", "made/table"],
    "embed image": ["embed", "images", "pictures", "--out", "made/table"],
    "train": ["train", "recipe.yaml", "--out", "made/run", "--resume"],
    "train over another": ["train", "recipe.yaml", "--out", "run", "--overwrite"],
    "caption": ["caption", "run", "pictures", "--batch-size", "2", "--out", "made/said.jsonl"],
    "caption, sampled, Parquet": [
        *("caption", "run", "pictures", "--sample", "--batch-size", "2", "--out", "made/said.parquet"),
    ],
    "evaluate": ["evaluate", "run", "test.jsonl", "--tokenizer", "python"],
    "sweep": [
        *("sweep", "short.yaml", "--test", "test.jsonl", "--seeds", "1", "--no-image", "--out", "made"),
    ],
    "convert": ["convert", "csv", "captions.csv", "made/rows.jsonl"],
    "adapter fit": ["adapter", "fit", "mean_shift", "--text", "texts", "--image", "images", "--out", "made/adapter"],
    "gap": [
        *("gap", "--text", "texts", "--image", "images", "--pairs", "pairs.jsonl", "--bootstrap", "0"),
        *("--out", "made/gap.json", "--html", "made/gap.html"),
    ],
    "classify": ["classify", "pictures", "--label", "dog", "--label", "cat"],
}  # fmt: skip
"""Commands, run in a folder that `prepare` has filled."""

TIMES = re.compile(rb'"train_(runtime|samples_per_second|steps_per_second|loss)": [^,}]*|"seconds": [^,}]*')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", help="names, separated by semicolons; all without it")
    parser.add_argument("--points", type=int, help="kills of each job, drawn; all of them without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    names = [name.strip() for name in options.jobs.split(";")] if options.jobs else list(JOBS)
    if unknown := [name for name in names if name not in JOBS]:
        parser.error(f"no job {unknown[0]!r}; there are {'; '.join(JOBS)}")
    with TemporaryDirectory() as place:
        given = Path(place) / "given"
        _load()
        if forked(lambda: prepare(given)):
            return 2
        found = {name: try_job(name, given, Path(place), options.points, random.Random(options.seed)) for name in names}
    sums = {key: sum(job[key] for job in found.values()) for key in ("changes", "killed")}
    wrong = [f"{name}: {line}" for name, job in found.items() for line in job["wrong"]]
    shown = (
        json.dumps({"jobs": len(found), **sums, "wrong": wrong, "by_job": found}, indent=2, ensure_ascii=False) + "\n"
    )
    if options.out:
        options.out.write_text(shown, encoding="utf-8")
    print(shown, end="")
    return 1 if wrong else 0


def prepare(folder: Path) -> int:
    """The files that jobs begin with: captions, pictures, recipes, a run, tables."""
    sys.path.insert(0, str(ROOT / "tests" / "close"))
    import tiny

    folder.mkdir()
    rows = tiny.caption_rows(24)
    tiny.write_jsonl(folder / "captions.jsonl", rows)
    lines = [f"{row['id']},{row['source']}\n" for row in rows]
    (folder / "captions.csv").write_text("id,caption\n" + "".join(lines), encoding="utf-8")
    (folder / "pictures").mkdir()
    for number in range(5):
        tiny.picture(folder / "pictures" / f"p{number}.png", seed=number)
    test = [row | {"image": f"pictures/p{i}.png", "references": [row["source"]]} for i, row in enumerate(rows[:5])]
    tiny.write_jsonl(folder / "test.jsonl", test)
    tiny.write_jsonl(folder / "pairs.jsonl", [{"text": i, "image": i} for i in range(5)])
    tiny.t5_dir(folder / "t5")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (folder / "short.yaml").write_text(SHORT, encoding="utf-8")
    for command in (
        ["train", "short.yaml", "--out", "run"],
        ["embed", "text", "captions.jsonl", "--out", "texts"],
        ["embed", "images", "pictures", "--out", "images"],
    ):
        code, _, said = run(command, folder, folder / "cache")
        if code:
            print(f"close {' '.join(command)} ended with {code}: {said}", file=sys.stderr)
            return code
    shutil.rmtree(folder / "cache")
    return 0


def try_job(name: str, given: Path, place: Path, points: int | None, rng: random.Random) -> dict[str, Any]:
    """Counts of one job, and what was wrong, a line each."""
    command, work = JOBS[name], place / "work"

    def fresh() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(given, work)

    fresh()
    ended, changes, said = run(command, work, work / "cache")
    whole = content(work)
    chosen = list(range(1, changes + 1))
    if points is not None and points < changes:
        chosen = sorted(rng.sample(chosen, points))
    killed, wrong = 0, [f"ended with {ended} though nobody killed it: {said.strip()[-300:]}"] if ended else []
    for point in chosen:
        fresh()
        code, _, _ = run(command, work, work / "cache", kill_at=point)
        killed += code == -signal.SIGKILL
        code, _, said = run(command, work, work / "cache")
        if code != ended:
            wrong.append(f"killed before change {point}, then ended with {code}, not {ended}: {said.strip()[-300:]}")
        elif difference := _difference(whole, content(work)):
            wrong.append(f"killed before change {point}: {difference}")
    print(f"{name}: {changes} changes, {killed} kills, {len(wrong)} wrong", file=sys.stderr, flush=True)
    return {"changes": changes, "killed": killed, "ends_with": ended, "wrong": wrong}


def content(folder: Path) -> dict[str, bytes]:
    """Every file but locks of the cache, without times."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "embeddings")
    return {path.relative_to(folder).as_posix(): TIMES.sub(b"", path.read_bytes()) for path in files}


def _difference(one: dict[str, bytes], two: dict[str, bytes]) -> str:
    if one.keys() != two.keys():
        return f"missing {sorted(one.keys() - two.keys())}, left {sorted(two.keys() - one.keys())}"
    other = [name for name in one if one[name] != two[name]]
    return f"other content: {other}" if other else ""


def run(command: list[str], folder: Path, cache: Path, kill_at: int | None = None) -> tuple[int, int, str]:
    """`close` with this command in a forked process: its exit code, how many changes it made, and what it said on stderr."""
    log, count = folder.with_name("stderr"), folder.with_name("count")
    count.unlink(missing_ok=True)

    def work() -> int:
        os.chdir(folder)
        os.environ["CLOSE_CACHE"] = str(cache)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        changes = Changes(folder, kill_at)
        code = _close(command)
        changes.stop()
        count.write_text(str(changes.number), encoding="utf-8")
        return code

    code = forked(work)
    return code, int(count.read_text() or 0) if count.exists() else 0, log.read_text(encoding="utf-8", errors="replace")


def forked(work: Callable[[], int]) -> int:
    """The exit code of a child that does this; nothing else may do any, since threads that work leaves do not survive a fork."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _close(command: list[str]) -> int:
    from close.cli import main as close

    sys.argv = ["close", *command]
    try:
        close()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _load() -> None:
    """What takes long to import, in the parent of all."""

    import close.adapters.resolve
    import close.cli
    import close.gap
    import close.runs.evaluate
    import close.runs.train
    import close.study.sweep  # noqa: F401


class Changes:
    """Counts what this process changes below a folder, and kills it just before a given change."""

    WRITES = ("write", "writelines", "flush", "close", "truncate", "tofile")
    NATIVE = ("serialize_file", "save", "write_record", "write_end_of_file")
    """Of Rust and C++, which open files where Python does not see it."""
    MOVES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")

    def __init__(self, folder: Path, kill_at: int | None) -> None:
        self.folder, self.kill_at, self.number, self.on = str(folder), kill_at, 0, True
        self.lock = threading.RLock()
        sys.addaudithook(self._audit)
        sys.setprofile(self._call)
        threading.setprofile(self._call)

    def stop(self) -> None:
        self.on = False
        sys.setprofile(None)

    def _change(self) -> None:
        with self.lock:
            self.number += 1
            if self.number == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self._is_below(path):
                self._change()
        elif event in self.MOVES and self._is_below(arguments[0]):
            self._change()

    def _call(self, frame: Any, event: str, function: Any) -> None:
        if event != "c_call" or not self.on:
            return
        name = getattr(function, "__name__", "")
        if name in self.NATIVE:
            self._change()
        elif name in self.WRITES:
            file = getattr(function, "__self__", None)
            with suppress(Exception):  # closed files, and what is no file
                if file.writable() and self._is_below(file.name):
                    self._change()

    def _is_below(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)) or os.fsdecode(path).startswith("<"):  # "<stdout>"
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder)


if __name__ == "__main__":
    sys.exit(main())
