"""`close gap`: tables and pairs from files, JSON, the table on the terminal, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from close.adapters.resolve import fit_adapter
from close.cli.gap import register
from close.errors import CloseError, DataError, MismatchError, MissingError, RecipeError
from close.gap import measure_gap
from close.gap.pairing import read_index, read_pairs
from close.vectors.open import open_vectors
from close.vectors.table import EmbeddingTable

RUNNER = CliRunner()


@pytest.fixture
def close_gap():
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    register(app)

    def call(*arguments):
        result = RUNNER.invoke(app, ["gap", *map(str, arguments), "--bootstrap", "20"])
        if isinstance(result.exception, CloseError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    content = rng.normal(size=(40, 12))
    owner = np.repeat(np.arange(40), 2)
    np.save(tmp_path / "image.npy", (content + 0.3 * rng.normal(size=content.shape) - 0.5).astype(np.float32))
    np.save(tmp_path / "text.npy", (content[owner] + 0.3 * rng.normal(size=(80, 12)) + 0.5).astype(np.float32))
    np.save(tmp_path / "one.npy", np.load(tmp_path / "text.npy")[::2])
    np.save(tmp_path / "thin.npy", rng.normal(size=(40, 6)))
    np.save(tmp_path / "none.npy", np.zeros((0, 12)))
    (tmp_path / "pairs.jsonl").write_text("".join(f'{{"text": {i}, "image": {owner[i]}}}\n' for i in range(80)))
    (tmp_path / "pairs.csv").write_text("text,image\n" + "".join(f"{i},{owner[i]}\n" for i in range(80)))
    rows = [{"id": f"r{i}", "source": [f"first <b> of {i}", f"second of {i}"], "image": f"{i}.png"} for i in range(40)]
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def flat(node):
    return np.hstack([flat(part) for part in node.values()]) if isinstance(node, dict) else np.ravel(node)


def test_json_is_the_report(close_gap, folder):
    said = json.loads(close_gap("--text", folder / "one.npy", "--image", folder / "image.npy", "--json"))
    expected = measure_gap(np.load(folder / "one.npy"), np.load(folder / "image.npy"), bootstrap=20).to_dict()
    assert said == json.loads(json.dumps(expected))
    assert {"n_text", "n_image", "dim", "centroid_gap", "intervals", "notes"} <= set(said)


def test_files_appear_whole(close_gap, folder):
    out = folder / "out" / "gap.json"
    close_gap("--text", folder / "one.npy", "--image", folder / "image.npy", "--out", out)
    assert json.loads(out.read_text())["n_text"] == 40
    assert [path.name for path in out.parent.iterdir()] == ["gap.json"]


def test_measures_are_written_before_the_page_is_drawn(close_gap, folder, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError

    monkeypatch.setattr("close.gap.report.page.render_html", fails)
    tables = ("--text", folder / "one.npy", "--image", folder / "image.npy")
    with pytest.raises(AssertionError):
        close_gap(*tables, "--out", folder / "gap.json", "--html", folder / "gap.html")
    assert json.loads((folder / "gap.json").read_text())["n_text"] == 40


def test_table_and_verdict_on_the_terminal(close_gap, folder):
    shown = close_gap("--text", folder / "one.npy", "--image", folder / "image.npy", "--adapter", "mean_shift")
    for word in ("Centroid gap", "mean_shift", "Hubness of images", "A wide gap", "note, cka: reads high: 40 rows"):
        assert word in shown


def test_what_is_not_healthy_is_marked_and_what_is_written_is_named(close_gap, folder):
    shown = close_gap("--text", folder / "one.npy", "--image", folder / "image.npy", "--html", folder / "gap.html")
    rows = {line.split("  ")[1].strip(): line for line in shown.splitlines() if line.startswith("  ")}
    gap = measure_gap(np.load(folder / "one.npy"), np.load(folder / "image.npy"), bootstrap=0)["centroid_gap"]
    assert f"{gap:.4g} !" in rows["Centroid gap"]
    assert "not in the healthy range" in shown
    assert "Take the constant part away" in " ".join(shown.split())


def test_texts_that_lie_side_by_side_need_no_file_of_pairs(close_gap, folder):
    arguments = ("--text", folder / "text.npy", "--image", folder / "image.npy", "--json")
    said = json.loads(close_gap(*arguments, "--per-image", 2))
    by_file = json.loads(close_gap(*arguments, "--pairs", folder / "rows.jsonl"))
    for family in ("cosine", "recall", "caption_spread"):
        assert flat(said[family]) == pytest.approx(flat(by_file[family]))
    assert abs(said["residual"]["consecutive_cosine"]) < 0.2  # captions of one image are no neighbours


def test_figures_for_print(close_gap, folder):
    pytest.importorskip("matplotlib")
    plots = folder / "plots"
    close_gap("--text", folder / "one.npy", "--image", folder / "image.npy", "--plots", plots, "--adapter", "centring")
    names = {path.name for path in plots.iterdir()}
    stems = [
        "plane-1",
        "plane-2",
        "cosines-2",
        "dimensions-1",
        "spectrum",
        "shifted-loss",
        "search",
        "recall-1",
        "recall-2",
    ]
    assert {f"{stem}.{kind}" for stem in stems for kind in ("pdf", "svg")} <= names
    drawn = (plots / "cosines-1.svg").read_text()
    assert "#0100" not in drawn
    assert {"strangers", "two texts"} <= set(re.findall(r">([^<>]+)</text>", drawn))
    assert (plots / "plane-1.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.csv", "rows.jsonl"])
def test_pairs_from_a_file(close_gap, folder, name):
    arguments = ("--text", folder / "text.npy", "--image", folder / "image.npy", "--json")
    said = json.loads(close_gap(*arguments, "--pairs", folder / name))
    assert said["cosine"]["same_image_captions"]["mean"] > 0.5
    unpaired = json.loads(close_gap(*arguments, "--unpaired"))
    assert unpaired["pair_distance"] is None
    assert unpaired["centroid_gap"] == said["centroid_gap"]


def test_several_encoders_and_adapters(close_gap, folder):
    said = json.loads(
        close_gap(
            *("--text", folder / "one.npy", "--image", folder / "image.npy"),
            *("--compare", f"thin={folder / 'thin.npy'},{folder / 'thin.npy'}"),
            *("--adapter", "[centring, {gaussian: {cosine: 0.9}}]", "--json"),
        )
    )
    assert list(said["cases"]) == ["thin", "[centring, {gaussian: {cosine: 0.9}}]"]
    assert said["cases"]["thin"]["dim"] == 6
    assert said["cases"]["[centring, {gaussian: {cosine: 0.9}}]"]["centroid_gap"] < 0.2 < said["centroid_gap"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((), RecipeError, "give --text and --image"),
        (("--text", "one.npy"), RecipeError, "both --text and --image"),
        (("--text", "one.npy", "--image", "no.npy"), MissingError, "no.npy: no such"),
        (("--text", "one.npy", "--image", "pairs.csv"), DataError, "pairs.csv: not a plain .npy"),
        (
            ("--text", "rows.jsonl", "--image", "one.npy"),
            DataError,
            "`close embed text rows.jsonl --encoder … --out TABLE`",
        ),
        (("--text", "one.npy", "--image", "empty"), MissingError, "no embedding table there"),
        (
            ("--text", "one.npy", "--image", "photos"),
            MissingError,
            "`close embed images photos --encoder … --out TABLE`",
        ),
        (("--text", "one.npy", "--image", "thin.npy"), MismatchError, "12 dimensions and image 6"),
        (("--text", "text.npy", "--image", "image.npy"), MismatchError, "80 texts and 40 images"),
        (("--text", "text.npy", "--image", "image.npy"), MismatchError, "--per-image 2 if 2 texts of each follow"),
        (("--text", "text.npy", "--image", "none.npy"), DataError, "image: 0 rows; the gap is measured between"),
        (("--text", "text.npy", "--image", "thin.npy"), MismatchError, "encoder (text is"),  # nothing of --per-image
        (("--text", "one.npy", "--image", "image.npy", "--pairs", "x.jsonl"), MissingError, "x.jsonl"),
        (
            ("--text", "one.npy", "--image", "image.npy", "--pairs", "pairs.csv"),
            DataError,
            "pairs.csv:42: text is '40'",
        ),
        (
            ("--text", "one.npy", "--image", "image.npy", "--pairs", "rows.jsonl"),
            MismatchError,
            "has 80 items for the 40",
        ),
        (("--text", "one.npy", "--image", "image.npy", "--pairs", "pairs.csv", "--unpaired"), RecipeError, "exclude"),
        (("--text", "one.npy", "--image", "image.npy", "--per-image", "2", "--unpaired"), RecipeError, "exclude"),
        (("--text", "text.npy", "--image", "image.npy", "--per-image", "3"), MismatchError, "40 images (120)"),
        (("--text", "one.npy", "--image", "image.npy", "--adapter", "mean_shft"), CloseError, "mean_shift"),
        (("--text", "one.npy", "--image", "image.npy", "--adapter", "{a: ["), RecipeError, "not YAML"),
        (("--text", "one.npy", "--image", "image.npy", "--compare", "x=y"), RecipeError, "NAME=TEXT,IMAGE"),
    ],
)
def test_refused_in_one_line(close_gap, folder, monkeypatch, arguments, error, said):
    monkeypatch.chdir(folder)
    with pytest.raises(error) as told:
        close_gap(*arguments)
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert not list(folder.glob("*.html"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": 0}', "pairs.jsonl:2: image is None"),
        ('{"text": 0, "image": -1}', "pairs.jsonl:2: image is -1"),
        ('{"text": true, "image": 1}', "pairs.jsonl:2: text is True"),
        ('{"text": 0.5, "image": 1}', "text is 0.5"),
        ('{"text": "cat", "image": 1}', "text is 'cat', expected a row number from 0 to 79"),
        ("[0, 1]", "pairs.jsonl:2: expected"),
        ('{"text": 0, ', "pairs.jsonl:2: not JSON"),
    ],
)
def test_a_wrong_pair_is_named_by_line(folder, line, said):
    path = folder / "pairs.jsonl"
    path.write_text('{"text": 1, "image": 0}\n' + line + "\n")
    with pytest.raises(DataError) as told:
        read_pairs(path, open_vectors(folder / "text.npy", "text"), open_vectors(folder / "image.npy", "image"))
    assert said in str(told.value)


def named(folder: Path, *ids: str) -> EmbeddingTable:
    """An embedding table of these rows."""
    return EmbeddingTable.from_numpy(np.ones((len(ids), 2)), folder / f"table-{ids[0]}", ids=ids)


def test_ids_come_before_row_numbers(folder):
    text, image = named(folder, "2", "b", "c"), named(folder, "x", "y", "z")
    path = folder / "ids.jsonl"
    path.write_text('{"text": 2, "image": 2}\n{"text": "b", "image": 0}\n{"text": "2", "image": "1"}\n')
    assert read_pairs(path, text, image).pairs.tolist() == [[0, 2], [1, 0], [0, 1]]


@pytest.mark.parametrize("side", ["text", "image"])
@pytest.mark.parametrize("key", ["3", 3])
def test_an_id_that_is_gone_is_no_row_number(folder, side, key):
    """`close embed` leaves out what can't be read: ids that are line numbers then have holes."""
    whole, holed = named(folder, "1", "2", "3", "4", "5"), named(folder, "0", "1", "2", "4", "5")
    tables = {"text": whole, "image": whole} | {side: holed}
    path = folder / "numbers.jsonl"
    path.write_text("".join(json.dumps({"text": i, "image": i}) + "\n" for i in (1, 2, key)))
    with pytest.raises(DataError) as told:
        read_pairs(path, **tables)
    assert f"{path}:3: {side} is {key!r}, expected an id of {holed.path}, as others in this file are" in str(told.value)


