"""Adapters as recipes name them, and the tables that they are fitted on."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from close.adapters import build_adapter, check_adapter, fit_adapter, resolve_adapter, save_adapter
from close.data.shards import open_rows
from close.errors import (
    CloseError,
    DataError,
    MismatchError,
    MissingError,
    OutputExistsError,
    RecipeError,
    UnknownNameError,
)
from close.tasks import source_labels
from close.vectors.groups import group_labels
from close.vectors.open import open_vectors
from close.vectors.table import EmbeddingTable

DIM = 8


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    made = rng.normal(size=(2, 60, DIM)).astype(np.float32) + rng.normal(size=(2, 1, DIM)).astype(np.float32)
    return made / np.linalg.norm(made, axis=2, keepdims=True)


@pytest.fixture
def folder(rows, tmp_path):
    """Tables of one encoder, an image table of another, and plain arrays."""
    for name, values, weights in (("text", rows[0], "aaaa"), ("image", rows[1], "aaaa"), ("other", rows[1], "bbbb")):
        about = {"encoder": f"encoder-{weights}", "fingerprint": weights}
        EmbeddingTable.from_numpy(values, tmp_path / name, modality="text" if name == "text" else "image", **about)
        np.save(tmp_path / f"{name}.npy", values)
    return tmp_path


def same(one, other):
    state = other.state_dict()
    return all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


def alike(one, other):
    """The same but for the rounding of unit rows."""
    state = other.state_dict()
    return all(torch.allclose(value.float(), state[key].float(), atol=1e-5) for key, value in one.state_dict().items())


@pytest.mark.parametrize("ending", ["", ".npy"])
def test_fit_in_place(folder, rows, ending):
    files = {side: f"{folder / side}{ending}" for side in ("text", "image")}
    adapter = resolve_adapter({"mean_shift": {"fit": files, "scale": 0.5}}, DIM, "aaaa")
    assert adapter.spec() == {"mean_shift": {"scale": 0.5}}
    np.testing.assert_allclose(adapter.shift, rows[1].mean(0) - rows[0].mean(0), atol=1e-6)
    json.dumps(adapter.spec())


def test_stages_are_fitted_on_what_the_stages_before_make(folder):
    files = {"text": folder / "text", "image": folder / "image"}
    spec = [{"centring": {"fit": files}}, {"linear": {"fit": files}}, {"gaussian": {"std": 0.1}}]
    chain = resolve_adapter(spec, DIM, "aaaa")
    whole = build_adapter(["centring", "linear", {"gaussian": {"std": 0.1}}], DIM)
    whole.fit(**{side: open_vectors(file) for side, file in files.items()})
    assert chain.spec() == whole.spec()
    assert same(chain, whole)


def test_tables_of_the_wrong_side_are_refused(folder):
    swapped = {"text": folder / "image", "image": folder / "text"}
    for fit in (
        lambda: resolve_adapter({"mean_shift": {"fit": swapped}}, DIM, "aaaa"),
        lambda: fit_adapter("mean_shift", folder / "A", **swapped),
    ):
        with pytest.raises(MismatchError, match=r"image holds image embeddings, but is given as --text"):
            fit()


def test_a_stage_is_not_fitted_through_one_that_is_not_fitted(folder):
    tables = {"text": folder / "text", "image": folder / "image"}
    with pytest.raises(RecipeError, match="adapter 'centring' before it, which is not fitted"):
        fit_adapter(["centring", {"mean_shift": {"fit": tables}}], folder / "A", **tables)
    both = fit_adapter([{"centring": {"fit": tables}}, "mean_shift"], folder / "A", **tables)
    assert float(both.members[1].state_dict()["shift"].norm()) < 1e-5


def test_what_is_fitted_by_its_own_spec_is_not_fitted_again(folder):
    tables = {"text": folder / "text", "image": folder / "image"}
    own = {"mean_shift": {"fit": tables}}
    for spec in (own, [own], [own, {"gaussian": {"cosine": 0.5}}]):
        with pytest.raises(RecipeError, match="is fitted already, by its own `fit` or `load`: leave that out"):
            fit_adapter(spec, folder / "A", **tables)
    assert not (folder / "A").exists()


def test_pairs_by_row_whose_ids_differ_are_told(folder, rows, caplog):
    names = [f"r{i}" for i in range(60)]
    EmbeddingTable.from_numpy(rows[0], folder / "T", ids=names)
    EmbeddingTable.from_numpy(rows[1], folder / "V", modality="image", ids=names[::-1])
    told = "paired by row, though ids differ: row 0 is 'r0' and 'r59'"
    fit_adapter(["none", "linear"], folder / "A", text=folder / "T", image=folder / "V")
    assert told in caplog.text
    caplog.clear()
    by_id = np.stack((np.arange(60), np.arange(60)[::-1]), axis=1)
    fit_adapter("linear", folder / "B", text=folder / "T", image=folder / "V", pairs=by_id)
    fit_adapter("mean_shift", folder / "C", text=folder / "T", image=folder / "V")
    assert told not in caplog.text


def test_load_in_a_recipe(folder, rows):
    fitted = fit_adapter(["centring", "linear"], folder / "A", text=folder / "text", image=folder / "image")
    chain = resolve_adapter([{"load": str(folder / "A")}, {"gaussian": {"std": 0.1}}], DIM, "aaaa")
    assert chain.spec() == [["centring", {"linear": {"method": "least_squares"}}], {"gaussian": {"std": 0.1}}]
    assert same(chain.members[0], fitted)
    build_adapter(chain.spec(), DIM).load_state_dict(chain.state_dict())
    with pytest.raises(MismatchError, match=r"encoder-aaaa.*bbbb"):
        resolve_adapter({"load": folder / "A"}, DIM, "bbbb")
    with pytest.raises(MismatchError, match="8 dimensions, the encoder has 9"):
        resolve_adapter({"load": folder / "A"}, 9)


def test_training_text_stands_in(folder, rows):
    assert resolve_adapter("nearest", DIM, text=rows[0]).memory.shape == (60, DIM)
    adapter = resolve_adapter({"mean_shift": {"fit": {"image": folder / "image.npy"}}}, DIM, text=rows[0][:30])
    np.testing.assert_allclose(adapter.shift, rows[1].mean(0) - rows[0][:30].mean(0), atol=1e-6)
    with pytest.raises(RecipeError, match="needs unpaired data"):
        resolve_adapter("mean_shift", DIM, text=rows[0])
    with pytest.raises(DataError, match="text embeddings are missing"):
        resolve_adapter({"linear": {"fit": {"image": folder / "image.npy"}}}, DIM, text=rows[0])


def test_groups_come_from_a_data_file_or_from_the_training_data(folder, rows):
    labels = [f"image {number // 3}" for number in range(60)]
    lines = [{"id": str(i), "source": f"caption {i}", "group": label} for i, label in enumerate(labels)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected = build_adapter("shared", DIM).fit(text=rows[0], groups=labels)
    for text in ("text", "text.npy"):
        fit = {"text": str(folder / text), "groups": str(folder / "captions.jsonl")}
        assert alike(resolve_adapter({"shared": {"fit": fit}}, DIM, "aaaa"), expected)
    chain = resolve_adapter(
        ["shared", {"gaussian": {"cosine": 0.8}}], DIM, text=rows[0], groups=lambda: np.array(labels)
    )
    assert same(chain.members[0], expected)
    named = {"shared": {"fit": {"groups": str(folder / "captions.jsonl")}}}
    assert alike(resolve_adapter(named, DIM, text=EmbeddingTable(folder / "text")), expected)
    own = fit_adapter("shared", folder / "A", text=folder / "text", groups=folder / "captions.jsonl")
    assert alike(own, expected)
    with pytest.raises(
        DataError, match=r"needs groups data, and groups are missing.*shared: \{fit: \{text: TABLE, groups: DATA"
    ):
        fit_adapter("shared", folder / "B", text=folder / "text")
    with pytest.raises(RecipeError, match=r"needs groups data: \{shared: "):
        resolve_adapter("shared", DIM, "aaaa")
    (folder / "c.csv").write_text("beschreibung,bild\n" + "".join(f"{a['source']},{a['group']}\n" for a in lines))
    chain = ["none", {"shared": {"fit": {"text": str(folder / "text.npy"), "groups": str(folder / "c.csv")}}}]

    def with_columns(place, table):
        rows = open_rows(place, {"caption": "beschreibung", "group": "bild"})
        return group_labels(rows, table, source_labels)

    assert alike(resolve_adapter(chain, DIM, labels=with_columns).members[1], expected)
    with pytest.raises(DataError, match="no column of captions"):
        resolve_adapter(chain, DIM)
    (folder / "captions.jsonl").write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(MismatchError, match="1 items for the 60 rows"):
        fit_adapter("shared", folder / "B", text=folder / "text.npy", groups=folder / "captions.jsonl")


def test_texts_of_a_pair_are_no_captions_of_one_image(folder, rows):
    lines = [{"source": [f"left {i}", f"right {i}"], "group": f"g{i // 5}", "task": "nlvr2"} for i in range(30)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected = build_adapter("shared", DIM).fit(text=rows[0], groups=[f"{t // 10}-{t % 2}" for t in range(60)])
    fit = {"text": folder / "text.npy", "groups": folder / "pairs.jsonl"}
    assert alike(resolve_adapter({"shared": {"fit": fit}}, DIM), expected)
    assert alike(fit_adapter("shared", folder / "A", **fit), expected)


def test_another_encoders_table_is_refused(folder):
    files = {"text": folder / "text", "image": folder / "other"}
    with pytest.raises(MismatchError, match=r"image table .*other comes from encoder 'encoder-bbbb'"):
        resolve_adapter({"mean_shift": {"fit": files}}, DIM, "aaaa")
    with pytest.raises(MismatchError, match="encoder-bbbb"):
        fit_adapter("mean_shift", folder / "A", **files)
    assert not (folder / "A").exists()
    with pytest.raises(MismatchError, match="8 columns, expected 9"):
        resolve_adapter({"mean_shift": {"fit": {"text": folder / "text", "image": folder / "image"}}}, 9, "aaaa")


def test_fit_adapter_records_the_encoder(folder):
    fit_adapter("mean_shift", folder / "A", text=folder / "text.npy", image=folder / "image")
    info = json.loads((folder / "A" / "adapter.json").read_text())
    assert (info["encoder"], info["fingerprint"]) == ("encoder-aaaa", "aaaa")


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("mean_shift", RecipeError, "needs unpaired data"),
        (["none", "linear"], RecipeError, "'linear' needs paired data"),
        ({"mean_shift": {"fit": "T"}}, RecipeError, "fit is"),
        ({"mean_shift": {"fit": {}}}, RecipeError, "fit is"),
        ({"mean_shift": {"fit": {"txt": "T"}}}, UnknownNameError, "did you mean 'text'"),
        ({"mean_shift": {"fit": {"text": "nowhere", "image": "nowhere"}}}, MissingError, "nowhere"),
        ({"mean_shift": {"fit": {"text": "nowhere"}, "scael": 1}}, UnknownNameError, "did you mean 'scale'"),
        ({"load": "nowhere"}, MissingError, "no saved adapter"),
        ([{"gaussian": {"std": 1}}, {"gausian": {"std": 1}}], UnknownNameError, "did you mean 'gaussian'"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(spec, error, message):
    with pytest.raises(error, match=message):
        resolve_adapter(spec, DIM)


def test_check_reads_no_data(folder):
    broken = folder / "broken.npy"
    broken.write_bytes(b"not an array")
    spec = {"mean_shift": {"fit": {"text": broken, "image": broken}}}
    check_adapter(spec)
    check_adapter({"memory": {"size": 10**9}})  # nothing is allocated
    with pytest.raises(DataError, match=r"not a plain \.npy"):
        resolve_adapter(spec, DIM)


def test_killed_at_its_end_the_same_command_ends_well_however_sums_are_rounded(folder, monkeypatch):
    data = {"text": folder / "text", "image": folder / "image"}
    real = Path.unlink

    def unlink(path, missing_ok=False):
        if path.name == "A.partial.json":
            raise KeyboardInterrupt
        real(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            fit_adapter("mean_shift", folder / "A", **data)
    notes = folder / "A.partial.json"
    assert (folder / "A").is_dir()
    assert notes.is_file()
    with pytest.raises(OutputExistsError):
        fit_adapter("mean_shift", folder / "A", text=folder / "text", image=folder / "image.npy")
    monkeypatch.setattr("close.adapters.storage.fingerprint_of", lambda adapter: "rounded otherwise")
    fit_adapter("mean_shift", folder / "A", **data)
    assert not notes.exists()


def test_fit_needs_a_table(tmp_path):
    with pytest.raises(RecipeError, match="--text, --image"):
        fit_adapter("mean_shift", tmp_path / "A")


def test_npy_of_any_length_is_normalised_and_said_so(rows, tmp_path, caplog):
    np.save(tmp_path / "unit.npy", rows[0])
    np.save(tmp_path / "raw.npy", rows[0].astype(np.float64) * 7)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(open_vectors(tmp_path / "unit.npy")[3:20], rows[0][3:20])
        assert not caplog.records
        raw = open_vectors(tmp_path / "raw.npy")
        np.testing.assert_allclose(raw[0:10], rows[0][:10], atol=1e-6)
        raw[10:20]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'raw.npy'}: rows are not of unit length; they are normalised"
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(5), r"expected \(N, D\)"),
        (np.ones((3, 4), dtype=np.int64), r"expected \(N, D\)"),
        (np.array([[{}]], dtype=object), r"not a plain \.npy"),
    ],
)
def test_npy_that_is_no_table_is_told(values, message, tmp_path):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=message):
        open_vectors(tmp_path / "a.npy")


@pytest.mark.parametrize(("value", "kind"), [(0.0, "zero"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_npy_rows_that_are_none_are_named(rows, value, kind, tmp_path):
    bad = np.tile(rows[0], (200, 1))
    bad[9001] = value
    np.save(tmp_path / "a.npy", bad)
    with pytest.raises(DataError, match=rf"a\.npy: row 9001 is {kind}"):
        build_adapter("nearest", DIM).fit(text=open_vectors(tmp_path / "a.npy"))


def test_files_that_are_none_are_told(tmp_path):
    with pytest.raises(MissingError, match="close embed"):
        open_vectors(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"not a plain \.npy array \(it is a file; `close embed text"):
        open_vectors(tmp_path / "a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CloseError):
        open_vectors(tmp_path / "empty")


def test_a_fitted_object_passes_through(rows, tmp_path):
    adapter = build_adapter("centring", DIM).fit(text=rows[0], image=rows[1])
    assert resolve_adapter(adapter, DIM) is adapter
    assert resolve_adapter([adapter, "none"], DIM).members[0] is adapter
    save_adapter(adapter, tmp_path / "a")


def unknown(caplog):
    return [record.getMessage() for record in caplog.records if "of which encoder" in record.getMessage()]


def test_vectors_of_an_unknown_encoder_are_told_when_a_run_takes_them(folder, caplog):
    """Fitted before or in place, in one line; nothing of tables that say whose they are, nor of what learns nothing."""
    files = {side: folder / f"{side}.npy" for side in ("text", "image")}
    fit_adapter("mean_shift", folder / "A", **files)
    save_adapter(build_adapter({"gaussian": {"cosine": 0.5}}, DIM), folder / "B")
    fit_adapter("mean_shift", folder / "C", text=folder / "text", image=folder / "image")
    caplog.clear()
    own = {"mean_shift": {"fit": {"text": str(folder / "text"), "image": str(folder / "image")}}}
    nameless = {"mean_shift": {"fit": {"text": str(folder / "text"), "image": str(folder / "image.npy")}}}
    resolve_adapter([own, {"load": str(folder / "B")}, {"load": str(folder / "C")}], DIM, "aaaa")
    assert not unknown(caplog)
    resolve_adapter([nameless, {"load": str(folder / "A")}], DIM, "aaaa")
    (told,) = unknown(caplog)
    assert told.startswith(
        f"{folder / 'image.npy'}, {folder / 'A'}: learnt from vectors that do not say of which encoder"
    )
    assert "taken for those of the run" in told


def test_fitting_on_vectors_of_an_unknown_encoder_is_told(folder, caplog):
    fit_adapter("mean_shift", folder / "A", text=folder / "text", image=folder / "image")
    assert not unknown(caplog)
    fit_adapter("mean_shift", folder / "B", text=folder / "text.npy", image=folder / "image")
    (told,) = unknown(caplog)
    assert told.startswith(f"{folder / 'text.npy'}: vectors that do not say of which encoder they are")
    assert "taken for those of encoder 'encoder-aaaa'" in told
    caplog.clear()
    fit_adapter("mean_shift", folder / "C", text=folder / "text.npy", image=folder / "image.npy")
    (told,) = unknown(caplog)
    assert "whichever encoder a run has" in told
