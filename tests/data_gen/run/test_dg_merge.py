"""Merges: what a run takes for one thing stays one, and no size is too large."""

import itertools
import json
import tracemalloc

import pytest
from dg_tools import rows

from data_gen.errors import InputError
from data_gen.run import merge_shards

LABELS = ("entailment", "neutral", "contradiction")


def entailed(run, request, source, hypotheses, start=0):
    """The rows of a premise as `entailment` writes them."""
    common = {"task": "entailment", "source": source, "meta": {"input": source, "given": source}}
    return [
        {
            "id": f"entailment-{run}-{request:06d}-{start + n}",
            **common,
            "context": text,
            "target": label,
            "label": label,
        }
        for n, (label, text) in enumerate(zip(LABELS, hypotheses, strict=False))
    ]


def paraphrased(run, request, group, given, texts):
    return [
        {"id": f"paraphrase-{run}-{request:06d}-{n}", "source": text, "target": text, "group": group,
         "meta": {"input": group, "given": given}}
        for n, text in enumerate(texts)
    ]  # fmt: skip


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def begin(path, digest):
    """A journal beside an output that tells its input."""
    path.with_name(path.name + ".journal").write_text(json.dumps({"data_gen": 3, "params": {"input": digest}}) + "\n")


def test_a_merge_needs_no_memory_for_the_texts(tmp_path):
    texts = [f"\U0001f436 {n} {'dog ' * 2000}" for n in range(400)]
    part = write(tmp_path / "part.jsonl", [{"source": text, "target": text} for text in texts])
    tracemalloc.start()
    assert merge_shards([part], tmp_path / "all.jsonl") == (400, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < part.stat().st_size / 3


def test_what_is_accepted_together_is_left_out_together(tmp_path):
    """A premise keeps a hypothesis of each label, or has none; of paraphrases two are enough."""
    one = entailed("aaaaaaaa", 0, "A dog.", ["It lives.", "It is brown.", "It is a cat."])
    other = entailed("bbbbbbbb", 0, "A dog.", ["It is alive.", "it is brown!", "It is a bus."])  # the second is alike
    other += entailed("bbbbbbbb", 0, "A cat.", ["It lives.", "It is brown.", "It is a dog."], start=3)
    other += entailed("bbbbbbbb", 1, "A bus.", ["It has wheels.", "It is red."])  # cut off by --count
    groups = paraphrased("cccccccc", 0, "7", "A dog runs.", ["A dog is running", "Some dog", "A hound"])
    more = paraphrased("dddddddd", 0, "7", "A dog runs.", ["Some dog", "A poodle", "a hound.", "An animal"])
    more += paraphrased("dddddddd", 1, "7", "A dog runs.", ["A poodle", "A beast"])
    parts = [write(tmp_path / f"{n}.jsonl", part) for n, part in enumerate((one, other, groups, more))]
    assert merge_shards(parts, tmp_path / "all.jsonl") == (3 + 3 + 2 + 3 + 2, 3 + 2 + 2)
    merged = rows(tmp_path / "all.jsonl")
    assert merged == [*one, *other[3:], *groups, more[1], more[3]]


def test_two_premises_of_one_row_are_kept_or_left_out_apart(tmp_path):
    """`--per-request 2` of an input whose rows have several texts: both premises have the row's id."""
    one = entailed("aaaaaaaa", 0, "A dog.", ["It lives.", "It is brown.", "It is a cat."])
    two = entailed("bbbbbbbb", 0, "A dog.", ["It is alive.", "it is brown!", "It is a bus."])
    two += entailed("bbbbbbbb", 0, "A cat.", ["It lives.", "It is brown.", "It is a dog."], start=3)
    for row in two:
        row["meta"]["input"] = "7"
    parts = [write(tmp_path / f"{n}.jsonl", part) for n, part in enumerate((one, two))]
    assert merge_shards(parts, tmp_path / "all.jsonl") == (6, 3)
    assert rows(tmp_path / "all.jsonl") == [*one, *two[3:]]


def test_captions_of_two_inputs_are_not_of_one_image(tmp_path):
    one = write(tmp_path / "1.jsonl", paraphrased("aaaaaaaa", 0, "1", "A dog.", ["Some dog", "A hound"]))
    same = write(tmp_path / "2.jsonl", paraphrased("bbbbbbbb", 0, "1", "A dog.", ["A poodle", "A pup"]))
    assert merge_shards([one, same], tmp_path / "same.jsonl") == (4, 0)
    other = write(tmp_path / "3.jsonl", paraphrased("cccccccc", 0, "1", "A cat.", ["A kitten", "A tom"]))
    assert merge_shards([one, other], tmp_path / "all.jsonl") == (4, 0)  # nobody knows: without their journals
    begin(one, "f00"), begin(other, "f00")  # two texts of one row of an input, in two shards of it
    assert merge_shards([one, other], tmp_path / "shards.jsonl") == (4, 0)
    assert merge_shards([tmp_path / "shards.jsonl", same], tmp_path / "twice.jsonl") == (6, 0)
    begin(other, "ba7"), begin(same, "f00")
    for order in itertools.permutations([one, same, other]):
        with pytest.raises(InputError, match=r"line 1: the group '1' came before .* and would be one image's"):
            merge_shards(order, tmp_path / "again.jsonl")


def test_ids_of_images_may_be_those_of_two_inputs(tmp_path):
    """Two files of captions of the same images, which are named and not counted."""
    one = write(tmp_path / "1.jsonl", paraphrased("aaaaaaaa", 0, "coco-1", "A dog.", ["Some dog", "A hound"]))
    other = write(tmp_path / "2.jsonl", paraphrased("bbbbbbbb", 0, "coco-1", "A dog on grass.", ["A pet", "A pup"]))
    begin(one, "f00"), begin(other, "ba7")
    assert merge_shards([one, other], tmp_path / "all.jsonl") == (4, 0)


def test_rows_for_several_tasks_are_told(tmp_path, capsys):
    groups = write(tmp_path / "1.jsonl", paraphrased("aaaaaaaa", 0, "1", "A dog.", ["Some dog", "A hound"]))
    pairs = write(
        tmp_path / "2.jsonl", entailed("bbbbbbbb", 0, "A dog.", ["It lives.", "It is brown.", "It is a cat."])
    )
    merge_shards([groups, groups], tmp_path / "same.jsonl")
    assert not capsys.readouterr().err
    merge_shards([groups, pairs], tmp_path / "all.jsonl")
    told = "holds rows for caption and entailment: training reads all rows of a file for one task"
    assert told in capsys.readouterr().err
