"""Rows of one label, together."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from close.data.rows import RowFile
from close.tasks import source_labels
from close.vectors.groups import group_labels, rows_by_label
from close.vectors.open import NpyVectors


@pytest.mark.parametrize("labels", [["b", "a", "b", "c", "a", "b"], [3, 3, 3], [7], [], list("zyx")])
def test_rows_of_a_label_lie_together_in_their_own_order(labels):
    rows, bounds = rows_by_label(labels)
    found = [rows[a:b].tolist() for a, b in pairwise(bounds)]
    assert found == [[i for i, label in enumerate(labels) if label == each] for each in sorted(set(labels))]
    assert np.array_equal(np.sort(rows), np.arange(len(labels)))


def test_the_views_of_a_row_are_of_an_image_each(tmp_path):
    rows = [{"source": ["a dog", "a cat"], "group": group} for group in "ggh"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.save(tmp_path / "t.npy", np.eye(6, dtype=np.float32))
    for task, expected in ((None, [0, 0, 0, 0, 4, 4]), ("nlvr2", [0, 1, 0, 1, 4, 5])):
        of_sources = partial(source_labels, task=task)
        labels = group_labels(RowFile(tmp_path / "rows.jsonl"), NpyVectors(tmp_path / "t.npy"), of_sources).tolist()
        assert [labels.index(label) for label in labels] == expected


def test_rows_of_one_image_share_a_label_where_no_group_says_otherwise(tmp_path):
    shown = ["a.png", "b.png", "a.png", ["a.png", "b.png"], "a.png", None, None, ["a.png", "b.png"]]
    groups = [None, None, None, None, "g", "g", None, None]
    lines = [
        {"source": "a dog"} | ({"image": names} if names else {}) | ({"group": group} if group else {})
        for names, group in zip(shown, groups, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    labels = [source_labels(row)[0] for row in RowFile(tmp_path / "rows.jsonl")]
    assert [labels.index(label) for label in labels] == [0, 1, 0, 3, 4, 4, 6, 3]
