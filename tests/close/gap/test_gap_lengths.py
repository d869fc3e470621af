"""Measures are of directions: rows of any length give what their unit rows give, alone as in the report."""

import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass

import numpy as np
import pytest

import close.gap.measures as measures
from close.errors import DataError
from close.gap import measure_gap
from close.gap.measures.centroid import centroid_gap

RNG = np.random.default_rng(4)
TEXT, IMAGE = (RNG.normal(size=(420, 6)) + shift for shift in (1.0, -1.0))
LONG = [rows * RNG.uniform(0.1, 30, size=(420, 1)) for rows in (TEXT, IMAGE)]
GROUPS = np.repeat(np.arange(210), 2)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def every_measure():
    """Public functions of the family files that take rows."""
    for found in pkgutil.iter_modules(measures.__path__):
        module = importlib.import_module(f"{measures.__name__}.{found.name}")
        for name in getattr(module, "__all__", ()):
            function = getattr(module, name)
            takes_rows = inspect.isfunction(function) and not inspect.isgeneratorfunction(function)
            takes = inspect.signature(function).parameters if takes_rows else {}
            of_given_pairs = "pairs" in takes and takes["pairs"].default is inspect.Parameter.empty
            if {"text", "x"} & set(takes) and not of_given_pairs:
                yield pytest.param(function, id=name)


def numbers(found):
    """All numbers of a result, dataclasses taken apart."""
    return np.hstack([numbers(part) for part in vars(found).values()]) if is_dataclass(found) else np.ravel(found)


@pytest.mark.parametrize("function", list(every_measure()))
def test_any_length_gives_what_unit_rows_give(function):
    takes = inspect.signature(function).parameters
    more = [GROUPS] if "groups" in takes else []
    sides = 2 if "image" in takes else 1
    right = numbers(function(*map(unit, (TEXT, IMAGE)[:sides]), *more))
    assert numbers(function(*LONG[:sides], *more)) == pytest.approx(right, rel=1e-9, abs=1e-12)


def test_one_measure_says_what_the_report_says():
    report = measure_gap(*LONG, bootstrap=0)
    assert centroid_gap(*LONG) == pytest.approx(report["centroid_gap"], rel=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_row_without_direction_is_named(value):
    rows = TEXT.copy()
    rows[17] = value
    with pytest.raises(DataError, match="row 17"):
        centroid_gap(rows, IMAGE)
