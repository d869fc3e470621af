"""Encoders of transformers: CLIP, SigLIP, SigLIP 2, and CLAP, whose second modality is audio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from close.encoders.base import ENCODERS, ContrastiveEncoder, check_ids, check_sizes
from close.encoders.pictures import open_picture
from close.encoders.sounds import SOUND_SUFFIXES, heard, heard_parts, numpy_seeded
from close.errors import WeightsError
from close.fast.switch import is_allowed
from close.io.pretrained import hub_options, load_tokenizer, loading, settings_sum

__all__ = ["ClapEncoder", "TransformersEncoder"]


@ENCODERS.register("hf")
class TransformersEncoder(ContrastiveEncoder):
    """A two-tower model of transformers with `get_text_features` and `get_image_features`: CLIP, SigLIP, SigLIP 2 and alike.

    Args:
        reference: hub id or local directory.
        model: the loaded model.
    Raises:
        WeightsError: its tokenizer or image processor can't be loaded.
    """

    form = "hf:ORG/MODEL"
    marker = "config.json"

    @classmethod
    def load(
        cls, reference: str, *, name: str, device: str | torch.device | None = None, precision: str = "auto"
    ) -> TransformersEncoder:
        """From a hub id or a local directory; a model with an audio tower is a `ClapEncoder`.

        Raises:
            WeightsError: the model can't be loaded, weights are missing, or it is no two-tower model.
        """
        from transformers import AutoModel

        if Path(reference).is_dir():
            check_sizes(Path(reference) / "config.json")
        with loading(f"transformers can't load {reference!r}", reference) as trust:
            settings: dict[str, Any] = {
                "output_loading_info": True,
                "trust_remote_code": trust,
                **hub_options(reference),
            }
            model, report = AutoModel.from_pretrained(reference, dtype=torch.float32, **settings)
        missing = sorted(report["missing_keys"])
        if missing:
            raise WeightsError(
                f"{reference}: {len(missing)} weights are missing, {missing[0]!r} first; the file is not whole"
            )
        audio = hasattr(model, "get_audio_features")
        if not hasattr(model, "get_text_features") or not (audio or hasattr(model, "get_image_features")):
            raise WeightsError(f"{reference}: {type(model).__name__} is no contrastive encoder (CLIP, SigLIP, CLAP, …)")
        kind = ClapEncoder if audio else TransformersEncoder
        with loading(f"transformers can't load {reference!r}", reference):
            encoder = kind(reference, model, name=name, device=device, precision=precision)
            encoder.text_features(["a"])  # sizes that do not fit together show here, and not in the middle of a job
        return encoder

    def __init__(
        self, reference: str, model: Any, *, name: str, device: str | torch.device | None, precision: str
    ) -> None:
        super().__init__(name, model, device=device, precision=precision)
        config = model.config.text_config
        self.tokenizer = load_tokenizer(reference, config.vocab_size)
        self.processor = self._load_processor(reference)
        if Path(reference).is_dir():
            settings = [part.to_dict() | {"_name_or_path": None} for part in (self.processor, model.config)]
            self.reading = json.dumps([*settings, settings_sum(reference)], sort_keys=True, default=str)
        self.context: int = min(int(config.max_position_embeddings), int(self.tokenizer.model_max_length))
        # SigLIP's towers were trained at their full context, and read the padding; all others have a mask.
        self._pads_to_longest = not model.config.model_type.startswith("siglip")
        # CLIP's tower is causal and pools at the end token, so padding beyond the longest text changes nothing, to the last bit.
        self._trims = model.config.model_type in ("clip", "clap")

    def _load_processor(self, reference: str) -> Any:
        return _load_part("AutoImageProcessor", reference)

    @property
    def embed_dim(self) -> int:
        """Width D of the shared space."""
        config, text = self.model.config, self.model.config.text_config
        widths = (getattr(config, "projection_dim", None), getattr(text, "projection_size", None), text.hidden_size)
        return next(int(width) for width in widths if width)

    def tokenize(self, texts: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Token ids and, where the tower reads it, the attention mask; lengths in tokens."""
        batch = self.tokenizer(
            list(texts),
            padding="longest" if self._pads_to_longest else "max_length",
            max_length=self.context,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        check_ids(batch["input_ids"], self.model.config.text_config.vocab_size, self.name)
        lengths = batch["attention_mask"].sum(-1)
        kept = ("input_ids", "attention_mask") if self._pads_to_longest else ("input_ids",)
        return {key: batch[key] for key in kept}, lengths

    def count_cut(self, texts: Sequence[str], inputs: dict[str, Tensor], lengths: Tensor) -> int:
        """Tokenises again, with room for one token more, what fills the context."""
        filled = (lengths >= self.context).nonzero()[:, 0].tolist()
        longer = (
            self.tokenizer([texts[i] for i in filled], max_length=self.context + 1, truncation=True) if filled else {}
        )
        return sum(len(found) > self.context for found in longer.get("input_ids", []))

    def trim(self, inputs: dict[str, Tensor], length: int) -> dict[str, Tensor]:
        """Cut the padding that no text of the batch needs, where the tower does not read it."""
        return {key: value[:, :length] for key, value in inputs.items()} if self._trims and is_allowed() else inputs

    def text_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) text features."""
        return _pooled(self.model.get_text_features(**inputs))

    def open(self, item: Any) -> Any:
        """An RGB picture."""
        return open_picture(item)

    def prepare(self, item: Any) -> dict[str, Tensor]:
        """What the model's own processor makes of the picture."""
        return dict(self.processor(images=item, return_tensors="pt"))

    def image_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) image features."""
        return _pooled(self.model.get_image_features(**inputs))


class ClapEncoder(TransformersEncoder):
    """CLAP: text and audio in one space. What other encoders call an image is a recording here.

    `encode_image` takes what `open_sound` does. A recording longer than the model's window (10 seconds of LAION's) is cut into
    windows, whose unit vectors are averaged; a model that was trained on long ones (`truncation: fusion`) takes them whole.
    """

    items = "recordings"
    item_suffixes = SOUND_SUFFIXES

    def _load_processor(self, reference: str) -> Any:
        return _load_part("AutoFeatureExtractor", reference)

    def open(self, item: Any) -> Any:
        """(samples,) float32 mono at the model's sampling rate."""
        return heard(item, int(self.processor.sampling_rate), self.tell_once)

    def prepare(self, item: Any) -> dict[str, Tensor]:
        """Mel features of each window, as the model's own extractor makes them; of a recording, always the same."""
        extract, rate = self.processor, int(self.processor.sampling_rate)
        with numpy_seeded(0):
            made = [extract(part, sampling_rate=rate, return_tensors="pt") for part in heard_parts(item, extract)]
        return {key: torch.cat([torch.as_tensor(one[key]) for one in made]) for key in ("input_features", "is_longer")}

    def image_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) audio features."""
        return _pooled(self.model.get_audio_features(**inputs))


def _load_part(loader: str, reference: str) -> Any:
    import transformers

    with loading(f"{reference}: {loader} can't be loaded", reference) as trust:
        return getattr(transformers, loader).from_pretrained(
            reference, trust_remote_code=trust, **hub_options(reference)
        )


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output
