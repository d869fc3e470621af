"""The model: an embedding, adapted and projected to a prefix, in front of a language model."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

from close.adapters import GapAdapter, build_adapter
from close.data.rows import Modality
from close.errors import MismatchError, RecipeError, UnknownNameError, WeightsError
from close.fast.search import Search, find_texts, planned
from close.io.hub import run_folder
from close.io.plain import read_plain
from close.io.pretrained import loading, refuse_bad_weights, trusts_code
from close.io.tensors import check_shapes, stored_shapes
from close.model.configuration import CloseConfig
from close.model.language_models.base import IGNORED, token_rows
from close.model.language_models.kinds import language_model_kind
from close.model.limits import NOT_CHOSEN, check_config, check_generation
from close.model.parts import is_partial, load_parts, parts_of
from close.model.prefixes import Prefix, build_prefix, prefix_tokens
from close.model.sets import SET_INPUTS, Sets, adapted_sets, check_sets

__all__ = ["CloseModel"]

RESCORING = (
    "repetition_penalty",
    "sequence_bias",
    "exponential_decay_length_penalty",
    "guidance_scale",
    "watermarking_config",
    "renormalize_logits",
    "logits_processor",
)
"""Settings that change log-probabilities; others leave tokens out, or are sure of a forced one."""


class CloseModel(PreTrainedModel, GenerationMixin):
    """CLOSE (Gu, Clark, Kembhavi; ICCV 2023): train on text embeddings, run on image embeddings.

    The contrastive encoder is not part of the model: it takes embeddings, and `config.encoder` says whose. A checkpoint holds
    the adapter, the prefix and the language model.

    Args:
        config: the configuration.
        language_model: a loaded model of either kind; random weights of `config.language_model` without it.
    Attributes:
        kind: what the language model is, encoder–decoder or decoder-only (`close.model.language_models`).
        factors: what LoRA added to a language model that `config.base` names; nothing else of it is saved then.
        is_frozen: the language model is only read: without dropout, also in training (ClipCap's way).
    """

    config_class = CloseConfig
    base_model_prefix = ""
    main_input_name = "embeds"
    accepts_loss_kwargs = True
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = {"adapter"}  # noqa: RUF012

    def __init__(self, config: CloseConfig, language_model: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.kind = language_model_kind(config.language_model, config.template)
        self.language_model = language_model or self.kind.auto.from_config(
            config.language_model, trust_remote_code=trusts_code()
        )
        hidden = self.language_model.get_input_embeddings().embedding_dim
        self.prefix = build_prefix(config.prefix, config.embed_dim, hidden)
        self.adapter: GapAdapter = build_adapter(config.adapter, config.embed_dim)
        self.factors: dict[str, Tensor] = {}
        self.is_frozen = False
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The prefix starts as torch starts its layers (post_init would override that); the rest is loaded."""
        if isinstance(module, Prefix):
            module.reset_parameters()

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint: a folder, or ORG/NAME of the hub, with `revision` to stay with one state of it.

        Args:
            base_place: where the language model is now that the checkpoint names and does not hold, if elsewhere than then.
        Raises:
            MissingError, MismatchError: that language model is not there, or is another.
            RecipeError: that is said of one that holds its own.
            WeightsError: weights are missing, of another shape (transformers alone would only print that), or not finite.
        """
        wants_report, place = kwargs.pop("output_loading_info", False), kwargs.pop("base_place", None)
        revision = None if os.path.exists(folder) else kwargs.pop("revision", None)
        folder = run_folder(f"{folder}@{revision}" if revision else folder, marker="config.json")
        if os.path.isdir(folder) and is_partial(Path(folder)):
            parts = load_parts(cls, Path(folder), place)
            return (parts, {"missing_keys": set(), "unexpected_keys": set()}) if wants_report else parts
        if place is not None:
            raise RecipeError(
                f"{folder} holds its whole language model; another place for it is for runs that name theirs"
            )
        if os.path.isdir(folder):
            cls._check_files(Path(folder))
        with loading(f"{folder}: the model can't be loaded") as trust:
            kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True, "trust_remote_code": trust}
            model, report = super().from_pretrained(folder, *args, **kwargs)
        if os.path.isdir(folder):
            model.adapter.load_files(Path(folder))
        for kind in ("missing_keys", "mismatched_keys"):
            if key := min(map(str, report[kind]), default=None):
                raise WeightsError(f"{folder}: {len(report[kind])} {kind.replace('_keys', '')} weights, {key!r} first")
        refuse_bad_weights(model, f"{folder}")
        return (model, report) if wants_report else model

    @classmethod
    def _check_files(cls, folder: Path) -> None:
        """Look at what the files ask for before any memory is taken."""
        check_generation(folder)
        stored = stored_shapes(folder, "model.safetensors")
        check_config(read_plain(folder / "config.json"), len(stored), f"{folder / 'config.json'}")
        try:
            with loading(f"{folder}: the model can't be loaded"):
                check_shapes(lambda: cls(CloseConfig.from_pretrained(folder)), stored, f"{folder}")
        except (MismatchError, RecipeError, UnknownNameError) as error:
            raise WeightsError(f"{folder / 'config.json'}: {error}") from None

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint; an adapter that keeps files beside its tensors puts them there too.

        Raises:
            WeightsError: a weight is not finite.
        """
        advice = "nothing was saved; train anew with a lower training.learning_rate, or with training.precision=fp32"
        refuse_bad_weights(self, f"{save_directory}", state=kwargs.get("state_dict"), advice=advice)
        if self.config.base is not None:
            kwargs["state_dict"] = parts_of(self, kwargs.get("state_dict"))
        super().save_pretrained(save_directory, *args, **kwargs)
        self.adapter.save_files(Path(save_directory))
        for file in Path(save_directory).glob("*.safetensors"):  # whose writer lets nobody else read them
            shutil.copymode(Path(save_directory) / "config.json", file)

    def train(self, mode: bool = True) -> CloseModel:
        """As torch's; a frozen language model stays as it is in use, but for the checkpointing of its layers.

        A layer that reads its rate of dropout from its configuration, as Falcon's do (published with 0), keeps it then.
        """
        super().train(mode)
        if self.is_frozen:
            self.language_model.eval()
            for layer in self.language_model.modules():
                if mode and getattr(layer, "gradient_checkpointing", False):
                    layer.training = True  # which checkpointing asks for, and so does dropout
                    drops = [name for name, value in vars(layer).items() if "drop" in name and isinstance(value, float)]
                    layer.__dict__.update(dict.fromkeys(drops, 0.0))
        return self

    def get_input_embeddings(self) -> nn.Embedding:
        """The language model's token embeddings."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_encoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        """The language model's encoder."""
        return self.language_model.get_encoder()

    def get_decoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        """The language model's decoder."""
        return self.language_model.get_decoder()

    def context_room(self, answer: int) -> int:
        """Tokens that a context may have in front of an answer of so many.

        Raises:
            RecipeError: there is no room for any.
        """
        return self.kind.room(self.config.language_model, self.prefix.length_of(self.config.vectors), answer)

    def prompt(
        self,
        embeds: Tensor,
        modality: Modality,
        context_ids: Tensor | None = None,
        context_mask: Tensor | None = None,
        seeds: Tensor | None = None,
        embeds_mask: Tensor | None = None,
        neighbours: Tensor | None = None,
        neighbours_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What the language model reads: [prefix ; context], behind what its template begins with.

        Args:
            embeds: (B, D) unit rows of the encoder that `config.encoder` names; (B, k, D) of items of several vectors, the first
                the main one.
            modality: which side of the adapter they pass, "text" or "image".
            context_ids, context_mask: (B, L) token ids after the prefix, and which of them count (`close.runs.prompts.Prompter`
                makes them); without them, there is no context.
            seeds: (B,) int64 noise seeds (`close.adapters.row_seeds`); training only.
            embeds_mask, neighbours, neighbours_mask: see `close.model.sets.Sets`.
        Returns:
            (B, p + L, hidden) input embeddings and their (B, p + L) attention mask, p the prefix's tokens; decoder-only ones are
            padded on the left.
        Raises:
            MismatchError: embeds are not (B, D) or (B, k, D).
        """
        sets = Sets(embeds, embeds_mask, neighbours, neighbours_mask)
        check_sets(sets, self.config.embed_dim, self.config.encoder)
        weight = self.prefix.weight
        vectors, counts = adapted_sets(self.adapter, sets.to(weight.device), modality, seeds, self.config.retrieve)
        prompt, counts = prefix_tokens(self.prefix, vectors.to(weight.dtype), counts)
        around = self.kind.template
        if around.before:
            before = self.get_input_embeddings()(token_rows(around.before, prompt))
            prompt = torch.cat([before.to(prompt.dtype), prompt], dim=1)
        if context_ids is None and around.after:
            context_ids = token_rows(around.after, prompt)
        mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device)
        if counts is not None:
            mask[:, len(around.before) :] = counts
        if context_ids is None or not context_ids.shape[1]:
            return (prompt, mask) if counts is None else self.kind.arrange(prompt, mask)
        tokens = self.get_input_embeddings()(context_ids)
        prompt = torch.cat([prompt, tokens.to(prompt.dtype)], dim=1)
        mask = torch.cat([mask, torch.ones_like(context_ids) if context_mask is None else context_mask], dim=1)
        # an encoder's tokenizer has padded where it belongs: only what is missing of the prefix must be moved
        return self.kind.arrange(prompt, mask) if self.kind.pads_left or counts is not None else (prompt, mask)

    def forward(
        self,
        embeds: Tensor,
        modality: Modality = "text",
        context_ids: Tensor | None = None,
        context_mask: Tensor | None = None,
        labels: Tensor | None = None,
        seeds: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        label_smoothing: float = 0.0,
        decoder_input_ids: Tensor | None = None,
        embeds_mask: Tensor | None = None,
        neighbours: Tensor | None = None,
        neighbours_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """Logits, and the loss where there are labels.

        Args:
            embeds, modality, context_ids, context_mask, seeds, embeds_mask, neighbours, neighbours_mask: see `prompt`.
            labels: (B, T) target ids, −100 where they do not count.
            num_items_in_batch: target tokens of the whole optimizer step; the loss is the summed cross-entropy over it, so
                that accumulated gradients equal those of one big batch. Without it, the mean over these labels.
            label_smoothing: share of the target's probability that is spread over all tokens.
            decoder_input_ids: what the target has so far, instead of labels (an encoder–decoder's with its start token).
        """
        sets = {"embeds_mask": embeds_mask, "neighbours": neighbours, "neighbours_mask": neighbours_mask}
        prompt, mask = self.prompt(embeds, modality, context_ids, context_mask, seeds, **sets)
        output = self.kind.predict(self.language_model, prompt, mask, labels, decoder_input_ids, **kwargs)
        if labels is not None:
            total = F.cross_entropy(
                output.logits.flatten(0, 1).float(),
                labels.flatten(),
                ignore_index=IGNORED,
                reduction="sum",
                label_smoothing=label_smoothing,
            )
            output["loss"] = total / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
        return output

    @torch.no_grad()
    def generate(
        self,
        embeds: Tensor,
        modality: Modality = "image",
        context_ids: Tensor | None = None,
        context_mask: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generated ids: the language model's own `generate` behind the prompt, with all that it accepts.

        Greedy and beam search run in `close.fast.search` where it covers the model, sooner and with the same result; all else in
        transformers.

        Args:
            embeds, modality, context_ids, context_mask: see `prompt`.
            kwargs: settings of generation, and what else `prompt` takes.
        """
        prompt, mask = self.prompt(embeds, modality, context_ids, context_mask, **_sets(kwargs))
        kwargs = {key: value for key, value in kwargs.items() if key not in ("labels", "seeds")}
        config, kwargs, search = self._search(generation_config, kwargs, prompt.shape[1])
        if search:
            return find_texts(self.language_model, prompt, mask, search)[0]
        return self.language_model.generate(
            inputs_embeds=prompt, attention_mask=mask, generation_config=config, **kwargs
        )

    @torch.no_grad()
    def generate_scored(
        self,
        embeds: Tensor,
        modality: Modality = "image",
        context_ids: Tensor | None = None,
        context_mask: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """`generate`, and the (B,) scores of what it finds: mean log-probability of the tokens, whatever ranks or draws them."""
        sets = _sets(kwargs)
        prompt, mask = self.prompt(embeds, modality, context_ids, context_mask, **sets)
        config, others, search = self._search(generation_config, kwargs, prompt.shape[1])
        if search:
            return self._mean(*find_texts(self.language_model, prompt, mask, search), config)
        searched = not config.do_sample and (config.num_beams or 1) > 1
        by_logits = not searched or any(getattr(config, key, others.get(key)) is not None for key in RESCORING)
        kwargs |= {"return_dict_in_generate": True, "output_scores": searched, "output_logits": by_logits}
        output = self.generate(embeds, modality, context_ids, context_mask, generation_config, **sets, **kwargs)
        if not by_logits:
            return self._mean(output.sequences, output.sequences_scores, config)
        # of the logits themselves: what a temperature or a tree of answers made of them is how texts are drawn, not how likely
        beams = getattr(output, "beam_indices", None)
        steps = self.language_model.compute_transition_scores(
            output.sequences, output.logits, beams, normalize_logits=True
        )
        chosen = _chosen(output.sequences[:, self.kind.given :], config)[:, : steps.shape[1]]
        scores = (steps * chosen).nan_to_num(neginf=0.0).sum(1) / chosen.sum(1).clamp(min=1)
        ranks = output.sequences_scores if searched else scores
        return output.sequences, torch.where(ranks > NOT_CHOSEN, scores, ranks)

    def _mean(self, ids: Tensor, scores: Tensor, config: GenerationConfig) -> tuple[Tensor, Tensor]:
        """Ids, and mean log-probabilities from the sums over length ** length_penalty that beams rank by."""
        penalty = 1.0 if config.length_penalty is None else config.length_penalty
        if penalty == 1 or (config.num_beams or 1) == 1:
            return ids, scores
        lengths = _chosen(ids[:, self.kind.given :], config).sum(1).clamp(min=1)
        return ids, scores * lengths.to(scores.dtype) ** (penalty - 1)

    def _search(
        self, config: GenerationConfig | None, kwargs: dict[str, Any], length: int
    ) -> tuple[GenerationConfig, dict[str, Any], Search | None]:
        """The settings of a call, what is none, and the search that `close.fast.search` can do; None where transformers must."""
        merged = copy.deepcopy(config or self.generation_config)
        if config is not None:  # a chat's end is the run's, and not the language model's
            ends = ("eos_token_id", "pad_token_id")
            merged.update(**{key: getattr(self.generation_config, key) for key in ends if getattr(config, key) is None})
        rest = merged.update(**kwargs)
        if processors := self.kind.behind_vectors(merged):
            rest["logits_processor"] = [*processors, *(rest.get("logits_processor") or ())]
        self.check_places(length, merged.max_new_tokens or 0, "max_new_tokens is")
        return merged, rest, None if rest else planned(self.language_model, merged, length)

    def check_places(self, prompt: int, answer: int, what: str) -> None:
        """Refuse an answer of so many tokens behind a prompt of so many, where the language model has no places for both.

        Args:
            what: begins the message, in front of the answer's number.
        Raises:
            RecipeError: it has not.
        """
        places, whole = self.kind.positions(self.config.language_model, answer)
        if prompt > places:
            raise RecipeError(
                f"{what} {answer} behind a prompt of {prompt} tokens, and the language model has {whole} places"
            )


def _sets(kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """What a call says of its items' other vectors, taken out of its settings."""
    return {key: kwargs.pop(key) for key in SET_INPUTS if key in kwargs}


def _chosen(said: Tensor, config: GenerationConfig) -> Tensor:
    """Which of (B, T) tokens were chosen: all up to the end token, and no padding (which may be the same token)."""
    ends = torch.isin(
        said, torch.tensor([] if config.eos_token_id is None else config.eos_token_id, device=said.device)
    )
    return (ends.cumsum(1) - ends.long() == 0) & (ends | (said != config.pad_token_id))


AutoConfig.register("close", CloseConfig)
AutoModel.register(CloseConfig, CloseModel)
AutoModelForSeq2SeqLM.register(CloseConfig, CloseModel)
