"""Encoders of open_clip: any architecture, CoCa towers included, from a tag, a checkpoint file or a local directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from close.encoders.base import ENCODERS, ContrastiveEncoder, check_ids, check_sizes
from close.encoders.checkpoints import readable
from close.encoders.pictures import open_picture
from close.errors import MissingError, WeightsError
from close.fast.trimming import text_lengths, trimmed_features, trims
from close.io.pretrained import loading, settings_sum
from close.registry import unknown_name

__all__ = ["OpenClipEncoder"]


@ENCODERS.register("open_clip")
class OpenClipEncoder(ContrastiveEncoder):
    """An open_clip model.

    Args:
        reference: `NAME/TAG`, `NAME@path/to/checkpoint`, `hf-hub:ORG/REPO`, or a directory with `open_clip_config.json`.
        name: what tables and runs store.
    Raises:
        UnknownNameError: no such architecture or tag; the nearest is told.
        MissingError: no such checkpoint or directory.
        WeightsError: the weights are missing or do not fit.
    """

    form = "open_clip:NAME/TAG, open_clip:NAME@CHECKPOINT"
    marker: ClassVar[str | None] = "open_clip_config.json"

    @classmethod
    def load(
        cls, reference: str, *, name: str, device: str | torch.device | None = None, precision: str = "auto"
    ) -> OpenClipEncoder:
        """From a tag, a checkpoint file or a local directory."""
        return OpenClipEncoder(reference, name=name, device=device, precision=precision)

    def __init__(
        self,
        reference: str,
        *,
        name: str,
        device: str | torch.device | None = None,
        precision: str = "auto",
    ) -> None:
        import open_clip

        if Path(reference).is_dir():
            check_sizes(Path(reference) / "open_clip_config.json")
        model_name, pretrained = _resolve(reference)
        with loading(f"open_clip can't load {reference!r}"), _weights(model_name, pretrained) as (weights, quick):
            model, self.transform = open_clip.create_model_from_pretrained(
                model_name, weights, device="cpu", force_quick_gelu=quick
            )
            self.tokenizer = open_clip.get_tokenizer(model_name)
            with torch.inference_mode():  # config keys differ between families
                self._embed_dim = model.encode_text(self.tokenizer(["a"])).shape[-1]
            super().__init__(name, model, device=device, precision=precision)
            self._trims = trims(model)
        self.context = getattr(self.tokenizer, "context_length", None)
        if Path(reference).is_dir() and reference in name:  # the package has some of its own, which never change
            config = open_clip.get_model_config(model_name)
            self.reading = f"{self.transform!r} {json.dumps(config, sort_keys=True)} {settings_sum(reference)}"
        if quick:  # the same weights and another activation: vectors of before must not be taken for these
            self.fingerprint = hashlib.sha256(f"{self.fingerprint} QuickGELU".encode()).hexdigest()[:32]

    @property
    def embed_dim(self) -> int:
        """Width D of the shared space."""
        return self._embed_dim

    def tokenize(self, texts: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Token ids (N, context), and lengths up to the pooled end token."""
        ids = self.tokenizer(list(texts))
        check_ids(ids, getattr(getattr(self.model, "text", self.model), "vocab_size", None), self.name)
        if not self._trims:
            return {"ids": ids}, torch.full((len(ids),), ids.shape[1])
        return {"ids": ids}, text_lengths(self.model, ids)

    def count_cut(self, texts: Sequence[str], inputs: dict[str, Tensor], lengths: Tensor) -> int:
        """Tokenises again, with room for one token more, what fills the context: what fits gains padding, and nothing else."""
        ids = inputs["ids"]
        context = ids.shape[1]
        filled = (
            (ids[:, -2:] != self.tokenizer(["a"])[:, -2:]).any(1).nonzero()[:, 0].tolist()
        )  # padding may be the end token
        if not filled:
            return 0
        wider, padding = (
            self.tokenizer(given, context_length=context + 1) for given in ([texts[i] for i in filled], ["a"])
        )
        return int(((wider[:, :-1] != ids[filled]).any(1) | (wider[:, -1] != padding[0, -1])).sum())

    def trim(self, inputs: dict[str, Tensor], length: int) -> dict[str, Tensor]:
        """Cut after the last end token, which changes nothing in a causal tower that pools there."""
        return {"ids": inputs["ids"][:, :length]} if self._trims else inputs

    def text_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) raw text features."""
        ids = inputs["ids"]
        return trimmed_features(self.model, ids, self.dtype) if self._trims else self.model.encode_text(ids)

    def open(self, item: Any) -> Any:
        """An RGB picture."""
        return open_picture(item)

    def prepare(self, item: Any) -> dict[str, Tensor]:
        """(1, 3, H, W) pixels, as the model's own transform makes them."""
        return {"pixels": self.transform(item)[None]}

    def image_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) raw image features."""
        return self.model.encode_image(inputs["pixels"])


@contextmanager
def _weights(model_name: str, pretrained: str | None) -> Iterator[tuple[str | None, bool]]:
    """What open_clip is to load, and whether with QuickGELU where the model's own name does not say so."""
    import open_clip

    if pretrained is not None and Path(pretrained).is_file():
        with readable(Path(pretrained)) as found:
            yield found
        return
    tag = open_clip.get_pretrained_cfg(model_name, pretrained) if pretrained else {}
    config = open_clip.get_model_config(model_name) or {} if pretrained else {}
    yield pretrained, bool(tag.get("quick_gelu")) and not config.get("quick_gelu")


def _resolve(reference: str) -> tuple[str, str | None]:
    """open_clip's own (model name, pretrained) of a reference, checked as far as that goes without loading."""
    import open_clip

    if reference.startswith(("hf-hub:", "local-dir:")):
        return reference, None
    if Path(reference).is_dir():
        return f"local-dir:{reference}", None
    if "@" in reference:
        name, path = reference.split("@", 1)
        if name not in open_clip.list_models():
            raise unknown_name("open_clip model", name, open_clip.list_models())
        if not Path(path).is_file():
            raise MissingError(f"open_clip checkpoint {path}: no such file")
        return name, path
    name, _, tag = reference.partition("/")
    if name not in open_clip.list_models():
        raise unknown_name("open_clip model", name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tag:
        raise WeightsError(
            f"open_clip:{name} names no weights: add a tag, open_clip:{name}/TAG (known: {', '.join(tags) or 'none'}), "
            f"or a checkpoint, open_clip:{name}@path/to/checkpoint"
        )
    if tag not in tags:
        raise unknown_name(f"weights of open_clip model {name}", tag, tags)
    return name, tag
