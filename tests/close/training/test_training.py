"""Training: what a run holds, what it computes, what it refuses."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoTokenizer, Seq2SeqTrainingArguments, TrainerCallback
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.integrations.deepspeed import set_hf_deepspeed_config

import close
from close.adapters import build_adapter, row_seeds
from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import (
    CloseError,
    DataError,
    MismatchError,
    MissingError,
    OutputExistsError,
    RecipeError,
    WeightsError,
)
from close.io.jobs import exclusively
from close.io.record import code_sums
from close.model.modeling import CloseModel
from close.runs.recipe import Recipe, load_recipe
from close.tasks import get_task
from close.training.arguments import training_arguments
from close.training.checkpoints import Manifests, latest_checkpoint
from close.training.examples import Collator, TextDataset
from close.training.train import train
from close.training.trainer import ProgressLine
from close.vectors.build import embed_texts
from close.vectors.table import EmbeddingTable

Make = Callable[..., Recipe]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(train_small: Callable[..., Path]) -> Path:
    return train_small(epochs=2, learning_rate=1e-2)


class TestRun:
    """The folder that training leaves."""

    def test_is_complete(self, run, captions, tiny_encoder):
        names = {path.name for path in run.iterdir()}
        assert names == {
            "README.md",
            "config.json",
            "generation_config.json",
            "log.jsonl",
            "model.safetensors",
            "recipe.yaml",
            "run.json",
            "tokenizer.json",
            "tokenizer_config.json",
        }
        about = json.loads((run / "run.json").read_text())
        encoder = load_encoder(str(tiny_encoder))
        assert (run / about["encoder"]).resolve() == tiny_encoder.resolve()  # as seen from the run
        assert about["fingerprint"] == encoder.fingerprint
        assert (about["steps"], about["precision"], about["processes"]) == (6, "fp32", 1)
        assert about["train"][0]["sha256"] == RowFile(captions).sha256
        assert (about["train"][0]["rows"], about["train"][0]["examples"]) == (48, 48)
        assert torch.__version__.startswith(about["versions"]["torch"])
        assert about["code"] == code_sums()
        recipe = load_recipe(run / "recipe.yaml")
        assert Path(recipe.encoder).resolve() == tiny_encoder.resolve()
        assert (run / "recipe.yaml").read_text() in (run / "README.md").read_text()
        settings = json.loads((run / "generation_config.json").read_text())
        assert (settings["num_beams"], settings["max_new_tokens"]) == (5, 32)

    def test_holds_no_encoder(self, run):
        assert {key.split(".")[0] for key in weights(run)} == {"language_model", "prefix", "adapter"}

    def test_reloads_to_the_same_text(self, run, pictures):
        first, again = close.load(run), close.load(run)
        said = first(str(pictures))
        assert [str(output) for output in said] == [str(output) for output in again(str(pictures))]
        assert [output.score for output in said] == [output.score for output in again(str(pictures))]
        embeds = first.encoder.encode_image(sorted(pictures.iterdir()))
        ids = torch.zeros(12, 1, dtype=torch.long)
        with torch.inference_mode():
            one, two = (c.model(embeds, "image", decoder_input_ids=ids).logits for c in (first, again))
        assert torch.equal(one, two)

    def test_refuses_another_encoder(self, run, tmp_path, pictures):
        other = tiny.open_clip_dir(tmp_path / "other", seed=1)
        with pytest.raises(MismatchError) as told:
            close.load(run, encoder=str(other))
        model = close.load(run)
        for name in (model.model.config.encoder, str(other)):
            assert repr(name) in str(told.value)

    def test_takes_its_encoder_from_elsewhere(self, run, tiny_encoder, tmp_path, pictures):

        moved = shutil.copytree(tiny_encoder, tmp_path / "moved")
        picture = pictures / "p00.png"
        assert close.load(run, encoder=str(moved))(picture).text == close.load(run)(picture).text

    @pytest.mark.parametrize(
        "name",
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
    )
    @pytest.mark.parametrize("damage", ["gone", "cut"])
    def test_damage_is_told(self, run, name, damage, tmp_path):

        copy = shutil.copytree(run, tmp_path / "run")
        if damage == "gone":
            (copy / name).unlink()
        else:
            (copy / name).write_bytes((copy / name).read_bytes()[:50])
        with pytest.raises(CloseError) as told:
            close.load(copy)
        assert str(copy) in str(told.value)
        assert "\n" not in str(told.value)

    def test_folders_that_are_no_run(self, run, tmp_path):
        with pytest.raises(MissingError, match="no run there"):
            close.load(tmp_path)
        with pytest.raises(MissingError, match="no run there"):
            close.load(tmp_path / "gone")
        (tmp_path / "recipe.yaml").touch()
        with pytest.raises(MissingError, match="not finished"):
            close.load(tmp_path)


def test_the_seed_decides(recipe, tmp_path):
    one, two, other = (
        weights(train(recipe(seed=seed), tmp_path / name)) for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["prefix.linear.weight"], other["prefix.linear.weight"])


def test_it_learns(recipe, tmp_path):
    options = {"epochs": 12, "batch_size": 8, "learning_rate": 3e-2, "save_strategy": "no"}
    entries = log(train(recipe(options, adapter="none"), tmp_path / "run"))
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert np.mean(losses[-3:]) < 0.65 * losses[0]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_rate_falls_to_nothing_over_optimizer_steps(recipe, tmp_path, accumulation):
    entries = log(train(recipe({"gradient_accumulation_steps": accumulation}), tmp_path / "run"))
    rates = [entry["learning_rate"] for entry in entries if "learning_rate" in entry]
    steps = {1: 6, 2: 4}[accumulation]  # 48 rows: three batches of 16 an epoch
    assert rates == pytest.approx([1e-2 * (1 - step / steps) for step in range(steps)])


def test_shared_takes_the_groups_of_the_training_data(recipe, captions, tiny_encoder, tmp_path):
    run = train(recipe({"max_steps": 1}, adapter=["shared", {"gaussian": {"cosine": 0.8}}]), tmp_path / "run")
    rows = list(RowFile(captions))
    vectors = F.normalize(load_encoder(str(tiny_encoder)).text_features([row.source[0] for row in rows]), dim=-1)
    expected = build_adapter("shared", vectors.shape[1]).fit(text=vectors, groups=[row.group for row in rows])
    torch.testing.assert_close(weights(run)["adapter.stages.0.matrix"], expected.matrix, atol=1e-3, rtol=1e-3)
    lone = tmp_path / "lone.txt"
    lone.write_text("".join(f"{row.source[0]}\n" for row in rows))
    with pytest.raises(DataError, match="0 groups have two texts or more"):
        train(recipe({"max_steps": 1}, data={"train": str(lone)}, adapter="shared"), tmp_path / "lone")


class TestAccumulation:
    """Small batches, accumulated, are one big batch, with targets of uneven length."""

    SGD = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}  # noqa: RUF012

    def run(self, make: Make, zoo, folder: Path, batch: int, accumulation: int, **changes: Any) -> dict[str, Any]:
        options = self.SGD | {"batch_size": batch, "gradient_accumulation_steps": accumulation}
        options |= changes.pop("training", {})
        made = make(options, language_model=str(zoo("t5_still_dir")), **changes)
        return weights(train(made, folder / f"{batch}x{accumulation}"))

    @pytest.mark.parametrize("lora", [None, {"r": 4, "alpha": 8}])
    @pytest.mark.parametrize("steps", [1, 4])
    def test_equals_one_big_batch(self, recipe, zoo, tmp_path, lora, steps):
        options = {"lora": lora, "training": {"max_steps": steps}}
        big, small = (self.run(recipe, zoo, tmp_path, *sizes, **options) for sizes in ((32, 1), (8, 4)))
        start = weights(train(recipe(self.SGD | {"learning_rate": 1e-12, "max_steps": 1}), tmp_path / "start"))
        for key in big:
            assert torch.allclose(big[key], small[key], atol=1e-6), key
        assert (big["prefix.linear.weight"] - start["prefix.linear.weight"]).abs().max() > 1e-3

    def test_the_step_is_the_gradient_of_the_mean_over_all_tokens(self, recipe, zoo, tmp_path, captions, tiny_encoder):
        """Against a plain loop over single rows, which knows nothing of batches, trainers and accumulation."""
        after = self.run(recipe, zoo, tmp_path, 8, 6, training={"max_steps": 1})  # all 48 rows in one step
        self_made = recipe(self.SGD | {"learning_rate": 1e-30, "max_steps": 1}, language_model=str(zoo("t5_still_dir")))
        model = CloseModel.from_pretrained(train(self_made, tmp_path / "start")).train()
        rows, encoder = RowFile(captions), load_encoder(str(tiny_encoder))
        tokenizer = AutoTokenizer.from_pretrained(zoo("t5_still_dir"))
        tokens, total = 0, torch.zeros(())
        for index, row in enumerate(rows):
            labels = torch.tensor([tokenizer(row.source[0])["input_ids"]])
            seeds = row_seeds(0, 0, torch.tensor([index]))
            logits = model(encoder.encode_text(row.source), labels=labels, seeds=seeds).logits
            total = total + F.cross_entropy(logits[0], labels[0], reduction="sum")
            tokens += labels.numel()
        (total / tokens).backward()
        for name, parameter in model.named_parameters():
            assert torch.allclose(after[name], (parameter - parameter.grad).detach(), atol=2e-5), name


class TestNoise:
    """Noise belongs to (seed, epoch, row)."""

    def seen(self, monkeypatch: pytest.MonkeyPatch, make: Make, folder: Path, **options: Any) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        prompt = CloseModel.prompt

        def recording(model, embeds, modality, *args, seeds=None, **kwargs):
            if seeds is None and len(args) == 3:
                seeds = args[2]
            if seeds is not None:
                for seed, row in zip(seeds.tolist(), model.adapter(embeds, modality, seeds), strict=True):
                    assert seed not in found
                    found[seed] = row.detach().numpy().round(5).tobytes()
            return prompt(model, embeds, modality, *args, **({"seeds": seeds} if len(args) < 3 else {}), **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(CloseModel, "prompt", recording)
            train(make(options), folder)
        return found

    def test_whatever_the_batch(self, recipe, tmp_path, monkeypatch):
        whole = self.seen(monkeypatch, recipe, tmp_path / "a", batch_size=48)
        wanted = [seed for epoch in range(2) for seed in row_seeds(0, epoch, torch.arange(48)).tolist()]
        assert sorted(whole) == sorted(wanted)
        assert whole == self.seen(monkeypatch, recipe, tmp_path / "b", batch_size=7)
        assert whole == self.seen(monkeypatch, recipe, tmp_path / "c", batch_size=5, gradient_accumulation_steps=3)
        workers = {"batch_size": 16, "dataloader_num_workers": 2, "save_strategy": "steps", "save_steps": 2}
        assert whole == self.seen(monkeypatch, recipe, tmp_path / "d", **workers)


class TestLora:
    """LoRA trains what it says, and the saved run needs no peft (more in `test_tune.py`)."""

    def test_only_what_it_says(self, recipe, tmp_path, tiny_t5):
        before = load_file(tiny_t5 / "model.safetensors")
        made = recipe(lora={"r": 4, "alpha": 8, "target_modules": r"language_model\..*\.(q|v)"})
        after = CloseModel.from_pretrained(train(made, tmp_path / "run")).state_dict()
        inner = {key.removeprefix("language_model."): after[key] for key in after if key.startswith("language_model.")}
        changed = {key for key in before if not torch.equal(before[key], inner[key])}
        assert changed == {key for key in before if key.endswith((".q.weight", ".v.weight"))}
        plain = weights(train(recipe({"learning_rate": 1e-12}), tmp_path / "start"))
        assert not torch.allclose(after["prefix.linear.weight"], plain["prefix.linear.weight"], atol=1e-3)

    def test_needs_no_peft_afterwards(self, recipe, tmp_path, monkeypatch, pictures):
        run = train(recipe(lora={"r": 4}), tmp_path / "run")
        monkeypatch.setitem(sys.modules, "peft", None)
        assert close.load(run)(pictures / "p00.png").error is None
        assert not (run / "adapter_config.json").exists()

    def test_targets_that_are_nowhere(self, recipe, tmp_path):
        with pytest.raises(RecipeError, match="lora"):
            train(recipe(lora={"target_modules": "nowhere"}), tmp_path / "run")


class PowerCutError(Exception):
    """Stops training where a power cut might."""


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, run: Callable[[], object]) -> None:
    with monkeypatch.context() as patch:

        def stop(self, args, state, control, **kwargs):
            if state.global_step >= at:
                raise PowerCutError

        patch.setattr(ProgressLine, "on_step_end", stop)
        with pytest.raises(PowerCutError):
            run()


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the log, which holds times."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class TestResume:
    """Interrupted and resumed, a run ends in the same bits."""

    @pytest.mark.parametrize(
        ("options", "changes"),
        [
            ({}, {}),
            ({"save_strategy": "steps", "save_steps": 2}, {}),
            ({"save_strategy": "steps", "save_steps": 1, "gradient_accumulation_steps": 2, "batch_size": 6}, {}),
            ({"save_strategy": "steps", "save_steps": 2, "logging_steps": 4}, {}),
            ({"save_strategy": "steps", "save_steps": 2}, {"lora": {"r": 4, "dropout": 0.1}}),
            ({"save_strategy": "steps", "save_steps": 2, "dataloader_num_workers": 1}, {"captions": "multiple"}),
            ({}, {"prefix": {"kind": "transformer", "length": 3, "layers": 2, "heads": 2}}),
            ({}, {"prefix": "mlp", "lora": {"r": 4}}),
            ({"save_strategy": "steps", "save_steps": 2}, {"language_model": "gpt2_dir"}),
        ],
        ids=[
            "epochs",
            "steps",
            "accumulation",
            "losses of several steps",
            "lora",
            "multiple",
            "transformer",
            "mlp and lora",
            "decoder-only",
        ],
    )
    def test_equals_no_interruption(self, recipe, zoo, tmp_path, monkeypatch, options, changes):
        changes = {key: str(zoo(value)) if key == "language_model" else value for key, value in changes.items()}
        made = recipe({"epochs": 3, **options}, **changes)
        whole = train(made, tmp_path / "whole")
        for at in (2, 5, 5):
            interrupt(monkeypatch, at, lambda: train(made, tmp_path / "run", resume=True))
        train(made, tmp_path / "run", resume=True)
        assert (tmp_path / "run" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        times = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
        one, two = ([{k: e[k] for k in e if k not in times} for e in log(run)] for run in (whole, tmp_path / "run"))
        assert one == two

    def test_losses_that_an_older_checkpoint_does_not_keep(self, recipe, tmp_path, monkeypatch, caplog):
        made = recipe({"epochs": 3, "save_strategy": "steps", "save_steps": 1, "logging_steps": 4})
        interrupt(monkeypatch, 6, lambda: train(made, tmp_path / "run"))
        for checkpoint in (tmp_path / "run" / "checkpoints").glob("checkpoint-*"):
            sizes = json.loads((checkpoint / "manifest.json").read_text())
            del sizes["losses.json"]
            (checkpoint / "losses.json").unlink()
            (checkpoint / "manifest.json").write_text(json.dumps(sizes))
        train(made, tmp_path / "run", resume=True)
        assert "does not keep the losses before it" in caplog.text
        found = log(tmp_path / "run")
        losses = [entry["loss"] for entry in found if "loss" in entry]
        assert len(losses) == 2
        assert 0 < found[-1]["train_loss"] < 2 * losses[-1]

    def test_several_tasks_and_a_watched_loss(self, recipe, captions, tmp_path, monkeypatch):
        questions = [
            {"source": row["source"], "context": "what is it?", "target": row["source"].split()[2]}
            for row in tiny.caption_rows(20, seed=4)
        ]
        data = tiny.write_jsonl(tmp_path / "vqa.jsonl", questions)
        tasks = [
            {"task": "caption", "train": str(captions), "weight": 0.5},
            {"task": "vqa", "train": str(data), "weight": 1.5},
        ]
        made = recipe(
            {"epochs": 3, "save_strategy": "steps", "save_steps": 2, "batch_size": 10},
            task=tasks,
            data={"val": str(captions)},
        )
        whole = train(made, tmp_path / "whole")
        interrupt(monkeypatch, 9, lambda: train(made, tmp_path / "run"))
        train(made, tmp_path / "run", resume=True)
        assert (tmp_path / "run" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        assert sum("eval_loss" in entry for entry in log(whole)) == 3

    def test_a_damaged_checkpoint_is_passed_over(self, recipe, tmp_path, monkeypatch):
        made = recipe({"save_strategy": "steps", "save_steps": 1, "save_total_limit": 3})
        whole = train(made, tmp_path / "whole")
        run = tmp_path / "run"
        interrupt(monkeypatch, 4, lambda: train(made, run))
        checkpoints = sorted((run / "checkpoints").glob("checkpoint-*"))
        assert [path.name for path in checkpoints] == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
        shutil.copytree(checkpoints[2], run / "checkpoints" / "checkpoint-best")  # somebody's own
        (checkpoints[2] / "manifest.json").unlink()
        optimizer = checkpoints[1] / "optimizer.pt"
        optimizer.write_bytes(optimizer.read_bytes()[:-7])
        assert latest_checkpoint(run / "checkpoints") == str(checkpoints[0])
        train(made, run, resume=True)
        assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()

    @pytest.mark.parametrize("save", [{"save_strategy": "steps", "save_steps": 1}, {"save_strategy": "epoch"}], ids=str)
    def test_a_kill_after_the_last_step_adds_none(self, recipe, captions, tmp_path, monkeypatch, save):
        """A run that ends within an epoch, killed when its last checkpoint is written."""
        options = {"max_steps": 5, "lr_scheduler_type": "constant", "eval_strategy": "epoch", **save}
        made = recipe(options, data={"train": str(captions), "val": str(captions)})
        whole = train(made, tmp_path / "whole")

        def killed(*args: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("close.training.train.save_run", killed)
            with pytest.raises(KeyboardInterrupt):
                train(made, tmp_path / "run")
        run = train(made, tmp_path / "run", resume=True)
        assert json.loads((run / "run.json").read_text())["steps"] == 5
        assert content(run) == content(whole)
        evaluated = [[(e["step"], e["eval_loss"]) for e in log(one) if "eval_loss" in e] for one in (run, whole)]
        assert evaluated[0] == evaluated[1]

    @pytest.mark.parametrize("limit", [1, 2])
    def test_goes_on_after_a_kill_in_the_first_checkpoint(self, recipe, tmp_path, monkeypatch, limit):
        made, run = recipe({"save_strategy": "steps", "save_steps": 4, "save_total_limit": limit}), tmp_path / "run"
        whole = train(made, tmp_path / "whole")
        with monkeypatch.context() as patch:
            patch.setattr(Manifests, "on_save", lambda *args, **kwargs: None)
            interrupt(monkeypatch, 5, lambda: train(made, run))
        for name in ("checkpoint-4/manifest.json", "checkpoint-4/model.safetensors"):
            (run / "checkpoints" / name).unlink(missing_ok=True)
        train(made, run, resume=True)
        assert content(run) == content(whole)

    def test_a_kill_while_an_older_checkpoint_is_removed_loses_neither(self, recipe, tmp_path, monkeypatch):
        """Of one checkpoint at a time: the new one is known to be whole before the old one goes."""
        made, run = recipe({"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}), tmp_path / "run"
        whole = train(made, tmp_path / "whole")
        removed = shutil.rmtree

        def killed(place: Any, *args: Any, **kwargs: Any) -> None:
            if "checkpoint-" in str(place):
                (Path(place) / "manifest.json").unlink()
                raise KeyboardInterrupt
            removed(place, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                train(made, run)
        assert latest_checkpoint(run / "checkpoints") == str(run / "checkpoints" / "checkpoint-2")
        train(made, run, resume=True)
        assert content(run) == content(whole)

    def test_checkpoints_that_nobody_vouches_for_are_told(self, recipe, tmp_path, monkeypatch):
        made, run = recipe({"save_strategy": "steps", "save_steps": 1}), tmp_path / "run"
        with monkeypatch.context() as patch:
            patch.setattr(Manifests, "on_save", lambda *args, **kwargs: None)
            interrupt(monkeypatch, 4, lambda: train(made, run))
        with pytest.raises(DataError, match=r"checkpoint-3 has no manifest\.json"):
            train(made, run, resume=True)
        train(made, run, overwrite=True)

    def test_a_finished_run_is_left_as_it_is(self, recipe, tmp_path):
        run = train(recipe(), tmp_path / "run")
        before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
        assert train(recipe(), run, resume=True) == run
        assert before == {path: path.stat().st_mtime_ns for path in run.iterdir()}

    def test_another_recipe_is_refused(self, recipe, tmp_path, monkeypatch):
        interrupt(monkeypatch, 4, lambda: train(recipe(), tmp_path / "run"))
        with pytest.raises(
            OutputExistsError, match=r"recipe \(training.epochs: 2.0 there, 5.0 here; seed: 0 there, 3 here\)"
        ):
            train(recipe({"epochs": 5}, seed=3), tmp_path / "run", resume=True)
        with pytest.raises(OutputExistsError, match="--resume, or replace it with --overwrite"):
            train(recipe(), tmp_path / "run")

    def test_changed_data_is_refused(self, recipe, tmp_path, monkeypatch):
        data = tiny.write_jsonl(tmp_path / "c.jsonl", tiny.caption_rows(48))
        interrupt(monkeypatch, 4, lambda: train(recipe(data={"train": str(data)}), tmp_path / "run"))
        tiny.write_jsonl(data, tiny.caption_rows(48, seed=9))
        with pytest.raises(OutputExistsError, match=r"c\.jsonl"):
            train(recipe(data={"train": str(data)}), tmp_path / "run", resume=True)


class TestOutput:
    """Whose folder is it?"""

    def test_two_at_once(self, recipe, tmp_path):
        run = tmp_path / "new" / "run"
        with (
            exclusively(run, "is being trained"),
            pytest.raises(OutputExistsError, match=r"run is being trained by another process right now"),
        ):
            train(recipe(seed=3), run)
        assert not (tmp_path / "new").exists()
        assert train(recipe(), run) == run

    def test_files_are_as_open_as_others(self, recipe, tmp_path):
        run = train(recipe({"max_steps": 1}), tmp_path / "run")
        (tmp_path / "any").touch()
        modes = {path.name: oct(path.stat().st_mode) for path in run.iterdir()}
        assert set(modes.values()) == {oct((tmp_path / "any").stat().st_mode)}, modes

    def test_the_tokenizer_is_saved_as_it_was_loaded(self, recipe, tiny_t5, tmp_path):
        run = train(recipe({"max_steps": 1}), tmp_path / "run")
        loaded, saved = (json.loads((folder / "tokenizer.json").read_text()) for folder in (tiny_t5, run))
        assert (saved["padding"], saved["truncation"]) == (loaded["padding"], loaded["truncation"])

    def test_overwrite(self, recipe, tmp_path):
        run = train(recipe(), tmp_path / "run")
        (run / "evaluations").mkdir()
        train(recipe(seed=5), run, overwrite=True)
        assert json.loads((run / "run.json").read_text())["seed"] == 5
        assert not (run / "evaluations").exists()

    def test_nothing_is_removed_before_the_new_run_can_start(self, recipe, tmp_path):
        run = train(recipe(), tmp_path / "run")
        with pytest.raises(MissingError):
            train(recipe(data={"train": "gone.jsonl"}), run, overwrite=True)
        assert close.load(run)

    @pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
    def test_what_is_no_run_is_never_touched(self, recipe, tmp_path, options):
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(OutputExistsError, match="is no run"):
            train(recipe(), tmp_path, **options)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_an_error_leaves_nothing(self, recipe, tmp_path):
        for changes in ({"data": {"train": "gone.jsonl"}}, {"language_model": "gone/away"}, {"encoder": "gone/away"}):
            with pytest.raises(CloseError):
                train(recipe(**changes), tmp_path / "runs" / "run")
        assert list(tmp_path.iterdir()) == []


class TestText:
    """Training on text opens no picture; training on pictures does."""

    def test_pictures_are_never_opened(self, recipe, tmp_path, monkeypatch):
        data = tiny.write_jsonl(tmp_path / "c.jsonl", tiny.caption_rows(48, image="gone.png"))
        monkeypatch.setattr(Image, "open", lambda *args: pytest.fail("a picture was opened"))
        train(recipe(data={"train": str(data)}), tmp_path / "run")

    def test_the_image_supervised_ceiling(self, recipe, tmp_path, pictures, tiny_encoder):
        values = [row | {"image": str(pictures / f"p{i // 4:02}.png")} for i, row in enumerate(tiny.caption_rows(48))]
        data = tiny.write_jsonl(tmp_path / "c.jsonl", values)
        text, image = (
            train(recipe(data={"train": str(data)}, train_on=side), tmp_path / side) for side in ("text", "image")
        )
        assert not torch.equal(weights(text)["prefix.linear.weight"], weights(image)["prefix.linear.weight"])
        noisy = {"train_on": "image", "adapter": {"gaussian": {"cosine": 0.5}}}
        noised = train(recipe(data={"train": str(data)}, **noisy), tmp_path / "noisy")
        assert not torch.equal(weights(noised)["prefix.linear.weight"], weights(image)["prefix.linear.weight"])
        table = EmbeddingTable.from_numpy(
            load_encoder(str(tiny_encoder)).image_features([row["image"] for row in values])[0].numpy(),
            tmp_path / "t",
            encoder=str(tiny_encoder),
            fingerprint=load_encoder(str(tiny_encoder)).fingerprint,
            modality="image",
            ids=[row["id"] for row in values],
        )
        given = {"train": str(data), "embeddings": str(table.path)}
        again = train(recipe(data=given, train_on="image"), tmp_path / "again")
        one, two = weights(image), weights(again)
        assert all(torch.allclose(one[key], two[key], atol=1e-4) for key in one)

    def test_a_missing_picture_is_told(self, recipe, tmp_path):
        data = tiny.write_jsonl(tmp_path / "c.jsonl", tiny.caption_rows(8, image="gone.png"))
        with pytest.raises(DataError, match=r"gone\.png"):
            train(recipe(data={"train": str(data)}, train_on="image"), tmp_path / "run")

    @pytest.mark.parametrize("name", ["captions.txt", "captions.csv"])
    def test_plain_captions(self, recipe, tmp_path, name):
        texts = tiny.sentences(20)
        header = "caption\n" if name.endswith("csv") else ""
        (tmp_path / name).write_text(header + "".join(f"{text}\n" for text in texts))
        run = train(recipe(data={"train": str(tmp_path / name)}), tmp_path / "run")
        assert json.loads((run / "run.json").read_text())["train"][0]["examples"] == 20


class TestGivenTable:
    """`data.embeddings`: a table made before."""

    def test_gives_the_same_run(self, recipe, captions, tiny_encoder, tmp_path, monkeypatch):
        monkeypatch.chdir(tiny_encoder.parent)
        embed_texts(RowFile(captions), load_encoder(tiny_encoder.name), tmp_path / "t")
        given = {"train": str(captions), "embeddings": str(tmp_path / "t")}
        one = train(recipe(data=given, encoder=tiny_encoder.name), tmp_path / "a")
        two = train(recipe(), tmp_path / "b")
        assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()

    def test_of_another_kind_is_refused(self, recipe, captions, tmp_path, tiny_encoder):
        EmbeddingTable.from_numpy(np.eye(16), tmp_path / "t", encoder="other", fingerprint="0" * 32)
        given = {"train": str(captions), "embeddings": str(tmp_path / "t")}
        with pytest.raises(MismatchError) as told:
            train(recipe(data=given), tmp_path / "run")
        assert "'other'" in str(told.value)
        assert str(tiny_encoder) in str(told.value)
        EmbeddingTable.from_numpy(np.eye(16), tmp_path / "u", encoder=str(tiny_encoder), modality="image")
        with pytest.raises(MismatchError, match="image embeddings, the recipe trains on text"):
            train(recipe(data={"train": str(captions), "embeddings": str(tmp_path / "u")}), tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestArguments:
    """Every other field of transformers' TrainingArguments."""

    @pytest.mark.parametrize(
        "options",
        [
            {"max_steps": 3},
            {"lr_scheduler_type": "cosine", "warmup_steps": 2},
            {"optim": "adafactor"},
            {"precision": "bf16"},
            {"save_strategy": "no"},
            {"save_only_model": True},
            {"activation_checkpointing": True},
            {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "save_strategy": "best"},
            {"save_steps": 2, "eval_steps": 2},
            {"eval_on_start": True},
            {"include_num_input_tokens_seen": "all"},
        ],
        ids=str,
    )
    def test_are_taken(self, recipe, captions, tmp_path, options):
        if "metric" not in options and options.get("load_best_model_at_end"):
            options = options | {"metric_for_best_model": "loss"}
        run = train(recipe(options, data={"train": str(captions), "val": str(captions)}), tmp_path / "run")
        assert close.load(run)

    def test_several_gpus_make_no_larger_batch(self, recipe, tmp_path, monkeypatch):
        """Of those that no process was started for."""

        def device(self: Any) -> torch.device:
            self._n_gpu = 4
            return torch.device("cpu")

        monkeypatch.setattr(Seq2SeqTrainingArguments, "_setup_devices", property(device))
        arguments = training_arguments(recipe(), tmp_path)
        assert (arguments.n_gpu, arguments.train_batch_size) == (1, 16)

    def test_label_smoothing(self, recipe, zoo, captions, tiny_encoder, tmp_path):
        options = {"max_steps": 1, "batch_size": 48, "learning_rate": 1e-30, "label_smoothing_factor": 0.2}
        run = train(recipe(options, language_model=str(zoo("t5_still_dir"))), tmp_path / "run")
        model = CloseModel.from_pretrained(run).train()
        rows = RowFile(captions)
        table = embed_texts(rows, load_encoder(str(tiny_encoder)), tmp_path / "t")
        dataset = TextDataset(rows, get_task("caption"), table)
        batch = Collator(AutoTokenizer.from_pretrained(run), "text", 32)([dataset[i] for i in range(48)])
        logits = model(batch["embeds"], labels=batch["labels"], seeds=row_seeds(0, 0, batch["rows"])).logits
        wanted = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.2)
        assert log(run)[0]["loss"] == pytest.approx(wanted.item(), abs=1e-3)

    def test_tensorboard(self, recipe, tmp_path):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = train(recipe({"report_to": "tensorboard"}), tmp_path / "run")
        (events,) = run.rglob("events.out.tfevents.*")
        found = EventAccumulator(str(events)).Reload()
        assert len(found.Scalars("train/loss")) == 6

    @pytest.mark.parametrize(
        "options",
        [
            {"optim": "adamw"},
            {"lr_scheduler_type": "linea"},
            {"logging_steps": "abc"},
            {"report_to": "wandb"},
            {"report_to": "nowhere"},
            {"optim": "adamw_bnb_8bit"},
            {"save_strategy": "sometimes"},
            {"load_best_model_at_end": True},
            {"gradient_accumulation_steps": "two"},
            {"precision": "fp16", "half_precision_backend": "apex"},
            {"fsdp": "nonsense"},
            {"fsdp": True},
            {"deepspeed": "gone.json"},
        ],
        ids=str,
    )
    def test_that_are_wrong_are_told(self, recipe, tmp_path, options):
        with pytest.raises((RecipeError, ValidationError)) as told:  # by the recipe itself, where it can tell
            train(recipe(options), tmp_path / "run")
        if told.type is RecipeError:
            assert str(told.value).startswith("training: ")
            assert "\n" not in str(told.value)
        assert not (tmp_path / "run" / "run.json").exists()
        assert not is_deepspeed_zero3_enabled()  # which asks what was left of the arguments

    def test_deepspeed_that_leaves_no_process_a_whole_model(self, recipe, tmp_path):
        class Stage3:
            """What transformers keeps of such a configuration; the package itself is not needed here."""

            def is_zero3(self) -> bool:
                return True

        kept = Stage3()  # transformers holds it weakly
        set_hf_deepspeed_config(kept)
        with pytest.raises(RecipeError, match=r"^training: deepspeed: stage 3 .* take stage 2, or fsdp"):
            train(recipe(), tmp_path / "run")
        assert not is_deepspeed_zero3_enabled()
        assert not (tmp_path / "run" / "run.json").exists()


