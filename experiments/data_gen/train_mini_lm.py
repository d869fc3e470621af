"""Train the embedded language model: a tiny Llama that continues data-gen's prompts with captions of the mini world.

    python experiments/data_gen/train_mini_lm.py            (about ten minutes on one core)

Every example is a whole prompt: the instruction, then up to 21 pairs of keywords and caption, as `data-gen captions` writes
them. The loss is on the captions, and on the end token after the last one. Checked at the end, on prompts of unseen scenes:
how many of the keywords are used, and how many captions the world's grammar could have written and are new. Writes the model
into the package, and train_mini_lm.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import permutations
from pathlib import Path

import torch
from batched_server import Generator
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from close.io.versions import versions
from close.mini import captions, language, scenes
from close.mini.scene import COLOURS, PLACES, SHAPES, SIZES
from data_gen.prompts.compose import compose, instruct
from data_gen.prompts.keywords import Uniform, extract_keywords
from data_gen.prompts.shots import show
from data_gen.prompts.style import load_style
from data_gen.text.language import load_language
from data_gen.text.words import count_words, words
from data_gen.verbs import VERBS, Shot

OUT = Path(__file__).resolve().parents[2] / "data_gen" / "mini" / "mini_model"
VERB, LANGUAGE = VERBS["captions"](), load_language("en")
INSTRUCTION = instruct(VERB, load_style("plain"), LANGUAGE, 0)
END = "<|end|>"


def keywords(caption: str, rng: random.Random, one: str = "") -> str:
    """One to three words of a caption that carry content, `one` among them; half the time nouns and verbs only."""
    found = list(dict.fromkeys(words(caption)))
    content = [w for w in found if w not in LANGUAGE.function]
    nouns = [w for w in found if LANGUAGE.is_keyword(w)]
    pool = nouns if nouns and rng.random() < 0.5 else content
    asked = rng.sample(pool, min(len(pool), rng.choices([1, 2, 3], [1, 6, 1])[0]))
    if one and one not in asked:
        asked[rng.randrange(len(asked))] = one
    return ", ".join(asked)


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that no keyword is unknown; every word of the world is one token.

    A keyword in its list ("keywords: star, ring") is a token of its own, other than the word in a caption: so attention finds
    what was asked by the token alone, which a model of this size learns in minutes, and copying from a list of plain words
    not in an hour.
    """
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(r"keywords: [a-z]+|, [a-z]+| ?[a-z]+|\n+|[^a-z]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=[END], show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return fast


class Prompts:
    """Token ids of random prompts, and how much each token counts in the loss.

    Only captions and the end token count; words that were asked for count more, `emphasis` times a plain one.
    """

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.texts, self.rng = texts, random.Random(seed)
        self.texts_with: dict[str, list[str]] = defaultdict(list)
        for text in texts:
            for word in filter(LANGUAGE.is_keyword, set(words(text))):
                self.texts_with[word].append(text)
        self.nouns = sorted(self.texts_with)
        self._tokenizer = tokenizer
        self._encode = cache(lambda text: tuple(tokenizer(text)["input_ids"]))

    def one(self, most_shots: int, emphasis: float) -> tuple[list[int], list[float]]:
        ids = list(self._encode(INSTRUCTION))
        weights = [0.0] * len(ids)
        for _ in range(self.rng.randint(1, most_shots + 1)):
            one = self.rng.choice(self.nouns) if self.rng.random() < 0.5 else ""  # else rare words are learnt late
            caption = self.rng.choice(self.texts_with[one] if one else self.texts)
            asked = keywords(caption, self.rng, one)
            given, said = self._encode(f"\n\nkeywords: {asked}\ncaption:"), self._encode(f" {caption}")
            stressed = {self._encode(f" {word}")[0] for word in asked.split(", ")}
            ids += given + said
            weights += [0.0] * len(given) + [emphasis if token in stressed else 1.0 for token in said]
        return [*ids, self._tokenizer.eos_token_id], [*weights, 1.0]

    def batch(self, tokens: int, most_shots: int, emphasis: float) -> tuple[torch.Tensor, torch.Tensor]:
        rows, longest = [], 0
        while (len(rows) + 1) * max(longest, 50) < tokens:
            rows.append(self.one(most_shots, emphasis))
            longest = max(longest, len(rows[-1][0]))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in rows])
        weights = torch.tensor([row + [0.0] * (longest - len(row)) for _, row in rows])
        return ids, weights


