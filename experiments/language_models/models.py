"""Language models of the mini T5's size: a decoder-only one, and both kinds after reading the mini language.

Text is captions, questions with their answers, and hypotheses about scenes that no other data has (2,048 tokens a step); there
are no pictures, and no vectors. A decoder-only model learns the next token of texts one after the other, as GPT-2 did; an
encoder–decoder one to continue texts that are cut at a random word, as T5's language-model adaptation did.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GPT2Config, get_scheduler

from close.io.files import waiting, whole, write_json
from close.io.pretrained import load_tokenizer
from close.io.progress import progress
from close.mini import LANGUAGE_MODEL_DIR
from close.mini.entailment import entailment
from close.mini.language import captions
from close.mini.questions import questions
from close.mini.scene import scenes

KINDS = ("GPT-2", "T5")
READ_SEED = 77
"""Of the scenes whose text is read: `export` gives others."""
BLOCK, BATCH, IGNORED = 64, 32, -100
RATE, WARMUP = 2e-3, 100


def random_model(kind: str, seed: int) -> Any:
    """A model without any training: the mini T5, or a GPT-2 of its size (0.95 against 0.94 million weights, four layers)."""
    torch.manual_seed(seed)
    theirs = AutoConfig.from_pretrained(LANGUAGE_MODEL_DIR)
    if kind == "T5":
        return AutoModelForSeq2SeqLM.from_config(theirs)
    ids = {
        "bos_token_id": theirs.eos_token_id,
        "eos_token_id": theirs.eos_token_id,
        "pad_token_id": theirs.pad_token_id,
    }
    sizes = {"n_embd": theirs.d_model, "n_head": theirs.num_heads, "n_layer": 4, "n_inner": 640, "n_positions": 128}
    still = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    return AutoModelForCausalLM.from_config(GPT2Config(vocab_size=theirs.vocab_size, **sizes, **ids, **still))


def save(model: Any, folder: Path, **about: Any) -> None:
    """Model and tokenizer as a directory that a recipe can name."""
    with whole(folder) as partial:
        model.save_pretrained(partial)
        load_tokenizer(str(LANGUAGE_MODEL_DIR), model.config.vocab_size).save_pretrained(partial)
        write_json(partial / "about.json", {"weights": model.num_parameters(), **about})


def made(kind: str, folder: Path, *, seed: int, steps: int, read: int) -> Path:
    """A model's directory: of random weights, or after `steps` of reading text about `read` scenes."""
    with waiting(Path(f"{folder}.lock")):
        if not folder.exists():
            model = random_model(kind, seed)
            found = pretrain(model, kind, seed=seed, steps=steps, read=read) if steps else {}
            save(model, folder, kind=kind, seed=seed, steps=steps, **found)
    return folder


def texts(split: str, count: int) -> list[str]:
    """What is written about `count` scenes: two captions, a question with its answer and a hypothesis of each."""
    lines = []
    for scene in scenes(split, count, READ_SEED):
        (asked,) = questions(scene, 1)
        (triple,) = entailment(scene, 1)
        lines += [*captions(scene, 2), f"{asked.text} {asked.answer}", triple.hypothesis]
    return lines


def pretrain(model: Any, kind: str, *, seed: int, steps: int, read: int) -> dict[str, Any]:
    """Read; what is found of texts about scenes of another split."""
    tokenizer = load_tokenizer(str(LANGUAGE_MODEL_DIR), model.config.vocab_size)
    lines, held_out = texts("train", read), texts("val", 200)
    ids, end = tokenizer(lines, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id
    batches = (_blocks if kind == "GPT-2" else _cut)(ids, end, random.Random(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=min(WARMUP, steps // 2), num_training_steps=steps)
    model.train()
    losses = []
    with progress(f"{kind} reads", "steps") as update:
        for step in range(steps):
            loss = model(**next(batches)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            update(step + 1, steps)
    model.eval()
    unseen = tokenizer(held_out, add_special_tokens=False)["input_ids"]
    score = _perplexity(model, (_blocks if kind == "GPT-2" else _cut)(unseen, end, random.Random(0)))
    return {"texts": len(lines), "last_loss": sum(losses[-50:]) / len(losses[-50:]), "perplexity_held_out": score}


def _blocks(ids: list[list[int]], end: int, rng: random.Random) -> Iterator[dict[str, torch.Tensor]]:
    """Texts one after the other, an end token between them, in blocks: so that a text stands at any position."""
    waiting_tokens: list[int] = [end]
    while True:
        while len(waiting_tokens) < BLOCK * BATCH:
            waiting_tokens += [*ids[rng.randrange(len(ids))], end]
        block = torch.tensor(waiting_tokens[: BLOCK * BATCH]).view(BATCH, BLOCK)
        waiting_tokens = waiting_tokens[BLOCK * BATCH :]
        yield {"input_ids": block, "labels": block}


def _cut(ids: list[list[int]], end: int, rng: random.Random) -> Iterator[dict[str, torch.Tensor]]:
    """The encoder reads the beginning of a text, which may be nothing, the decoder writes its rest."""
    while True:
        first, rest = list[list[int]](), list[list[int]]()
        while sum(map(len, first)) + sum(map(len, rest)) < BLOCK * BATCH:
            text = ids[rng.randrange(len(ids))]
            place = rng.randrange(len(text))
            first.append([*text[:place], end])
            rest.append([*text[place:], end])
        inputs, labels = _padded(first, 0), _padded(rest, IGNORED)
        yield {"input_ids": inputs, "attention_mask": (inputs != 0).long(), "labels": labels}


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


@torch.no_grad()
def _perplexity(model: Any, batches: Iterator[dict[str, torch.Tensor]], count: int = 5) -> float:
    """Of a token, given those before it."""
    return math.exp(sum(float(model(**next(batches)).loss) for _ in range(count)) / count)
