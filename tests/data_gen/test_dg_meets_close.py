"""The two packages meet in files only: what every verb writes is what `close` trains on."""

import pytest
from dg_server import Do, Server, digest
from dg_tools import EXAMPLES

from close.data.rows import RowFile
from close.tasks import get_task
from data_gen import CaptionOptions, TextOptions
from data_gen.run import generate

ANSWERS = {
    "captions": "A dog runs after number {n}.",
    "rewrite": "Number {n} ran, and I laughed.",
    "vqa": "question: What runs after {n}?\nanswer: dog",
    "entailment": "entailment: One of {n} runs.\nneutral: All {n} run.\ncontradiction: None of {n} runs.",
    "paraphrase": "paraphrase: {n} dogs run.\nparaphrase: {n} dogs are running.",
}


@pytest.mark.parametrize("verb", ANSWERS)
def test_close_reads_the_rows_of_every_verb(verb, tmp_path, examples):
    common = {"out": tmp_path / "rows.jsonl", "count": 6, "model": "m"}
    with Server(lambda body, before: Do(ANSWERS[verb].format(n=digest(body)))) as server:
        if verb == "captions":
            options = CaptionOptions(**common, base_url=server.url, examples=examples)
        else:
            options = TextOptions(**common, base_url=server.url, input=examples)
        generate(verb, options)
    rows = RowFile(tmp_path / "rows.jsonl")
    assert len(rows) == 6
    for row in rows:
        task = get_task(row.task)
        assert len(task.source(row)) == 1
        assert task.targets(row)
        assert (verb in ("vqa", "entailment")) == bool(task.context(row))
        assert not task.labels or set(task.targets(row)) <= set(task.labels)
        assert (row.source[0] in EXAMPLES) == (verb not in ("captions", "paraphrase"))
