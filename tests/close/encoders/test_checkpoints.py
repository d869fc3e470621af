"""Checkpoint files as people have them: read by kind, or refused in one line that says the kind."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from close.encoders import load_encoder
from close.errors import WeightsError
from close.model.language_models.loading import load_language_model

TEXTS = tiny.sentences(5)
State = dict[str, Tensor]


def model_of(name: str) -> Any:
    import open_clip

    torch.manual_seed(0)
    return open_clip.create_model(name, pretrained=None, load_weights=False).eval()


@pytest.fixture(scope="module", autouse=True)
def _architectures(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two that differ in their activation only."""
    import open_clip

    folder = tmp_path_factory.mktemp("architectures")
    sizes = {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1}
    text = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    for name, quick in (("Tiny-CLIP", False), ("Tiny-CLIP-quickgelu", True)):
        config = {"embed_dim": 8, "quick_gelu": quick, "vision_cfg": sizes, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def plain() -> Any:
    return model_of("Tiny-CLIP")


def encoded(reference: str) -> Tensor:
    return load_encoder(reference, device="cpu").encode_text(TEXTS)


def library(model: Any) -> Tensor:
    import open_clip

    with torch.inference_mode():
        return model.encode_text(open_clip.get_tokenizer("Tiny-CLIP")(TEXTS), normalize=True)


def behind(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def whole_run(state: State) -> dict[str, Any]:
    return {"epoch": 3, "name": "x", "state_dict": behind("module.", state), "optimizer": {"state": {}, "groups": []}}


def traced(model: Any, path: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(1, 3, 16, 16), torch.zeros(1, 77, dtype=torch.long))
        torch.jit.trace(model, example, strict=False, check_trace=False).save(path)


KINDS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "training": whole_run,
    "half": lambda state: {key: value.half() for key, value in state.items()},
    "bfloat16": lambda state: {"model": {key: value.bfloat16() for key, value in state.items()}},
    "model": lambda state: {"model": state, "epoch": 1},
    "nested": lambda state: {"model": {"state_dict": behind("model.", state)}},
    "compiled": lambda state: behind("_orig_mod.module.", state),
    "besides": lambda state: state | {"step": 5, "note": "best"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["zip", "legacy"])
def test_kinds_that_are_read(plain, kind, format, tmp_path):
    torch.save(KINDS[kind](plain.state_dict()), tmp_path / "w.pt", _use_new_zipfile_serialization=format == "zip")
    near = 1e-4 if kind in ("half", "bfloat16") else 1e-6
    cosines = (encoded(f"open_clip:Tiny-CLIP@{tmp_path / 'w.pt'}") * library(plain)).sum(1)
    assert (cosines > 1 - near).all()


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_safetensors_under_any_name(plain, name, prefix, tmp_path):
    save_file(behind(prefix, plain.state_dict()), tmp_path / name)
    assert torch.allclose(encoded(f"open_clip:Tiny-CLIP@{tmp_path / name}"), library(plain), atol=1e-6)


def test_a_torchscript_archive(plain, tmp_path):
    traced(plain, tmp_path / "jit.pt")
    assert torch.allclose(encoded(f"open_clip:Tiny-CLIP@{tmp_path / 'jit.pt'}"), library(plain), atol=1e-6)


def test_an_archive_says_which_activation_it_was_trained_with(plain, tmp_path):
    """OpenAI's own files are of QuickGELU, whatever model is named; their vectors are not those of another activation."""
    quick = model_of("Tiny-CLIP-quickgelu")
    traced(quick, tmp_path / "jit.pt")
    for name in ("Tiny-CLIP", "Tiny-CLIP-quickgelu"):
        assert torch.allclose(encoded(f"open_clip:{name}@{tmp_path / 'jit.pt'}"), library(quick), atol=1e-6)
    torch.save(quick.state_dict(), tmp_path / "w.pt")
    other = load_encoder(f"open_clip:Tiny-CLIP@{tmp_path / 'w.pt'}", device="cpu")
    assert load_encoder(f"open_clip:Tiny-CLIP@{tmp_path / 'jit.pt'}", device="cpu").fingerprint != other.fingerprint


def test_a_tag_says_which_activation_it_was_trained_with(tmp_path, monkeypatch):
    import open_clip

    quick = model_of("Tiny-CLIP-quickgelu")
    torch.save(quick.state_dict(), tmp_path / "w.pt")
    tag = {"url": "", "hf_hub": "", "quick_gelu": True, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    for place in (open_clip, open_clip.factory):
        monkeypatch.setattr(place, "get_pretrained_cfg", lambda name, tag_: tag)
        monkeypatch.setattr(place, "list_pretrained_tags_by_model", lambda name: ["openai"])
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: str(tmp_path / "w.pt"))
    assert torch.allclose(encoded("open_clip:Tiny-CLIP/openai"), library(quick), atol=1e-6)


class Evil(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        print("it ran")
        self.weight = state[0]
        self.training = state[1]

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_an_archives_code_is_not_run(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Evil()).save(tmp_path / "jit.pt")
        torch.jit.load(tmp_path / "jit.pt")
    assert "it ran" in capfd.readouterr().out
    with pytest.raises(WeightsError, match="no weights in it"):
        load_encoder(f"open_clip:Tiny-CLIP@{tmp_path / 'jit.pt'}")
    assert "it ran" not in capfd.readouterr().out


class Marker:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


def test_whole_pickled_models_are_refused_with_what_to_do(plain, tmp_path):
    marker = tmp_path / "ran"
    for name, value in (("model", plain), ("code", {"state_dict": plain.state_dict(), "more": Marker(marker)})):
        torch.save(value, tmp_path / f"{name}.pt")
        with pytest.raises(WeightsError, match="a pickle of whole objects") as told:
            load_encoder(f"open_clip:Tiny-CLIP@{tmp_path / name}.pt")
        assert "torch.save(model.state_dict(), FILE)" in str(told.value)
        assert "\n" not in str(told.value)
        assert "weights_only" not in str(told.value)
    assert not marker.exists()


def test_whole_pickled_models_in_folders_are_refused(tiny_encoder, tiny_t5, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "open_clip")
    state = load_file(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    marker = tmp_path / "ran"
    torch.save(state | {"more": Marker(marker)}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(WeightsError, match="a pickle of whole objects"):
        load_encoder(str(folder))
    language = shutil.copytree(tiny_t5, tmp_path / "t5")
    state = load_file(language / "model.safetensors")
    (language / "model.safetensors").unlink()
    torch.save(state | {"more": Marker(marker)}, language / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="a pickle of whole objects"):
        load_language_model(str(language))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 350000000\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page"),
        (b"", "can't load"),
        (b"not a checkpoint at all", "not a file of weights"),
        (b"PK\x03\x04 cut off", "can't load"),
    ],
)
def test_files_of_other_kinds(content, words, tmp_path):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=words) as told:
        load_encoder(f"open_clip:Tiny-CLIP@{tmp_path / 'w.pt'}")
    assert "\n" not in str(told.value)
    assert "weights_only" not in str(told.value)


def test_values_without_weights(tmp_path):
    for value in ([1, 2], {"epoch": 3}, {"state_dict": {}}, torch.zeros(3)):
        torch.save(value, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match="no weights in it"):
            load_encoder(f"open_clip:Tiny-CLIP@{tmp_path / 'w.pt'}")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(plain, value, tmp_path):
    state = {key: tensor.clone() for key, tensor in plain.state_dict().items()}
    state["text_projection"][1, 1] = value
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="'text_projection' holds NaN or infinity"):
        load_encoder(f"open_clip:Tiny-CLIP@{tmp_path / 'w.pt'}")


@pytest.mark.parametrize(
    ("family", "file", "key"),
    [
        ("hf_clip_dir", "model.safetensors", "text_projection.weight"),
        ("hf_clap_dir", "model.safetensors", "audio_projection.linear1.bias"),
        ("t5_dir", "model.safetensors", "shared.weight"),
    ],
)
def test_folders_of_weights_that_are_not_finite_are_refused(zoo, family, file, key, tmp_path):
    folder = shutil.copytree(zoo(family), tmp_path / "f")
    state = load_file(folder / file)
    state[key].view(-1)[0] = float("nan")
    save_file(state, folder / file, {"format": "pt"})
    with pytest.raises(WeightsError, match=f"{key}' holds NaN"):
        (load_language_model if family == "t5_dir" else load_encoder)(str(folder))
