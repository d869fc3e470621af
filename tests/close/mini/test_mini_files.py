"""What the package ships and exports: encoder, tokenizers, T5 configuration, folders of data."""

from __future__ import annotations

import json
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from close.errors import OutputExistsError, RecipeError
from close.gap import measure_gap
from close.io.jobs import exclusively
from close.mini import (
    ENCODER_DIR,
    LANGUAGE_MODEL_DIR,
    captions,
    draw,
    entailment,
    export,
    pairs,
    partners,
    questions,
    scenes,
)
from close.mini.language import STYLES

torch = pytest.importorskip("torch")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_export_is_whole_and_the_same_every_time(tmp_path: Path) -> None:
    counts = export(tmp_path / "a", "val", 6, seed=4)
    export(str(tmp_path / "b"), "val", 6, seed=4)
    names = sorted(str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(names) == 6 + 5
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for name in ("captions", "eval", "vqa", "entailment", "pairs"):
        found = rows(tmp_path / "a" / f"{name}.jsonl")
        assert len(found) == counts[name]
        assert len({row["id"] for row in found}) == len(found)
        images = (row["image"] if name == "pairs" else [row["image"]] for row in found)
        assert all((tmp_path / "a" / image).is_file() for own in images for image in own)
    assert not (tmp_path / "a.partial").exists()


def test_exported_rows_say_what_the_scene_says(tmp_path: Path) -> None:
    export(tmp_path / "x", "test", 5, seed=1)
    evaluation = rows(tmp_path / "x" / "eval.jsonl")
    for row, scene in zip(evaluation, scenes("test", 5, 1), strict=True):
        six = captions(scene, 6)
        assert row["references"] == six[:5]
        assert row["source"] == six[5]
        assert row["meta"]["facts"]["ground"] == scene.ground
        picture = np.asarray(Image.open(tmp_path / "x" / row["image"]))
        assert (picture == np.asarray(draw(scene))).all()
    written = rows(tmp_path / "x" / "captions.jsonl")
    assert [row["source"] for row in written if row["group"] == evaluation[0]["id"]] == evaluation[0]["references"]
    for row in rows(tmp_path / "x" / "vqa.jsonl"):
        assert len(row["answers"]) == 10
        assert row["meta"]["truth"] in row["target"]
        assert all(row["answers"].count(text) >= 3 or text == row["meta"]["truth"] for text in row["target"])
    assert {row["label"] for row in rows(tmp_path / "x" / "entailment.jsonl")} == {
        "entailment",
        "neutral",
        "contradiction",
    }


def test_a_style_is_of_captions_references_and_sources_not_of_premises(tmp_path: Path) -> None:
    for style in STYLES:
        export(tmp_path / style, "test", 4, seed=2, style=style)
        for row, scene in zip(rows(tmp_path / style / "eval.jsonl"), scenes("test", 4, 2), strict=True):
            assert [*row["references"], row["source"]] == captions(scene, 6, style=style)
    same = ["entailment.jsonl", *(f"images/{scene.id}.png" for scene in scenes("test", 4, 2))]
    assert all((tmp_path / "plain" / name).read_bytes() == (tmp_path / "report" / name).read_bytes() for name in same)


def test_exported_pairs_are_two_pictures_and_a_statement(tmp_path: Path) -> None:
    export(tmp_path / "x", "test", 5, seed=1)
    pool = list(scenes("test", 5, 1))
    found, told = (
        rows(tmp_path / "x" / "pairs.jsonl"),
        [s for both in zip(pool, partners(pool), strict=True) for s in pairs(*both)],
    )
    assert [(row["context"], row["label"] == "true", row["meta"]["told"]) for row in found] == [
        (one.text, one.truth, one.told) for one in told
    ]
    assert found[0]["source"] == [captions(pool[0], 1)[0], captions(partners(pool)[0], 1)[0]]
    assert found[0]["image"] == [f"images/{scene.id}.png" for scene in (pool[0], partners(pool)[0])]
    assert export(tmp_path / "one", "test", 1)["pairs"] == 0


def test_export_refuses(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputExistsError, match="there exists"):
        export(tmp_path / "there", "test", 1)
    with exclusively(tmp_path / "new", "is being written"), pytest.raises(OutputExistsError, match="another process"):
        export(tmp_path / "new", "test", 1)
    with pytest.raises(RecipeError, match="'dev': expected one of"):
        export(tmp_path / "new", "dev", 1)
    with pytest.raises(RecipeError, match="'poem': expected one of plain, report"):
        export(tmp_path / "new", "test", 1, style="poem")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="count 0"):
        export(tmp_path / "new", "test", 0)
    assert not (tmp_path / "new").exists()