class TestLanguageModel:
    """What can't be the language model."""

    def test_places_without_one(self, recipe, tiny_encoder, tmp_path):
        for wrong in ("gone/away", str(tmp_path), str(tiny_encoder)):
            with pytest.raises(WeightsError) as told:
                train(recipe(language_model=wrong), tmp_path / "run")
            assert repr(wrong) in str(told.value)
            assert "\n" not in str(told.value)

    def test_an_encoder_alone(self, recipe, tmp_path):
        from transformers import BertConfig, BertModel

        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        tiny._save(tmp_path / "bert", BertModel, BertConfig(**sizes), 0, tiny.word_tokenizer())
        with pytest.raises(WeightsError, match="'bert' is no language model that writes text"):
            train(recipe(language_model=str(tmp_path / "bert")), tmp_path / "run")

    @pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "config.json"])
    def test_files_that_are_missing(self, recipe, zoo, tmp_path, name):

        copy = shutil.copytree(zoo("bart_dir"), tmp_path / "bart")
        (copy / name).unlink()
        with pytest.raises(WeightsError) as told:
            train(recipe(language_model=str(copy)), tmp_path / "run")
        assert str(copy) in str(told.value)
        assert os.listdir(tmp_path) == ["bart"]


def test_a_finished_run_of_other_data_is_told(recipe, captions, tmp_path):
    captions = Path(shutil.copy(captions, tmp_path))
    made = recipe({"max_steps": 1}, data={"train": str(captions)})
    run, before = train(made, tmp_path / "run"), captions.read_bytes()
    captions.write_bytes(before + b'{"source": "one more", "target": "one more"}\n')
    with pytest.raises(OutputExistsError, match=f"{captions.name} has changed since it was trained"):
        train(made, run, resume=True)
    captions.write_bytes(before)
    assert train(made, run, resume=True) == run
    captions.unlink()  # data may go when a run is done
    assert train(made, run, resume=True) == run


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_the_prefix_has_a_rate_of_its_own(recipe, tmp_path, tune):
    rates: dict[float, set[str]] = {}

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
            names = {id(weight): name for name, weight in model.named_parameters()}
            for group in optimizer.param_groups:
                rates.setdefault(group["initial_lr"], set()).update(names[id(weight)] for weight in group["params"])

    made = recipe({"max_steps": 1, "learning_rate": 1e-2, "prefix_learning_rate": 1e-4}, tune=tune)
    train(made, tmp_path / "run", callbacks=[Look()])
    assert set(rates) == {1e-2, 1e-4}
    assert all("prefix" in name for name in rates[1e-4])
    assert not any("prefix" in name for name in rates[1e-2])
    with pytest.raises(ValueError, match=r"tune: none trains the prefix alone, whose rate is training\.learning_rate"):
        recipe({"prefix_learning_rate": 1e-4}, tune="none")


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_other_tables_is_told(recipe, tmp_path, monkeypatch, finished):
    """What an adapter is fitted on decides what is learnt as much as the rows do."""
    table = tmp_path / "V.npy"
    np.save(table, np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32))
    made = recipe({"max_steps": 2, "save_steps": 1}, adapter=[{"mean_shift": {"fit": {"image": str(table)}}}])
    if not finished:
        monkeypatch.setattr("close.training.train.save_run", lambda *args, **options: None)
    run, before = train(made, tmp_path / "run"), table.read_bytes()
    np.save(table, np.random.default_rng(1).standard_normal((50, 16)).astype(np.float32))
    when = "it was trained" if finished else "the run began"
    with pytest.raises(OutputExistsError, match=rf"V\.npy has changed since {when}"):
        train(made, run, resume=True)
    table.write_bytes(before)
    assert train(made, run, resume=True) == run


