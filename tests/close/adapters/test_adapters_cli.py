"""`close adapters` and `close adapter fit`."""

import json
import os
import re
from collections import defaultdict
from inspect import signature

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from close.adapters import ADAPTERS, GapAdapter, build_adapter, list_adapters, load_adapter
from close.cli.adapters import register
from close.errors import DataError, RecipeError, UnknownNameError


@pytest.fixture(scope="module")
def app():
    made = typer.Typer()
    register(made)
    return made


@pytest.fixture
def tables(tmp_path):
    rng = np.random.default_rng(0)
    for side in ("text", "image"):
        rows = rng.normal(size=(50, 6)).astype(np.float32) + rng.normal(size=6).astype(np.float32)
        np.save(tmp_path / f"{side}.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return ["--text", str(tmp_path / "text.npy"), "--image", str(tmp_path / "image.npy"), "--out", str(tmp_path / "A")]


def test_every_adapter_is_documented():
    for info in list_adapters():
        kind = ADAPTERS[info.name]
        assert kind.name == info.name
        assert info.formula
        assert info.when
        assert re.search(r"19\d\d|20\d\d", info.paper), info.name
        assert re.search(rf"^ *Needs: {kind.needs}\.$", kind.__doc__, re.MULTILINE), info.name
    assert len(list_adapters()) == len(ADAPTERS) >= 12


def test_sides():
    sides = {info.name: info.sides for info in list_adapters()}
    assert (sides["none"], sides["gaussian"], sides["memory"], sides["centring"]) == (
        "neither",
        "text",
        "image",
        "both",
    )


def test_list_as_json(app):
    result = CliRunner().invoke(app, ["adapters", "--json"])
    assert result.exit_code == 0
    listed = {info["name"]: info for info in json.loads(result.stdout)}
    assert set(listed) == set(ADAPTERS)
    assert listed["mean_shift"]["needs"] == "unpaired"
    assert set(listed["linear"]) >= {"name", "needs", "sides", "formula", "paper", "when", "options"}
    options = {name: {option["name"]: option for option in info["options"]} for name, info in listed.items()}
    assert (options["mean_shift"]["scale"]["default"], options["mean_shift"]["scale"]["needed"]) == (1.0, False)
    assert options["random_shift"]["norm"]["needed"]
    assert options["memory"]["temperature"]["default"] == 0.01
    assert "10,000 unless given" in options["nearest"]["size"]["meaning"]  # said where `nearest` has it from


def test_every_option_is_listed_with_its_meaning():
    for info in list_adapters():
        given = {name for name in signature(ADAPTERS[info.name]).parameters if name not in ("dim", "options")}
        assert {option.name for option in info.options} == given
        for option in info.options:
            assert len(option.meaning) > 5, (info.name, option.name)
        build_adapter(
            {info.name: {o.name: o.default for o in info.options if o.default is not None} | NEEDED[info.name]}, 4
        )


NEEDED = defaultdict(dict, gaussian={"std": 1}, uniform={"radius": 1}, random_shift={"norm": 1})


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_fits_the_terminal(app, width):
    result = CliRunner().invoke(app, ["adapters"], env={"COLUMNS": str(width)})
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for name in ADAPTERS:
        assert any(line.startswith(f"{name}: needs ") for line in lines)
    assert max(map(len, lines)) <= max(min(width, 100), 60)  # formulas without a space are longer than 40
    assert "[centring, {gaussian:" in " ".join(result.stdout.split())  # brackets are no markup


def test_the_list_of_some(app):
    result = CliRunner().invoke(app, ["adapters", "linear", "--json"])
    assert [info["name"] for info in json.loads(result.stdout)] == ["linear"]
    with pytest.raises(UnknownNameError, match="did you mean 'linear'"):
        CliRunner().invoke(app, ["adapters", "liner"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("spec", "stored"),
    [
        ("mean_shift", {"mean_shift": {"scale": 1.0}}),
        ("{linear: {method: procrustes}}", {"linear": {"method": "procrustes"}}),
        ("[centring, {gaussian: {cosine: 0.5}}]", ["centring", {"gaussian": {"cosine": 0.5}}]),
    ],
)
def test_fit(app, tables, spec, stored):
    result = CliRunner().invoke(app, ["adapter", "fit", spec, *tables])
    assert result.exit_code == 0, result.output
    adapter = load_adapter(tables[-1])
    assert adapter.spec() == stored
    assert adapter.is_fitted
    assert tables[-1] in result.stdout


def test_fit_from_a_file(app, tables, tmp_path):
    (tmp_path / "spec.yaml").write_text("- centring\n- gaussian: {std: 0.1}\n")
    assert CliRunner().invoke(app, ["adapter", "fit", str(tmp_path / "spec.yaml"), *tables]).exit_code == 0
    assert load_adapter(tables[-1]).spec()[0] == "centring"


@pytest.mark.parametrize(
    ("spec", "drop", "error", "message"),
    [
        ("[centring", 0, RecipeError, "is not YAML"),
        ("nowhere.yaml", 0, RecipeError, "nowhere"),
        ("mean_shift", 2, DataError, "text embeddings are missing"),
        ("3", 0, RecipeError, "an adapter is a name"),
    ],
)
def test_wrong_use_is_told_and_leaves_nothing(app, tables, spec, drop, error, message):
    result = CliRunner().invoke(app, ["adapter", "fit", spec, *tables[drop:]])
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not os.path.exists(tables[-1])


def test_a_member_of_ones_own_is_listed():
    class Half(GapAdapter):
        """Halves.

        Formula: t/2,
            over two lines.
        Paper: none, 2024.
        When: never.
        """

        name = "half"

        def text(self, x, noise):
            return x / 2

    from close.adapters.described import _info

    info = _info("half", Half)
    assert (info.sides, info.formula, info.when) == ("text", "t/2, over two lines.", "never.")


def test_fit_on_pairs_from_a_file(app, tables, tmp_path):
    text, image = (np.load(tmp_path / f"{side}.npy") for side in ("text", "image"))
    index = np.random.default_rng(1).permutation(50)[:40]
    (tmp_path / "pairs.jsonl").write_text("".join(f'{{"text": {t}, "image": {v}}}\n' for v, t in enumerate(index)))
    ran = CliRunner().invoke(app, ["adapter", "fit", "linear", *tables, "--pairs", str(tmp_path / "pairs.jsonl")])
    assert ran.exit_code == 0, ran.output
    order = np.argsort(index)  # pairs are read in the order of the texts; the fit does not care
    expected = ADAPTERS["linear"](6).fit(text=text[index][order], image=image[:40][order])
    found = load_adapter(tmp_path / "A")
    for name, value in expected.state_dict().items():
        assert np.allclose(found.state_dict()[name], value, atol=1e-5), name
    refused = CliRunner().invoke(
        app, ["adapter", "fit", "mean_shift", *tables[2:], "--pairs", str(tmp_path / "pairs.jsonl")]
    )
    assert isinstance(refused.exception, RecipeError)
    np.save(tmp_path / "text.npy", np.where(np.arange(50)[:, None] == index[3], np.nan, text))
    broken = CliRunner().invoke(
        app, ["adapter", "fit", "linear", *tables[:-1], str(tmp_path / "B"), "--pairs", str(tmp_path / "pairs.jsonl")]
    )
    assert isinstance(broken.exception, DataError)
    assert f"row {index[3]} " in str(broken.exception)
