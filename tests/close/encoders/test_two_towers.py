"""Any two-tower model of transformers, and sentence-transformers' own: real classes with tiny random weights."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from close.encoders import load_encoder
from close.errors import CloseError, DataError, WeightsError

TEXTS = ["a dog", "two cats sleep on a red mat", "a bird"]


def dual_dir(folder: Path) -> Path:
    """A BERT beside a ViT, as `VisionTextDualEncoderModel` joins them."""
    from transformers import (
        BertConfig,
        BertModel,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
        ViTConfig,
        ViTImageProcessor,
        ViTModel,
    )

    tokenizer, small = tiny.word_tokenizer(), dict(tiny._TEXT)
    torch.manual_seed(0)
    text = BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=24, **small))
    vision = ViTModel(ViTConfig(image_size=tiny.PIXELS, patch_size=8, **small))
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision.config, text.config, projection_dim=12)
    VisionTextDualEncoderModel(config, vision, text).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViTImageProcessor(size={"height": tiny.PIXELS, "width": tiny.PIXELS}).save_pretrained(folder)
    return folder


def chinese_clip_dir(folder: Path) -> Path:
    from transformers import ChineseCLIPConfig, ChineseCLIPImageProcessor, ChineseCLIPModel

    tokenizer, small = tiny.word_tokenizer(), dict(tiny._TEXT)
    config = ChineseCLIPConfig(
        text_config=small | {"vocab_size": len(tokenizer), "max_position_embeddings": 24},
        vision_config=small | {"patch_size": 8, "image_size": tiny.PIXELS},
        projection_dim=12,
    )
    size = {"height": tiny.PIXELS, "width": tiny.PIXELS}
    return tiny._save(
        folder, ChineseCLIPModel, config, 0, tokenizer, ChineseCLIPImageProcessor(size=size, crop_size=size)
    )


@pytest.mark.parametrize("build", [dual_dir, chinese_clip_dir])
def test_towers_that_read_a_mask_are_given_one(build, tmp_path, pictures):
    """A batch gives what each text gives alone through the model's own call, without padding."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    folder = build(tmp_path / "model")
    encoder = load_encoder(f"hf:{folder}")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    assert encoder.embed_dim == 12
    with torch.inference_mode():
        alone = [model.get_text_features(**tokenizer([text], return_tensors="pt")) for text in TEXTS]
        shown = model.get_image_features(
            **processor(images=Image.open(pictures / "p00.png").convert("RGB"), return_tensors="pt")
        )
    alone, shown = [getattr(one, "pooler_output", one) for one in alone], getattr(shown, "pooler_output", shown)
    assert torch.allclose(encoder.encode_text(TEXTS), F.normalize(torch.cat(alone), dim=-1), atol=1e-5)
    assert torch.allclose(encoder.encode_image(pictures / "p00.png"), F.normalize(shown, dim=-1), atol=1e-5)


@pytest.fixture(scope="module")
def folders(zoo, tmp_path_factory) -> dict[str, Path]:
    """A model as each of its two modules saves it."""
    library = pytest.importorskip("sentence_transformers", reason="the st extra is not installed")
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import CLIPModel

    root = tmp_path_factory.mktemp("st")
    for name, kind in (("older", CLIPModel), ("new", Transformer)):
        library.SentenceTransformer(modules=[kind(str(zoo("hf_clip_dir")))], device="cpu").save_pretrained(
            str(root / name)
        )
    return {"older": root / "older", "new": root / "new"}