def test_a_data_file_brings_captions_groups_and_pictures(folder):
    text, image = named(folder, "a#0", "a#1", "b", "c", "gone"), named(folder, "a", "sub/b.png")
    rows = [
        {"id": "a", "source": ["one", "two"], "image": "a.png", "group": "g"},
        {"id": "b", "source": "three", "image": "pics/sub/b.png"},
        {"id": "c", "source": "four", "group": "g"},
        {"id": "lost", "source": "no vector", "image": "lost.png"},
    ]
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_pairs(path, text, image)
    assert found.pairs.tolist() == [[0, 0], [1, 0], [2, 1]]
    assert found.captions == {0: "one", 1: "two", 2: "three", 3: "four"}
    assert {row: picture.name for row, picture in found.pictures.items()} == {0: "a.png", 1: "b.png"}
    assert found.left_out == 2
    labels = found.groups.tolist()
    assert labels[0] == labels[1] == labels[3]
    assert len(set(labels)) == 3


def test_each_text_of_a_pair_is_of_the_picture_in_its_place(folder):
    text, image = named(folder, "p#0", "p#1", "q#0", "q#1"), named(folder, "p#0", "p#1", "q#0", "q#1")
    rows = [
        {
            "id": name,
            "source": ["left", "right"],
            "image": [f"{name}0.png", f"{name}1.png"],
            "group": "g",
            "task": "nlvr2",
        }
        for name in "pq"
    ]
    path = folder / "pairs-of-pictures.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_pairs(path, text, image)
    assert found.pairs.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    labels = found.groups.tolist()
    assert [labels.index(label) for label in labels] == [0, 1, 0, 1]
    path.write_text("".join(json.dumps({**row, "task": None}) + "\n" for row in rows))  # the recipe may say it
    assert read_pairs(path, text, image, "nlvr2").pairs.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_real_embedding_tables(close_gap, folder):
    about = {"encoder": "some/encoder", "fingerprint": "ab" * 16}
    one, image = np.load(folder / "one.npy"), np.load(folder / "image.npy")
    EmbeddingTable.from_numpy(one, folder / "T", modality="text", ids=[f"r{i}" for i in range(40)], **about)
    EmbeddingTable.from_numpy(image, folder / "V", modality="image", ids=[f"r{i}" for i in range(40)], **about)
    EmbeddingTable.from_numpy(
        image[::-1], folder / "W", modality="image", ids=[f"r{39 - i}" for i in range(40)], **about
    )
    tables = json.loads(close_gap("--text", folder / "T", "--image", folder / "V", "--json"))
    plain = json.loads(close_gap("--text", folder / "one.npy", "--image", folder / "image.npy", "--json"))
    assert tables["centroid_gap"] == pytest.approx(plain["centroid_gap"], rel=1e-6)
    assert "pairs" not in tables["notes"]
    turned = json.loads(close_gap("--text", folder / "T", "--image", folder / "W", "--json"))
    assert "row 0 is 'r0' and 'r39'" in turned["notes"]["pairs"]
    (folder / "by_id.jsonl").write_text("".join(f'{{"text": "r{i}", "image": "r{i}"}}\n' for i in range(40)))
    by_id = json.loads(
        close_gap("--text", folder / "T", "--image", folder / "W", "--pairs", folder / "by_id.jsonl", "--json")
    )
    assert by_id["pair_distance"] == pytest.approx(tables["pair_distance"], rel=1e-6)
    with pytest.raises(MismatchError, match="holds image embeddings, but is given as --text"):
        close_gap("--text", folder / "V", "--image", folder / "V")
    with pytest.raises(MismatchError, match="holds image embeddings, but is given as --text"):
        read_index(folder / "by_id.jsonl", folder / "V", folder / "T")
    EmbeddingTable.from_numpy(image, folder / "X", modality="image", encoder="other", fingerprint="cd" * 16)
    with pytest.raises(MismatchError, match=r"'some/encoder'.*'other'"):
        close_gap("--text", folder / "T", "--image", folder / "X")


