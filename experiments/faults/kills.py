"""Every long job of the product, killed at every change that it makes to the file system; then the same command again.

    python -m experiments.faults.kills --out FILE [--jobs "train;caption"] [--kills 5 --seed 0]     # goes on where it was stopped
    python -m experiments.faults.kills --only-kills --kills 2                                        # what CI does

A change: a file opened for writing, written to, flushed, closed, moved, removed, a folder made or removed. A job runs once, and
stands still before each of its changes. What a kill would leave there is what lies on the disk: it is copied, and the same
command runs again on the copy, in a new process. That run has to end as the job itself does, or to say that all is there
already, and to leave the same files with the same content. A state of the disk that was there at an earlier stop, byte for
byte, is tried once (a write into a buffer, a folder that was made and removed again): `states` says how many there were.
`wrong` says what ended otherwise, and `refused` which told lines those runs ended with, and how often.

That this is what a kill leaves is tried as well: at `--kills` drawn changes of each job, a process that comes there is killed
(SIGKILL), has to have left what was copied, and the command runs again.

Processes are forked from one that has imported everything.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.faults.changes import Changes, Stopped, forked

ROOT = Path(__file__).parents[2]
RECIPE = """
data: {train: captions.jsonl}
language_model: t5
adapter: [{gaussian: {cosine: 0.8}}]
training:
  {batch_size: 8, learning_rate: 1.0e-2, save_strategy: steps, save_steps: 1, max_steps: 2, save_total_limit: 1}
