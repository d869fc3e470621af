"""Pictures, checkpoints and folders of encoders, damaged: read, or refused in one line."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from fuzzing import INPUTS, Tried, as_json, damaged, reshaped
from PIL import Image
from safetensors.torch import save_file

from close.encoders import load_encoder
from close.encoders.checkpoints import readable
from close.encoders.pictures import open_picture
from close.errors import CloseError
from close.io.media import picture_formats
from close.io.pretrained import loading

pytestmark = pytest.mark.filterwarnings("ignore")
WRITTEN = (
    "AVIF",
    "BMP",
    "DDS",
    "DIB",
    "GIF",
    "ICNS",
    "ICO",
    "IM",
    "JPEG",
    "JPEG2000",
    "MSP",
    "PCX",
    "PNG",
    "PPM",
    "QOI",
)
WRITTEN += ("SGI", "SPIDER", "TGA", "TIFF", "WEBP", "XBM")


def test_fuzzed_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Tried):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    formats = [name for name in WRITTEN if name in picture_formats() and name in Image.SAVE]
    assert len(formats) > 12
    for number, name in enumerate(formats):
        out = io.BytesIO()
        given = picture.convert({"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(name, "RGB"))
        given.resize((16, 16) if name in ("ICO", "ICNS") else given.size).save(out, name)
        for content in damaged(out.getvalue(), max(10, INPUTS // len(formats)), seed=number):
            (tmp_path / "x").write_bytes(content)
            found = tried(lambda: open_picture(tmp_path / "x"))
            assert isinstance(found, CloseError) or (found.mode == "RGB" and np.asarray(found).dtype == np.uint8)


def test_fuzzed_checkpoints(tmp_path: Path, tried: Tried):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    path = tmp_path / "w.pt"
    writers: list[Any] = [
        lambda: torch.save({"model": model.state_dict()}, path),
        lambda: torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False),
        lambda: save_file(model.state_dict(), path),
        lambda: torch.jit.trace(model, torch.zeros(1, 3)).save(path),
    ]

    def read() -> None:
        with loading("it can't be read"), readable(path):
            pass

    for number, write in enumerate(writers):
        write()
        for content in damaged(path.read_bytes(), INPUTS // 4, seed=number):
            path.write_bytes(content)
            tried(read)


@pytest.mark.parametrize("family", ["open_clip_dir", "hf_clip_dir"])
def test_fuzzed_folders_of_encoders(family: str, zoo: Any, tmp_path: Path, tried: Tried):
    folder = shutil.copytree(zoo(family), tmp_path / "e")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    count = max(2, INPUTS // (8 * len(files)))
    for number, path in enumerate(files):
        whole = path.read_bytes()
        given = list(damaged(whole, count, seed=number))
        given += map(as_json, reshaped(json.loads(whole), count, seed=number)) if path.suffix == ".json" else []
        for content in given:
            path.write_bytes(content)
            found = tried(lambda: load_encoder(str(folder), device="cpu").encode_text(tiny.sentences(2)))
            assert isinstance(found, CloseError) or found.isfinite().all()
        path.write_bytes(whole)
