"""The modality gap: measures, words, pictures.

`measure_gap` makes every measure of two tables of embeddings; `measure_cases` does so for files, for encoders and adapters
side by side, and `render_html` draws the page. Each measure is also a function of its own, in the module of its kind:
`centroid`, `cosine`, `distance`, `distribution`, `landscape`, `residual`, `retrieval`, `separability`, `structure`, `transfer`.
"""

from close.gap.advice.recommend import Advice, recommend
from close.gap.measure import GapReport, measure_gap, measure_sides
from close.gap.measured import Case, measure_cases
from close.gap.measures.catalogue import CATALOGUE, Measure
from close.gap.modalities import Sides
from close.gap.report.page import render_html

__all__ = [
    "CATALOGUE",
    "Advice",
    "Case",
    "GapReport",
    "Measure",
    "Sides",
    "measure_cases",
    "measure_gap",
    "measure_sides",
    "recommend",
    "render_html",
]
