"""The parts that are timed: each a set of variants that do the same work, by name; `plain` is what the others are compared with.

A variant is called once a round, with the round's number, and returns (seconds, items, facts). Round 0 warms up, and takes less.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, TrainerCallback

from close.demo.run import TRAINING
from close.encoders import ContrastiveEncoder, load_encoder
from close.fast.packing import PackedLinear
from close.fast.precision import pick_dtype, pick_precision
from close.fast.probe import is_on
from close.mini import ENCODER_DIR, LANGUAGE_MODEL_DIR, export
from close.model.configuration import CloseConfig
from close.model.language_models.kinds import language_model_kind
from close.model.modeling import CloseModel
from close.runs.pipeline import CloseCaptioner
from close.runs.recipe import Recipe
from close.training.train import train
from experiments.bench import plain
from experiments.bench.floors import multiplied, wait
from experiments.bench.models import World

Timed = tuple[float, int, dict[str, Any]]
Variants = dict[str, Callable[[int], Timed]]
CPU = torch.device("cpu")
BEAMS = {"num_beams": 5, "max_new_tokens": 32}
BATCH = 32
INT8 = ("int8",) if is_on("int8") else ()
"""Where this machine has it: products of the encoder alone."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the clock, an accelerator's work included, and result."""
    wait()
    start = time.perf_counter()
    result = work()
    wait()
    return time.perf_counter() - start, result


def text_embedding(world: World, size: str) -> Variants:
    """Captions to unit vectors; the plain way on a sample, its rate does not depend on the captions."""
    sample = 128 if size == "full" else 64
    reference = plain.embed(world.clip, world.tokenize, world.captions[:sample])

    def plainly(number: int) -> Timed:
        seconds, _ = timed(lambda: plain.embed(world.clip, world.tokenize, world.captions[:sample]))
        return seconds, sample, {}

    def with_precision(precision: str) -> Callable[[int], Timed]:
        encoder = load_encoder(world.checkpoint, device="cpu", precision=precision)

        def run(number: int) -> Timed:
            texts = world.captions if number else world.captions[: 2 * sample]
            seconds, features = timed(lambda: encoder.encode_text(texts))
            cosine = (features[:sample] * reference).sum(-1)
            difference = (features[:sample] - reference).abs().max()
            return seconds, len(texts), {"difference": float(difference), "cosine": float(cosine.min())}

        return run

    return {
        "plain": plainly,
        "exact": with_precision("fp32"),
        **{name: with_precision(name) for name in ("bf16", *INT8)},
    }


def captioner_of(
    world: World, precision: str, encoder: ContrastiveEncoder | None = None, device: torch.device = CPU
) -> CloseCaptioner:
    """The toolkit's captioner with the same weights as the plain way; of features alone it needs no encoder."""
    template = language_model_kind(world.lm.config).template_of(
        world.tokenizer, world.lm.config.vocab_size, str(world.language_model)
    )
    config = CloseConfig(
        encoder=encoder.name if encoder else world.checkpoint,
        encoder_fingerprint=encoder.fingerprint if encoder else "",
        embed_dim=world.prefix.in_features,
        prefix_length=world.prefix.out_features // world.lm.config.hidden_size,
        language_model=world.lm.config,
        template=template.values() if template else None,
    )
    model = CloseModel(config, copy.deepcopy(world.lm)).eval()
    model.generation_config = GenerationConfig.from_model_config(world.lm.config)
    model.prefix.linear.load_state_dict(world.prefix.state_dict())
    model.to(device, pick_dtype(pick_precision(precision, device, model.num_parameters())))
    captioner = CloseCaptioner(model, world.tokenizer, tasks=["caption"])
    if encoder:
        captioner.use_encoder(encoder)
    return captioner


def captions_from_features(world: World, captioners: dict[str, CloseCaptioner]) -> Variants:
    """Unit vectors to texts, beam 5, batch 8."""
    embeds = F.normalize(torch.randn(8, world.prefix.in_features, generator=torch.Generator().manual_seed(1)), dim=-1)
    said: dict[int, Any] = {}

    def plainly(number: int) -> Timed:
        seconds, said[0] = timed(lambda: plain.caption(world.lm, world.tokenizer, world.prefix, embeds, **BEAMS))
        return seconds, len(embeds), {}

    def with_captioner(captioner: CloseCaptioner) -> Callable[[int], Timed]:
        def run(number: int) -> Timed:
            seconds, found = timed(lambda: captioner.generate(embeds, [""] * len(embeds), **BEAMS))
            texts, scores = said[0]
            same = sum(text.strip() == one[0] for text, one in zip(texts, found, strict=True))
            away = max(abs(float(score) - one[1]) for score, one in zip(scores, found, strict=True))
            return seconds, len(embeds), {"same_text": same / len(embeds), "score_difference": away}

        return run

    return {"plain": plainly, **{name: with_captioner(captioner) for name, captioner in captioners.items()}}


def products(world: World, precision: str) -> Callable[[int], Timed]:
    """The products of a beam search with the language model's weights alone, by the fastest kernel there is here.

    Such narrow ones have a rate of their own, far below that of large ones.
    """
    dtype = pick_dtype(pick_precision(precision, CPU, world.lm.num_parameters()))
    packed = [(PackedLinear(weight.to(dtype)), rows) for weight, rows in multiplied(world)]

    @torch.no_grad()
    def multiply() -> None:
        for step in range(BEAMS["max_new_tokens"]):
            for layer, rows in packed:
                if step < len(rows):
                    layer(torch.ones(rows[step], layer.in_features, dtype=dtype))

    return lambda number: (timed(multiply)[0], 8, {})


