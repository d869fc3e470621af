"""Vectors that were kept are not taken for those of an encoder that reads pictures or texts otherwise."""

import errno
import hashlib
import json
import shutil

import numpy as np
import pytest
import tiny
from PIL import Image

from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import OutputExistsError, warn_once
from close.io.keys import file_key
from close.plugins import load_plugins
from close.vectors.build import embed_images, embed_texts
from close.vectors.cache import cached_images, cached_table
from close.vectors.made_by import plugins_behind, vectors_key
from close.vectors.open import open_vectors


def test_other_preprocessing_makes_other_vectors(zoo, tmp_path):
    place = tmp_path / "encoder"
    shutil.copytree(zoo("hf_clip_dir"), place)
    images = [("a", tiny.picture(tmp_path / "a.png", 0))]
    before = cached_images(images, load_encoder(str(place)))
    assert cached_images(images, load_encoder(str(place))).path == before.path
    file = place / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_mean": [0.1, 0.2, 0.9]}))
    encoder = load_encoder(str(place))
    after = cached_images(images, encoder)
    own = encoder.encode_image([images[0][1]]).numpy()[0]
    np.testing.assert_allclose(after[0] / np.linalg.norm(after[0]), own, atol=1e-5)
    assert not np.allclose(after[0], before[0], atol=1e-3)


def test_pictures_of_more_than_eight_bits_are_kept_anew_and_no_others(tiny_encoder, tmp_path):
    encoder, grey = load_encoder(str(tiny_encoder)), np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)

    def as_before(file):
        about = f"{vectors_key(encoder, 'image')}a {file_key(file)} "
        return hashlib.sha256(about.encode()).hexdigest()[:24] == cached_images([("a", file)], encoder).path.name

    for name, saved in {"deep.png": {}, "deep.tif": {}, "big.tif": {"big_tiff": True}, "deep.jp2": {}}.items():
        Image.fromarray(grey).save(tmp_path / name, **saved)
        assert not as_before(tmp_path / name), name
    for name in ("plain.png", "plain.jpg"):
        Image.fromarray((grey // 16).astype(np.uint8)).save(tmp_path / name)
        assert as_before(tmp_path / name), name
    assert as_before(tiny.picture(tmp_path / "colour.png", 0))


@pytest.fixture
def st_dir(zoo, tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="the st extra is not installed")
    from sentence_transformers.base.modules import Transformer

    modules = [Transformer(str(zoo("hf_clip_dir")))]
    library.SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / "st"))
    return tmp_path / "st"


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("hf_clip_dir", "tokenizer_config.json", {"model_max_length": 8}),
        ("open_clip_dir", "tokenizer_config.json", {"pad_token": "</s>"}),
        ("st_dir", "config_sentence_transformers.json", {"prompts": {"q": "a photo of"}, "default_prompt_name": "q"}),
    ],
)
def test_texts_that_are_read_otherwise_have_other_vectors(request, zoo, tmp_path, kind, name, change):
    place = shutil.copytree(request.getfixturevalue(kind) if kind == "st_dir" else zoo(kind), tmp_path / "encoder")
    rows = open_rows(tiny.write_jsonl(tmp_path / "rows.jsonl", [{"source": " ".join(tiny.WORDS[:12])}]))
    before = cached_table(rows, load_encoder(str(place)), "text")
    assert cached_table(rows, load_encoder(str(place)), "text").path == before.path
    (place / name).write_text(json.dumps(json.loads((place / name).read_text()) | change))
    encoder = load_encoder(str(place))
    assert encoder.fingerprint == before.fingerprint
    after = cached_table(rows, encoder, "text")
    assert after.path != before.path
    np.testing.assert_allclose(after[:], encoder.encode_text([" ".join(tiny.WORDS[:12])]), atol=1e-5)


OWN = """
import torch
from close.encoders import ENCODERS, ContrastiveEncoder

@ENCODERS.register("{name}")
class Own(ContrastiveEncoder):
    form, embed_dim = "{name}:FILE", 2

    @classmethod
    def load(cls, reference, *, name, device=None, precision="auto"):
        return cls(name, torch.nn.Identity(), device=device, precision="fp32")

    def tokenize(self, texts):
        return {{"x": torch.tensor([[len(text), {number}] for text in texts]).float()}}, torch.ones(len(texts))

    def text_tower(self, inputs):
        return inputs["x"]

    open = prepare = image_tower = None
"""


def test_an_encoder_without_weights_is_known_by_its_name_its_file_and_its_code(tmp_path):
    """What is wrapped may have weights that torch knows nothing of."""
    for name, number in (("one", 1), ("two", 1)):
        (tmp_path / f"{name}.py").write_text(OWN.format(name=name, number=number))
        (tmp_path / f"{name}.onnx").write_text(name)
    load_plugins([str(tmp_path / "one.py"), str(tmp_path / "two.py")])
    shutil.copy(tmp_path / "one.onnx", tmp_path / "moved.onnx")
    names = ("one:one.onnx", "one:moved.onnx", "one:two.onnx", "two:one.onnx")
    found = [load_encoder(name.replace(":", f":{tmp_path}/")).fingerprint for name in names]
    assert found[0] == found[1]
    assert len({*found}) == 3
    encoder = load_encoder(f"one:{tmp_path}/one.onnx")
    rows = open_rows(tiny.write_jsonl(tmp_path / "rows.jsonl", [{"source": "a dog"}]))
    before = cached_table(rows, encoder, "text")
    (tmp_path / "one.py").write_text(OWN.format(name="one", number=9))
    again = type(encoder)(encoder.name, encoder.model, device="cpu", precision="fp32")
    assert again.fingerprint == encoder.fingerprint  # runs of it stay usable
    assert cached_table(rows, again, "text").path != before.path