"""
SHORT = RECIPE.replace("save_steps: 1, max_steps: 2", "max_steps: 1").replace("steps,", "'no',")
TUNED = "tune: lora" + SHORT
JOBS: dict[str, list[str]] = {
    "embed text": ["embed", "text", "captions.jsonl", "--out", "made/table"],
    "embed image": ["embed", "images", "pictures", "--out", "made/table"],
    "train": ["train", "recipe.yaml", "--out", "made/run", "--resume"],
    "train over another": ["train", "recipe.yaml", "--out", "run", "--overwrite"],
    "caption": ["caption", "run", "pictures", "--batch-size", "2", "--out", "made/said.jsonl"],
    "caption, sampled, Parquet": [
        *("caption", "run", "pictures", "--sample", "--batch-size", "2", "--out", "made/said.parquet"),
    ],
    "caption, a page": [
        *("caption", "run", "pictures", "--n", "2", "--out", "made/said.jsonl", "--html", "made/said.html"),
    ],
    "evaluate": ["evaluate", "run", "test.jsonl", "--tokenizer", "python"],
    "calibrate": ["calibrate", "run", "known.jsonl", "--tokenizer", "python", "--at-least", "0.1"],
    "report": ["report", "tuned", "--tokenizer", "python", "--samples", "20", "--out", "made/runs.html"],
    "merge": ["merge", "tuned", "made/whole"],
    "export": ["export", "run", "made/exported"],
    "match-length": ["match-length", "run", "pictures"],
    "sweep": [
        *("sweep", "short.yaml", "--test", "test.jsonl", "--adapter", "none", "--noise", "0.8", "--seeds", "1"),
        *("--no-image", "--out", "made"),
    ],
    "convert": ["convert", "csv", "captions.csv", "made/rows.jsonl"],
    "adapter fit": ["adapter", "fit", "mean_shift", "--text", "texts", "--image", "images", "--out", "made/adapter"],
    "gap": [
        *("gap", "--text", "texts", "--image", "images", "--pairs", "pairs.jsonl", "--bootstrap", "0"),
        *("--out", "made/gap.json", "--html", "made/gap.html"),
    ],
    "classify": ["classify", "pictures", "--label", "dog", "--label", "cat"],
    "demo": ["demo", "--out", "demo"],
    "data-gen": [
        *("data-gen", "captions", "--out", "written.jsonl", "--count", "6", "--model", "m", "--examples", "examples.txt"),
        *("--base-url", "URL", "--concurrency", "1", "--timeout", "3600", "--filter", "near=0.9"),
    ],
}  # fmt: skip
"""Commands, run in a folder that `prepare` has filled."""

UNORDERED = ("data-gen",)
"""What the next answer does may come before or after what the last one did."""

TIMES = re.compile(
    rb'"train_(runtime|samples_per_second|steps_per_second|loss)": [^,}]*|"seconds": ({[^}]*}|[^,}]*)|"time": ?"[^"]*"'
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", help="names, separated by semicolons; all without it")
    parser.add_argument("--kills", type=int, default=5, help="real kills of each job, drawn")
    parser.add_argument("--only-kills", action="store_true", help="leave out the other changes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nice", type=int, default=0, help="how far to stand back for other work on this machine")
    parser.add_argument("--out", type=Path, help="results; those that it holds already are kept")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    os.nice(options.nice)
    names = [name.strip() for name in options.jobs.split(";")] if options.jobs else list(JOBS)
    if unknown := [name for name in names if name not in JOBS]:
        parser.error(f"no job {unknown[0]!r}; there are {'; '.join(JOBS)}")
    found = (
        json.loads(options.out.read_text(encoding="utf-8"))["by_job"] if options.out and options.out.exists() else {}
    )
    with TemporaryDirectory() as place, subprocess.Popen(
        [sys.executable, ROOT / "tests" / "data_gen" / "dg_server.py", "0"], stdin=-1, stdout=-1, text=True
    ) as server:  # fmt: skip
        assert server.stdout
        url = server.stdout.readline().strip()
        given = Path(place) / "given"
        _load()
        if forked(lambda: prepare(given)):
            return 2
        for name in names:
            job = Job([url if part == "URL" else part for part in JOBS[name]], given, Path(place) / "work")
            found.setdefault(name, {})

            def keep() -> None:
                if options.out:
                    options.out.write_text(_shown(found), encoding="utf-8")

            if not found[name].get("finished"):
                job.tried(found[name], keep, options.kills, random.Random(options.seed), every=not options.only_kills)
                keep()
                print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
        server.communicate()
    print(_shown(found), end="")
    return 1 if any(job.get("wrong") for job in found.values()) else 0


def _shown(found: dict[str, Any]) -> str:
    sums = {key: sum(job.get(key, 0) for job in found.values()) for key in ("changes", "tried", "states", "killed")}
    wrong = [f"{name}: {line}" for name, job in found.items() for line in job.get("wrong", ())]
    return (
        json.dumps({"jobs": len(found), **sums, "wrong": wrong, "by_job": found}, indent=2, ensure_ascii=False) + "\n"
    )


def prepare(folder: Path) -> int:
    """The files that jobs begin with: captions, pictures, recipes, a run, tables."""
    sys.path.insert(0, str(ROOT / "tests" / "close"))
    import tiny

    folder.mkdir()
    rows = tiny.caption_rows(24)
    tiny.write_jsonl(folder / "captions.jsonl", rows)
    lines = [f"{row['id']},{row['source']}\n" for row in rows]
    (folder / "captions.csv").write_text("id,caption\n" + "".join(lines), encoding="utf-8")
    (folder / "examples.txt").write_text("".join(f"{row['source']}\n" for row in rows), encoding="utf-8")
    (folder / "pictures").mkdir()
    for number in range(5):
        tiny.picture(folder / "pictures" / f"p{number}.png", seed=number)
    test = [row | {"image": f"pictures/p{i}.png", "references": [row["source"]]} for i, row in enumerate(rows[:5])]
    tiny.write_jsonl(folder / "test.jsonl", test)
    known = [
        row | {"image": f"known/p{i}.png", "references": [row["source"]]} for i, row in enumerate(tiny.caption_rows(48))
    ]
    tiny.write_jsonl(folder / "known.jsonl", known)
    for row in known:
        tiny.picture(folder / row["image"], seed=7)
    tiny.write_jsonl(folder / "pairs.jsonl", [{"text": i, "image": i} for i in range(5)])
    tiny.t5_dir(folder / "t5")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (folder / "short.yaml").write_text(SHORT, encoding="utf-8")
    (folder / "tuned.yaml").write_text(TUNED, encoding="utf-8")
    for command in (
        ["train", "short.yaml", "--out", "run"],
        ["train", "tuned.yaml", "--out", "tuned"],
        ["evaluate", "tuned", "test.jsonl", "--tokenizer", "python"],
        ["embed", "text", "captions.jsonl", "--out", "texts"],
        ["embed", "images", "pictures", "--out", "images"],
    ):
        code, _, said = Job(command, folder, folder).run()
        if code:
            print(f"close {' '.join(command)} ended with {code}: {said}", file=sys.stderr)
            return code
    shutil.rmtree(folder / "cache")
    return 0


class Job:
    """A command, run in the folder `work`, which is a copy of `given` at first."""

    def __init__(self, command: list[str], given: Path, work: Path) -> None:
        self.command, self.given, self.work = command, given, work

    def tried(
        self, found: dict[str, Any], keep: Callable[[], None], kills: int, rng: random.Random, *, every: bool
    ) -> None:
        """Fill in counts of what was done, and what was wrong, a line each.

        Args:
            found: what was found already, by a process that was stopped. keep: called now and then.
        """
        self._fresh()
        self.ends, changes, said = self.run(count=True)
        self.whole = self._content()
        new = {
            "changes": changes,
            "tried": 0,
            "states": 0,
            "killed": 0,
            "ends_with": self.ends,
            "wrong": [],
            "refused": {},
        }
        if found.keys() < new.keys() or found["changes"] != changes:  # of another version of the product
            found |= new
        self.refused: dict[str, int] = found["refused"]
        if self.ends:
            found["wrong"].append(f"ended with {self.ends} though nobody killed it: {said.strip()[-300:]}")
        states = self._at_every_change(found, keep) if every else {}
        found |= {"killed": 0}
        for at in sorted(rng.sample(range(1, changes + 1), min(kills, changes))):
            self._fresh()
            found["killed"] += self.run(kill_at=at)[0] == -signal.SIGKILL
            if every and self.command[0] not in UNORDERED and _state(self.work) != states[at]:
                found["wrong"].append(f"killed before change {at}: not what lay there when it stood still")
            found["wrong"] += self._again(f"killed before change {at}")
        found["finished"] = True

    def _at_every_change(self, found: dict[str, Any], keep: Callable[[], None]) -> dict[int, str]:
        """The state before each change; the command runs again from each that differs from those before."""
        self._fresh()
        aside = self.work.with_name("aside")
        states, seen = {0: ""}, set[str]()
        stopped = Stopped(lambda still: self._close(still=still))
        for number in stopped:
            state = states[number] = _state(self.work)
            is_new = state not in seen
            seen.add(state)
            if number <= found["tried"]:
                continue
            if is_new:
                self.work.rename(aside)
                shutil.copytree(aside, self.work)
                _bury(self.work)
                found["wrong"] += self._again(f"as before change {number}")
                found["states"] += 1
                shutil.rmtree(self.work)
                aside.rename(self.work)
            found["tried"] = number
            keep()
        if stopped.code != self.ends:
            found["wrong"].append(f"ended with {stopped.code} after it stood still, not {self.ends}")
        return states

    def _again(self, when: str) -> list[str]:
        code, _, said = self.run()
        difference = _difference(self.whole, self._content())
        if code != self.ends:
            last = said.strip().rpartition("\n")[2]
            told = code == 1 and last.startswith("error: ") and "Traceback" not in said
            if told:
                self.refused[last] = self.refused.get(last, 0) + 1
            if told and not difference and "there already" in last:  # it was killed when all was done
                return []
            return [f"{when}, then ended with {code}, not {self.ends}: {said.strip()[-300:]}"]
        return [f"{when}: {difference}"] if difference else []

    def _content(self) -> dict[str, bytes]:
        """Every file but locks of the cache, without times.

        The demo makes pictures, whose times decide names in the cache and a key in evaluations; what its trainings print says how
        fast they were.
        """
        files = [path for path in sorted(self.work.rglob("*")) if path.is_file() and path.parent.name != "embeddings"]
        named = {path.relative_to(self.work).as_posix(): path for path in files}
        if self.command[0] != "demo":
            return {name: TIMES.sub(b"", path.read_bytes()) for name, path in named.items()}
        pictures = re.compile(rb"images_key\W[^0-9]{1,40}[0-9a-f]{16}")
        return {
            name: pictures.sub(b"", TIMES.sub(b"", path.read_bytes()))
            for name, path in named.items()
            if not re.match(r"cache|demo/runs/\w+\.log$", name)
        }

    def _fresh(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.given, self.work)

    def run(self, *, count: bool = False, kill_at: int | None = None) -> tuple[int, int, str]:
        """The exit code, how many changes there were where they are counted, and what was said on stderr."""
        counted = self.work.with_name("count")
        counted.write_text("[0, []]", encoding="utf-8")
        code = forked(lambda: self._close(counted=counted if count else None, kill_at=kill_at))
        said = self.work.with_name("stderr").read_text(encoding="utf-8", errors="replace")
        changes, modules = json.loads(counted.read_text(encoding="utf-8"))
        for module in modules:  # here, so that later children need not
            with suppress(Exception):
                importlib.import_module(module)
        return code, changes, said

    def _close(
        self, *, counted: Path | None = None, kill_at: int | None = None, still: Callable[[], None] | None = None
    ) -> int:
        """Be the command."""
        os.chdir(self.work)
        os.environ["CLOSE_CACHE"] = str(self.work / "cache")
        os.dup2(os.open(self.work.with_name("stderr"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not (counted or kill_at or still):
            return _main(self.command)
        changes = Changes(str(self.work), kill_at, still)
        code = _main(self.command)
        changes.stop()
        if counted:
            counted.write_text(json.dumps([changes.number, sorted(sys.modules)]), encoding="utf-8")
        return code


def _bury(folder: Path) -> None:
    """What a process that stands still has begun gets the number of one that is gone, as if the first were."""
    begun = [path for path in folder.rglob("*") if re.search(r"-\d+\.tmp$", path.name)]
    gone = os.fork() if begun else 0
    if begun and not gone:
        os._exit(0)
    for path in sorted(begun, reverse=True):  # what lies within first
        path.rename(path.with_name(re.sub(r"\d+\.tmp$", f"{gone}.tmp", path.name)))
    if gone:
        os.waitpid(gone, 0)


def _state(folder: Path) -> str:
    """A hash of everything that lies there, folders too, without times and numbers of processes."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name, data = path.relative_to(folder).as_posix(), b"" if path.is_dir() else TIMES.sub(b"", path.read_bytes())
        found.update(repr((re.sub(r"-\d+\.tmp(?=/|$)", ".tmp", name), path.is_dir(), len(data))).encode() + data)
    return found.hexdigest()


