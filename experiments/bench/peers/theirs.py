"""Captions from photos by the code of others, as it was published."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import nn
from transformers import AutoTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, GPT2LMHeadModel

BEAMS, TOKENS = 5, 20
CLIPCAP = ("https://github.com/rmokady/CLIP_prefix_caption", "1ad805a844a62ab2e5480479aa021bccf0d4d12a")
CAPDEC = ("https://github.com/DavidHuji/CapDec", "4451bfdd4833b60d963eb4e481a06608e9d7ed55")
Captions = Callable[[Sequence[Path]], list[str]]


def fetched(folder: Path, source: tuple[str, str]) -> None:
    """Refuse another commit than the one that this was written for."""
    asked = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    if found != source[1]:
        raise SystemExit(f"{folder} is at {found or 'no commit'}; fetch it:\n{how(source)}")


def how(source: tuple[str, str]) -> str:
    """What to type, to have a peer's code."""
    folder = source[0].rpartition("/")[2]
    return f"  git clone {source[0]} && git -C {folder} checkout {source[1]}"


def definitions(file: Path, names: Sequence[str], gpt2: nn.Module) -> dict[str, Any]:
    """Classes and functions of a file, without what it imports beside them (cog, clip, pycocotools, matplotlib).

    Args:
        gpt2: what its `GPT2LMHeadModel.from_pretrained` gives.
    """

    class Pretrained:
        @staticmethod
        def from_pretrained(name: str) -> nn.Module:
            return gpt2

    tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", None) in names]
    for node in ast.walk(tree):  # annotations name types of their own
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in (*node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
    space: dict[str, Any] = {"torch": torch, "nn": nn, "np": np, "nnf": nn.functional, "GPT2LMHeadModel": Pretrained}
    exec(compile(tree, str(file), "exec"), space)  # the person who runs this has fetched it
    return space


def clipcap(tower: str, weights: Path, gpt2: Path, folder: Path, search: Path) -> Captions:
    """ClipCap's `predict.py` with its beam search: one photo at a time.

    Args:
        tower, weights: open_clip's name and file, in the place of OpenAI's package. gpt2: folder of the language model.
        folder: the checkout whose model is used. search: the file whose `generate_beam` is: ClipCap's own, or CapDec's.
    """
    clip, _, transform = open_clip.create_model_and_transforms(tower, pretrained=str(weights))
    lm, tokenizer = GPT2LMHeadModel.from_pretrained(gpt2), AutoTokenizer.from_pretrained(gpt2)
    kind = definitions(folder / "predict.py", ("MLP", "ClipCaptionModel"), lm)["ClipCaptionModel"]
    model = kind(10, clip.eval().text_projection.shape[1]).eval()
    generate_beam = definitions(search, ("generate_beam",), lm)["generate_beam"]

    @torch.no_grad()
    def caption(photos: Sequence[Path]) -> list[str]:
        said = []
        for photo in photos:
            image = transform(Image.open(photo).convert("RGB")).unsqueeze(0)
            prefix = clip.encode_image(image).to(dtype=torch.float32)
            embed = model.clip_project(prefix).reshape(1, 10, -1)
            said.append(generate_beam(model, tokenizer, embed=embed, beam_size=BEAMS, entry_length=TOKENS)[0])
        return said

    return caption


def blip(full: bool) -> Captions:
    """transformers' BLIP with a tower of ViT-L/14's size, in batches of eight."""
    torch.manual_seed(0)
    wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    tower = {"image_size": 224, "patch_size": 14, **wide} if full else {"image_size": 64, "num_hidden_layers": 2}
    text = {"encoder_hidden_size": tower.get("hidden_size", 768), "num_hidden_layers": 12 if full else 2}
    config = BlipConfig(vision_config=tower, text_config=text)
    model = BlipForConditionalGeneration(config).eval()
    side = {"height": tower["image_size"], "width": tower["image_size"]}
    processor = BlipImageProcessorPil(size=side)

    @torch.no_grad()
    def caption(photos: Sequence[Path]) -> list[str]:
        said: list[str] = []
        for start in range(0, len(photos), 8):
            images = [Image.open(photo).convert("RGB") for photo in photos[start : start + 8]]
            pixels = processor(images=images, return_tensors="pt").pixel_values
            ids = model.generate(pixel_values=pixels, num_beams=BEAMS, max_new_tokens=TOKENS)
            said += [" ".join(map(str, row.tolist())) for row in ids]
        return said

    return caption
