"""The registry of measures: its order, what a measure declares, and somebody's own measure in every report."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from close.gap import MEASURES, Family, Measure, measure_gap
from close.gap.measures.base import Measures

OWN = """
from close.gap import MEASURES, Family, Interval, Measure


@MEASURES.register(
    Measure("own.median", Family.DISTANCE, "Median cosine", "median v·t of a pair", "over 0.5", low=0.5),
    Measure("own.mean", "My own heading", "Mean cosine", "mean v·t of a pair", "no norm",
            interval=Interval(lambda drawn: drawn.pair_mean(drawn.data.pair_cosines))),
)
def own_cosines(data, seed):
    import numpy as np

    return {"mean": data.pair_cosines.mean(), "median": np.median(data.pair_cosines)}
"""


@pytest.fixture
def own_measure(tmp_path, monkeypatch):
    """A file outside the package that registers two measures, forgotten after the test."""
    from close.plugins import load_plugins

    monkeypatch.setattr(MEASURES, "computations", list(MEASURES.computations))
    monkeypatch.setattr(MEASURES._measures, "_items", dict(MEASURES._measures._items))
    (tmp_path / "own.py").write_text(OWN)
    load_plugins([str(tmp_path / "own.py")])


@pytest.fixture
def tables(tmp_path):
    rng = np.random.default_rng(0)
    text = rng.normal(size=(60, 8))
    image = text + 0.3 * rng.normal(size=(60, 8)) + 0.5
    np.save(tmp_path / "t.npy", text)
    np.save(tmp_path / "v.npy", image)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (text, image)]
    return tmp_path, np.einsum("ij,ij->i", *unit)


def test_families_stand_in_their_order_and_a_heading_of_ones_own_after_them(own_measure):
    families = list(dict.fromkeys(measure.family for measure in MEASURES))
    assert families == [*Family, "My own heading"]
    names = MEASURES.names
    assert names[:3] == ["centroid_gap", "pair_distance", "rmg"]
    assert names.index("own.median") == names.index("separability") + 1
    assert names[-2:] == ["hubness.image", "own.mean"]


def test_a_measure_of_ones_own_is_in_json_table_and_page(own_measure, tables):
    import typer

    from close.cli.gap import register

    folder, cosines = tables
    app = typer.Typer()
    register(app)
    given = ["gap", "--text", str(folder / "t.npy"), "--image", str(folder / "v.npy"), "--bootstrap", "100"]
    shown = CliRunner().invoke(app, given, env={"COLUMNS": "150"})
    assert "Median cosine" in shown.stdout
    assert "My own heading" in shown.stdout
    written = [*given, "--out", str(folder / "gap.json"), "--html", str(folder / "gap.html")]
    assert CliRunner().invoke(app, written).exit_code == 0
    found = json.loads((folder / "gap.json").read_text())
    assert found["own"] == pytest.approx({"median": np.median(cosines), "mean": cosines.mean()})
    low, high = found["intervals"]["own.mean"]
    assert low < found["own"]["mean"] < high
    page = (folder / "gap.html").read_text()
    assert "Median cosine" in page
    assert "My own heading" in page


def test_each_number_is_found_by_its_own_key(tables):
    """A record whose fields change places keeps its names."""
    measures = Measures()
    measures.register(*(Measure(f"x.{key}", "F", key, "f", "h") for key in ("b", "a")))(
        lambda data, seed: {"a": 1, "b": 2}
    )
    assert measures.computations[0](None, 0) == {"x.a": 1.0, "x.b": 2.0}


@pytest.mark.parametrize("name", ["cka", "cka.more", "cosine", "notes", "dim.of"])
def test_names_that_would_collide_are_refused(name):
    with pytest.raises(ValueError, match=name):
        MEASURES.register(Measure(name, Family.CLOUDS, "t", "f", "h"))(lambda data, seed: 0)


def test_a_reason_stands_where_a_measure_of_ones_own_has_no_data(own_measure, tables):
    folder, _ = tables
    report = measure_gap(np.load(folder / "t.npy"), np.load(folder / "v.npy"), pairs="unpaired", bootstrap=0)
    assert report["own.mean"] is None
    assert "nan" in report.notes["own.mean"]