def test_the_language_model_folder_makes_a_t5_that_reads_every_text_of_the_world() -> None:
    from transformers import AutoConfig, AutoTokenizer, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(LANGUAGE_MODEL_DIR)
    config = AutoConfig.from_pretrained(LANGUAGE_MODEL_DIR)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (config.pad_token_id, config.eos_token_id) == (0, 1)
    assert config.vocab_size == len(tokenizer)
    texts = {"question: context: premise: hypothesis: caption: answer: entailment neutral contradiction"}
    for scene in scenes("val", 300):
        texts |= set(captions(scene)) | set(captions(scene, style="report"))
        for question in questions(scene):
            texts |= {question.text, *question.answers}
        texts |= {triple.hypothesis for triple in entailment(scene)}
    pool = list(scenes("val", 300))
    texts |= {one.text for both in zip(pool, partners(pool), strict=True) for one in pairs(*both)}
    for text in texts:
        ids = tokenizer(text).input_ids
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.unk_token_id not in ids, text
        if ":" not in text:
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
    model = T5ForConditionalGeneration(config)
    assert 0.3e6 < sum(weight.numel() for weight in model.parameters()) < 3e6


@cache
def encoder() -> tuple[Any, Any, Any]:
    import open_clip

    reference = f"local-dir:{ENCODER_DIR}"
    model, preprocess = open_clip.create_model_from_pretrained(reference)
    return model.eval(), preprocess, open_clip.get_tokenizer(reference)


@cache
def embedded(count: int = 300) -> tuple[Any, Any]:
    model, preprocess, tokenizer = encoder()
    pool = list(scenes("test", count, seed=11))
    with torch.inference_mode():
        images = model.encode_image(torch.stack([preprocess(draw(scene)) for scene in pool]), normalize=True)
        texts = model.encode_text(tokenizer([captions(scene, 1)[0] for scene in pool]), normalize=True)
    return images, texts


def test_the_encoder_takes_a_text_at_its_end_token() -> None:
    model, _, tokenizer = encoder()
    ids = tokenizer(["a red star", "a red star and a blue ring"])
    end = tokenizer.tokenizer.eos_token_id
    assert end == model.vocab_size - 1 == len(tokenizer.tokenizer) - 1
    assert (ids.argmax(1) == torch.tensor([4, 8])).all()
    assert (ids[:, 0] == tokenizer.tokenizer.bos_token_id).all()
    with torch.inference_mode():
        padded = model.encode_text(ids)
        other = ids.clone()
        other[0, 6:] = 5  # whatever stands after the end token
        assert torch.allclose(model.encode_text(other)[0], padded[0], atol=1e-6)
    assert model.logit_scale.exp().item() == pytest.approx(60, rel=1e-2)


def test_the_encoder_finds_fresh_test_scenes() -> None:
    images, texts = embedded()
    own = torch.arange(len(images))
    cross = texts @ images.T
    assert images.shape == (300, 256)
    assert (cross.argmax(1) == own).float().mean() > 0.3  # chance: 0.0033
    assert (cross.argmax(0) == own).float().mean() > 0.3


REAL = {
    "cosine.paired": 0.310,
    "cosine.unpaired": 0.164,
    "cosine.text_text": 0.519,
    "cosine.image_image": 0.534,
    "centroid_gap": 0.853,
    "pair_distance": 1.174,
    "rmg": 0.593,
    "cone.text": 0.721,
    "cone.image": 0.732,
}
"""250 COCO pairs in CLIP ViT-B/16; in experiments/mini_world/README.md with the neighbours, which are off."""


def test_the_encoder_has_clips_gap() -> None:
    images, texts = (rows[:250] for rows in embedded())
    found = measure_gap(texts.numpy(), images.numpy(), bootstrap=0).to_dict()
    for name, real in REAL.items():
        value = reduce(dict.__getitem__, name.split("."), found)
        value = value["mean"] if isinstance(value, dict) else value
        assert value == pytest.approx(real, rel=0.25), name
