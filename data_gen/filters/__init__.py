"""Filters: what an accepted row must not be. They see candidates in request order and compose in the order given.

A filter of one's own is a class in any file that `--plugin` names:

    from data_gen.filters import FILTERS, Filter

    @FILTERS.register("shouting")
    class Shouting(Filter):
        def rejects(self, candidate):
            return candidate.text.isupper()
"""

from collections.abc import Sequence

from data_gen.filters.base import FILTERS, Candidate, Filter, Setting
from data_gen.filters.cosine import Cosine
from data_gen.filters.duplicates import Copied, Duplicate, NearDuplicate
from data_gen.filters.ngrams import FrequentNgrams
from data_gen.filters.plain import Empty, Forbidden, Judge, Length, MissingKeyword, Refusal, Speaks
from data_gen.verbs import Shot

__all__ = [
    "FILTERS",
    "Candidate",
    "Copied",
    "Cosine",
    "Duplicate",
    "Empty",
    "Filter",
    "Forbidden",
    "FrequentNgrams",
    "Judge",
    "Length",
    "MissingKeyword",
    "NearDuplicate",
    "Refusal",
    "Setting",
    "Speaks",
    "default_filters",
    "make_filter",
]


def default_filters(shots: Sequence[Shot]) -> list[Filter]:
    """Those that only remove what no one wants."""
    return [Empty(), Refusal(), Copied(shots), Duplicate()]


def make_filter(option: str, setting: Setting) -> Filter:
    """A filter from `name` or `name=value`.

    Raises:
        InputError: an unknown name or an impossible value, with what was expected.
    """
    name, _, value = option.partition("=")
    return FILTERS[name].from_option(value, setting)
