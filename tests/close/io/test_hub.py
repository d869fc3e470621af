"""Runs of the Hugging Face hub, by name, out of a cache that is laid out as the hub's own."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

import close
from close.errors import MissingError
from close.io.hub import RUN_FILES, hub_run_of, run_folder
from close.runs.evaluate import evaluate
from close.training.train import train

FIRST, SECOND = "1" * 40, "2" * 40


def lay_out(cache: Path, name: str, folder: Path, commit: str, *refs: str) -> Path:
    """A folder's files as the hub's cache keeps one state of a repository: blobs by their hash, and links to them."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for path in (path for path in folder.rglob("*") if path.is_file()):
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * (len(link.relative_to(repository).parts) - 1), "blobs", blob.name))
    for ref in refs:
        (repository / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path / "hub"


def test_every_verb_takes_a_name_of_the_hub(run, cache, pictures, tiny_encoder, cli, told, tmp_path):
    first = lay_out(cache, "me/birds", run, FIRST, "v1")
    other = shutil.copytree(run, tmp_path / "other")
    (other / "README.md").write_text("another state")
    second = lay_out(cache, "me/birds", other, SECOND, "main", "refs/pr/1")
    assert [run_folder(name) for name in ("me/birds", "me/birds@main", "me/birds@v1")] == [second, second, first]
    assert run_folder(f"me/birds@{FIRST}") == first
    assert run_folder("me/birds@refs/pr/1") == second
    picture = pictures / "p00.png"
    expected = close.load(run)(picture)
    loaded = close.load("me/birds@v1", encoder=str(tiny_encoder))
    assert (loaded.name, loaded(picture)) == (str(first), expected)
    ran = cli("caption", "me/birds", picture, "--encoder", tiny_encoder)
    assert ran.out.split("\t")[-1].strip() == expected.text
    assert f"me/birds@{SECOND} is this state of it" in ran.err
    about = json.loads(cli("info", f"me/birds@{SECOND}", "--json").out)
    assert about["hub"] == {"name": "me/birds", "revision": SECOND}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "a", "image": str(picture), "source": "a dog", "references": ["a dog"]}))
    before = sorted(cache.rglob("*"))
    scored = evaluate("me/birds", rows, encoder=str(tiny_encoder))
    assert Path(scored["folder"]) == Path("evaluations/me/birds/rows-image")
    assert Path("evaluations/me/birds/rows-image/scores.json").is_file()
    assert "hf download me/birds --revision" in told("calibrate", "me/birds", rows)
    assert sorted(cache.rglob("*")) == before  # the hub's cache is the hub's


def test_transformers_own_loader_takes_it_too(run, cache, zoo, recipe, tmp_path):
    """With the class imported, and no code of the repository; also where the language model is named and not held."""
    from close import CloseModel

    small = train(recipe(tune="none", training={"save_strategy": "no"}), tmp_path / "small")
    about = json.loads((small / "config.json").read_text())
    about["base"]["reference"] = str(zoo("t5_dir"))
    (small / "config.json").write_text(json.dumps(about))
    for name, folder in (("me/birds", run), ("me/small", small)):
        lay_out(cache, name, folder, FIRST, "v1")
        lay_out(cache, name, folder, SECOND, "main")
        expected = CloseModel.from_pretrained(folder).state_dict()
        for found in (
            AutoModel.from_pretrained(folder),
            AutoModel.from_pretrained(name, cache_dir=cache),
            AutoModel.from_pretrained(name, revision="v1", cache_dir=cache),
            CloseModel.from_pretrained(name, revision=FIRST),
        ):
            assert isinstance(found, CloseModel)
            assert all(torch.equal(value, expected[key]) for key, value in found.state_dict().items())


@pytest.mark.parametrize(
    "order", ["import close; import transformers", "from transformers import Trainer; import close"]
)
def test_import_close_is_enough_for_transformers(run, order):
    """Whichever comes first; `import close` alone loads nothing of it (tests/close/test_house.py)."""
    code = f"{order}; from transformers import AutoModel as A; print(type(A.from_pretrained({str(run)!r})).__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "close.model.modeling", done.stderr


def test_a_folder_wins_and_so_does_a_slip_in_one(run, cache, tmp_path):
    lay_out(cache, "me/birds", run, FIRST, "main")
    assert run_folder("me/birds").is_relative_to(cache)
    Path("me").mkdir()
    assert run_folder("me/birds") == Path("me/birds")  # nobody else's run is loaded for a mistyped one
    shutil.copytree(run, "me/birds")
    assert run_folder("me/birds") == Path("me/birds")
    for name in ("birds", str(tmp_path / "a" / "b"), "../a", "a/b/c", "~/a", "a/b@", "hf:a/b"):
        assert run_folder(name) == Path(name)
    assert hub_run_of("me/birds") is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("me/gone", "me/gone: no such folder, and no run of that name in the hub's cache"),
        ("me/birds@v2", "me/birds@v2: no such folder"),
        (f"me/birds@{SECOND}", "the hub can't be reached"),
        ("me/model", "me/model: no such folder, and no run of that name"),
        ("me/.birds", "no such folder"),
    ],
)
def test_what_is_not_there_is_told(run, cache, tmp_path, told, pictures, name, says):
    lay_out(cache, "me/birds", run, FIRST, "main")
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(run / "config.json", model)  # something, but no run
    lay_out(cache, "me/model", model, FIRST, "main")
    assert says in told("caption", name, pictures / "p00.png")
    message = told("info", name)
    assert says in message
    assert f"an encoder of the hub is hf:{name}" in message
    with pytest.raises(MissingError):
        close.load(name)


def test_an_unfinished_download_is_told(run, cache, told, pictures):
    snapshot = lay_out(cache, "me/birds", run, FIRST, "main")
    (snapshot / "model.safetensors").unlink()
    assert "model.safetensors" in told("caption", "me/birds", pictures / "p00.png")


def test_all_that_a_run_needs_is_fetched_and_no_code(run, zoo, tmp_path):
    """Of a folder with everything, what the patterns leave is a run that says the same."""
    from huggingface_hub.utils import filter_repo_objects

    whole = shutil.copytree(run, tmp_path / "whole")
    for stray in (
        "modeling.py",
        "checkpoints/checkpoint-1/model.safetensors",
        "evaluations/a/scores.json",
        "log.jsonl",
    ):
        (whole / stray).parent.mkdir(parents=True, exist_ok=True)
        (whole / stray).touch()
    names = [path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()]
    kept = set(filter_repo_objects(names, allow_patterns=list(RUN_FILES)))
    assert kept == {path.name for path in run.iterdir() if path.is_file()} - {"log.jsonl"}
    for kind in ("t5_dir", "gpt2_dir"):
        files = [path.name for path in zoo(kind).iterdir() if "tokenizer" in path.name or path.suffix == ".jinja"]
        assert set(filter_repo_objects(files, allow_patterns=list(RUN_FILES))) == set(files)
