"""The modality gap: measures, words, pictures.

`measure_gap` makes every measure of two tables of embeddings; `measure_tables` does so for files, for encoders and adapters
side by side, and `render_html` draws the page. Each measure is also a function of its own, in the module of its family in
`close.gap.measures`, where it says in `MEASURES` what it is; somebody's own measure does the same.
"""

from close.gap.advice.advice import Advice
from close.gap.advice.recommend import recommend
from close.gap.measure import GapReport, measure_gap, measure_modalities
from close.gap.measured_tables import MeasuredTables, measure_tables
from close.gap.measures import MEASURES, Family, Interval, Measure
from close.gap.modalities import Modalities
from close.gap.report.page import render_html

__all__ = [
    "MEASURES",
    "Advice",
    "Family",
    "GapReport",
    "Interval",
    "Measure",
    "MeasuredTables",
    "Modalities",
    "measure_gap",
    "measure_modalities",
    "measure_tables",
    "recommend",
    "render_html",
]
