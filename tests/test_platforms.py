"""What only Linux has is not needed: everything is imported, and a table made, where it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

ELSEWHERE = """
import importlib, os, pkgutil, sys

# other libraries ask which system this is before they use what it has
import open_clip, openai, peft, pyarrow.parquet, sklearn.linear_model, torch, tqdm, transformers
for name in ("AutoModelForSeq2SeqLM", "GenerationMixin", "Seq2SeqTrainer", "T5ForConditionalGeneration"):
    getattr(transformers, name)

for name in ("fcntl", "resource"):
    sys.modules[name] = None
for name in ("sched_getaffinity", "fdatasync", "pread", "fork", "posix_fadvise"):
    if hasattr(os, name):
        delattr(os, name)

import close, data_gen
from close.cli import main

sys.argv = ["close", *sys.argv[1:]]
if sys.argv[1:]:
    main()
else:
    for package in (close, data_gen):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
"""


def run(folder: Path, *arguments: str) -> str:
    """The command in a process whose system lacks what only Linux has."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    run(tmp_path)


def test_a_small_job_runs(tmp_path: Path) -> None:
    run(tmp_path, "mini", "export", "--out", "world", "--split", "val", "--count", "4")
    made = run(tmp_path, "embed", "text", "world/captions.jsonl", "--out", "table")
    assert made.startswith("table: 20 rows")
    assert (tmp_path / "table" / "table.json").is_file()
