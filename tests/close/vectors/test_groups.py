"""Rows of one label, together."""

from itertools import pairwise

import numpy as np
import pytest

from close.vectors.groups import rows_by_label


@pytest.mark.parametrize("labels", [["b", "a", "b", "c", "a", "b"], [3, 3, 3], [7], [], list("zyx")])
def test_rows_of_a_label_lie_together_in_their_own_order(labels):
    rows, bounds = rows_by_label(labels)
    found = [rows[a:b].tolist() for a, b in pairwise(bounds)]
    assert found == [[i for i, label in enumerate(labels) if label == each] for each in sorted(set(labels))]
    assert np.array_equal(np.sort(rows), np.arange(len(labels)))