def test_cases_have_names_of_their_own(close_gap, folder):
    tables = ("--text", folder / "one.npy", "--image", folder / "image.npy")
    again = f"={folder / 'one.npy'},{folder / 'image.npy'}"
    for twice in (
        ("--compare", "A" + again, "--compare", "A" + again),
        ("--compare", "mean_shift" + again, "--adapter", "mean_shift"),
    ):
        with pytest.raises(RecipeError, match=r"two cases are called '(A|mean_shift)'; give each a name"):
            close_gap(*tables, *twice)


def test_an_adapter_is_of_the_first_tables_encoder(close_gap, folder):
    text, image = np.load(folder / "one.npy"), np.load(folder / "image.npy")
    for name, fingerprint in (("X", "ab" * 16), ("Y", "cd" * 16)):
        about = {"encoder": name, "fingerprint": fingerprint}
        EmbeddingTable.from_numpy(text, folder / f"T{name}", modality="text", **about)
        EmbeddingTable.from_numpy(image, folder / f"V{name}", modality="image", **about)
    fit_adapter("mean_shift", folder / "A", text=folder / "TY", image=folder / "VY")
    unknown = ("--text", folder / "one.npy", "--image", folder / "image.npy", "--compare")
    close_gap(*unknown, f"X={folder / 'TX'},{folder / 'VX'}", "--adapter", f"{{load: {folder / 'A'}}}")
    with pytest.raises(MismatchError, match="'Y'"):
        close_gap("--text", folder / "TX", "--image", folder / "VX", "--adapter", f"{{load: {folder / 'A'}}}")


