"""Rows of one label, together."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from close.data.rows import Row
from close.vectors.groups import labelled, rows_by_label


@pytest.mark.parametrize("labels", [["b", "a", "b", "c", "a", "b"], [3, 3, 3], [7], [], list("zyx")])
def test_rows_of_a_label_lie_together_in_their_own_order(labels):
    rows, bounds = rows_by_label(labels)
    found = [rows[a:b].tolist() for a, b in pairwise(bounds)]
    assert found == [[i for i, label in enumerate(labels) if label == each] for each in sorted(set(labels))]
    assert np.array_equal(np.sort(rows), np.arange(len(labels)))


def test_rows_of_one_image_share_a_label_where_no_group_says_otherwise():
    shown = [("a.png",), ("b.png",), ("a.png",), ("a.png", "b.png"), ("a.png",), (), ()]
    groups = [None, None, None, None, "g", "g", None]
    rows = [
        Row(str(i), images=tuple(map(Path, names)), group=group)
        for i, (names, group) in enumerate(zip(shown, groups, strict=True))
    ]
    labels = [label for _, label in labelled(rows)]
    assert [labels.index(label) for label in labels] == [0, 1, 0, 3, 4, 4, 6]
    by_group = [label for _, label in labelled(rows, by_image=False)]
    assert [by_group.index(label) for label in by_group] == [0, 1, 2, 3, 4, 4, 6]
