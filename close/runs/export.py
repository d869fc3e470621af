"""A run as ONNX: the image's way to the prefix, the language model, and a few lines that run them without torch."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from close.encoders.openclip import OpenClipEncoder
from close.errors import CloseError, MissingError, OutputExistsError, RecipeError, WeightsError, reason
from close.fast.switch import turned_off
from close.io.files import whole, write_json
from close.model.prefixes import prefix_tokens
from close.runs import onnx_runner
from close.runs.pipeline import CloseCaptioner, load

__all__ = ["export_onnx"]

_CHANGES = (
    "no_repeat_ngram_size",
    "repetition_penalty",
    "min_length",
    "min_new_tokens",
    "bad_words_ids",
    "suppress_tokens",
)
"""Settings of generation that the runner does not know."""
_NEAR = 0.06
"""Difference of a pixel, in standard deviations: transformers' resizing rounds otherwise than Pillow's."""


class _Image(nn.Module):
    """Pixels → the prefix."""

    def __init__(self, captioner: CloseCaptioner, key: str) -> None:
        super().__init__()
        self.tower, self.encoder, self.key = captioner.encoder.model, captioner.encoder, key
        self.adapter, self.prefix = captioner.model.adapter, captioner.model.prefix

    def forward(self, pixels: Tensor) -> Tensor:
        embeds = F.normalize(self.encoder.image_tower({self.key: pixels}), dim=-1)
        return prefix_tokens(self.prefix, F.normalize(self.adapter.image(embeds), dim=-1))[0]


class _Encoder(nn.Module):
    """Prompt → what an encoder–decoder's encoder makes of it."""

    def __init__(self, language_model: Any) -> None:
        super().__init__()
        self.encoder = language_model.get_encoder()

    def forward(self, prompt: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(inputs_embeds=prompt).last_hidden_state
        return hidden


class _Decoder(nn.Module):
    """That, and what was said → logits of the next token."""

    def __init__(self, language_model: Any) -> None:
        super().__init__()
        self.model = language_model

    def forward(self, hidden: Tensor, ids: Tensor) -> Tensor:
        read = BaseModelOutput(last_hidden_state=hidden)
        logits: Tensor = self.model(encoder_outputs=read, decoder_input_ids=ids, use_cache=False).logits
        return logits[:, -1]


class _DecoderOnly(nn.Module):
    """Prompt and what was said, embedded → logits of the next token."""

    def __init__(self, language_model: Any) -> None:
        super().__init__()
        self.model = language_model

    def forward(self, prompt: Tensor) -> Tensor:
        logits: Tensor = self.model(inputs_embeds=prompt, use_cache=False).logits
        return logits[:, -1]


def export_onnx(
    run: str | Path,
    out: str | Path,
    *,
    pictures: Sequence[Any] = (),
    task: str | None = None,
    encoder: str | None = None,
    language_model: str | None = None,
) -> dict[str, Any]:
    """Write a run as ONNX graphs in float32, beside what runs them (`run.py`), and compare that with the run.

    Args:
        run: a run of pictures, as `load` takes it. out: a new folder. task: of several, which.
        pictures: on which both are asked, greedily, without those that can't be read; without any, eight of noise.
        encoder, language_model: where these are now, if elsewhere than when the run was trained.
    Returns:
        What `export.json` says: `same`, of how many `pictures`; `bytes` of the export and of torch's weights; `seconds` a picture
        of both, on this machine's CPU; `differ`, the first few texts that do; `unread`, why pictures were left out.
    Raises:
        OutputExistsError: `out` is there. MissingError: a package is not. WeightsError: a part of the run can't be exported.
        RecipeError: the run does what the few lines can't: retrieval, other inputs than one picture, answers from a closed set,
            rules of generation.
    """
    target = Path(out)
    if target.exists():
        raise OutputExistsError(f"{target} is there already; choose another output")
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise MissingError(f"{', '.join(missing)} not installed: pip install 'close-toolkit[onnx]'")
    places: dict[str, Any] = {
        "encoder": encoder,
        "language_model": language_model,
        "device": "cpu",
        "precision": "fp32",
    }
    with turned_off():  # packed layers are no torch operators that others know
        captioner = load(run, **places)
        settings = _settings(captioner.use_task(task or captioner.tasks[0]))
        shown, unread = _readable(captioner, pictures)
    with whole(target) as partial:
        partial.mkdir()
        try:
            _write_graphs(captioner, partial)
        except CloseError:
            raise
        except Exception as error:  # of torch's exporter, which meets whatever a model does
            raise WeightsError(f"{run}: can't be exported ({reason(error, whole=False)})") from None
        write_json(partial / "settings.json", settings)
        shutil.copyfile(onnx_runner.__file__, partial / "run.py")
        runner = onnx_runner.Captioner(partial)
        _check_pixels(captioner, runner)
        plain = load(run, **places).use_task(captioner.task.name)
        plain.without_confidence()  # it is of the run's own search, and not of a greedy one
        found = _compared(plain, runner, shown or _noise(8, 96))
        size = sum(file.stat().st_size for file in partial.iterdir() if file.suffix in (".onnx", ".data", ".npy"))
        weights = 4 * (captioner.encoder.weights + captioner.model.num_parameters())
        found = {"bytes": {"onnx": size, "torch": weights}, **found, "unread": unread}
        write_json(partial / "export.json", found)
    return found


def _readable(captioner: CloseCaptioner, pictures: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Pictures that can be read, and why others can't.

    Raises:
        CloseError: of the first, where none can.
    """
    found = [one if isinstance(one := captioner.encoder.opened(item), CloseError) else None for item in pictures]
    errors = [error for error in found if error]
    if errors and len(errors) == len(found):
        raise errors[0]
    return [item for item, error in zip(pictures, found, strict=True) if error is None], list(map(str, errors))


def _settings(captioner: CloseCaptioner) -> dict[str, Any]:
    """What the runner reads."""
    model, task = captioner.model, captioner.task
    kind, rules = model.kind, model.generation_config
    if model.config.retrieve is not None:
        raise RecipeError(f"{captioner.name} retrieves texts from a memory, which an export does not hold")
    if task.views > 1:
        raise RecipeError(f"task {task.name!r} takes {task.views} pictures an item, and an export takes one")
    if task.labels:
        raise RecipeError(
            f"task {task.name!r} answers with one of {len(task.labels)} labels, and an export writes freely"
        )
    if changed := [name for name in _CHANGES if getattr(rules, name, None) not in (None, 0, 1.0, [], False)]:
        raise RecipeError(f"{captioner.name}: generation's {changed[0]} is none that an export knows")
    end = rules.eos_token_id if isinstance(rules.eos_token_id, list) else [rules.eos_token_id]
    special = not kind.pads_left
    return {
        "picture": _steps(captioner.encoder),
        "asked": [task.prompt("\1", captioner.instructs), task.prompt("", captioner.instructs)],
        "room": captioner.prompter.max_length,
        "special": special,
        "before": list(kind.template.before),
        "between": list(kind.template.between),
        "after": list(kind.template.after),
        "start": [rules.decoder_start_token_id] if special else [],
        "first": getattr(rules, "forced_bos_token_id", None) if special else None,
        "end": end,
        "max_new_tokens": rules.max_new_tokens,
    }


def _steps(encoder: Any) -> list[list[Any]]:
    """How its library makes pixels of a picture.

    Raises:
        RecipeError: otherwise than the runner can.
    """
    found: list[list[Any]] = []
    if isinstance(encoder, OpenClipEncoder):
        for step in encoder.transform.transforms:
            name = type(step).__name__
            if name == "Resize":
                size = step.size if isinstance(step.size, int) else list(step.size)
                size = size[0] if isinstance(size, list) and len(size) == 1 else size
                found.append(["resize", {"size": size, "filter": int(Image.Resampling[step.interpolation.name])}])
            elif name == "CenterCrop":
                found.append(["crop", [int(side) for side in step.size]])
            elif name == "Normalize":
                found.append(["normalise", {"mean": list(map(float, step.mean)), "std": list(map(float, step.std))}])
        return found
    about = encoder.processor.to_dict() if hasattr(encoder, "processor") else {}
    if "image_mean" not in about:
        raise RecipeError(
            f"encoder {encoder.name}: only encoders of pictures are exported, of open_clip or transformers"
        )
    size, crop = about["size"], about.get("crop_size")
    if about.get("do_resize"):
        sides = size.get("shortest_edge") or [size["height"], size["width"]]
        found.append(["resize", {"size": sides, "filter": int(about["resample"])}])
    if about.get("do_center_crop") and crop:
        found.append(["crop", [crop["height"], crop["width"]]])
    return [*found, ["normalise", {"mean": list(about["image_mean"]), "std": list(about["image_std"])}]]


@torch.no_grad()
def _write_graphs(captioner: CloseCaptioner, folder: Path) -> None:
    from tokenizers import Tokenizer

    model, language_model = captioner.model.eval(), captioner.model.language_model
    language_model.set_attn_implementation("eager")
    inputs = captioner.encoder.prepare(_noise(1, 96)[0])
    if len(inputs) != 1:
        raise RecipeError(f"encoder {captioner.encoder.name}: only encoders that read pixels alone are exported")
    (key, pixels), hidden = *inputs.items(), model.get_input_embeddings().embedding_dim
    prompt, ids = torch.randn(1, 9, hidden), torch.ones(1, 5, dtype=torch.long)
    _write(_Image(captioner, key), {"pixels": pixels}, folder / "image.onnx", fixed=True)
    if model.kind.pads_left:
        _write(_DecoderOnly(language_model), {"prompt": prompt}, folder / "decoder.onnx")
    else:
        _write(_Encoder(language_model), {"prompt": prompt}, folder / "encoder.onnx")
        _write(_Decoder(language_model), {"hidden": prompt, "ids": ids}, folder / "decoder.onnx")
    table = model.get_input_embeddings()
    np.save(folder / "tokens.npy", table(torch.arange(table.num_embeddings)).numpy())
    tokenizer = Tokenizer.from_str(captioner.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))


def _write(module: nn.Module, inputs: dict[str, Tensor], file: Path, *, fixed: bool = False) -> None:
    """One graph of one row; the second axis of its inputs may be of any length, unless it is `fixed`."""
    module.eval()
    axes = None if fixed else tuple({1: torch.export.Dim.DYNAMIC} for _ in inputs)
    large = sum(value.numel() for value in module.state_dict().values()) > 4e8  # a file holds two gigabytes at most
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # its optimiser warns of what it leaves as it is
    given: dict[str, Any] = {"input_names": list(inputs), "dynamo": True, "external_data": large, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, tuple(inputs.values()), str(file), dynamic_shapes=axes, **given)


def _noise(count: int, size: int) -> list[Image.Image]:
    """Soft pictures of many colours."""
    rng = np.random.default_rng(0)
    rough = (Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)) for _ in range(count))
    return [one.resize((size + 17 * number, size), Image.Resampling.BICUBIC) for number, one in enumerate(rough)]


def _check_pixels(captioner: CloseCaptioner, runner: onnx_runner.Captioner) -> None:
    """The runner sees what the encoder sees.

    Raises:
        RecipeError: it does not.
    """
    deep = Image.fromarray(np.linspace(0, 60_000, 101 * 90).astype(np.uint16).reshape(101, 90))  # 16 bits
    for picture in [*_noise(3, 101), deep]:
        (theirs,) = captioner.encoder.prepare(captioner.encoder.open(picture)).values()
        ours = runner.pixels(picture)
        if ours.shape != tuple(theirs.shape) or np.abs(ours - theirs.numpy()).max() > _NEAR:
            raise RecipeError(f"encoder {captioner.encoder.name} prepares pictures otherwise than an export can")


def _compared(captioner: CloseCaptioner, runner: onnx_runner.Captioner, pictures: list[Any]) -> dict[str, Any]:
    """Greedy texts of both, and how long they take, a picture at a time; where the task asks something, that is asked."""
    asked = "what is it?" if captioner.task.asks else ""
    pairs, seconds = [], {"onnx": 0.0, "torch": 0.0}
    for picture in [pictures[0], *pictures]:  # the first twice: to warm up
        start = time.perf_counter()
        said = captioner(picture, asked, num_beams=1, decode="free").text
        between = time.perf_counter()
        pairs.append((said, runner(picture, asked)))
        end = time.perf_counter()
        if len(pairs) > 1:
            seconds["torch"] += between - start
            seconds["onnx"] += end - between
    differ = [{"torch": said, "onnx": ours} for said, ours in pairs[1:] if said != ours]
    count = len(pictures)
    each = {name: total / count for name, total in seconds.items()}
    return {"pictures": count, "same": count - len(differ), "seconds": each, "differ": differ[:5]}