def test_a_run_of_before_a_key_was_there_goes_on(recipe, tmp_path):
    run = train(recipe({"max_steps": 1}), tmp_path / "run")
    values = yaml.safe_load((run / "recipe.yaml").read_text())
    del values["data"]["val_images"]
    (run / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert train(recipe({"max_steps": 1}), run, resume=True) == run


def test_threads_train_in_turn_and_generators_are_left_as_they_were(recipe, tmp_path):
    def trained(seed: int, place: str) -> dict[str, torch.Tensor]:
        return load_file(train(recipe({"epochs": 1}, seed=seed), tmp_path / place) / "model.safetensors")

    def drawn() -> tuple[float, ...]:
        return random.random(), np.random.rand(), torch.rand(1).item()

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    before, alone = drawn(), trained(0, "alone")
    after = drawn()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    assert (before, after) == (drawn(), drawn())
    with ThreadPoolExecutor(2) as threads:
        beside, _ = threads.map(trained, (0, 1), ("zero", "one"))
    assert all(torch.equal(value, beside[name]) for name, value in alone.items())


def test_a_recipe_is_named_by_its_file_and_a_callback_may_be_alone(recipe, tmp_path):
    class Count(TrainerCallback):
        steps = 0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.steps += 1

    count = Count()
    (tmp_path / "r.yaml").write_text(json.dumps(recipe().dump()), encoding="utf-8")
    train(str(tmp_path / "r.yaml"), tmp_path / "run", callbacks=count)
    assert count.steps
    for given in (None, {"data": {}}, recipe):
        with pytest.raises(RecipeError, match=r"a recipe is what close\.load_recipe gives, or its file, not"):
            train(given, tmp_path / "other")
