"""Whatever a recipe names is the same when a run goes on, or is taken as finished; or it is told."""

from __future__ import annotations

import hashlib
import json
import shutil
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from close.data.shards import open_rows
from close.errors import OutputExistsError
from close.runs import recipe_file
from close.runs.folder import begin_run, check_goes_on, is_finished
from close.runs.recipe import Recipe, checked
from close.runs.sources import changed_source, sums_beside, weights_sum

ELSEWHERE = {
    "train.jsonl": "a file of data, whose sum is compared by itself",
    "origin": "a run under way keeps its own copy",
    "parts.py": "the code of plug-ins is compared, not their files",
}
"""Places that `sums_beside` does not count, and why."""


def everything(place: Path) -> Recipe:
    """A recipe that names all that one can, with all of it."""
    for name in ("train", "val", "memory"):
        tiny.write_jsonl(place / f"{name}.jsonl", [{"source": f"a {name}", "target": f"a {name}", "image": "a.png"}])
    Image.new("RGB", (8, 8)).save(place / "a.png")
    for name in ("images", "rows", "texts", "fitted"):
        np.save(place / f"{name}.npy", np.eye(4))
    for name in ("encoder", "other", "words", "saved", "origin"):
        (place / name).mkdir()
        (place / name / "config.json").write_text("{}")
    for name in ("ds.json", "fsdp.json", "acc.json", "words.toml", "parts.py"):
        (place / name).write_text("")
    given = {name: str(place / f"{name}.jsonl") for name in ("train", "val")}
    values: dict[str, Any] = {
        "data": given | {"val_images": str(place / "images.npy"), "embeddings": str(place / "rows.npy")},
        "encoder": f"hf:{place / 'encoder'}",
        "language_model": str(place / "words"),
        "init_from": str(place / "origin"),
        "plugins": [str(place / "parts.py")],
        "adapter": [{"mean_shift": {"fit": {"text": str(place / "fitted.npy")}}}, {"load": str(place / "saved")}],
        "retrieve": {"memory": str(place / "memory.jsonl"), "texts": str(place / "texts.npy"), "into": "words"},
        "training": {"metric_for_best": "cider", "deepspeed": str(place / "ds.json")},
    }
    values["retrieve"] |= {"encoder": f"hf:{place / 'other'}", "language": str(place / "words.toml")}
    values["training"] |= {"fsdp_config": str(place / "fsdp.json"), "accelerator_config": str(place / "acc.json")}
    return checked(values, "here", only_keys=True)


def of(made: Recipe, **changes: Any) -> Recipe:
    return checked(made.dump() | changes, "here", only_keys=True)


def places(made: Recipe) -> list[Path]:
    """All that a recipe's file names: what is found from another folder."""
    found: list[str] = []
    recipe_file._with_places(deepcopy(made.dump()), lambda place: found.append(place) or place, Path())
    return [*map(Path, found)]


def other(place: Path) -> None:
    """Something else under a name."""
    if place.suffix == ".jsonl":
        tiny.write_jsonl(place, [{"source": "another", "target": "another", "image": "a.png"}])
    elif place.is_dir():
        (place / "config.json").write_text('{"other": 1}')
    else:
        place.write_text("other = 1")


def test_all_that_a_recipe_names_is_compared(tmp_path: Path) -> None:
    made = everything(tmp_path)
    named = places(made)
    assert len(named) > 15
    for alone in (made, of(made, init_from=None)):  # with it, the language model is the other run's
        before = sums_beside(alone)
        run = {"train": [{"sha256": open_rows(tmp_path / "train.jsonl").sha256}], "beside": [*before.values()]}
        run |= {"init_from": {"sha256": weights_sum(tmp_path / "origin")}} if alone.init_from else {}
        assert changed_source(alone, run) is None
        for place in named:
            if place.name in ("origin" if alone is not made else "words", "parts.py"):
                continue
            kept = tmp_path / "kept"
            (shutil.copytree if place.is_dir() else shutil.copy2)(place, kept)
            other(place)
            assert (sums_beside(alone) != before) is (place.name not in ELSEWHERE), place
            assert place.name in str(changed_source(alone, run)), place
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            assert changed_source(alone, run) is None  # what is gone is not another
            kept.rename(place)
        assert changed_source(alone, run) is None


def test_what_an_older_run_does_not_say_is_not_another(tmp_path: Path) -> None:
    made = of(everything(tmp_path), init_from=None)
    before = sums_beside(made)
    old = [
        name for name in before if Path(name).name in ("fitted.npy", "saved", "rows.npy", "memory.jsonl", "texts.npy")
    ]
    assert old == [*before][:5]
    run = {"train": [{}], "beside": [before[name] for name in old]}
    facts: dict[str, Any] = {"encoder": "e", "data": {}}
    begin_run(tmp_path / "run", made, resume=False, beside={name: before[name] for name in old}, **facts)
    for name in ("val.jsonl", "encoder", "words", "words.toml", "ds.json"):
        other(tmp_path / name)
    assert changed_source(made, run) is None
    check_goes_on(tmp_path / "run", beside=sums_beside(made), **facts)
    other(tmp_path / "memory.jsonl")
    assert Path(str(changed_source(made, run))).name == "memory.jsonl"
    with pytest.raises(OutputExistsError, match=r"memory\.jsonl has changed since the run began"):
        check_goes_on(tmp_path / "run", beside=sums_beside(made), **facts)


