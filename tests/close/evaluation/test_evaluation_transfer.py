"""What an adapter wins back of what the gap costs."""

import pytest

from close.evaluation.transfer import recovered_share


def test_the_papers_figures():
    assert recovered_share(95.4, 16.4, 113.2) == pytest.approx(0.816, abs=1e-3)


@pytest.mark.parametrize("ceiling", [60, 55])
def test_without_a_ceiling_above_no_adapter_there_is_nothing_to_recover(ceiling):
    assert recovered_share(50, 60, ceiling) is None
