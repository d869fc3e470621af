"""Several texts for one vector: distinct ones, the likeliest first, or those first that the encoder finds nearest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from close.encoders import ContrastiveEncoder
from close.errors import RecipeError, shown
from close.model.limits import NOT_CHOSEN, SETTINGS
from close.registry import unknown_name
from close.runs.outputs import Candidate

__all__ = [
    "Rerank",
    "by_cosine",
    "check_candidates",
    "check_search",
    "closed_set",
    "distinct",
    "labels_sum",
    "search_width",
    "texts_sum",
    "with_cosines",
]

Rerank = Literal["clip"]
"""What orders candidates, if not their likelihood."""
RERANKED = 5
"""Candidates that are ranked where nobody says how many."""
DRAWS = 4
"""How often samples are drawn at most for an item that has too few distinct ones."""
DRAWING = ("temperature", "top_p", "top_k", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings that say how a text is drawn."""
VALUES: dict[str, tuple[type[int] | type[float], float, float]] = {
    **{key: (int, 1, SETTINGS[key]) for key in ("num_beams", "max_new_tokens")},
    **{key: (int, 0, SETTINGS[key]) for key in ("min_new_tokens", "min_length")},
    "no_repeat_ngram_size": (int, 0, SETTINGS["max_new_tokens"]),
    "top_k": (int, 0, 2**31),
    "length_penalty": (float, -10, 10),
    "repetition_penalty": (float, 0.01, 100),
    "temperature": (float, 0.001, 100),
    **dict.fromkeys(("top_p", "min_p"), (float, 0, 1)),
    **dict.fromkeys(("top_h", "typical_p"), (float, 0.001, 1)),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff"), (float, 0, 0.999)),
}
"""Settings that are numbers, and from where to where: beyond, transformers takes many and heeds none of them."""
NEEDS_TOKENS = "it needs a prompt of tokens, and a prompt is vectors: leave it out"
UNHEEDED: dict[str, tuple[float | None, str]] = {
    "max_length": (None, "a prompt and a text have lengths of their own: give max_new_tokens"),
    **dict.fromkeys(("encoder_repetition_penalty", "guidance_scale"), (1.0, NEEDS_TOKENS)),
    "encoder_no_repeat_ngram_size": (0, NEEDS_TOKENS),
    "diversity_penalty": (0.0, "there are no groups of beams: leave it out"),
}
"""Settings that change nothing, or end in a message about something else; the value by which each asks for nothing, and why."""


def check_candidates(n: int | None, rerank: Rerank | None, generation: dict[str, Any]) -> int | None:
    """How many candidates are asked for, by either name; None where nobody asks, 5 where they are ranked all the same.

    `num_return_sequences` leaves the settings.

    Raises:
        RecipeError: no number from 1 to 100, or two. UnknownNameError: no such way to rank.
    """
    same = generation.pop("num_return_sequences", None)
    if n is not None and same is not None and n != same:
        raise RecipeError(f"n is {n!r} and num_return_sequences {same!r}: they mean the same, give one of them")
    n = same if n is None else n
    if n is not None and (
        isinstance(n, bool) or not isinstance(n, Integral) or not 1 <= int(n) <= SETTINGS["num_beams"]
    ):
        raise RecipeError(f"n is the number of candidates, from 1 to {SETTINGS['num_beams']}, not {n!r}")
    if rerank is not None and rerank not in get_args(Rerank):
        raise unknown_name("ranking", str(rerank), get_args(Rerank))
    return int(n) if n else (RERANKED if rerank else None)


def closed_set(labels: Sequence[str]) -> list[str]:
    """Answers that may be given, each once: of one that is listed twice, both would share its probability.

    Raises:
        RecipeError: they are no texts, or one is empty.
    """
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise RecipeError(f"labels are a list of texts, not {shown(labels)}")
    if any(not label.strip() for label in labels):
        raise RecipeError("one of the labels is empty, and nothing is no answer; leave it out")
    return list(dict.fromkeys(labels))


def labels_sum(labels: Sequence[str]) -> str:
    """A sum of a closed set of answers, whose order decides nothing.

    Raises:
        RecipeError: see `closed_set`.
    """
    return texts_sum(sorted(closed_set(labels)))


