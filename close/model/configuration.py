"""What a run's `config.json` says."""

from __future__ import annotations

from typing import Any, Literal, get_args

from transformers import AutoConfig, PretrainedConfig

from close.adapters.base import WIDEST
from close.adapters.specs import refuse_endless
from close.errors import RecipeError

__all__ = ["MOST_VECTORS", "CloseConfig", "Several"]

MOST_VECTORS = 1024
"""Of one item; language models read a few hundred tokens."""
Several = Literal["mean", "set"]
"""What becomes of several images or sources of one row: the unit mean of their raw vectors, or a set."""


class CloseConfig(PretrainedConfig):
    """Configuration of a `CloseModel`.

    Args:
        encoder: reference of the contrastive encoder (`close.load_encoder`); its weights are not part of the model.
        encoder_fingerprint: of its weights.
        embed_dim: width D of its shared space.
        prefix: kind, length (number k of prefix tokens) and options of what makes the prefix, as a recipe names it.
        adapter: what crosses the gap, as a recipe names it.
        language_model: configuration of the language model, of either kind (or its dictionary).
        template: token ids around prefix, context and target, where the language model is decoder-only.
        base: `{reference, fingerprint}` of a language model whose weights are not part of the model; None where they are.
        several: what becomes of several images or sources of one row: their "mean", or a "set" of vectors.
        vectors: the most vectors that an item of the training put into the prefix; contexts leave room for them.
        retrieve: what is found for each item in a memory, and how, as a run's use needs it; None where nothing is.
        prefix_length: what older runs have instead: a linear prefix of this length.
    Raises:
        RecipeError: a value is none that a run has.
    """

    model_type = "close"
    sub_configs = {"language_model": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        encoder: str = "mini",
        encoder_fingerprint: str = "",
        embed_dim: int = 256,
        prefix: dict[str, Any] | None = None,
        adapter: Any = "none",
        language_model: PretrainedConfig | dict[str, Any] | None = None,
        base: dict[str, str] | None = None,
        prefix_length: int = 4,
        template: dict[str, Any] | None = None,
        several: str = "mean",
        vectors: int = 1,
        retrieve: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(embed_dim, int) or isinstance(embed_dim, bool) or not 1 <= embed_dim <= WIDEST:
            raise RecipeError(f"embed_dim is a whole number from 1 to {WIDEST}, not {embed_dim!r}")
        if not isinstance(encoder, str) or not isinstance(encoder_fingerprint, str):
            raise RecipeError(f"encoder and encoder_fingerprint are texts, not {encoder!r} and {encoder_fingerprint!r}")
        if several not in get_args(Several) or not isinstance(vectors, int) or not 1 <= vectors <= MOST_VECTORS:
            raise RecipeError(
                f"several is one of {', '.join(get_args(Several))}, and vectors a whole number from 1 to {MOST_VECTORS}, "
                f"not {several!r} and {vectors!r}"
            )
        if retrieve is not None and not isinstance(retrieve, dict):
            raise RecipeError(f"retrieve is a mapping, not {retrieve!r}")
        refuse_endless(adapter)
        self.encoder = encoder
        self.encoder_fingerprint = encoder_fingerprint
        self.embed_dim = embed_dim
        self.prefix: Any = {"kind": "linear", "length": prefix_length} if prefix is None else prefix
        self.adapter = adapter
        self.base = base
        given = AutoConfig.for_model(**language_model) if isinstance(language_model, dict) else language_model
        self.language_model = given or AutoConfig.for_model("t5")
        self.template = template
        self.several, self.vectors, self.retrieve = several, vectors, retrieve
        kwargs.setdefault("is_encoder_decoder", self.language_model.is_encoder_decoder)
        # None would reset the language model's too, and a loaded one that loses its own loses its causal mask
        kwargs.setdefault("attn_implementation", {})
        for name in ("pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id"):
            kwargs.setdefault(name, getattr(self.language_model, name, None))
        super().__init__(**kwargs)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PretrainedConfig:
        """The language model's configuration, which generation reads."""
        return self.language_model