def _difference(one: dict[str, bytes], two: dict[str, bytes]) -> str:
    if one.keys() != two.keys():
        return f"missing {sorted(one.keys() - two.keys())}, left {sorted(two.keys() - one.keys())}"
    other = [name for name in one if one[name] != two[name]]
    return f"other content: {other}" if other else ""


def _main(command: list[str]) -> int:
    from close.cli import main as close
    from data_gen.cli import main as data_gen

    own = command[0] == "data-gen"
    if command[0] == "demo":
        _small_demo()
    sys.argv = command if own else ["close", *command]
    try:
        (data_gen if own else close)()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _small_demo() -> None:
    """The demo with a few scenes; the trainings that it starts are forked too, one after the other."""
    import close.demo
    from close.demo import run as demo

    class Forked:
        def __init__(self, module: str, arguments: list[str], *, log: Any, environment: Mapping[str, str]) -> None:
            def work() -> int:
                os.environ.update(environment)
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                Changes.stop()
                return _main(arguments)

            self.returncode = forked(work)

        def poll(self) -> int:
            return self.returncode

        wait = terminate = poll

    demo.start = Forked  # type: ignore[assignment]
    demo.TEST_SCENES = demo.PHOTO_SCENES = 8
    close.demo.run_demo = lambda out, **options: demo.run_demo(out, **options | {"scenes": 8, "epochs": 1})


def _load() -> None:
    """What takes long to import, in the parent of all."""
    rooms = ("adapters.resolve", "cli", "demo.run", "runs.evaluate", "gap", "training.train", "study.sweep")
    for module in (*(f"close.{room}" for room in rooms), "data_gen.cli", "openai"):
        importlib.import_module(module)


if __name__ == "__main__":
    sys.exit(main())
