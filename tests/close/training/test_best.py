"""`training.metric_for_best`: the run holds the checkpoint that says the best texts, and says how it was found."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer, TrainerCallback

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import CloseError
from close.evaluation.scores import score
from close.model.modeling import CloseModel
from close.runs.pipeline import CloseCaptioner
from close.runs.stand_ins import STAND_INS, stand_ins
from close.tasks import get_task
from close.training.arguments import training_arguments
from close.training.train import train
from close.vectors.table import EmbeddingTable

TRAINING = {"epochs": 5, "learning_rate": 2e-2, "batch_size": 16, "metric_for_best": "rouge_l"}


class Stop(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Ends training after a step, or keeps a copy of all checkpoints where it comes to its end."""

    def __init__(self, at: int = 10**9, kept: Path | None = None) -> None:
        self.at, self.kept = at, kept

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.at:
            raise KeyboardInterrupt

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.kept:
            shutil.copytree(args.output_dir, self.kept)


@pytest.fixture
def shown(tmp_path: Path, pictures: Path) -> Path:
    """Captions of twelve pictures, two each."""
    rows = [row | {"image": str(pictures / f"p{i // 4:02}.png")} for i, row in enumerate(tiny.caption_rows(48))]
    return tiny.write_jsonl(tmp_path / "shown.jsonl", [row for i, row in enumerate(rows) if i % 2])


def best_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())["best"]
    return found


def rouge(model: CloseModel, tokenizer: Any, embeds: torch.Tensor, references: list[list[str]]) -> float:
    """Of greedy captions, one by one."""
    captioner = CloseCaptioner(model.eval(), tokenizer, tasks=["caption"])
    said = {str(i): captioner.generate(row[None], [""], num_beams=1)[0][0] for i, row in enumerate(embeds)}
    truth = {str(i): several for i, several in enumerate(references)}
    return float(score("caption", said, truth, tokenizer="python", metrics=["rouge_l"], samples=0)["rouge_l"])


