"""Measures of the gap: one file a family, imported in the order in which reports show them."""

from importlib import import_module

from close.gap.measures.base import MEASURES, Computation, Family, Interval, Measure

__all__ = ["MEASURES", "Computation", "Family", "Interval", "Measure"]

for _name in (
    "centroid",
    "distance",
    "cosine",
    "uniformity",
    "separability",
    "spread",
    "residual",
    "distribution",
    "retrieval",
    "structure",
    "belonging",
    "hubness",
):
    import_module(f"{__name__}.{_name}")
