"""Says what an exported run says of pictures: `python run.py photo.jpg …`. Needs numpy, onnxruntime, tokenizers and Pillow alone.

A copy of this file lies beside every export. The search is greedy, and the whole text is read again for each token.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps


class Captioner:
    """An exported run.

    Args:
        folder: of the export. threads: of onnxruntime; as many as there are cores without it.
    """

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        with suppress(ImportError):  # photos of phones, where that is installed
            import pillow_heif

            pillow_heif.register_heif_opener()
        place, options = Path(folder), onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self.settings: dict[str, Any] = json.loads((place / "settings.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        self.tokens = np.load(place / "tokens.npy", mmap_mode="r")
        self.graphs = {
            file.stem: onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            for file in sorted(place.glob("*.onnx"))
        }

    def __call__(self, picture: Any, context: str = "") -> str:
        """The text of a file's name or a PIL image; `context` is what the run's task asks."""
        says, given = self.settings, self._embed(self.settings["before"])
        prompt = np.concatenate(
            [given, self._run("image", pixels=self.pixels(picture)), self._context(context)], axis=1
        )
        if "encoder" in self.graphs:
            prompt = self._run("encoder", prompt=prompt)
        said: list[int] = list(says["start"])
        for step in range(says["max_new_tokens"]):
            if "encoder" in self.graphs:
                logits = self._run("decoder", hidden=prompt, ids=np.array([said], dtype=np.int64))
            else:
                logits = self._run("decoder", prompt=np.concatenate([prompt, self._embed(said)], axis=1))
            token = says["first"] if step == 0 and says["first"] is not None else int(logits[0].argmax())
            if token in says["end"]:
                break
            said.append(token)
        return str(self.tokenizer.decode(said[len(says["start"]) :], skip_special_tokens=True)).strip()

    def pixels(self, picture: Any) -> Any:
        """(1, 3, H, W) float32, as the encoder's own library makes them."""
        image = _rgb(ImageOps.exif_transpose(picture if isinstance(picture, Image.Image) else Image.open(picture)))
        for kind, value in self.settings["picture"]:
            if kind == "resize":
                image = image.resize(_size(image.size, value["size"]), value["filter"])
            elif kind == "crop":
                height, width = value
                left, top = (round((have - want) / 2.0) for have, want in zip(image.size, (width, height), strict=True))
                image = image.crop((left, top, left + width, top + height))
            else:
                mean, std = (np.array(value[name], dtype=np.float32) for name in ("mean", "std"))
                array = (np.asarray(image, dtype=np.float32) / 255 - mean) / std
        return np.ascontiguousarray(array.transpose(2, 0, 1)[None], dtype=np.float32)

    def _context(self, text: str) -> Any:
        """Embedded: cut to its room, with what follows it."""
        says = self.settings
        asked, empty = says["asked"]
        text = asked.replace("\1", text) if text else empty
        ids = self.tokenizer.encode(text, add_special_tokens=says["special"]).ids if text else []
        if len(ids) > says["room"]:
            kept = says["room"] - (1 if says["special"] else 0)
            ids = ids[:kept] + (ids[-1:] if says["special"] else [])
        return self._embed(ids + (says["between"] if ids else []) + says["after"])

    def _embed(self, ids: list[int]) -> Any:
        return np.asarray(self.tokens[np.array(ids, dtype=np.int64)], dtype=np.float32)[None]

    def _run(self, graph: str, **inputs: Any) -> Any:
        return self.graphs[graph].run(None, inputs)[0]


def _rgb(picture: Any) -> Any:
    """Eight bits a colour; numbers beyond, which `convert` would clip, by what their range seems to be.

    As the encoders' pictures are read; this file stands alone in an export, which is checked against them when it is made.
    """
    if picture.mode != "F" and not picture.mode.startswith("I"):
        return picture.convert("RGB")
    values = np.asarray(picture)
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    low, high = (float(pick(numbers, where=finite, initial=0.0)) for pick in (np.min, np.max))
    bits = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
    tops = (1.0, *bits) if values.dtype.kind == "f" else bits
    if low < 0 or high > tops[-1]:
        low, top = float(numbers[finite].min()), float(numbers[finite].max())
    else:
        low, top = 0.0, next(top for top in tops if high <= top)
    scaled = (np.where(finite, numbers, low) - low) * (255 / ((top - low) or 1))
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8)).convert("RGB")


def _size(have: tuple[int, int], wanted: Any) -> tuple[int, int]:
    """(width, height): of a number, the shorter side's."""
    if isinstance(wanted, list):
        return wanted[1], wanted[0]
    short, long = min(have), max(have)
    other = int(wanted * long / short)
    return (wanted, other) if have[0] <= have[1] else (other, wanted)


def main() -> int:
    """A line a picture; how many could not be read."""
    parser = argparse.ArgumentParser(description="Say what the exported run says of each picture.")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--context", default="", help="question, hypothesis or article, for a task that has one")
    given = parser.parse_args()
    captioner, failed = Captioner(Path(__file__).parent), 0
    for name in given.pictures:
        try:
            picture = Image.open(name)
            picture.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            print(f"error: {name}: can't be read ({getattr(error, 'strerror', None) or error})", file=sys.stderr)
            failed += 1
            continue
        said = captioner(picture, given.context)
        print(said if len(given.pictures) == 1 else f"{name}\t{said}")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
