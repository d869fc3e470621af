"""Encoders of both libraries against the libraries themselves."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from close.encoders import ContrastiveEncoder, load_encoder
from close.encoders.identity import taken
from close.encoders.openclip import OpenClipEncoder
from close.errors import CloseError, DataError, MissingError, RecipeError, UnknownNameError, WeightsError
from close.vectors.build import embed_images, embed_texts

FAMILIES = {
    "open_clip_dir": True,
    "coca_dir": False,
    "siglip_like_dir": False,
    "hf_clip_dir": True,
    "hf_siglip_dir": False,
    "hf_siglip2_dir": False,
    "hf_clap_dir": True,
}
TEXTS = tiny.sentences(40, seed=5)


@pytest.fixture(scope="module")
def encoder(
    zoo: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], ContrastiveEncoder]:
    loaded: dict[str, ContrastiveEncoder] = {}

    def load(family: str) -> ContrastiveEncoder:
        if family not in loaded:
            loaded[family] = load_encoder(str(zoo(family)), device="cpu")
        return loaded[family]

    return load


@pytest.mark.parametrize("family", ["open_clip_dir", "hf_clip_dir"])
def test_loading_leaves_the_generator_as_it_was(family, zoo):
    folder = str(zoo(family))
    before = torch.get_rng_state()
    load_encoder(folder)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    folder = tmp_path_factory.mktemp("items")
    pictures = [tiny.picture(folder / f"{i}.png", seed=i, size=20 + i) for i in range(3)]
    sounds = [tiny.sound(folder / f"{i}.wav", seed=i) for i in range(3)]
    return lambda family: sounds if "clap" in family else pictures


def reference_text(model: ContrastiveEncoder) -> torch.Tensor:
    """What the library itself makes of the texts at the full context length."""
    with torch.inference_mode():
        if isinstance(model, OpenClipEncoder):
            return model.model.encode_text(model.tokenizer(TEXTS), normalize=True)
        batch = model.tokenizer(TEXTS, padding="max_length", max_length=24, truncation=True, return_tensors="pt")
        kept = ("input_ids", "attention_mask") if model.model.config.model_type in ("clip", "clap") else ("input_ids",)
        return F.normalize(model.model.get_text_features(**{k: batch[k] for k in kept}).pooler_output, dim=-1)


def reference_image(model: ContrastiveEncoder, paths: list[Path]) -> torch.Tensor:
    """What the library itself makes of the files, one after the other."""
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    rows = []
    for path in paths:
        with torch.inference_mode():
            if path.suffix == ".wav":
                rate, wave = wavfile.read(path)
                wave = resample_poly(wave.astype(np.float32) / 32768, 8_000, rate)
                inputs = model.processor(wave, sampling_rate=8_000, return_tensors="pt")
                rows.append(model.model.get_audio_features(**inputs).pooler_output)
            elif isinstance(model, OpenClipEncoder):
                rows.append(model.model.encode_image(model.transform(Image.open(path))[None]))
            else:
                inputs = model.processor(images=Image.open(path), return_tensors="pt")
                rows.append(model.model.get_image_features(**inputs).pooler_output)
    return F.normalize(torch.cat(rows), dim=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_text_equals_the_library_at_full_length(encoder, family):
    model = encoder(family)
    rows = model.encode_text(TEXTS)
    assert rows.dtype == torch.float32
    assert rows.shape == (40, model.embed_dim)
    assert torch.allclose(rows.norm(dim=1), torch.ones(40), atol=1e-6)
    assert torch.allclose(rows, reference_text(model), atol=1e-5)
    assert (rows[0] - rows[1]).abs().max() > 1e-4  # the texts are told apart at all


@pytest.mark.parametrize(("family", "trims"), FAMILIES.items())
def test_trimming_only_where_it_is_exact(encoder, family, trims, monkeypatch):
    model, lengths = encoder(family), []
    tower = model.text_tower
    monkeypatch.setattr(
        model, "text_tower", lambda inputs: (lengths.append(next(iter(inputs.values())).shape[1]), tower(inputs))[1]
    )
    model.text_features(sorted(TEXTS, key=len)[:4])
    assert (lengths[0] < 24) == trims


@pytest.mark.parametrize(
    "change",
    [
        {"no_causal_mask": True},
        {"pool_type": "last"},
        {"pool_type": "eos", "eos_id": tiny.word_tokenizer(start="s").eos_token_id},
    ],
)
def test_open_clip_variants_equal_the_library(tmp_path, change):
    model = load_encoder(str(tiny.open_clip_dir(tmp_path / "e", text_cfg=change)))
    assert torch.allclose(model.encode_text(TEXTS), reference_text(model), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_image_equals_the_library(encoder, items, family):
    model, paths = encoder(family), items(family)
    rows = model.encode_image(paths)
    assert rows.dtype == torch.float32
    assert rows.shape == (3, model.embed_dim)
    assert torch.allclose(rows, reference_image(model, paths), atol=1e-5)
    assert torch.allclose(model.encode_image(paths, batch_size=1), rows, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_size_and_order_do_not_matter(encoder, family):
    model = encoder(family)
    rows = model.encode_text(TEXTS)
    assert torch.allclose(model.encode_text(TEXTS[::-1], batch_size=3).flip(0), rows, atol=1e-5)
    assert torch.equal(model.encode_text(TEXTS), rows)
    assert model.encode_text(TEXTS[0]).shape == (1, model.embed_dim)


@pytest.mark.parametrize("family", FAMILIES)
def test_long_texts_are_cut(encoder, family):
    assert encoder(family).encode_text(["a red dog " * 100, "a dog"]).isfinite().all()


@pytest.mark.parametrize("family", ["open_clip_dir", "hf_clip_dir"])
def test_frozen_and_fingerprinted(zoo, encoder, family, tmp_path):
    model = encoder(family)
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    moved = shutil.copytree(zoo(family), tmp_path / "moved")
    half = load_encoder(str(moved), precision="bf16")
    assert half.fingerprint == model.fingerprint  # of the weights, wherever they lie and whatever they are run in
    assert half.encode_text(TEXTS).dtype == torch.float32
    assert F.cosine_similarity(half.encode_text(TEXTS), model.encode_text(TEXTS)).min() > 0.99
    weights = next(moved.glob("*.safetensors"))
    state = load_file(str(weights))
    name = sorted(key for key in state if state[key].ndim == 2)[0]
    state[name][0, 0] += 1e-3
    save_file(state, str(weights), metadata={"format": "pt"})
    assert load_encoder(str(moved)).fingerprint != model.fingerprint


@pytest.mark.parametrize("family", ["open_clip_dir", "hf_clip_dir"])
def test_a_batch_is_of_one_at_least(encoder, family):
    for number in (0, -1):
        with pytest.raises(RecipeError, match="batch_size is a whole number of at least 1, not"):
            encoder(family).encode_text(TEXTS, batch_size=number)
        with pytest.raises(RecipeError, match="batch_size is a whole number of at least 1, not"):
            encoder(family).encode_image(np.zeros((4, 4, 3), np.uint8), batch_size=number)


def found_of(model, kind="Own"):
    with taken(model, kind) as fingerprint:
        return fingerprint


def test_an_encoder_made_of_another_ones_model_is_known_by_its_weights_however_they_are_packed(zoo, monkeypatch):
    place = str(zoo("hf_clip_dir"))
    packed = load_encoder(place)
    assert "visual_projection.weight" not in packed.model.state_dict()
    monkeypatch.setattr("close.encoders.base.pack", lambda model: None)
    plain = load_encoder(place, precision="bf16")
    found = {found_of(encoder.model) for encoder in (packed, plain, packed)}
    assert len(found) == 1
    assert found != {packed.fingerprint}  # its vectors are others
    assert len({found_of(torch.nn.Sequential(encoder.model)) for encoder in (packed, plain)} | found) == 2
    assert found_of(packed.model, "TransformersEncoder") == packed.fingerprint  # the same model, loaded again


@pytest.mark.parametrize("packs", [True, False])
def test_own_weights_in_another_ones_model_are_other_weights(zoo, monkeypatch, packs):
    if not packs:
        monkeypatch.setattr("close.encoders.base.pack", lambda model: None)
    found = set()
    for number in (0.0, 1.0, 2.0):
        model = load_encoder(str(zoo("hf_clip_dir"))).model
        model = model if packs else copy.deepcopy(model)
        model.load_state_dict({name: value + number for name, value in model.state_dict().items()})
        found |= {found_of(torch.nn.Sequential(model)), found_of(model)}
        model.logit_scale.data += 1  # as merging LoRA does, which torch does not count
        found.add(found_of(model))
    assert len(found) == 9


@pytest.mark.parametrize("family", ["open_clip_dir", "hf_clip_dir", "hf_clap_dir"])
@pytest.mark.parametrize("damage", ["missing", "shape", "cut", "gone"])
def test_weights_that_are_not_whole_are_refused(zoo, family, damage, tmp_path):
    folder = shutil.copytree(zoo(family), tmp_path / "damaged")
    weights = next(folder.glob("*.safetensors"))
    state = load_file(str(weights))
    name = next(key for key in sorted(state) if "text" in key or "token_embedding" in key)
    if damage == "missing":
        del state[name]
    elif damage == "shape":
        state[name] = state[name][1:].clone()
    save_file(state, str(weights), metadata={"format": "pt"})
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "gone":
        weights.unlink()
    with pytest.raises(WeightsError) as told:
        load_encoder(str(folder))
    assert str(folder) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("reference", "kind", "words"),
    [
        ("mimi", UnknownNameError, "did you mean 'mini'"),
        ("open_clip:ViT-L14/openai", UnknownNameError, "did you mean 'ViT-L-14'"),
        ("open_clip:ViT-L-14/openay", UnknownNameError, "did you mean 'openai'"),
        ("open_clip:ViT-L-14", WeightsError, "add a tag"),
        ("open_clip:ViT-L-14@nowhere.pt", MissingError, "nowhere.pt"),
        ("open_clip:nowhere/there", UnknownNameError, "nowhere"),
        ("models/nowhere", MissingError, "no such directory"),
        ("hf:nowhere/there", WeightsError, "nowhere/there"),
        ("hf:", UnknownNameError, "hf:"),
        ("", UnknownNameError, "mini"),
    ],
)
def test_unknown_references(reference, kind, words):
    with pytest.raises(kind) as told:
        load_encoder(reference)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_folders_that_are_no_encoder(zoo, tmp_path, tiny_t5):
    with pytest.raises(
        MissingError, match=r"none of config\.json, modules\.json, open_clip_config\.json is in that directory"
    ):
        load_encoder(str(tmp_path))
    with pytest.raises(WeightsError, match="no contrastive encoder"):
        load_encoder(str(tiny_t5))
    folder = shutil.copytree(zoo("hf_clip_dir"), tmp_path / "c")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match="AutoImageProcessor can't be loaded"):
        load_encoder(str(folder))
    folder = shutil.copytree(zoo("open_clip_dir"), tmp_path / "o")
    (folder / "open_clip_config.json").write_text("{")
    with pytest.raises(WeightsError):
        load_encoder(str(folder))


@pytest.mark.parametrize("family", ["hf_clip_dir", "hf_siglip_dir", "hf_siglip2_dir", "hf_clap_dir"])
def test_a_tokenizer_is_never_made_up(zoo, family, tmp_path):
    folder = shutil.copytree(zoo(family), tmp_path / "e")
    for name in ("tokenizer.json", "spiece.model"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="tokenizer"):
        load_encoder(str(folder))


def test_unknown_precision_and_device(tiny_encoder):
    with pytest.raises(RecipeError, match="fp32, bf16, fp16"):
        load_encoder(str(tiny_encoder), precision="fp8")
    with pytest.raises(RecipeError, match="device"):
        load_encoder(str(tiny_encoder), device="gpu")


def test_relative_places_are_stored_absolute(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_encoder.parent)
    assert load_encoder(tiny_encoder.name).name == str(tiny_encoder)


@pytest.mark.parametrize("text", ["", "  \n", None, 3])
def test_texts_must_be_texts(encoder, text):
    with pytest.raises(DataError, match="text 1 is"):
        encoder("open_clip_dir").encode_text(["a dog", text])


def test_pictures_in_every_form(encoder, items):
    model = encoder("open_clip_dir")
    path = items("open_clip_dir")[0]
    whole = Image.open(path)
    array = np.asarray(whole)
    rows = model.encode_image([path, str(path), whole, array, array.astype(np.float32) / 255])
    assert torch.allclose(rows, rows[:1].expand(5, -1), atol=1e-5)
    grey = model.encode_image([array[..., 0], np.repeat(array[..., :1], 3, axis=2)])
    assert torch.allclose(grey[0], grey[1], atol=1e-6)
    for wrong in (np.zeros((3, 4, 5)), np.zeros((0, 4, 3)), np.full((4, 4, 3), 7.0), np.full((4, 4), np.nan)):
        with pytest.raises(DataError, match="an image array is"):
            model.encode_image(wrong)


def test_sixteen_bit_pictures_keep_their_contrast(encoder, tmp_path):
    shades = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    Image.fromarray(shades).save(tmp_path / "8.png")
    Image.fromarray(shades.astype(np.uint16) * 257).save(tmp_path / "16.png")
    rows = encoder("open_clip_dir").encode_image([tmp_path / "8.png", tmp_path / "16.png"])
    assert torch.allclose(rows[0], rows[1], atol=1e-5)


def test_pictures_are_turned_upright(encoder, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(array[::-1, ::-1]).save(tmp_path / "turned.png", exif=exif)
    rows = encoder("open_clip_dir").encode_image([tmp_path / "turned.png", array])
    assert torch.allclose(rows[0], rows[1], atol=1e-6)


def test_unreadable_items_are_told_one_by_one(encoder, items, tmp_path):
    model = encoder("open_clip_dir")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(items("open_clip_dir")[0].read_bytes()[:60])
    (tmp_path / "empty.jpg").touch()
    bad = [tmp_path / name for name in ("text.png", "gone.png", "cut.png", "empty.jpg")]
    features, errors = model.image_features([bad[0], items("open_clip_dir")[0], *bad[1:]], batch_size=2)
    assert sorted(errors) == [0, 2, 3, 4]
    assert torch.equal(features.isnan().all(1), torch.tensor([True, False, True, True, True]))
    for path, error in zip(bad, (errors[0], errors[2], errors[3], errors[4]), strict=True):
        assert isinstance(error, CloseError)
        assert str(path) in str(error)
    with pytest.raises(DataError, match=r"text\.png"):
        model.encode_image([items("open_clip_dir")[0], bad[0]])


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "webp", "tiff"])
def test_damaged_pictures_never_raise_anything_else(encoder, tmp_path, kind):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / f"whole.{kind}")
    whole = (tmp_path / f"whole.{kind}").read_bytes()
    paths = []
    for i in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if i % 2 else whole)
        for place in rng.integers(0, len(damaged), 4):
            damaged[place] = rng.integers(0, 256)
        paths.append(tmp_path / f"{i}.{kind}")
        paths[-1].write_bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features, errors = encoder("open_clip_dir").image_features(paths)
    assert errors
    assert all(features[i].isfinite().all() for i in range(60) if i not in errors)


class TestSound:
    """CLAP: the second modality is audio."""

    def test_formats_agree(self, encoder, tmp_path):
        from scipy.io import wavfile

        wave = np.random.default_rng(0).normal(0, 0.1, 1600)
        as_bytes = np.round(wave * 128 + 128).clip(0, 255).astype(np.uint8)
        coarse = (as_bytes.astype(np.float32) - 128) / 128
        wavfile.write(tmp_path / "8bit.wav", 8_000, as_bytes)
        wavfile.write(tmp_path / "float.wav", 8_000, coarse)
        wavfile.write(tmp_path / "stereo.wav", 8_000, np.stack([coarse * 2, coarse * 0], axis=1))
        wavfile.write(tmp_path / "32bit.wav", 8_000, (coarse.astype(np.float64) * 2**31).astype(np.int32))
        paths = sorted(tmp_path.glob("*.wav"))
        with paths[0].open("rb") as file:
            rows = encoder("hf_clap_dir").encode_image([coarse, *paths, paths[1].read_bytes(), file])
        assert torch.allclose(rows, rows[:1].expand(7, -1), atol=1e-4)

    def test_long_recordings_give_the_same_vector_every_time(self, encoder, tmp_path):
        path = tiny.sound(tmp_path / "long.wav", seconds=5)
        model = encoder("hf_clap_dir")
        before = np.random.get_state()[1].copy()
        assert torch.equal(model.encode_image([path] * 3), model.encode_image([path] * 3))
        assert torch.equal(*model.encode_image([path] * 2).unbind())
        assert (np.random.get_state()[1] == before).all()

    def test_damaged_recordings(self, encoder, tmp_path):
        whole = tiny.sound(tmp_path / "whole.wav").read_bytes()
        (tmp_path / "header.wav").write_bytes(whole[:30])
        (tmp_path / "text.wav").write_text("no sound")
        (tmp_path / "silent.wav").write_bytes(whole[:40] + bytes(4))
        (tmp_path / "song.flac").write_bytes(b"x")
        paths = [tmp_path / name for name in ("header.wav", "text.wav", "silent.wav", "song.flac", "gone.wav")]
        rng = np.random.default_rng(0)
        for i in range(40):
            damaged = bytearray(whole)
            for place in rng.integers(0, 44, 3):
                damaged[place] = rng.integers(0, 256)
            paths.append(tmp_path / f"{i}.wav")
            paths[-1].write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, errors = encoder("hf_clap_dir").image_features(paths)
        assert {0, 1, 2, 3, 4} <= set(errors)
        assert all(path.name in str(errors[i]) for i, path in enumerate(paths[:5]))

    def test_arrays(self, encoder):
        model = encoder("hf_clap_dir")
        assert model.encode_image(np.zeros(800, np.float32) + 0.1).shape == (1, 12)
        for wrong in (np.zeros((2, 3)), np.zeros(0), np.full(9, np.nan)):
            with pytest.raises(DataError, match="samples"):
                model.encode_image(wrong)


def checkpoint(path: Path, name: str) -> torch.nn.Module:
    import open_clip

    torch.manual_seed(0)
    plain = open_clip.create_model(name, pretrained=None).eval()
    torch.save(plain.state_dict(), path)
    return plain


def test_architecture_by_name_from_a_checkpoint_file(tmp_path, items, monkeypatch):
    import open_clip

    sizes = {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1}
    text = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    (tmp_path / "ViT-Tiny.json").write_text(json.dumps({"embed_dim": 8, "vision_cfg": sizes, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    plain = checkpoint(tmp_path / "weights.pt", "ViT-Tiny")
    monkeypatch.chdir(tmp_path)
    model = load_encoder("open_clip:ViT-Tiny@weights.pt", device="cpu")
    assert (model.name, model.embed_dim) == (f"open_clip:ViT-Tiny@{tmp_path / 'weights.pt'}", 8)
    with torch.inference_mode():
        wanted = plain.encode_text(open_clip.get_tokenizer("ViT-Tiny")(TEXTS), normalize=True)
    assert torch.allclose(model.encode_text(TEXTS), wanted, atol=1e-5)
    assert model.encode_image(items("open_clip")[:1]).shape == (1, 8)
    state = plain.state_dict()
    del state["text_projection"]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="text_projection"):
        load_encoder("open_clip:ViT-Tiny@weights.pt")


def test_the_configuration_of_a_local_directory_is_not_changed(tiny_encoder):
    before = (tiny_encoder / "open_clip_config.json").read_bytes()
    load_encoder(str(tiny_encoder))
    assert (tiny_encoder / "open_clip_config.json").read_bytes() == before
    assert json.loads(before)


def test_numpys_generator_is_left_as_it_was(zoo):
    model = load_encoder(str(zoo("hf_clap_dir")), device="cpu")
    np.random.seed(7)
    wanted = np.random.rand()
    np.random.seed(7)
    model.encode_image([np.zeros(4800, np.float32)])
    assert np.random.rand() == wanted
    np.random.seed(7)
    model.processor = None
    with pytest.raises(AttributeError):
        model.prepare(np.zeros(4800, np.float32))
    assert np.random.rand() == wanted


@pytest.mark.parametrize("family", ["open_clip_dir", "coca_dir", "hf_clip_dir"])
def test_a_tokenizer_of_another_model_is_refused(zoo, family, monkeypatch):
    """On an accelerator a token that is not there would end the process."""
    model = load_encoder(str(zoo(family)), device="cpu")
    tower = getattr(model.model, "text", model.model) if "hf" not in family else model.model.config.text_config
    monkeypatch.setattr(tower, "vocab_size", 5)
    with pytest.raises(WeightsError, match=r"its tokenizer gives token \d+, its text tower knows 5"):
        model.encode_text(["a dog"])


@pytest.mark.parametrize(
    ("family", "name", "keys"),
    [
        ("open_clip_dir", "open_clip_config.json", ("model_cfg", "text_cfg", "layers")),
        ("open_clip_dir", "open_clip_config.json", ("model_cfg", "vision_cfg", "width")),
        ("hf_clip_dir", "config.json", ("text_config", "num_hidden_layers")),
        ("hf_clip_dir", "config.json", ("vision_config", "hidden_size")),
    ],
)
def test_sizes_that_no_model_has_are_refused_before_memory_is_taken(zoo, family, name, keys, tmp_path):
    folder = shutil.copytree(zoo(family), tmp_path / "e")
    config = json.loads((folder / name).read_text())
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = 10**9
    (folder / name).write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=f"{keys[-1]} is 1000000000, more than any model has"):
        load_encoder(str(folder))


def test_names_of_every_kind_are_taken_and_what_is_none_is_told_in_a_line(tiny_encoder, tmp_path):
    model = load_encoder(Path(tiny_encoder))
    files = [tiny.picture(tmp_path / f"{n}.png", n) for n in range(3)]
    names = np.array([str(file) for file in files], object)  # as a data frame's column
    for given in (files, (file for file in files), names, [file.read_bytes() for file in files]):
        assert torch.equal(model.encode_image(given), model.encode_image(files))
    for texts in ((text for text in TEXTS[:2]), np.array(TEXTS[:2])):
        assert torch.equal(model.encode_text(texts), model.encode_text(TEXTS[:2]))
    for call, given, said in (
        (model.encode_text, None, "texts are one text or several, not None"),
        (model.encode_text, files[0], "texts are one text or several, not PosixPath"),
        (model.encode_image, None, "an item is None"),
        (load_encoder, None, "a directory, not None"),
    ):
        with pytest.raises(CloseError, match=said):
            call(given)


def test_a_table_is_made_of_names_alone(tiny_encoder, tmp_path):
    tiny.picture(tmp_path / "photos" / "a.png", 1)
    (tmp_path / "captions.txt").write_text("a dog\n", encoding="utf-8")
    assert len(embed_texts(str(tmp_path / "captions.txt"), str(tiny_encoder), tmp_path / "T")) == 1
    assert embed_images(tmp_path / "photos", Path(tiny_encoder), tmp_path / "V").ids[:] == ["a.png"]
