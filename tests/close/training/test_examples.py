"""Rows and tables to batches: which vector, which target, which context."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from close.data.rows import RowFile
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import DataError
from close.runs.prompts import Prompter
from close.runs.row_vectors import embeddings_of
from close.tasks import get_task
from close.training.examples import Collator, LengthSampler, MixedDataset, TextDataset
from close.vectors.build import embed_texts
from close.vectors.table import EmbeddingTable


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> ContrastiveEncoder:
    return load_encoder(str(tiny_encoder), device="cpu")


@pytest.fixture(scope="module")
def tokenizer(tiny_t5: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_t5)


@pytest.fixture
def made(encoder, tmp_path):
    def make(values: list[dict[str, Any]], task: str = "caption", **options: Any) -> TextDataset:
        rows = RowFile(tiny.write_jsonl(tmp_path / "rows.jsonl", values))
        return TextDataset(rows, get_task(task), embed_texts(rows, encoder, tmp_path / "t"), **options)

    return make


def test_single_captions(made, encoder):
    values = tiny.caption_rows(6)
    values[2]["target"] = ["A Target", "Another"]
    dataset = made(values)
    assert [example["target"] for example in dataset] == [
        *(values[i]["source"] for i in (0, 1)),
        "a target",  # lower-cased, as in the paper
        "another",
        *(values[i]["source"] for i in (3, 4, 5)),
    ]
    assert [example["row"] for example in dataset] == list(range(7))
    wanted = encoder.encode_text([values[i]["source"] for i in (0, 1, 2, 2, 3, 4, 5)])
    assert np.allclose(np.stack([example["embed"] for example in dataset]), wanted, atol=1e-5)


def test_multiple_captions_are_exactly_the_others_of_the_group(made, encoder):
    values = tiny.caption_rows(10)  # groups of 4, 4 and 2
    values[9]["group"] = "alone"
    values[0]["target"] = ["one", "two"]
    dataset = made(values, captions="multiple")
    groups = defaultdict(list)
    for row in values:
        groups[row["group"]].append(row)
    wanted = {
        (source["source"], target)
        for members in groups.values()
        for source in members
        for other in members
        if other is not source
        for target in other.get("target", [other["source"]])
    }
    texts = [row["source"] for row in values]
    vectors = encoder.encode_text(texts).numpy()
    pairs = [(texts[int((vectors @ example["embed"]).argmax())], example["target"]) for example in dataset]
    assert set(pairs) == wanted
    assert len(pairs) == len(wanted) == 24 + 3  # row 0, of two targets, is that of three others


def test_multiple_needs_groups(made):
    with pytest.raises(DataError, match="needs rows that share a 'group'"):
        made([{"source": "a dog"}, {"source": "a cat"}], captions="multiple")


def test_several_sources_are_averaged_raw(made, encoder):
    texts = tiny.sentences(5)
    rows = [{"source": texts, "context": "Where?", "answers": ["Sea"] * 3 + ["by the sea"] * 3 + ["sand"] * 2}]
    dataset = made([*rows, {"source": texts[:1], "context": "what?", "target": "dog"}], task="vqa")
    mean = encoder.text_features(texts).mean(0)
    assert np.allclose(dataset[0]["embed"], (mean / mean.norm()).numpy(), atol=1e-5)
    unit = encoder.encode_text(texts).mean(0)
    assert not np.allclose(dataset[0]["embed"], (unit / unit.norm()).numpy(), atol=1e-5)
    assert [(example["target"], example["context"]) for example in dataset] == [
        ("sea", "Where?"),
        ("by the sea", "Where?"),
        ("dog", "what?"),
    ]


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("vqa", {"source": "a", "target": "b"}, "'context'"),
        ("vqa", {"source": "a", "context": "b"}, "'target' or 'answers'"),
        ("entailment", {"source": "a", "context": "b", "label": "maybe"}, "label 'maybe', expected one of entailment"),
        ("entailment", {"source": "a", "label": "neutral"}, "'context'"),
        ("news", {"source": "a"}, "'context'"),
    ],
)
def test_a_row_that_lacks_what_its_task_needs(made, task, row, words):
    good = {"source": "a", "context": "b", "target": "neutral", "label": "neutral"}
    with pytest.raises(DataError) as told:
        made([good, {"id": "x", **row}], task=task)
    assert "rows.jsonl: row 'x'" in str(told.value)
    assert words in str(told.value)


def test_image_tables_are_found_by_row(tmp_path):
    values = [{"id": f"r{i}", "image": f"{i % 3}.png", "source": "a"} for i in range(6)]
    rows = RowFile(tiny.write_jsonl(tmp_path / "rows.jsonl", values))
    ids = [f"r{i}" for i in reversed(range(6))]
    table = EmbeddingTable.from_numpy(np.eye(6), tmp_path / "t", modality="image", ids=ids)
    assert (embeddings_of(rows, get_task("caption"), table).main([0, 5]).argmax(1) == [5, 0]).all()
    part = EmbeddingTable.from_numpy(np.eye(5), tmp_path / "u", modality="image", ids=ids[:5])
    with pytest.raises(DataError, match="row 'r0' has no vector"):
        embeddings_of(rows, get_task("caption"), part)


def test_a_text_that_was_not_embedded(tmp_path, encoder):
    first = RowFile(tiny.write_jsonl(tmp_path / "a.jsonl", tiny.caption_rows(5)))
    other = RowFile(tiny.write_jsonl(tmp_path / "b.jsonl", tiny.caption_rows(5, seed=9)))
    with pytest.raises(DataError, match="is not in this table"):
        embeddings_of(other, get_task("caption"), embed_texts(first, encoder, tmp_path / "t"))


def test_batches(tokenizer):
    texts = ["a red dog", "a red dog and a grey car on the grass", "a boat"]
    embeds = np.eye(3, 8, dtype=np.float32)
    examples = [
        {"row": 7 + i, "embed": embeds[i], "target": text, "context": "on the grass" if i == 1 else ""}
        for i, text in enumerate(texts)
    ]
    batch = Collator(tokenizer, "text", max_target_length=6)(examples)
    assert batch["modality"] == "text"
    assert batch["rows"].tolist() == [7, 8, 9]
    assert torch.equal(batch["embeds"], torch.from_numpy(embeds))
    for labels, text in zip(batch["labels"], texts, strict=True):
        ids = tokenizer(text, truncation=True, max_length=6)["input_ids"]
        assert labels.tolist() == ids + [-100] * (6 - len(ids))
        assert ids[-1] == tokenizer.eos_token_id
    assert batch["context_mask"].sum(1).tolist() == [0, 4, 0]  # an empty context is none, whoever shares the batch
    assert "context_ids" not in Collator(tokenizer, "text", 6)(examples[::2])


def test_long_contexts_are_cut(tokenizer):
    assert Prompter(tokenizer, 10)(["a dog " * 100])["context_ids"].shape == (1, 10)


def test_workers_read_the_same(made, tokenizer):
    dataset = made(tiny.caption_rows(12))

    def rows(workers: int) -> list[list[int]]:
        collate = Collator(tokenizer, "text", 32)
        return [b["labels"].tolist() for b in DataLoader(dataset, 4, collate_fn=collate, num_workers=workers)]

    dataset[0]  # opens the file before the fork
    assert rows(2) == rows(0)


def test_mixed_tasks_by_weight(made):
    one, two = made(tiny.caption_rows(8)), made(tiny.caption_rows(8))
    two.task = get_task("caption")
    mixed = MixedDataset([one, two], [2, 0.5], seed=3)
    assert len(mixed) == 20
    seen = set()
    for epoch in range(6):
        mixed.set_epoch(epoch)
        counts = np.bincount(mixed.chosen, minlength=16)
        assert (counts[:8] == 2).all()
        assert counts[8:].sum() == 4
        assert counts[8:].max() == 1
        seen.add(tuple(counts[8:]))
        assert [example["row"] for example in (mixed[i] for i in range(20))] == list(range(20))
    assert len(seen) > 1
    again = MixedDataset([one, two], [2, 0.5], seed=3)
    again.set_epoch(5)
    assert (again.chosen == mixed.chosen).all()


def test_a_task_of_little_weight_is_learnt(made):
    rows = made(tiny.caption_rows(8))
    assert [len(MixedDataset([rows, rows], [1, weight], seed=3)) for weight in (0.01, 0.2, 1.01)] == [9, 10, 16]


class Labels:
    """Answers whose length gives them away, as those of entailment do."""

    lengths = np.tile([7, 10, 13], 640)

    def __len__(self):
        return len(self.lengths)


def test_a_batch_holds_all_labels():
    order = np.array(list(LengthSampler(Labels(), 64, seed=0)))
    shares = [np.bincount(Labels.lengths[batch], minlength=14)[[7, 10, 13]] / 64 for batch in order.reshape(-1, 64)]
    assert np.min(shares) > 0.1
    assert np.max(shares) < 0.6