def train(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> LlamaForCausalLM:
    """First short prompts in which the words asked for weigh heavily, then whole ones with true weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.08,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / 100) * 0.5 * (1 + math.cos(math.pi * s / steps))
    )
    prompts, start, losses = Prompts(texts, tokenizer, seed), time.monotonic(), []
    for step in range(steps):
        whole = step > 0.85 * steps or (step > 0.3 * steps and step % 3 == 0)
        ids, weights = prompts.batch(*((2048, 20, 1.0) if whole else (1024, 2, 5.0)))
        logits = model(input_ids=ids).logits[:, :-1]
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (each * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 99:
            print(f"step {step + 1}: loss {sum(losses[-100:]) / 100:.3f}, {time.monotonic() - start:.0f} s", flush=True)
    return model.eval()


def grammar() -> re.Pattern[str]:
    """Every caption that the mini world may write, and nothing else."""

    def one_of(phrases: Iterable[str]) -> str:
        return "(?:" + "|".join(map(re.escape, sorted(set(phrases), key=len, reverse=True))) + ")"

    size, shape = (one_of(w for name in names for w in language.WORDS.get(name, [name])) for names in (SIZES, SHAPES))
    ground = one_of(phrase for phrases in language.GROUND_PHRASES.values() for phrase in phrases)
    places = one_of(language.place_phrase(place) for place in PLACES)
    thing = rf"(?:a(?= [^aeiou])|an(?= [aeiou]))(?: {size})?(?: {one_of(COLOURS)})?(?: {shape})(?: {places})?"
    things = rf"{thing}(?:, {thing})*(?:{one_of(language.JOINTS)}{thing})?"
    return re.compile(rf"(?:{ground}, )?{one_of(language.OPENINGS)}{things}(?: {ground})?")


def check(folder: Path, texts: Sequence[str], number: int, shots: int = 20) -> dict[str, float]:
    """Shares among the captions that data-gen's default prompts get: 20 shots, two nouns or verbs, each equally likely."""
    rng, known, written = random.Random(1), set(texts), grammar()
    unseen = [caption for scene in scenes("val", 400, 7) for caption in captions(scene)]
    sampler = Uniform(extract_keywords(count_words(unseen), LANGUAGE, 5))
    bodies, asked = [], []
    for seed in range(number):
        asked.append(sampler.draw(rng, 2))
        shown = [show(VERB, Shot("", keywords(c, rng), ({"caption": c},))) for c in rng.sample(unseen, shots)]
        prompt = compose(VERB, INSTRUCTION, shown, [", ".join(asked[-1])], structured=False)
        bodies.append({"prompt": prompt, "seed": seed, "max_tokens": 64, "stop": "\n"})
    generator = Generator(folder)
    said = [text.strip() for n in range(0, number, 50) for text, _, _ in generator(bodies[n : n + 50])]
    for pair, caption in list(zip(asked, said, strict=True))[:20]:
        print(f"{', '.join(pair)} → {caption}")
    uses = [sum(LANGUAGE.uses(w, frozenset(words(c))) for w in pair) for pair, c in zip(asked, said, strict=True)]
    together = {pair for caption in texts for pair in permutations(set(words(caption)), 2)}
    possible = [n for n, pair in zip(uses, asked, strict=True) if pair in together]  # no caption has two grounds, say
    return {
        "keywords_used": sum(uses) / (2 * number),
        "possible_pairs": len(possible) / number,
        "keywords_used_of_possible_pairs": sum(possible) / (2 * len(possible)),
        "both_used_of_possible_pairs": sum(n == 2 for n in possible) / len(possible),
        "grammatical": sum(written.fullmatch(caption) is not None for caption in said) / number,
        "new": sum(caption not in known for caption in said) / number,
        "different": len(set(said)) / number,
        "grammatical_in_the_world_itself": sum(written.fullmatch(caption) is not None for caption in unseen)
        / len(unseen),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    texts = [caption for scene in scenes("train", options.scenes, options.seed) for caption in captions(scene)]
    shown = [show(VERB, Shot("", keywords(c, random.Random(c)), ({"caption": c},))) for c in texts[:5000]]
    tokenizer = make_tokenizer([INSTRUCTION, *shown])
    model = train(texts, tokenizer, options.steps, options.seed)
    model.generation_config.do_sample, model.generation_config.temperature = True, 0.7
    model.generation_config.max_new_tokens = 64
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out, save_jinja_files=False)
    result = {
        "parameters": model.num_parameters(),
        "captions": len(texts),
        "steps": options.steps,
        "seed": options.seed,
        "seconds": round(time.monotonic() - start),
        "versions": versions(),
        **check(options.out, texts, 500),
    }
    (Path(__file__).parent / "train_mini_lm.json").write_text(json.dumps(result, indent=1) + "\n")
    print(result)


if __name__ == "__main__":
    main()
