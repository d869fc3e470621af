"""Every key of a recipe does something: with another value other weights are learnt, or what it does instead is said here."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from close.encoders import load_encoder
from close.runs.recipe import Recipe
from close.runs.sections import DataSection, LoraSection, RetrieveSection, TaskSection, TrainingSection
from close.study.arms import merged
from close.training.train import train
from close.vectors.table import EmbeddingTable

ELSEWHERE = {
    "task": "says how answers are searched and scored; rows are learnt as they stand: tests/close/tasks",
    "tasks.task": "likewise",
    "retrieve.texts": "the words of a table's rows, which no others pass for: test_retrieve.py",
    "data.val": "is watched, and changes nothing: test_without_effect.py",
    "data.val_images": "which checkpoint is held: test_best.py",
    "init_from": "test_init_from.py",
    "plugins": "brings parts, and trains nothing: tests/test_own_parts.py",
    "training.report_to": "tells a tracker",
    "training.metric_for_best": "chooses among checkpoints: test_best.py",
    "training.metric_rows": "test_best.py",
    "training.metric_beams": "test_best.py",
    "retrieve.index": "finds nearly the same: tests/close/vectors/test_lists.py",
    "retrieve.among": "words are a caption's own in training: test_retrieve.py",
    "retrieve.at_least": "likewise",
}
OWN: dict[str, Any] = {"data": {"train": "@own"}}
NEIGHBOURS = {"retrieve": {"k": 2, "noise": 0.6}}
WORDS = {"retrieve": {"into": "words"}}
LORA = {"tune": "lora", "lora": {"r": 2}}
ONE = {"task": "caption", "train": "@own"}
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "data.train": ({}, {"data": {"train": "@fewer"}}),
    "data.embeddings": ({}, {"data": {"embeddings": "@others"}}),
    "data.columns": ({"data": {"train": "@table"}}, {"data": {"columns": {"source": "other"}}}),
    "encoder": ({}, {"encoder": ":hf_clip_dir"}),
    "language_model": ({}, {"language_model": ":t5_pieces_dir"}),
    "prefix": ({}, {"prefix": {"kind": "mlp"}}),
    "train_on": ({"data": {"train": "@pictures"}, "adapter": "none"}, {"train_on": "image"}),
    "adapter": ({}, {"adapter": "none"}),
    "several": ({"data": {"train": "@several"}}, {"several": "set"}),
    "captions": ({}, {"captions": "multiple"}),
    "tune": ({}, {"tune": "none"}),
    "lora": ({"tune": "lora"}, {"lora": {"r": 2}}),
    "retrieve": ({}, NEIGHBOURS),
    "max_new_tokens": ({}, {"max_new_tokens": 3}),
    "lowercase": ({"data": {"train": "@capitals"}, "language_model": ":t5_pieces_dir"}, {"lowercase": False}),
    "seed": ({}, {"seed": 1}),
    "lora.r": (LORA, {"lora": {"r": 3}}),
    "lora.alpha": (LORA, {"lora": {"alpha": 8}}),
    "lora.dropout": (LORA, {"lora": {"dropout": 0.5}}),
    "lora.target_modules": (LORA, {"lora": {"target_modules": ["wo"]}}),
    "training.epochs": ({}, {"training": {"epochs": 1}}),
    "training.batch_size": ({}, {"training": {"batch_size": 12}}),
    "training.learning_rate": ({}, {"training": {"learning_rate": 1e-3}}),
    "training.prefix_learning_rate": ({}, {"training": {"prefix_learning_rate": 1e-3}}),
    "training.precision": ({}, {"training": {"precision": "bf16"}}),
    "tasks.train": ({"task": [ONE]}, {"task": [ONE | {"train": "@fewer"}]}),
    "tasks.embeddings": ({"task": [ONE]}, {"task": [ONE | {"embeddings": "@others"}]}),
    "tasks.weight": ({"task": [ONE]}, {"task": [ONE | {"weight": 0.5}]}),
    "tasks.captions": ({"task": [ONE]}, {"task": [ONE | {"captions": "multiple"}]}),
    "retrieve.memory": (NEIGHBOURS, {"retrieve": {"memory": "@fewer"}}),
    "retrieve.k": (NEIGHBOURS, {"retrieve": {"k": 3}}),
    "retrieve.noise": (NEIGHBOURS, {"retrieve": {"noise": 0.3}}),
    "retrieve.into": (NEIGHBOURS, {"retrieve": {"into": "captions"}}),
    "retrieve.encoder": (NEIGHBOURS, {"retrieve": {"encoder": ":hf_clip_dir"}}),
    "retrieve.leave_out": (NEIGHBOURS, {"retrieve": {"leave_out": "groups"}}),
    "retrieve.main": (NEIGHBOURS, {"retrieve": {"main": False}}),
    "retrieve.noisy": (NEIGHBOURS, {"retrieve": {"noisy": True}}),
    "retrieve.raw": (NEIGHBOURS, {"retrieve": {"raw": True}}),
    "retrieve.dropout": (WORDS, {"retrieve": {"dropout": 0.0}}),
    "retrieve.language": (WORDS, {"retrieve": {"language": "de"}}),
    "retrieve.attributes": (WORDS, {"retrieve": {"attributes": False}}),
    "retrieve.prompt": (WORDS, {"retrieve": {"prompt": "{}?"}}),
}
"""By key: what the recipe has besides, and another value. `@` names a file of `files`, `:` a model of the zoo."""


def test_every_key_is_tried():
    sections = {"": Recipe, "data.": DataSection, "lora.": LoraSection, "training.": TrainingSection}
    sections |= {"retrieve.": RetrieveSection, "tasks.": TaskSection}
    keys = {f"{place}{key}" for place, section in sections.items() for key in section.model_fields}
    assert {*OTHERS, *ELSEWHERE} == keys - {"data", "training"}
    assert not set(OTHERS) & set(ELSEWHERE)


@pytest.fixture
def files(tmp_path, tiny_encoder):
    """Data by name, and a table of other texts' vectors."""
    rows = tiny.caption_rows(48)
    texts = [row["source"] for row in rows]
    more = {
        "own": [{}] * 48,
        "pictures": [{"image": str(tiny.picture(tmp_path / f"{i}.png", i))} for i in range(48)],
        "several": [{"source": [text, texts[i - 1]], "target": text} for i, text in enumerate(texts)],
        "fewer": [{}] * 32,
        "capitals": [{"target": text.title()} for text in texts],
    }
    made = {name: [row | own for row, own in zip(rows, each, strict=False)] for name, each in more.items()}
    found = {name: tiny.write_jsonl(tmp_path / f"{name}.jsonl", each) for name, each in made.items()}
    found["table"] = tmp_path / "table.csv"
    found["table"].write_text("\n".join(["source,other", *(f"{text},{text} again" for text in texts)]) + "\n")
    own = load_encoder(str(tiny_encoder))
    vectors = own.text_features(texts).numpy()[::-1].copy()
    about = {"encoder": str(tiny_encoder), "fingerprint": own.fingerprint, "modality": "text", "texts": texts}
    found["others"] = EmbeddingTable.from_numpy(vectors, tmp_path / "others", **about).path
    return found


@pytest.fixture(scope="module")
def known() -> dict[str, bytes]:
    """Weights of what several keys are compared with."""
    return {}


@pytest.mark.parametrize("key", OTHERS)
def test_another_value_learns_something_else(recipe, files, zoo, tmp_path, known, key):
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        if isinstance(value, str) and value[0] in "@:":
            return str(files[value[1:]] if value[0] == "@" else zoo(value[1:]))
        return value

    def weights(name: str, *changes: dict[str, Any]) -> bytes:
        values = OWN
        for one in changes:
            values = merged(values, one)
        if isinstance(values.get("task"), list):
            values = values | {"data": {}}
        training = {"save_strategy": "no", "epochs": 2} | values.pop("training", {})
        return (train(recipe(training, **filled(values)), tmp_path / name) / "model.safetensors").read_bytes()

    besides, other = OTHERS[key]
    if (own := known.get(repr(besides))) is None:
        own = known[repr(besides)] = weights("own", besides)
    assert weights("other", besides, other) != own