def texts_sum(texts: Sequence[str]) -> str:
    """A sum of texts in their order."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def check_search(config: Any, generation: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Refuse settings that would change nothing (of drawing, where nothing is drawn; of beams, where there is one), or are none.

    Args:
        config: the run's generation settings. generation: those that were given. n: candidates that are asked for.
    Returns:
        Those that were given, their numbers as Python's own, which is all that transformers takes.
    Raises:
        RecipeError: there is one; it is named. Or settings come in an object, not by their names.
    """
    given = {key: _plain(key, value) for key, value in generation.items() if value is not None}
    if "generation_config" in given:
        raise RecipeError("give settings of generation by their names (num_beams=4, …), not in a generation_config")
    settings = {key: given.get(key) for key in generation if key not in UNHEEDED}
    longest = given.get("max_new_tokens", config.max_new_tokens)
    for key in ("min_new_tokens", "min_length"):
        if longest is not None and given.get(key, 0) > longest:
            raise RecipeError(
                f"{key} is {given[key]}, and max_new_tokens {longest}: no text is as long; lower the first or raise the second"
            )
    samples, beams = search_width(config, settings, n)
    if not samples and (lonely := [key for key in given if key in DRAWING]):
        raise RecipeError(
            f"{lonely[0]} says how a text is drawn, and it is searched for: draw (--sample, in Python do_sample=True), or leave "
            "it out"
        )
    if beams == 1 and "length_penalty" in given:
        raise RecipeError(
            "length_penalty ranks beams, and there is one: give more (--num-beams, in Python num_beams=), or leave it out"
        )
    return settings


def _plain(key: str, value: Any) -> Any:
    """The value of a setting, a number as Python's own; refuses one that no text is made with."""
    value = value.item() if isinstance(value, np.generic) else value
    if key in UNHEEDED and value != UNHEEDED[key][0]:
        raise RecipeError(f"{key} is not heeded here: {UNHEEDED[key][1]}")
    if key == "do_sample" and not isinstance(value, bool):
        raise RecipeError(f"do_sample is True or False, not {value!r}")
    if key not in VALUES:
        return value
    kind, low, high = VALUES[key]
    numbers: Any = Integral if kind is int else Real
    if isinstance(value, bool) or not isinstance(value, numbers) or not low <= value <= high:
        what = "a whole number" if kind is int else "a number"
        raise RecipeError(f"{key} is {what} from {low} to {high}, not {value!r}")
    return kind(value)


def search_width(config: Any, generation: Mapping[str, Any], n: int) -> tuple[bool, Any]:
    """Whether texts are drawn, and the beams that find `n` candidates: so many at least, but for draws without a search.

    Args:
        config: the run's generation settings. generation: those that were given.
    """
    samples = bool(generation.get("do_sample", config.do_sample))
    beams = generation.get("num_beams", config.num_beams) or 1
    widened = n > 1 and isinstance(beams, (int, np.integer)) and beams < n and (beams > 1 or not samples)
    return samples, n if widened else beams


def distinct(
    find: Callable[[Sequence[int], int], Sequence[Sequence[tuple[str, float]]]], inputs: int, n: int, *, again: bool
) -> list[tuple[Candidate, ...]]:
    """Up to `n` distinct candidates of every input; of texts found several times the likeliest way counts.

    Args:
        find: texts and scores of each of these inputs, as a search ranks them, told how often it was asked before. again: it
            draws, and others when asked again; these come likeliest first.
    """
    found: list[dict[str, float]] = [{} for _ in range(inputs)]
    lacking: Sequence[int] = range(inputs)
    for attempt in range(DRAWS if again else 1):
        for row, several in zip(lacking, find(lacking, attempt), strict=True):
            for text, score in several:
                if not found[row] or score > max(NOT_CHOSEN, found[row].get(text, NOT_CHOSEN)):
                    found[row][text] = score
        lacking = [row for row in lacking if len(found[row]) < n]
        if not lacking:
            break
    kept = ([Candidate(*one) for one in list(texts.items())[:n]] for texts in found)
    return [tuple(sorted(several, key=lambda one: one.score, reverse=True) if again else several) for several in kept]


def by_cosine(candidates: Sequence[Sequence[Candidate]]) -> list[tuple[Candidate, ...]]:
    """Candidates by the cosine of their own text vector with the item's, highest first; an empty text comes last.

    MacCap's re-ranking: Qiu, Ning, He (AAAI 2024), "Mining Fine-Grained Image-Text Alignment for Zero-Shot Captioning via
    Text-Only Training".

    Args:
        candidates: of B items, with their cosines.
    """
    ranked = (
        sorted(several, key=lambda one: -2.0 if one.cosine is None else one.cosine, reverse=True)
        for several in candidates
    )
    return [tuple(several) for several in ranked]


def with_cosines(
    candidates: Sequence[Sequence[Candidate]], embeds: Tensor, encoder: ContrastiveEncoder
) -> list[tuple[Candidate, ...]]:
    """Candidates with the cosines of their own text vectors with the item's.

    Args:
        candidates: of B items. embeds: (B, D) unit vectors of the items. encoder: theirs.
    """
    texts = dict.fromkeys(one.text for several in candidates for one in several if one.text)
    place = {text: index for index, text in enumerate(texts)}
    vectors = encoder.encode_text(list(texts)) if texts else embeds[:0]
    found = []
    for several, embed in zip(candidates, embeds.float().cpu(), strict=True):
        cosines = [float(vectors[place[one.text]] @ embed) if one.text else None for one in several]
        found.append(tuple(one._replace(cosine=cosine) for one, cosine in zip(several, cosines, strict=True)))
    return found
