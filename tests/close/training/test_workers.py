"""Loader workers read what the process that forked them reads: the same rows, however often that one has read before."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.tasks import get_task
from close.training.examples import MixedDataset, TextDataset
from close.training.train import train
from close.vectors.table import EmbeddingTable

COUNT = 12_000
"""Rows; a file of them is larger than any buffer of a reader."""


@pytest.fixture(scope="module", params=["txt", "jsonl"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than 1 MB of captions, no two alike, of uneven length."""
    path = tmp_path_factory.mktemp("large") / f"captions.{request.param}"
    texts = [f"{i} {' '.join(tiny.WORDS[i % 7 :][: 10 + i % 9])}, caption {i}" for i in range(COUNT)]
    if request.param == "txt":
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    else:
        tiny.write_jsonl(path, [{"id": f"r{i}", "source": text} for i, text in enumerate(texts)])
    assert path.stat().st_size > 1 << 20
    return path


@pytest.fixture(scope="module")
def table(large: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingTable:
    """A vector for each caption, as if from the tiny encoder."""
    encoder, vectors = load_encoder(str(tiny_encoder)), np.random.default_rng(0).normal(size=(COUNT, 16))
    return EmbeddingTable.from_numpy(
        vectors,
        tmp_path_factory.mktemp("tables") / "t",
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        texts=[row.source[0] for row in RowFile(large)],
    )


def same(one: list[dict[str, object]], other: list[dict[str, object]]) -> bool:
    """Whether two lists hold the same examples."""
    return len(one) == len(other) and all(
        np.array_equal(a.pop("embed"), b.pop("embed")) and a == b for a, b in zip(one, other, strict=True)
    )


def test_every_example_is_the_one_read_without_workers(large, table):
    dataset = TextDataset(RowFile(large), get_task("caption"), table)
    order = np.random.default_rng(1).permutation(COUNT).tolist()
    read = [
        [
            example
            for batch in DataLoader(dataset, 64, sampler=order, num_workers=workers, collate_fn=list)
            for example in batch
        ]
        for workers in (0, 2)
    ]
    assert same(*read)


def test_a_copy_for_a_process_that_is_started_anew_holds_no_vectors(large, table):
    """Where processes are not forked, each worker is sent the dataset pickled."""
    dataset = TextDataset(RowFile(large), get_task("caption"), table)
    sent = pickle.dumps(dataset)
    assert len(sent) < COUNT * 100 < table.vectors.nbytes + table.index.nbytes + len(large.read_bytes())
    copy, places = pickle.loads(sent), range(0, COUNT, 97)
    assert same([dataset[i] for i in places], [copy[i] for i in places])


def test_workers_that_outlive_an_epoch_see_the_next_ones_draw(large, table):
    dataset = MixedDataset([TextDataset(RowFile(large), get_task("caption"), table)], [0.05], seed=3)
    kept = DataLoader(dataset, 64, num_workers=2, collate_fn=list, persistent_workers=True)
    for epoch in (0, 1, 2):
        dataset.set_epoch(epoch)
        assert same([x for batch in kept for x in batch], [dataset[i] for i in range(len(dataset))])


def test_a_run_trained_with_workers_is_the_one_without(large, table, recipe, tmp_path):
    data = {"train": str(large), "embeddings": str(table.path)}
    settings = {"max_steps": 60, "batch_size": 100, "save_strategy": "no"}
    workers = {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 30}  # enough to do that both read at once
    runs = [train(recipe(settings | more, data=data), tmp_path / f"{len(more)}") for more in ({}, workers)]
    one, two = (load_file(run / "model.safetensors") for run in runs)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_whose_workers_stay_goes_on_to_the_same_weights(recipe, tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                raise KeyboardInterrupt

    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    made = recipe({"epochs": 3, "save_steps": 1, **workers}, tune="lora", lora={"r": 2, "dropout": 0.3})
    whole = train(made, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "stopped", callbacks=[Stop()])
    again = train(made, tmp_path / "stopped", resume=True)
    one, two = (load_file(run / "model.safetensors") for run in (whole, again))
    assert all(torch.equal(one[key], two[key]) for key in one)