def test_a_bad_table_is_named(close_gap, folder):
    bad = np.load(folder / "one.npy")
    bad[3] = np.nan
    np.save(folder / "bad.npy", bad)
    with pytest.raises(DataError, match=r"row 3\).*\(text is .*bad\.npy, image .*image\.npy\)"):
        close_gap("--text", folder / "bad.npy", "--image", folder / "image.npy")
    with pytest.raises(MismatchError, match=r"text has 6 dimensions.*thin\.npy"):
        close_gap("--text", folder / "thin.npy", "--image", folder / "image.npy")


@pytest.mark.parametrize("verb", ["gap", "recommend"])
def test_seeds_below_zero(verb, folder):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    register(app)
    result = RUNNER.invoke(
        app, [verb, "--text", str(folder / "one.npy"), "--image", str(folder / "image.npy"), "--seed", "-1"]
    )
    assert result.exit_code == 2


def test_few_texts_to_advise_on(folder):
    from close.gap.advice.advise import advise

    np.save(folder / "few.npy", np.load(folder / "text.npy")[:3])
    with pytest.raises(DataError, match=r"few\.npy: 3 texts; advice takes 8 at least"):
        advise(folder / "few.npy")


def test_names_are_shown_as_they_are_given(close_gap, folder, monkeypatch):
    """None of them is taken for a terminal's markup."""
    monkeypatch.setenv("COLUMNS", "300")
    tables = ("--text", folder / "one.npy", "--image", folder / "image.npy")
    adapter = "[mean_shift, {gaussian: {cosine: 0.5}}]"
    compare = f"[/x]={folder / 'one.npy'},{folder / 'image.npy'}"
    first = close_gap(*tables, "--adapter", adapter, "--compare", compare).splitlines()[0]
    assert adapter in first
    assert "[/x]" in first


def test_where_the_width_is_not_known_no_row_is_broken(close_gap, folder, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    tables = ("--text", folder / "one.npy", "--image", folder / "image.npy")
    adapters = ("mean_shift", "{linear: {method: ridge}}", "[mean_shift, {gaussian: {cosine: 0.5}}]")
    lines = close_gap(*tables, *(part for spec in adapters for part in ("--adapter", spec))).splitlines()
    assert all(spec in lines[0] for spec in adapters)
    (row,) = [line for line in lines if line.startswith("  Linear CKA")]
    assert row.rstrip().endswith("over 0.5")
    assert len(re.findall(r" \d\.\d+", row)) == 1 + len(adapters) + 1
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, close_gap(*tables).splitlines())) <= 60
