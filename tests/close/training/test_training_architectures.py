"""Every supported architecture, from local files: trained, saved, reloaded, used."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import tiny
import torch

import close
from close.training.train import train

ENCODERS = [
    "open_clip_dir",
    "coca_dir",
    "siglip_like_dir",
    "hf_clip_dir",
    "hf_siglip_dir",
    "hf_siglip2_dir",
    "hf_clap_dir",
]
LANGUAGE_MODELS = ["t5_dir", "t5_pieces_dir", "flan_t5_dir", "mt5_dir", "bart_dir"]
DECODERS = ["gpt2", "opt", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi"]
PAIRS = [
    *((encoder, "t5_dir") for encoder in ENCODERS),
    *(("open_clip_dir", name) for name in [*LANGUAGE_MODELS[1:], *(f"{name}_dir" for name in DECODERS)]),
]


@pytest.mark.parametrize(("encoder", "language_model"), PAIRS)
def test_trains_reloads_and_captions(recipe, zoo, tmp_path, encoder, language_model):
    options = {"epochs": 6, "learning_rate": 5e-3, "save_strategy": "no"}
    made = recipe(options, encoder=str(zoo(encoder)), language_model=str(zoo(language_model)))
    run = train(made, tmp_path / "run")
    losses = [json.loads(line).get("loss") for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum(losses[15:18]) < sum(losses[:3])
    suffix = ".wav" if encoder == "hf_clap_dir" else ".png"
    items = [(tiny.sound if suffix == ".wav" else tiny.picture)(tmp_path / f"{i}{suffix}", seed=i) for i in range(3)]
    captioner = close.load(run, device="cpu")
    said = captioner(items, num_beams=3)
    assert all(math.isfinite(output.score) and output.error is None for output in said)
    again = close.load(run, device="cpu")(items, num_beams=3)
    assert said == again
    texts = tiny.sentences(3)
    embeds = captioner.encoder.encode_text(texts)
    captions = [text for text, _ in captioner.generate(embeds, [""] * 3, modality="text", num_beams=1)]
    assert len(captions) == 3
    assert captioner.model.config.embed_dim == embeds.shape[1]


def vit_l(path: Path) -> str:
    import open_clip

    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-L-14", pretrained=None).state_dict(), path)
    return f"open_clip:ViT-L-14@{path}"


def t5_base(folder: Path) -> Path:
    """t5-base's sizes with random weights."""
    sizes = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    return tiny.t5_dir(folder, **sizes)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_papers_size(recipe, captions, tmp_path):
    """ViT-L/14 in front of a T5 as large as t5-base: one step of training, one caption."""
    run = train(
        recipe(
            {"max_steps": 1, "batch_size": 4, "save_strategy": "no"},
            data={"train": str(tiny.write_jsonl(tmp_path / "c.jsonl", tiny.caption_rows(4)))},
            encoder=vit_l(tmp_path / "vit_l_14.pt"),
            language_model=str(t5_base(tmp_path / "t5")),
        ),
        tmp_path / "run",
    )
    captioner = close.load(run)
    assert captioner.model.config.embed_dim == 768
    output = captioner(tiny.picture(tmp_path / "p.png", seed=0, size=300), max_new_tokens=4)
    assert output.error is None
    assert math.isfinite(output.score)


@pytest.mark.slow
def test_a_builtin_architecture_of_open_clip(recipe, tmp_path):
    import open_clip

    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-S-32-alt", pretrained=None).state_dict(), tmp_path / "w.pt")
    run = train(recipe(encoder=f"open_clip:ViT-S-32-alt@{tmp_path / 'w.pt'}"), tmp_path / "run")
    assert close.load(run)(tiny.picture(tmp_path / "p.png", seed=0)).error is None


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="torch compiles with a C++ compiler")
def test_compiled_training_learns_the_same(recipe, zoo, tmp_path):
    still = str(zoo("t5_still_dir"))  # without dropout, which a compiler draws otherwise; the noise is the same
    losses = []
    for name, compiled in (("plain", False), ("compiled", True)):
        steps = {"max_steps": 3, "save_strategy": "no", "torch_compile": compiled}
        run = train(recipe(steps, language_model=still), tmp_path / name)
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert len(losses[0]) == 3