@pytest.mark.parametrize(
    ("training", "train_on", "counted"),
    [
        ({"metric_for_best": "loss"}, "text", {"val.jsonl"}),
        ({}, "text", set()),  # watched alone
        ({"metric_for_best": "cider"}, "text", {"val.jsonl", "val.jsonl (pictures)"}),
        ({"metric_for_best": "loss"}, "image", {"val.jsonl", "val.jsonl (pictures)", "train.jsonl (pictures)"}),
    ],
)
def test_what_chooses_weights_counts_and_what_is_looked_at(
    tmp_path: Path, training: dict[str, str], train_on: str, counted: set[str]
) -> None:
    everything(tmp_path)
    data = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "val")}
    made = checked({"data": data, "training": training, "train_on": train_on}, "here", only_keys=True)
    before = sums_beside(made)
    assert {Path(name).name for name, found in before.items() if found} == counted
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    pictured = {name for name, found in sums_beside(made).items() if found != before[name]}
    assert {Path(name).name for name in pictured} == {name for name in counted if "pictures" in name}
    run = json.loads(json.dumps({"beside": [*before.values()]}))
    assert str(changed_source(made, run)) == (sorted(pictured)[0] if pictured else "None")
    made = checked({"data": data | {"embeddings": data["train"]}, "train_on": train_on}, "here", only_keys=True)
    assert not any("pictures" in name for name in sums_beside(made))  # a table has them


def test_pictures_that_are_gone_are_no_others(tmp_path: Path) -> None:
    everything(tmp_path)
    made = checked({"data": {"train": str(tmp_path / "train.jsonl")}, "train_on": "image"}, "here", only_keys=True)
    run = {"beside": [*sums_beside(made).values()]}
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    assert "(pictures)" in str(changed_source(made, run))
    (tmp_path / "a.png").unlink()
    assert changed_source(made, run) is None


def test_what_a_model_does_not_load_does_not_count(tmp_path: Path) -> None:
    made = of(everything(tmp_path), init_from=None)
    model = tmp_path / "words"
    for name in ("model.safetensors", "tokenizer.json", "1_Pooling/config.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("w")
    before = sums_beside(made)
    idle = ["trainer_state.json", "training_args.bin", "optimizer.pt", "LICENSE.txt", "checkpoint-500/config.json"]
    idle += ["pytorch_model.bin", "pytorch_model.bin.index.json", "original/consolidated.00.pth", ".cache/it.json"]
    for name in idle:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("z")
    assert sums_beside(made) == before
    for name in ("model.safetensors", "tokenizer.json", "1_Pooling/config.json", "modeling.py"):
        (model / name).write_text("another")
        sums, before = before, sums_beside(made)
        assert sums != before, name
    (model / "model.safetensors").unlink()
    before = sums_beside(made)
    (model / "pytorch_model.bin").write_text("other weights")  # now they are loaded
    assert sums_beside(made) != before


def test_a_file_is_one_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = everything(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = list[dict[str, str]]()
    for rows in ("fitted.npy", str(tmp_path / "fitted.npy"), "link/fitted.npy"):
        found.append(sums_beside(of(made, data=made.dump()["data"] | {"embeddings": rows})))
    assert [[*one.values()] for one in found] == [[*found[0].values()]] * 3
    assert [*found[0]] == [*found[1]]


def test_a_run_is_known_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    everything(tmp_path / "disk")
    (tmp_path / "link").symlink_to("disk")
    out = [tmp_path / name / "run" for name in ("disk", "link")]
    rows = [open_rows(tmp_path / name / "train.jsonl") for name in ("disk", "link")]
    made = [checked({"data": {"train": str(one.path)}}, "here", only_keys=True) for one in rows]
    monkeypatch.chdir(tmp_path / "disk")
    sums = [{str(one.path): one.sha256} for one in rows]
    begin_run(out[0], made[0], encoder="e", data=sums[0], resume=False)
    for run, recipe, data in product(out, made, sums):
        assert not is_finished(run, recipe, resume=True, overwrite=False)
        check_goes_on(run, encoder="e", data=data)
        with pytest.raises(OutputExistsError, match=r"train\.jsonl has changed"):
            check_goes_on(run, encoder="e", data=dict.fromkeys(data, "another"))
    with pytest.raises(OutputExistsError, match=r"data\.train: .*train\.jsonl' there, .*val\.jsonl' here"):
        is_finished(out[1], of(made[1], data={"train": "val.jsonl"}), resume=True, overwrite=False)


def test_models_are_the_same_from_every_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = everything(tmp_path)
    monkeypatch.chdir(tmp_path)
    facts: dict[str, Any] = {"encoder": "e", "data": {}}
    begin_run(tmp_path / "run", made, resume=False, beside=sums_beside(made), **facts)
    other(tmp_path / "other")
    (tmp_path / "below").mkdir()
    for place in (tmp_path, tmp_path / "below"):
        monkeypatch.chdir(place)
        with pytest.raises(OutputExistsError, match=r"hf:\.\./other has changed since the run began"):
            check_goes_on(tmp_path / "run", beside=sums_beside(made), **facts)


def test_weights_are_read_once_as_long_as_they_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = everything(tmp_path)
    for place in ("origin", "words", "other"):
        (tmp_path / place / "model.safetensors").write_text("weights")
    read, digest = list[str](), hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(file.name) or digest(file, name))
    for one in (made, of(made, init_from=None)) * 2:
        run = {"beside": [*sums_beside(one).values()], "init_from": {"sha256": weights_sum(tmp_path / "origin")}}
        assert changed_source(one, run) is None
    weights = [name for name in read if "model" in name]
    assert len(weights) == len({*weights}) == 3