class TestSentenceTransformers:
    @pytest.mark.parametrize("name", ["older", "new"])
    def test_vectors_are_those_of_its_own_encode(self, folders, pictures, name):
        from sentence_transformers import SentenceTransformer

        theirs, files = (
            SentenceTransformer(str(folders[name]), device="cpu"),
            [pictures / f"p{i:02}.png" for i in range(3)],
        )
        for reference in (f"st:{folders[name]}", str(folders[name]), f"st:{folders[name]}@image"):
            encoder = load_encoder(reference)
            wanted = theirs.encode(TEXTS, convert_to_tensor=True, normalize_embeddings=True).cpu()
            assert torch.allclose(encoder.encode_text(TEXTS), wanted, atol=1e-5)
            opened = [Image.open(file).convert("RGB") for file in files]
            wanted = theirs.encode(opened, convert_to_tensor=True, normalize_embeddings=True).cpu()
            assert torch.allclose(encoder.encode_image(files, batch_size=2), wanted, atol=1e-5)
            assert (encoder.embed_dim, encoder.items, encoder.context) == (12, "images", 24)
            halved = load_encoder(reference, device="cpu", precision="bf16")
            assert ((halved.encode_image(files) * encoder.encode_image(files)).sum(1) > 0.99).all()

    def test_the_same_space_as_the_model_that_it_wraps(self, folders, zoo, pictures):
        wrapped, plain = load_encoder(f"st:{folders['new']}"), load_encoder(f"hf:{zoo('hf_clip_dir')}")
        assert torch.allclose(wrapped.encode_text(TEXTS), plain.encode_text(TEXTS), atol=1e-5)
        assert torch.allclose(
            wrapped.encode_image(pictures / "p01.png"), plain.encode_image(pictures / "p01.png"), atol=1e-5
        )
        assert wrapped.read_texts([" ".join(TEXTS * 20)])[1] == 1  # cut, and counted
        wrapped.model.prompts, wrapped.model.default_prompt_name = {"long": " ".join(TEXTS * 20)}, "long"
        assert wrapped.read_texts(TEXTS[:1])[1] == 1  # since a prompt is put before it

    def test_a_relative_place_is_found_from_elsewhere(self, folders, monkeypatch, tmp_path):
        """With its sense too; a place may have an @ of its own."""
        home = shutil.copytree(folders["new"], tmp_path / "a@b" / "model").parent
        monkeypatch.chdir(home)
        encoder = load_encoder("st:model@image")
        monkeypatch.chdir(tmp_path)
        assert load_encoder(encoder.name).fingerprint == encoder.fingerprint
        assert encoder.name == f"st:{home.resolve() / 'model'}@image"

    def test_a_run_is_trained_and_asked(self, folders, recipe, pictures, tmp_path):
        from close.runs.pipeline import load
        from close.training.train import train

        run = train(recipe({"epochs": 1, "save_strategy": "no"}, encoder=f"st:{folders['new']}"), tmp_path / "run")
        outputs = load(run)([pictures / "p00.png", tmp_path / "gone.png"], num_beams=1)
        assert outputs[0].error is None
        assert "gone.png" in str(outputs[1].error)

    def test_sound(self, zoo, tmp_path):
        library = pytest.importorskip("sentence_transformers", reason="the st extra is not installed")
        from sentence_transformers.base.modules import Transformer

        library.SentenceTransformer(modules=[Transformer(str(zoo("hf_clap_dir")))], device="cpu").save_pretrained(
            str(tmp_path / "clap")
        )
        encoder = load_encoder(f"st:{tmp_path / 'clap'}")
        assert encoder.items == "recordings"
        with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(48000)
            file.writeframes((8000 * np.sin(np.arange(24000) / 20)).astype("<i2").tobytes())
        vectors = encoder.encode_image([tmp_path / "tone.wav"])
        assert vectors.shape == (1, encoder.embed_dim)
        assert torch.allclose(
            vectors, load_encoder(f"hf:{zoo('hf_clap_dir')}").encode_image([tmp_path / "tone.wav"]), atol=1e-4
        )
        for precision in ("bf16", "fp16"):  # what auto takes on a GPU; its `encode` hands on float32
            halved = load_encoder(f"st:{tmp_path / 'clap'}", device="cpu", precision=precision)
            assert (halved.encode_image([tmp_path / "tone.wav"]) * vectors).sum() > 0.999
            assert ((halved.encode_text(TEXTS) * encoder.encode_text(TEXTS)).sum(1) > 0.99).all()

    @pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
    def test_long_recordings_are_heard_as_by_the_model_itself(self, zoo, tmp_path, caplog, truncation):
        """Its extractor draws a part of them at random."""
        library = pytest.importorskip("sentence_transformers", reason="the st extra is not installed")
        from sentence_transformers.base.modules import Transformer
        from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

        folder = shutil.copytree(zoo("hf_clap_dir"), tmp_path / "hf")
        if truncation == "fusion":
            config = ClapConfig.from_pretrained(folder)
            config.audio_config.enable_fusion = True
            config.audio_config.spec_size = config.audio_config.num_mel_bins = 64
            ClapModel(config).eval().save_pretrained(folder)
            settings = {"truncation": "fusion", "feature_size": 64, "hop_length": 160, "fft_window_size": 512}
            ClapFeatureExtractor.from_pretrained(folder, **settings).save_pretrained(folder)
        library.SentenceTransformer(modules=[Transformer(str(folder))], device="cpu").save_pretrained(
            str(tmp_path / "st")
        )
        files = [tiny.sound(tmp_path / f"{i}.wav", i, seconds=3, rate=8_000) for i in range(3)]
        theirs, own = load_encoder(f"hf:{folder}"), load_encoder(f"st:{tmp_path / 'st'}")
        one, two = own.encode_image(files), torch.cat([own.encode_image([file]) for file in files])
        assert torch.allclose(one, two, atol=1e-6)
        assert torch.allclose(one, theirs.encode_image(files), atol=1e-4)
        own.encode_image(np.zeros(8_000, np.float32))
        assert "is silent" in caplog.text

    def test_what_is_none(self, folders, zoo, tmp_path):
        with pytest.raises(CloseError, match=r"sense of .* 'audio'.*known: image"):
            load_encoder(f"st:{folders['new']}@audio")
        with pytest.raises(WeightsError, match="sentence-transformers can't load"):
            load_encoder(f"st:{tmp_path}")
        damaged = shutil.copytree(folders["new"], tmp_path / "damaged")
        weights = load_file(damaged / "model.safetensors")
        weights.pop(next(name for name in weights if "text_projection" in name))
        save_file(weights, damaged / "model.safetensors", {"format": "pt"})
        with pytest.raises(WeightsError, match=r"1 weights are missing, 'text_projection.weight'"):
            load_encoder(f"st:{damaged}")
        with pytest.raises(DataError, match="non-empty"):
            load_encoder(f"st:{folders['new']}").encode_text([" "])