WEIGHED = """
import torch
from close.encoders import ENCODERS, ContrastiveEncoder, MiniEncoder

@ENCODERS.register("weighed")
class Weighed(ContrastiveEncoder):
    form, embed_dim = "weighed", 2

    @classmethod
    def load(cls, reference, *, name, device=None, precision="auto"):
        model = torch.nn.Linear(2, 2, bias=False)
        torch.nn.init.eye_(model.weight)
        return cls(name, model, device=device, precision="fp32")

    def tokenize(self, texts):
        return {{"x": torch.tensor([[len(text), {number}] for text in texts]).float()}}, torch.ones(len(texts))

    def text_tower(self, inputs):
        return self.model(inputs["x"])

    open = prepare = image_tower = None


@ENCODERS.register("borrowed")
class Borrowed(MiniEncoder):
    form = "borrowed"
"""


def test_vectors_of_an_encoder_whose_code_has_changed_are_made_anew(plugged, tmp_path, caplog):
    rows = open_rows(tiny.write_jsonl(tmp_path / "rows.jsonl", [{"source": "a dog"}]))
    images = [("a", tiny.picture(tmp_path / "a.png", 0))]
    plugged(WEIGHED.format(number=1))
    encoder = load_encoder("weighed")
    before = cached_table(rows, encoder, "text")
    made = embed_texts(rows, encoder, tmp_path / "t").path
    picture = cached_images(images, load_encoder("borrowed"))
    assert before.info["plugins"] == ["own.py"]

    plugged("# why\n" + WEIGHED.format(number=1))
    assert cached_table(rows, load_encoder("weighed"), "text").path == before.path
    assert cached_images(images, load_encoder("borrowed")).path == picture.path
    assert not caplog.records

    plugged(WEIGHED.format(number=9))
    again = load_encoder("weighed")
    assert again.fingerprint == encoder.fingerprint  # runs of it stay usable
    after = cached_table(rows, again, "text")
    np.testing.assert_allclose(after[:], again.encode_text(["a dog"]), atol=1e-6)
    assert not np.allclose(after[:], before[:])
    assert cached_images(images, load_encoder("borrowed")).path != picture.path  # made by a class of ours
    caplog.clear()
    for _ in range(2):
        np.testing.assert_array_equal(open_vectors(made)[:], before[:])
    assert [record.message for record in caplog.records] == [
        f"{made}: own.py has changed since this table was made, and its encoder may give other vectors now"
    ]
    with pytest.raises(OutputExistsError, match="holds something else"):
        embed_texts(rows, again, made)


def test_tables_of_our_own_encoders_keep_nothing_of_plugins(tmp_path):
    rows = open_rows(tiny.write_jsonl(tmp_path / "rows.jsonl", [{"source": "a dog"}]))
    encoder = load_encoder("mini")
    assert plugins_behind(encoder) == {}
    table = cached_table(rows, encoder, "text")
    assert not {"plugins", "plugin_sums"} & {*table.info}
    known = f"{rows.sha256} mini {encoder.fingerprint} {encoder.precision} text {encoder.reading}"
    assert table.path.name == hashlib.sha256(known.encode()).hexdigest()[:24]  # those of before are found


@pytest.mark.parametrize("kind", ["hf_clip_dir", "open_clip_dir"])
def test_a_table_is_not_finished_with_another_reading(zoo, tmp_path, kind):
    """The weights stay the same: what is changed is the preparation of one, and the activation of the other."""
    place = tmp_path / "encoder"
    shutil.copytree(zoo(kind), place)
    images = [("a", tiny.picture(tmp_path / "a.png", 0))]
    before = load_encoder(str(place))
    embed_images(images, before, tmp_path / "t")
    embed_images(images, load_encoder(str(place)), tmp_path / "t")
    file = place / ("preprocessor_config.json" if kind == "hf_clip_dir" else "open_clip_config.json")
    config = json.loads(file.read_text())
    if kind == "hf_clip_dir":
        config["image_mean"] = [0.1, 0.2, 0.9]
    else:
        config["model_cfg"]["quick_gelu"] = True
    file.write_text(json.dumps(config))
    after = load_encoder(str(place))
    assert after.fingerprint == before.fingerprint
    assert after.reading != before.reading
    with pytest.raises(OutputExistsError, match="holds something else"):
        embed_images(images, after, tmp_path / "t")


def test_a_table_of_anothers_cache_is_read_without_a_lock(zoo, tmp_path, monkeypatch, caplog):
    encoder = load_encoder(str(zoo("hf_clip_dir")))
    rows = open_rows(tiny.write_jsonl(tmp_path / "rows.jsonl", [{"source": " ".join(tiny.WORDS * 20)}]))
    images = [("a", tiny.picture(tmp_path / "a.png", 0))]
    places = cached_table(rows, encoder, "text").path, cached_images(images, encoder).path

    def refused(lock, **options):
        raise PermissionError(errno.EACCES, "Permission denied", lock.lock_file)

    monkeypatch.setattr("close.io.files.FileLock.acquire", refused)
    warn_once.cache_clear()
    caplog.clear()
    assert (cached_table(rows, encoder, "text").path, cached_images(images, encoder).path) == places
    assert len([one for one in caplog.messages if "rows.jsonl" in one]) == 1  # how many texts are cut, as ever
    others = open_rows(tiny.write_jsonl(tmp_path / "others.jsonl", [{"source": "another text"}]))
    with pytest.raises(PermissionError, match=r"embeddings/\w+\.lock"):
        cached_table(others, encoder, "text")
