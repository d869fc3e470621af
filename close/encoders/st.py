"""Encoders of sentence-transformers: models that take texts and pictures, recordings or films through one `encode`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from close.encoders.base import ENCODERS, ContrastiveEncoder, check_sizes, of_parts
from close.encoders.devices import exact_convolutions
from close.encoders.films import frame_of_film
from close.encoders.pictures import open_picture
from close.encoders.sounds import SOUND_SUFFIXES, heard, heard_parts, numpy_seeded
from close.errors import MissingError, WeightsError, counted
from close.io.media import FILMS
from close.io.parts import FRAMES
from close.io.pretrained import hub_options, loading, settings_sum
from close.registry import unknown_name

__all__ = ["SentenceTransformersEncoder"]

_SENSES = ("image", "audio", "video")


@ENCODERS.register("st")
class SentenceTransformersEncoder(ContrastiveEncoder):
    """A multimodal model of sentence-transformers (from 6 on), asked by its own `encode`, prompts and pooling included.

    Its second tower is that of pictures, or else of recordings, or else of films; `st:NAME@audio` says which. A film is seen
    by eight frames at even distances; a recording longer than the model's window is the mean of windows.

    Args:
        model: the loaded `SentenceTransformer`. sense: "image", "audio" or "video".
    """

    form = "st:NAME, st:NAME@audio"
    marker = "modules.json"

    @classmethod
    def load(
        cls, reference: str, *, name: str, device: str | torch.device | None = None, precision: str = "auto"
    ) -> SentenceTransformersEncoder:
        """From a hub id or a local directory.

        Raises:
            MissingError: sentence-transformers is not installed. UnknownNameError: it has no such sense.
            WeightsError: the model can't be loaded, weights are missing, or it takes texts alone.
        """
        head, at, sense = reference.rpartition("@")
        place, sense = (head, sense) if at and not Path(reference).is_dir() else (reference, "")
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingError(
                f"encoder st:{reference} needs the package sentence-transformers (pip install 'close-toolkit[st]')"
            ) from None
        for config in Path(place).glob("**/config.json") if Path(place).is_dir() else ():
            check_sizes(config)
        with loading(f"sentence-transformers can't load {place!r}", place) as trust:
            model = SentenceTransformer(
                place,
                device="cpu",
                trust_remote_code=trust,
                model_kwargs={"dtype": torch.float32},
                **hub_options(place),
            )
            _refuse_made_up(model, place)
            senses = [one for one in _SENSES if model.supports(one)]
        if not senses or not model.supports("text"):
            raise WeightsError(
                f"{place}: it takes {', '.join(map(str, model.modalities))}; an encoder takes texts and another sense"
            )
        if sense and sense not in senses:
            raise unknown_name(f"sense of {place}", sense, senses)
        with loading(f"sentence-transformers can't load {place!r}", place):
            encoder = cls(name, model, sense or senses[0], device=device, precision=precision)
            if Path(place).is_dir():
                encoder.reading += settings_sum(place, "**/*")
            encoder.embed_dim = encoder.text_features(["a"]).shape[1]
        return encoder

    embed_dim = 0

    def __init__(self, name: str, model: Any, sense: str, *, device: str | torch.device | None, precision: str) -> None:
        super().__init__(name, model, device=device, precision=precision)
        if self.dtype != torch.float32:  # its `encode` leaves inputs in float32, and not all models cast them
            self.model[0].register_forward_pre_hook(partial(_cast, self.dtype))
        self.sense, self.context = sense, model.max_seq_length
        self.items = {"image": "images", "audio": "recordings", "video": "films"}[sense]
        self.reading = "windows" if sense == "audio" else ""  # earlier versions drew a part of a long recording

    @property
    def item_suffixes(self) -> tuple[str, ...]:
        """How names of the files end that its second tower takes."""
        return {"image": super().item_suffixes, "audio": SOUND_SUFFIXES, "video": FILMS}[self.sense]

    def read_texts(self, texts: Sequence[str], batch_size: int = 256) -> tuple[Tensor, int]:
        """(N, D) raw features, and how many of the texts are longer than the context and were cut."""
        self.check_texts(texts)
        batch_size, cut, tokenizer = counted(batch_size, "batch_size"), 0, self.model.tokenizer
        if self.context and callable(tokenizer):
            prompt = self.model.prompts.get(self.model.default_prompt_name) or ""  # `encode` puts it before each
            prompted = [prompt + text for text in texts]
            cut = sum(len(ids) > self.context for ids in tokenizer(prompted, verbose=False)["input_ids"])
        return self._encoded(list(texts), batch_size), cut

    def open(self, item: Any) -> Any:
        """A picture, the samples of a recording, or the frames of a film."""
        if self.sense == "image":
            return open_picture(item)
        if self.sense == "audio":
            return heard(item, int(self._extractor.sampling_rate), self.tell_once)
        frames = (
            item
            if isinstance(item, (list, tuple))
            else [frame_of_film(Path(item), i + 1, FRAMES) for i in range(FRAMES)]
        )
        return np.stack([np.asarray(open_picture(frame)) for frame in frames])

    def prepare(self, item: Any) -> Any:
        """The opened item itself, or the windows of a recording: `encode` has its own way of preparing many."""
        if self.sense != "audio":
            return {"parts": [item]}
        rate = int(self._extractor.sampling_rate)
        return {"parts": [{"array": part, "sampling_rate": rate} for part in heard_parts(item, self._extractor)]}

    @property
    def _extractor(self) -> Any:
        return self.model.processor.feature_extractor

    def tokenize(self, texts: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """The model's own inputs, and lengths in characters."""
        return self.model.preprocess(list(texts)), torch.tensor([len(text) for text in texts])

    def text_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) features."""
        features: Tensor = self.model(inputs)["sentence_embedding"]
        return features

    def image_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) features."""
        return self.text_tower(inputs)

    def _features_of(self, prepared: list[Any], batch_size: int) -> Tensor:
        parts = [part for one in prepared for part in one["parts"]]
        features = self._encoded(parts, batch_size) if not self._draws else torch.cat([*map(self._drawn, parts)])
        return of_parts(features, [len(one["parts"]) for one in prepared])

    @property
    def _draws(self) -> bool:
        """Whether what it hears of a recording is drawn at random, which has to be the same each time."""
        return self.sense == "audio" and getattr(self._extractor, "truncation", None) == "fusion"

    def _drawn(self, part: Any) -> Tensor:
        with numpy_seeded(0):
            return self._encoded([part], 1)

    @torch.inference_mode()
    def _encoded(self, items: list[Any], batch_size: int) -> Tensor:
        quiet: Any = {"convert_to_tensor": True, "show_progress_bar": False, "normalize_embeddings": False}
        with exact_convolutions(self.device, self.dtype):
            found: Tensor = self.model.encode(items, batch_size=batch_size, **quiet)
        return found.float().cpu().clone()


def _cast(dtype: torch.dtype, module: Any, inputs: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """What goes into a model's first module, its numbers in the model's dtype."""
    features, *rest = inputs
    cast = {
        key: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in features.items()
    }
    return cast, *rest


def _refuse_made_up(model: Any, place: str) -> None:
    """Weights that a file lacks are drawn at random, and only told in a log: they are looked for once more."""
    inner = model.transformers_model
    if inner is None:
        return
    folder = inner.config._name_or_path
    _, report = type(inner).from_pretrained(folder, output_loading_info=True, **hub_options(folder))
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(f"{place}: {len(missing)} weights are missing, {missing[0]!r} first; the file is not whole")
