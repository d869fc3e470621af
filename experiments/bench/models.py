"""What both ways run on: ViT-L/14, T5-base and GPT-2 with random weights, seeded captions and photos, all made offline."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

SYLLABLES = [
    f"{start}{end}" for start in "bdfghklmnprstvz" for end in ("a", "e", "i", "o", "u", "ar", "en", "il", "os")
]
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES]
SIZES = {
    "full": ("ViT-L-14", {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32128}),
    "small": ("ViT-S-32", {"d_model": 128, "d_ff": 256, "num_layers": 2, "num_heads": 4, "vocab_size": 19000}),
}
GPT2_SIZES: dict[str, dict[str, int]] = {  # the full one is GPT-2 as it is: 124M weights
    "full": {},
    "small": {"n_embd": 128, "n_layer": 2, "n_head": 4, "vocab_size": 19000},
}


@dataclass
class World:
    """The models, as their own libraries make them, and the same weights as files for the toolkit."""

    clip: Any
    tokenize: Any
    transform: Any
    checkpoint: str
    lm: Any
    tokenizer: Any
    language_model: Path
    prefix: torch.nn.Linear
    captions: list[str]
    data: Path
    photos: list[Path]


def build(folder: Path, size: str, captions: int, photos: int, prefix_length: int = 4) -> World:
    """Make everything, below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    name, sizes = SIZES[size]
    clip = open_clip.create_model(name, pretrained=None).eval()
    checkpoint = folder / "clip.pt"
    torch.save(clip.state_dict(), checkpoint)
    tokenizer = word_tokenizer()
    config = T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, dropout_rate=0.1)
    t5 = T5ForConditionalGeneration(config).eval()
    t5.save_pretrained(folder / "t5")
    tokenizer.save_pretrained(folder / "t5")
    width = clip.text_projection.shape[1]
    texts = sentences(captions)
    data = folder / "captions.jsonl"
    data.write_text("".join(json.dumps({"id": str(i), "source": text}) + "\n" for i, text in enumerate(texts)))
    return World(
        clip=clip,
        tokenize=open_clip.get_tokenizer(name),
        transform=open_clip.image_transform(clip.visual.image_size, is_train=False),
        checkpoint=f"open_clip:{name}@{checkpoint}",
        lm=t5,
        tokenizer=tokenizer,
        language_model=folder / "t5",
        prefix=torch.nn.Linear(width, prefix_length * config.d_model),
        captions=texts,
        data=data,
        photos=[photo(folder / f"{i}.jpg", i) for i in range(photos)],
    )


def with_gpt2(world: World, folder: Path, size: str, prefix_length: int = 10) -> World:
    """The same with GPT-2 instead of T5."""
    torch.manual_seed(0)
    tokens = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    gpt2 = GPT2LMHeadModel(GPT2Config(**GPT2_SIZES[size], **tokens)).eval()
    gpt2.save_pretrained(folder / "gpt2")
    word_tokenizer(gpt2.config.vocab_size).save_pretrained(folder / "gpt2")
    prefix = torch.nn.Linear(world.prefix.in_features, prefix_length * gpt2.config.hidden_size)
    return replace(world, lm=gpt2, language_model=folder / "gpt2", prefix=prefix)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Captions of 5 to 20 words, 12 in the mean."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=min(20, max(5, round(rng.gauss(12, 3.5)))))) for _ in range(count)]


def word_tokenizer(size: int = 0) -> PreTrainedTokenizerFast:
    """One token a word; 0 pads and 1 ends, as in T5. Filled up to `size` tokens that no text has."""
    tokens = ["<pad>", "</s>", "<unk>", *WORDS]
    tokens += [f"<{number}>" for number in range(len(tokens), size)]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def photo(path: Path, seed: int) -> Path:
    """A JPEG of 640 × 480 with some structure, so that decoding it costs what a photo costs."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(coarse, dtype=np.int16) + rng.normal(0, 12, (480, 640, 3)).astype(np.int16)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path
