"""Captions in German, Hindi and Chinese: a multilingual recipe's parts with tiny weights, from text to a scored file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import tiny

from close.evaluation.metrics import caption_scores
from close.runs.evaluate import evaluate
from close.runs.pipeline import load
from close.runs.recipe import Recipe, load_recipe
from close.training.train import train

RECIPE = Path(__file__).parents[3] / "experiments" / "senses" / "languages.yaml"
CAPTIONS = {
    "german": [
        f"{what} {does} {where}."
        for what in ("Ein Hund", "Eine Katze", "Ein kleiner Vogel", "Ein Mädchen")
        for does in ("schläft", "läuft")
        for where in ("auf der Straße", "im grünen Gras")
    ],
    "hindi": [
        f"{what} {where} {does} है।"
        for what in ("एक कुत्ता", "एक बिल्ली", "छोटी चिड़िया", "एक लड़की")
        for does in ("सो रही", "दौड़ रही")
        for where in ("सड़क पर", "हरी घास में")
    ],
    "chinese": [
        f"{what}{where}{does}。"
        for what in ("一只狗", "一只猫", "一只小鸟", "一个女孩")
        for does in ("睡觉", "奔跑")
        for where in ("在街上", "在绿色的草地上")
    ],
}
WORDS = {
    "german": str.split,
    "hindi": str.split,
    "chinese": list,
}
"""How many words a caption has, by hand: between spaces, or characters."""


@pytest.fixture(scope="module")
def mt5(tmp_path_factory) -> Path:
    """mT5 with pieces learnt on the three languages."""
    from transformers import MT5Config, MT5ForConditionalGeneration, T5Tokenizer

    folder = tmp_path_factory.mktemp("mt5")
    tiny.sentence_pieces(
        folder, 400, [one for texts in CAPTIONS.values() for text in texts for one in (text, text.lower())]
    )
    tokenizer = T5Tokenizer.from_pretrained(str(folder), extra_ids=0)
    shape = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    config = MT5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **shape)
    return tiny._save(folder / "model", MT5ForConditionalGeneration, config, 0, tokenizer)


def test_the_recipe_is_one():
    recipe = load_recipe(RECIPE)
    assert (recipe.task, recipe.language_model) == ("caption", "google/mt5-base")
    assert "xlm-roberta" in recipe.encoder


@pytest.mark.parametrize("language", CAPTIONS)
def test_from_captions_to_scores(language, mt5, zoo, pictures, tmp_path):
    """Trained on text alone; what is said of pictures is scored by the language's words, as the result says."""
    texts = CAPTIONS[language][:12]
    rows = [{"id": str(i), "source": text, "image": str(pictures / f"p{i:02}.png")} for i, text in enumerate(texts)]
    data = tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
    training = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "save_strategy": "no"}
    values = {"data": {"train": str(data)}, "encoder": str(zoo("hf_clip_dir")), "language_model": str(mt5)}
    run = train(Recipe.model_validate({**values, "training": training, "adapter": "none"}), tmp_path / "run")
    asked = {
        "answers": [text.lower() for text in texts],
        "decode": "tree",
        "num_beams": 1,
    }  # four steps teach no spelling
    found = evaluate(run, data, folder=tmp_path / "scores", metrics=["bleu", "cider"], **asked)
    lines = [json.loads(line)["text"] for line in (tmp_path / "scores" / "predictions.jsonl").read_text().splitlines()]
    assert set(lines) <= {text.lower() for text in texts}
    tokenizer = load(run).tokenizer
    for text in texts:  # nothing of a target is unknown to the language model
        assert tokenizer.decode(tokenizer(text.lower())["input_ids"], skip_special_tokens=True) == text.lower()
    scores = found["scores"]
    assert (scores["tokenizer"] == "unicode") == (language != "german")
    assert ("words of any script" in scores["notes"].get("tokenizer", "")) == (language != "german")
    clean = [[text.rstrip(".।。").lower() for text in side] for side in (lines, texts)]
    assert scores["bleu_1"] == pytest.approx(bleu_1(*clean, WORDS[language]), abs=0.01)


def bleu_1(said: list[str], true: list[str], words) -> float:
    """Clipped matches of single words over all that is said, and its penalty for saying less, of one reference each."""
    pairs = [(Counter(words(one)), Counter(words(other))) for one, other in zip(said, true, strict=True)]
    right, made, wanted = (
        sum(map(Counter.total, side)) for side in zip(*((a & b, a, b) for a, b in pairs), strict=True)
    )
    return 100 * right / max(made, 1) * min(1.0, 2.718281828459045 ** (1 - wanted / max(made, 1e-9)))


def test_auto_is_penn_treebank_where_that_reads_all_and_else_words():
    for language, texts in (*CAPTIONS.items(), ("english", ["a dog sleeps on a red mat", "two cats"])):
        scores = caption_scores(
            dict(enumerate(texts)), {i: [text] for i, text in enumerate(texts)}, metrics=["bleu"], samples=0
        )
        assert (scores["tokenizer"] == "unicode") == (language in ("hindi", "chinese")), language
