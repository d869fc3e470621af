"""Decoder-only language models in whole runs: they learn, end their texts, go on after a kill, and do every task."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer

import close
from close.adapters import row_seeds
from close.data.rows import RowFile
from close.encoders import load_encoder
from close.model.modeling import CloseModel
from close.runs.prompts import Prompter
from close.training.train import train

SGD = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "lr_scheduler_type": "constant", "max_steps": 1}


@pytest.mark.parametrize("family", ["gpt2_dir", "llama_dir", "qwen3_dir", "gemma3_dir"])
def test_captions_are_learnt_to_their_end(recipe, zoo, tmp_path, family):
    """Of plain text and of chats, with and without a token to begin, and where the end token also pads."""
    texts = tiny.sentences(8)
    data = tiny.write_jsonl(tmp_path / "c.jsonl", [{"source": text} for text in texts])
    options = {"epochs": 150, "batch_size": 8, "save_strategy": "no", "logging_steps": 50}
    made = recipe(options, language_model=str(zoo(family)), data={"train": str(data)}, adapter="none")
    captioner = close.load(train(made, tmp_path / "run"), device="cpu")
    embeds = captioner.encoder.encode_text(texts)
    for settings in ({}, {"num_beams": 1}):
        said = captioner.answer(embeds, [""] * 8, modality="text", **settings)
        assert sum(answer.text == text for answer, text in zip(said, texts, strict=True)) >= 7


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Contexts and targets of uneven length; every third row has none."""
    rows = [
        {"source": text, "context": "" if i % 3 == 0 else f"what {'is it ' * (i % 5)}?", "target": text}
        for i, text in enumerate(tiny.sentences(24, seed=4))
    ]
    return tiny.write_jsonl(tmp_path_factory.mktemp("questions") / "q.jsonl", rows)


@pytest.mark.parametrize("family", ["gpt2_still_dir", "gemma3_dir"])
def test_an_accumulated_step_is_the_gradient_of_the_mean_over_all_tokens(
    recipe, zoo, tmp_path, questions, tiny_encoder, family
):
    """Against a plain loop over single rows, which knows nothing of batches, padding, trainers and accumulation."""
    changes = {"language_model": str(zoo(family)), "data": {"train": str(questions)}}
    made = recipe(SGD | {"batch_size": 4, "gradient_accumulation_steps": 6}, **changes)
    after = CloseModel.from_pretrained(train(made, tmp_path / "run")).state_dict()
    start = recipe(SGD | {"learning_rate": 1e-30}, **changes)
    model = CloseModel.from_pretrained(train(start, tmp_path / "start")).train()
    tokenizer, encoder = AutoTokenizer.from_pretrained(zoo(family)), load_encoder(str(tiny_encoder))
    prompter, tokens, total = Prompter(tokenizer, model.context_room(32), model.kind), 0, torch.zeros(())
    for index, row in enumerate(RowFile(questions)):
        labels = torch.tensor(model.kind.targets(tokenizer, row.target, 32))
        seeds = row_seeds(0, 0, torch.tensor([index]))
        logits = model(encoder.encode_text(row.source), labels=labels, seeds=seeds, **prompter([row.context])).logits
        total = total + F.cross_entropy(logits[0], labels[0], reduction="sum")
        tokens += labels.numel()
    (total / tokens).backward()
    for name, weight in model.named_parameters():
        assert torch.allclose(after[name], (weight - weight.grad).detach(), atol=1e-5), name


@pytest.fixture(scope="module")
def mixed(captions, tiny_encoder, zoo, tmp_path_factory):
    """A chat that learnt three tasks, told apart by their instructions."""
    from close.runs.recipe import Recipe

    folder = tmp_path_factory.mktemp("mixed")
    texts = tiny.sentences(18, seed=7)
    labels = ("entailment", "neutral", "contradiction")
    vqa = [{"source": text, "context": "what is it ?", "target": text.split()[2]} for text in texts]
    pairs = [{"source": text, "context": "a dog", "label": labels[i % 3]} for i, text in enumerate(texts)]
    tasks = [
        {"task": "caption", "train": str(captions)},
        {"task": "vqa", "train": str(tiny.write_jsonl(folder / "vqa.jsonl", vqa))},
        {"task": "entailment", "train": str(tiny.write_jsonl(folder / "pairs.jsonl", pairs))},
    ]
    values = {
        "task": tasks,
        "encoder": str(tiny_encoder),
        "language_model": str(zoo("qwen3_dir")),
        "training": {"epochs": 3, "batch_size": 16, "save_strategy": "no"},
    }
    return train(Recipe.model_validate(values), folder / "run")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_task_and_way_of_deciding(mixed, pictures, precision):
    captioner = close.load(mixed, device="cpu", precision=precision)
    items = [pictures / f"p{i:02}.png" for i in range(4)]
    assert all(math.isfinite(output.score) for output in captioner(items, do_sample=True, num_beams=1))
    captioner.use_task("vqa")
    contexts = ["what is it ?", ".", "what colour is the thing on the grass ?", "?"]
    together, alone = captioner(items, contexts), [captioner(*one) for one in zip(items, contexts, strict=True)]
    if precision == "fp32":
        assert [output.text for output in together] == [output.text for output in alone]
        assert [output.score for output in together] == pytest.approx([output.score for output in alone], abs=1e-4)
    captioner.use_task("entailment")
    labels = {"entailment", "neutral", "contradiction"}
    assert {output.text for output in captioner(items, contexts)} <= labels
    scored = captioner(items, contexts, decode="score")
    assert all(output.probabilities.keys() == labels for output in scored)
    assert all(sum(output.probabilities.values()) == pytest.approx(1, abs=1e-3) for output in scored)


@pytest.mark.slow
def test_gpt2_of_its_real_size(recipe, tmp_path):
    """124M random weights: two steps, one caption."""
    sizes = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
    folder = tiny.gpt2_dir(tmp_path / "gpt2", tokens=50257, **sizes)
    options = {"max_steps": 2, "batch_size": 4, "save_strategy": "no", "precision": "bf16"}
    run = train(recipe(options, language_model=str(folder)), tmp_path / "run")
    captioner = close.load(run)
    assert captioner.model.language_model.num_parameters() == 124_439_808  # GPT-2's
    output = captioner(tiny.picture(tmp_path / "p.png", seed=0), max_new_tokens=4)
    assert output.error is None
    assert math.isfinite(output.score)