@pytest.fixture
def unpaired(tmp_path: Path) -> Path:
    """Vectors of images that nothing is known of."""
    rows = np.random.default_rng(0).normal(size=(40, 16)) + 1
    np.save(tmp_path / "V.npy", (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return tmp_path / "V.npy"


@pytest.mark.parametrize("side", ["pictures", "captions", "unpaired"])
@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_the_run_holds_the_checkpoint_with_the_best_texts(
    recipe, captions, shown, unpaired, tiny_encoder, tmp_path, side, lora
):
    val = shown if side == "pictures" else captions
    data = {"train": str(captions), "val": str(val)} | ({"val_images": str(unpaired)} if side == "unpaired" else {})
    made = recipe(TRAINING | {"save_total_limit": 9}, data=data, lora=lora)
    run = train(made, tmp_path / "run", callbacks=[Stop(kept=tmp_path / "kept")])
    found, encoder = best_of(run), load_encoder(str(tiny_encoder))
    groups: dict[str, list[Any]] = {}
    for row in RowFile(val):
        groups.setdefault(str(row.group), []).append(row)
    firsts = [rows[0] for rows in groups.values()]
    if side == "pictures":
        vectors = F.normalize(encoder.image_features([row.image for row in firsts])[0], dim=-1)
        truth = [[row.source[0] for row in rows] for rows in groups.values()]
    else:
        told = [replace(rows[0], references=tuple(row.source[0] for row in rows[1:])) for rows in groups.values()]
        images = np.load(unpaired) if side == "unpaired" else None
        vectors = torch.from_numpy(stand_ins(told, get_task("caption"), encoder, images).vectors)
        truth = [list(row.references) for row in told]
    assert (found["metric"], found["examples"], found["num_beams"]) == ("rouge_l", 12, 1)
    made_of = {"captions": STAND_INS["text"], "unpaired": STAND_INS["unpaired"]}
    assert found["shown"] == (
        "pictures" if side == "pictures" else f"texts that stand in for pictures ({made_of[side]})"
    )
    scores = {one["step"]: one["eval_rouge_l"] for one in found["history"]}
    assert list(scores) == [3, 6, 9, 12, 15]
    assert (found["step"], found["score"]) == (
        max(scores, key=lambda step: (scores[step], -step)),
        max(scores.values()),
    )
    model, tokenizer = CloseModel.from_pretrained(run), AutoTokenizer.from_pretrained(run)
    assert rouge(model, tokenizer, vectors, truth) == pytest.approx(found["score"])
    if lora is None:
        held = (run / "model.safetensors").read_bytes()
        assert held == (tmp_path / "kept" / f"checkpoint-{found['step']}" / "model.safetensors").read_bytes()
        for step, value in scores.items():
            model = CloseModel.from_pretrained(tmp_path / "kept" / f"checkpoint-{step}")
            assert rouge(model, tokenizer, vectors, truth) == pytest.approx(value)


def test_a_run_that_was_stopped_and_moved_holds_the_same(recipe, captions, shown, tmp_path):
    made = recipe(TRAINING, data={"train": str(captions), "val": str(shown)})
    whole = train(made, tmp_path / "whole")
    for at, place in ((7, "a"), (14, "b")):
        with pytest.raises(KeyboardInterrupt):
            train(made, tmp_path / place, resume=True, callbacks=[Stop(at)])
        (tmp_path / place).rename(tmp_path / chr(ord(place) + 1))
    run = train(made, tmp_path / "c", resume=True)
    assert best_of(run) == best_of(whole)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_best_checkpoint_that_is_damaged_is_trained_again(recipe, captions, shown, tmp_path):
    made = recipe(TRAINING, data={"train": str(captions), "val": str(shown)})
    whole, run = train(made, tmp_path / "whole"), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(made, run, callbacks=[Stop(14)])
    state = json.loads((run / "checkpoints" / "checkpoint-12" / "trainer_state.json").read_text())
    best = run / "checkpoints" / Path(state["best_model_checkpoint"]).name / "model.safetensors"
    best.write_bytes(best.read_bytes()[:-7])
    train(made, run, resume=True)
    assert best_of(run) == best_of(whole)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_what_is_chosen_is_what_was_looked_at(recipe, captions, tmp_path, caplog):
    data = {"train": str(captions), "val": str(captions)}
    with pytest.raises(
        CloseError, match="eval_steps 1 and save_steps 4: the best checkpoint is one that was looked at"
    ):
        train(recipe({"metric_for_best": "loss", "eval_steps": 1, "save_steps": 4}, data=data), tmp_path / "run")
    arguments = training_arguments(
        recipe({"metric_for_best": "loss", "eval_strategy": "steps", "logging_steps": 7}, data=data), tmp_path
    )
    assert arguments.save_steps == arguments.eval_steps == 7
    by_hand = {"load_best_model_at_end": True, "max_steps": 4, "eval_steps": 2, "save_steps": 2, "logging_steps": 1}
    best = best_of(train(recipe(by_hand, data=data), tmp_path / "hand"))
    assert [one["step"] for one in best["history"]] == [2, 4]
    assert best["score"] == min(one["eval_loss"] for one in best["history"])
    late = {"metric_for_best": "loss", "max_steps": 2, "eval_steps": 1, "eval_delay": 50}
    run = train(recipe(late, data=data), tmp_path / "late")
    assert "holds its last weights and not the best" in caplog.text
    assert "best" not in json.loads((run / "run.json").read_text())


def test_by_loss(recipe, captions, tmp_path):
    made = recipe(
        {"metric_for_best": "loss", "learning_rate": 0.5}, data={"train": str(captions), "val": str(captions)}
    )
    found = best_of(train(made, tmp_path / "run"))
    losses = {one["step"]: one["eval_loss"] for one in found["history"]}
    assert (found["step"], found["score"]) == (min(losses, key=lambda step: losses[step]), min(losses.values()))


@pytest.mark.parametrize(
    ("training", "val", "told"),
    [
        ({}, None, "data.val names none"),
        ({"metric_for_best": "loss"}, None, "data.val names none"),
        ({"metric_for_best": "rogue_l"}, "shown", "did you mean 'rouge_l'"),
        ({"metric_for_best": "accuracy"}, "shown", "unknown training.metric_for_best 'accuracy'"),
        ({"metric_for_best": "meteor"}, "shown", "java"),
        ({"metric_for_best": "attribute_recall"}, "shown", "its rows lack what 'attributes' is made of"),
        ({"metric_for_best": "clip_score"}, "groups", "no row of .* has an image"),
        ({}, "alone", "'references', or captions of one image a common 'group'"),
        ({"metric_for_best": "cider"}, "one", "even the truth scores 0|can't be made here"),
        ({}, "gone", "gone.png: no such file"),
        ({"save_strategy": "no"}, "shown", "nothing to choose from"),
        ({"load_best_model_at_end": True}, "shown", "leave 'load_best_model_at_end' out"),
        ({}, "shown+V", "has images of its own, which nothing stands in for"),
        ({}, "groups+others", "was made with encoder 'openclip:ViT-B-32', the recipe says"),
        ({}, "groups+nothing", "nothing.npy: no such"),
        (
            {"metric_for_best": "loss"},
            "groups+V",
            "data.val_images counts where training.metric_for_best names a score",
        ),
    ],
    ids=str,
)
def test_what_can_not_be_scored_is_told_before_any_work(
    recipe, captions, shown, unpaired, tmp_path, monkeypatch, training, val, told
):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("close.training.train.cached_table", lambda *args, **kwargs: pytest.fail("work began"))
    texts = tiny.caption_rows(8)
    made: dict[str | None, Path | None] = {None: None, "shown": shown, "groups": captions}
    made["alone"] = tiny.write_jsonl(tmp_path / "alone.jsonl", [{"source": row["source"]} for row in texts])
    made["one"] = tiny.write_jsonl(tmp_path / "one.jsonl", texts[:4])
    made["gone"] = tiny.write_jsonl(tmp_path / "gone.jsonl", [row | {"image": "gone.png"} for row in texts])
    rows, _, images = (val or "").partition("+")
    data = {"train": str(captions), "val": made[rows or None] and str(made[rows or None])}
    if images == "others":
        about = {"encoder": "openclip:ViT-B-32", "fingerprint": "0", "modality": "image", "texts": None}
        EmbeddingTable.from_numpy(np.load(unpaired), tmp_path / "others", **about)
    if images:
        data["val_images"] = str(tmp_path / images if images == "others" else tmp_path / f"{images}.npy")
    with pytest.raises((CloseError, ValueError), match=told) as error:
        train(recipe(TRAINING | training, data=data), tmp_path / "run")
    if isinstance(error.value, CloseError):
        assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_other_images_to_stand_in_are_not_resumed_with(recipe, captions, unpaired, tmp_path):
    made = recipe(TRAINING, data={"train": str(captions), "val": str(captions), "val_images": str(unpaired)})
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "run", callbacks=[Stop(7)])
    np.save(unpaired, np.load(unpaired)[::-1])
    with pytest.raises(CloseError, match=r"V\.npy has changed since the run began"):
        train(made, tmp_path / "run", resume=True)


@pytest.mark.parametrize("lowercase", [True, False])
def test_texts_are_scored_in_the_case_that_is_learnt(recipe, captions, shown, tmp_path, monkeypatch, lowercase):
    answer, seen = CloseCaptioner.answer, set()
    monkeypatch.setattr(
        CloseCaptioner, "answer", lambda self, *a, **k: seen.add(self.lowercase) or answer(self, *a, **k)
    )
    made = recipe(TRAINING | {"epochs": 1}, data={"train": str(captions), "val": str(shown)}, lowercase=lowercase)
    train(made, tmp_path / "run")
    assert seen == {lowercase}
