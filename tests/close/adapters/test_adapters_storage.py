"""Fitted adapters alone on disk."""

import json
import os

import numpy as np
import pytest
import torch

from close.adapters import ADAPTERS, build_adapter, load_adapter, row_seeds, save_adapter
from close.errors import DataError, MismatchError, MissingError, NotFittedError, OutputExistsError, warn_once

DIM = 8
GROUPS = np.arange(60) // 3
SPECS = {
    "gaussian": {"cosine": 0.41},
    "uniform": {"radius": 0.3},
    "random_shift": {"norm": 0.5, "seed": 7},
    "mean_shift": {"scale": -0.3},
    "covariance": {"scale": 3},
    "linear": {"method": "ridge", "alpha": 0.1},
    "memory": {"size": 20, "temperature": 1 / 3},
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 60, DIM)).astype(np.float32) + rng.normal(size=(2, 1, DIM)).astype(np.float32)
    return dict(zip(("text", "image"), rows / np.linalg.norm(rows, axis=2, keepdims=True), strict=True))


@pytest.fixture
def saved(data, tmp_path):
    folder = tmp_path / "saved"
    save_adapter(build_adapter("linear", DIM).fit(**data), folder, encoder="mini", fingerprint="f" * 64)
    return folder


@pytest.mark.parametrize("name", [*ADAPTERS, "chain"])
def test_saved_and_loaded_is_the_same_to_the_bit(name, data, tmp_path):
    spec = ["centring", {"linear": {"renorm": True}}, {"gaussian": {"std": 0.1}}] if name == "chain" else name
    adapter = build_adapter({name: SPECS[name]} if name in SPECS else spec, DIM).fit(**data, groups=GROUPS)
    save_adapter(adapter, tmp_path / "a" / "b")
    again = load_adapter(tmp_path / "a" / "b")
    assert again.spec() == adapter.spec()
    seeds = row_seeds(0, 0, torch.arange(60))
    for modality, rows in data.items():
        for training in (True, False):
            before, after = (a.train(training)(torch.from_numpy(rows), modality, seeds) for a in (adapter, again))
            assert torch.equal(before, after)


def test_what_the_description_says(saved):
    info = json.loads((saved / "adapter.json").read_text())
    assert info["adapter"] == {"linear": {"method": "least_squares"}}
    assert (info["dim"], info["encoder"], info["fingerprint"]) == (DIM, "mini", "f" * 64)
    assert {"close", "torch"} <= set(info["versions"])
    assert sorted(os.listdir(saved)) == ["adapter.json", "adapter.safetensors"]


def test_another_encoder_is_refused(saved):
    with pytest.raises(MismatchError, match=r"mini.*ffffffff.*00000000"):
        load_adapter(saved, fingerprint="0" * 64)
    assert load_adapter(saved, fingerprint="f" * 64).is_fitted


def test_nothing_is_overwritten(saved, data):
    before = (saved / "adapter.safetensors").read_bytes()
    with pytest.raises(OutputExistsError, match="exists; choose another output"):
        save_adapter(build_adapter("linear", DIM).fit(**data), saved)
    assert (saved / "adapter.safetensors").read_bytes() == before


def test_a_failed_save_leaves_nothing(data, tmp_path, monkeypatch):
    adapter = build_adapter("centring", DIM).fit(**data)
    monkeypatch.setattr("close.adapters.storage.write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_adapter(adapter, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_unfitted_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError, match="mean_shift"):
        save_adapter(build_adapter(["none", "mean_shift"], DIM), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_missing_and_damaged_folders_are_told(saved, tmp_path):
    with pytest.raises(MissingError, match="no saved adapter"):
        load_adapter(tmp_path / "nowhere")
    tensors = saved / "adapter.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-40])
    with pytest.raises(DataError, match="damaged"):
        load_adapter(saved)
    tensors.unlink()
    with pytest.raises(MissingError, match=r"adapter\.safetensors"):
        load_adapter(saved)
    tensors.write_bytes(whole)
    description = saved / "adapter.json"
    good = json.loads(description.read_text())
    for change, message in (
        ({"format": 9}, "format 9"),
        ({"adapter": "nothing_like_it"}, "damaged"),
        ({"adapter": "covariance"}, "damaged"),
        ({"dim": 9}, "damaged"),
        ({"dim": "nine"}, "damaged"),
    ):
        description.write_text(json.dumps(good | change))
        with pytest.raises(DataError, match=message):
            load_adapter(saved)
    for text in ("[]", "{", '{"dim": 3}'):
        description.write_text(text)
        with pytest.raises(DataError, match=r"adapter\.json"):
            load_adapter(saved)


PLUGIN = """
from close.adapters import ADAPTERS, GapAdapter

@ADAPTERS.register("turned")
class Turned(GapAdapter):
    name = "turned"

    def text(self, x, noise):
        return {sign}x
"""


def test_a_plugin_that_has_changed_since_is_told(plugged, tmp_path, caplog):
    plugged(PLUGIN.format(sign=""))
    save_adapter(build_adapter("turned", DIM), tmp_path / "a")
    info = json.loads((tmp_path / "a" / "adapter.json").read_text())
    assert [len(own) for own in info["plugin_sums"]] == [64]
    plugged("# why\n" + PLUGIN.format(sign=""))
    load_adapter(tmp_path / "a")
    assert not caplog.records
    plugged(PLUGIN.format(sign="-"))
    for _ in range(2):
        assert load_adapter(tmp_path / "a").name == "turned"
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'a'}: own.py has changed since this adapter was fitted, and it may map otherwise than then"
    ]
    caplog.clear()
    warn_once.cache_clear()
    del info["plugin_sums"]  # of before
    (tmp_path / "a" / "adapter.json").write_text(json.dumps(info))
    assert load_adapter(tmp_path / "a").is_fitted
    assert not caplog.records
    (tmp_path / "a" / "adapter.json").write_text(json.dumps(info | {"plugin_sums": "x"}))
    with pytest.raises(DataError, match="plugin_sums are SHA-256 sums, not 'x'"):
        load_adapter(tmp_path / "a")
