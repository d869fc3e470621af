"""Train the embedded language model: a tiny Llama that continues data-gen's prompts with captions of the mini world.

    python experiments/data_gen/train_mini_lm.py            (about ten minutes on one core)

Every example is a whole prompt: the instruction, then up to 20 pairs of keywords and caption, as `data-gen captions` writes
them. The loss is on the captions, and on the end token after the last one. Checked at the end: how many sampled captions
use the keywords asked, are new, and are said of a scene that could be (`close.mini` reads what they claim).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from close.mini.language import captions
from close.mini.scene import scenes
from data_gen.languages import load_language
from data_gen.prompts import Shot, compose, instruct, load_style, show
from data_gen.texts import words
from data_gen.verbs import VERBS

OUT = Path(__file__).resolve().parents[2] / "data_gen" / "mini_model"
VERB, LANGUAGE = VERBS["captions"], load_language("en")
INSTRUCTION = instruct(VERB, load_style("plain"), LANGUAGE, 0)
END = "<|end|>"


def keywords(caption: str, rng: random.Random) -> str:
    """One to three words of a caption that carry content; half the time nouns and verbs only."""
    found = list(dict.fromkeys(words(caption)))
    content = [w for w in found if w not in LANGUAGE.function]
    nouns = [w for w in found if LANGUAGE.is_keyword(w)]
    pool = nouns if nouns and rng.random() < 0.5 else content
    return ", ".join(rng.sample(pool, min(len(pool), rng.choices([1, 2, 3], [1, 6, 1])[0])))


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that no keyword is unknown; every word of the world is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=640,
            special_tokens=[END],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return fast


class Prompts:
    """Token ids of random prompts, with -100 as label everywhere but on captions and the end."""

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.texts, self.rng = texts, random.Random(seed)
        self._ids = {}
        self._tokenizer = tokenizer

    def _encode(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self._tokenizer(text)["input_ids"]
        return self._ids[text]

    def one(self) -> tuple[list[int], list[int]]:
        ids = list(self._encode(INSTRUCTION))
        labels = [-100] * len(ids)
        for _ in range(self.rng.choice([1, 2, 3, 4, 5, 6, 8, 12, 21])):
            caption = self.rng.choice(self.texts)
            given = self._tokenizer(f"\n\nkeywords: {keywords(caption, self.rng)}\ncaption:")["input_ids"]
            said = self._encode(f" {caption}")
            ids += given + said
            labels += [-100] * len(given) + said
        end = self._tokenizer.eos_token_id
        return [*ids, end], [*labels, end]

    def batch(self, tokens: int) -> dict[str, torch.Tensor]:
        rows, longest = [], 0
        while (len(rows) + 1) * max(longest, 100) < tokens:
            rows.append(self.one())
            longest = max(longest, len(rows[-1][0]))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in rows])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in rows])
        return {"input_ids": ids, "labels": labels}


def train(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / 100) * 0.5 * (1 + math.cos(math.pi * s / steps))
    )
    prompts, start = Prompts(texts, tokenizer, seed), time.monotonic()
    for step in range(steps):
        loss = model(**prompts.batch(4096)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s", flush=True)
    return model.eval()


@torch.no_grad()
def check(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], number: int
) -> dict[str, float]:
    """Shares among captions sampled for keywords of unseen captions."""
    rng, known = random.Random(1), set(texts)
    unseen = [caption for scene in scenes("val", 400, 7) for caption in captions(scene, 5)]
    used, new, asked, ended, samples = 0, set(), 0, 0, []
    for _ in range(number):
        pair = (
            rng.choice(sorted({w for c in rng.sample(unseen, 2) for w in words(c) if LANGUAGE.is_keyword(w)})),
            rng.choice([w for w in words(rng.choice(unseen)) if LANGUAGE.is_keyword(w)] or ["star"]),
        )
        shots = [Shot("", keywords(c, rng), ({"caption": c},)) for c in rng.sample(unseen, 4)]
        text = compose(VERB, INSTRUCTION, [show(VERB, shot) for shot in shots], [", ".join(pair)], structured=False)
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=64)[
            0, ids.shape[1] :
        ]
        said = tokenizer.decode(out, skip_special_tokens=True).strip()
        ended += out[-1].item() == tokenizer.eos_token_id
        asked += len(set(pair))
        used += sum(LANGUAGE.uses(word, frozenset(words(said))) for word in set(pair))
        if said not in known:
            new.add(said)
        samples.append(f"{', '.join(pair)} → {said}")
    print("\n".join(samples[:20]))
    return {"keywords_used": used / asked, "new_and_different": len(new) / number, "ended": ended / number}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    texts = sorted({c for scene in scenes("train", options.scenes, options.seed) for c in captions(scene, 5)})
    shown = [show(VERB, Shot("", keywords(c, random.Random(c)), ({"caption": c},))) for c in texts[:5000]]
    tokenizer = make_tokenizer([INSTRUCTION, *shown])
    model = train(texts, tokenizer, options.steps, options.seed)
    model.generation_config.do_sample = True
    model.generation_config.max_new_tokens = 64
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    result = {
        "parameters": model.num_parameters(),
        "captions": len(texts),
        "steps": options.steps,
        "seed": options.seed,
        "seconds": round(time.monotonic() - start),
        **check(model, tokenizer, texts, 300),
    }
    (Path(__file__).parent / "train_mini_lm.json").write_text(json.dumps(result, indent=1) + "\n")
    print(result)


if __name__ == "__main__":
    main()