def photos_to_captions(world: World, captioners: dict[str, CloseCaptioner]) -> Variants:
    """Files to texts, beam 5, batches of 8, and of 32 as where nothing is said; pictures are decoded while the models work.

    Args:
        captioners: by variant.
    """

    def plainly(number: int) -> Timed:
        some = world.photos[:8]
        args = (world.clip, world.transform, world.lm, world.tokenizer, world.prefix, some)
        return timed(lambda: plain.caption_photos(*args, **BEAMS))[0], len(some), {}

    def ours(captioner: CloseCaptioner, batch_size: int, number: int) -> Timed:
        about = captioner.encoder.int8_cosines or {}
        some = world.photos[: (3 if number else 1) * batch_size]
        return timed(lambda: captioner(some, batch_size=batch_size, **BEAMS))[0], len(some), about

    sizes = {name: 32 if name == "by_32" else 8 for name in captioners}
    return {"plain": plainly, **{name: partial(ours, own, sizes[name]) for name, own in captioners.items()}}


class Clock(TrainerCallback):
    """When some optimizer steps ended, by number; an accelerator is waited for at these alone."""

    def __init__(self, marks: Sequence[int]) -> None:
        self.marks, self.ends = marks, list[float]()

    def on_step_end(self, args: Any, state: Any, *others: Any, **kwargs: Any) -> None:
        if state.global_step in self.marks:
            wait()
            self.ends.append(time.perf_counter())


def training_step(world: World, folder: Path) -> Variants:
    """Optimizer steps of batch 32, from one step's end to the next's, so that loading data counts; the first ones warm up."""
    lm = copy.deepcopy(world.lm)
    loop = plain.Training(world.clip, world.tokenize, lm, world.tokenizer, copy.deepcopy(world.prefix))
    os.environ["CLOSE_CACHE"] = str(folder / "cache")

    def plainly(number: int) -> Timed:
        batches = [world.captions[start : start + BATCH] for start in range(number * 96, number * 96 + 96, BATCH)]
        loop.step(batches[0])
        return timed(lambda: [loop.step(batch) for batch in batches[1:]])[0], len(batches) - 1, {}

    def ours(number: int) -> Timed:
        start, end = timed_steps(world, folder, BATCH, (14, 24))
        return end - start, 10, {}

    return {"plain": plainly, "auto": ours}


def timed_steps(
    world: World, folder: Path, batch_size: int, marks: Sequence[int], embeddings: Path | None = None
) -> list[float]:
    """When these steps of a training ended, the last of them its last.

    Args:
        embeddings: of the captions; made where they are not given.
    """
    clock = Clock(marks)
    recipe = {
        "data": {"train": str(world.data)} | ({"embeddings": str(embeddings)} if embeddings else {}),
        "encoder": world.checkpoint,
        "language_model": str(world.language_model),
        "prefix": {"length": world.prefix.out_features // world.lm.config.hidden_size},
        "training": {"batch_size": batch_size, "max_steps": marks[-1], "save_strategy": "no", "learning_rate": 1e-4},
    }
    train(Recipe.model_validate(recipe), folder / "run", overwrite=True, callbacks=[clock])
    return clock.ends


def demo_training(folder: Path, scenes: int) -> Variants:
    """The demo's training on the mini world, one epoch; ours embeds the captions first, once for the demo's four epochs."""
    import open_clip

    if not (folder / "data").exists():
        export(folder / "data", "train", scenes, 0)
    data = folder / "data" / "captions.jsonl"
    captions = [json.loads(line)["source"] for line in data.read_text().splitlines()]
    place = f"local-dir:{ENCODER_DIR}"
    clip, tokenize = open_clip.create_model(place).eval(), open_clip.get_tokenizer(place)
    tokenizer = AutoTokenizer.from_pretrained(LANGUAGE_MODEL_DIR)
    batch_size = int(TRAINING["batch_size"])

    def plainly(number: int) -> Timed:
        t5 = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(LANGUAGE_MODEL_DIR))
        prefix = torch.nn.Linear(clip.text_projection.shape[1], 4 * t5.config.d_model)
        loop = plain.Training(clip, tokenize, t5, tokenizer, prefix)
        return timed(lambda: loop.epoch(captions, batch_size, number))[0], len(captions), {}

    def ours(number: int) -> Timed:
        encoder = load_encoder("mini", device="cpu")
        embedding, _ = timed(lambda: encoder.encode_text(captions))
        recipe = {"data": {"train": str(data)}, "training": TRAINING | {"epochs": 1}}
        count = -(-len(captions) // batch_size)
        clock = Clock((1, count))
        start = time.perf_counter()
        train(Recipe.model_validate(recipe), folder / "run", overwrite=True, callbacks=[clock])
        whole = time.perf_counter() - start
        steps = clock.ends[-1] - clock.ends[0]
        seconds = steps * count / (count - 1) + embedding / int(TRAINING["epochs"])
        return seconds, len(captions), {"with_start_and_save": whole}

    return {"plain": plainly, "auto": ours}
