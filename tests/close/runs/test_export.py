"""A run as ONNX says what the run says, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

import close
from close.encoders import load_encoder
from close.errors import OutputExistsError, RecipeError
from close.runs import onnx_runner
from close.runs.export import _settings, _steps, export_onnx
from close.runs.recipe import Recipe
from close.training.train import train

ONNX = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the onnx extra is not installed",
)
_ALONE = """
import sys
from run import Captioner
print(*map(Captioner("."), sys.argv[1:]), sep="\\n")
assert not {"torch", "transformers", "close"} & set(sys.modules)
"""


@ONNX
def test_says_what_the_run_says_without_torch(run, pictures, cli, tmp_path):
    out = tmp_path / "onnx"
    ran = cli("export", run, out, "--pictures", pictures, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["same"], found["pictures"], found["differ"]) == (12, 12, [])
    assert json.loads((out / "export.json").read_text())["same"] == 12
    assert found["bytes"]["onnx"] == sum(
        path.stat().st_size for path in out.iterdir() if path.suffix in (".onnx", ".npy")
    )
    assert min(found["seconds"].values()) > 0
    files = sorted(pictures.glob("*.png"))
    alone = [sys.executable, "-c", _ALONE, *map(str, files)]
    said = subprocess.run(alone, cwd=out, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    assert said == [output.text for output in close.load(run)(files, num_beams=1)]
    (out / "broken.jpg").write_bytes(b"none")
    several = [sys.executable, "run.py", str(files[0]), "broken.jpg", "gone.jpg", str(files[1])]
    ran = subprocess.run(several, cwd=out, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout.splitlines()) == (
        1,
        [f"{file}\t{line}" for file, line in zip(files[:2], said[:2], strict=True)],
    )
    assert [line.split(" (")[0] for line in ran.stderr.splitlines()] == [
        "error: broken.jpg: can't be read",
        "error: gone.jpg: can't be read",
    ]
    runner, captioner = onnx_runner.Captioner(out), close.load(run)
    end = captioner.tokenizer.convert_tokens_to_ids(said[0].split()[-1])
    runner.settings["end"] = [end]  # a token that is no special one
    assert runner(files[0]) == captioner(files[0], num_beams=1, eos_token_id=end).text != said[0]
    with pytest.raises(OutputExistsError):
        export_onnx(run, out)


@ONNX
def test_a_picture_that_cannot_be_read_is_named_and_the_others_compared(run, pictures, cli, tmp_path):
    some = tmp_path / "some"
    some.mkdir()
    (some / "broken.jpg").write_bytes(b"none")
    ran = cli("export", run, tmp_path / "none", "--pictures", some)
    assert (ran.code, "broken.jpg" in ran.err, (tmp_path / "none").exists()) == (1, True, False)
    shutil.copy(min(pictures.glob("*.png")), some)
    ran = cli("export", run, tmp_path / "onnx", "--pictures", some, "--json")
    assert (ran.code, "1 pictures could not be read" in ran.err, "broken.jpg" in ran.err) == (1, True, True)
    found = json.loads(ran.out)
    assert (found["pictures"], found["same"], len(found["unread"])) == (1, 1, 1)
    assert (tmp_path / "onnx" / "run.py").is_file()


@ONNX
@pytest.mark.parametrize(
    "name", ["gpt2_dir", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3_dir", "bart_dir"))]
)
def test_other_language_models_and_a_question(zoo, tiny_encoder, pictures, tmp_path, name):
    rows = [{"source": text, "context": "what colour?", "target": text.split()[1]} for text in tiny.sentences(16)]
    values: dict[str, Any] = {
        "task": "vqa",
        "data": {"train": str(tiny.write_jsonl(tmp_path / "vqa.jsonl", rows))},
        "encoder": str(tiny_encoder),
        "language_model": str(zoo(name)),
        "training": {"epochs": 20, "batch_size": 8, "learning_rate": 1e-2, "save_strategy": "no"},
    }
    made = train(Recipe.model_validate(values), tmp_path / "run")
    found = export_onnx(made, tmp_path / "onnx", pictures=sorted(pictures.glob("*.png")))
    assert found["same"] == 12
    runner, captioner = onnx_runner.Captioner(tmp_path / "onnx"), close.load(made)
    for file in sorted(pictures.glob("*.png")):
        for question in ("what colour?", "what thing " * 60):
            assert runner(file, question) == captioner(file, question, num_beams=1).text


def test_sixteen_bits_are_the_encoders(tiny_encoder, tmp_path):
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    runner = SimpleNamespace(settings={"picture": _steps(encoder)})
    for name, values in (
        ("ramp", np.linspace(0, 60_000, 16 * 20).astype(np.uint16).reshape(16, 20)),
        ("twelve", np.linspace(0, 4095, 16 * 20).astype(np.uint16).reshape(16, 20)),
        ("dark", np.linspace(0, 200, 16 * 20).astype(np.uint16).reshape(16, 20)),
    ):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        (theirs,) = encoder.prepare(encoder.open(tmp_path / f"{name}.png")).values()
        ours = onnx_runner.Captioner.pixels(runner, tmp_path / f"{name}.png")
        np.testing.assert_allclose(ours, theirs.numpy(), atol=0.02)


@pytest.mark.parametrize("name", ["open_clip_dir", "hf_clip_dir", "hf_siglip_dir"])
@pytest.mark.parametrize("size", [(16, 16), (61, 33), (33, 61), (200, 17), (15, 40)])
def test_pixels_are_the_encoders(zoo, tmp_path, name, size):
    encoder = load_encoder(str(zoo(name)), device="cpu")
    rough = np.random.default_rng(size[0]).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
    picture.save(tmp_path / "p.png")
    runner = onnx_runner.Captioner.__new__(onnx_runner.Captioner)
    runner.settings = {"picture": _steps(encoder)}
    (theirs,) = encoder.prepare(encoder.open(tmp_path / "p.png")).values()
    ours = runner.pixels(tmp_path / "p.png")
    exact = name == "open_clip_dir"  # transformers resizes by torchvision, which rounds otherwise than Pillow
    assert np.abs(ours - theirs.numpy()).max() <= (1e-6 if exact else 0.06)


def test_what_can_not_be_exported_is_told(zoo, run, tmp_path, told, monkeypatch):
    with pytest.raises(RecipeError, match="only encoders of pictures"):
        _steps(SimpleNamespace(name="ears"))
    for task, why in (("entailment", "one of 3 labels"), ("nlvr2", "2 pictures an item")):
        with pytest.raises(RecipeError, match=why):
            _settings(close.load(run).use_task(task))
    monkeypatch.setattr("close.runs.export.find_spec", lambda name: None)
    assert "pip install 'close-toolkit[onnx]'" in told("export", run, tmp_path / "out", "--onnx")
    assert not Path(tmp_path / "out").exists()
