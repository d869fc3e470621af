"""Every word the mini world writes, and the word-level tokenizers made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from close.mini import language, scene
from close.mini.sound import language as sound_language

__all__ = ["save_encoder_tokenizer", "save_language_model_tokenizer", "sound_words", "words"]

_INSTRUCTIONS = (
    "caption question context answer premise hypothesis image picture describe label entailment neutral contradiction task "
    "relation true false maybe unknown describes text style write short : . , ? ! ; ' - ( )"
)
_QUESTIONS = (
    "what color colour is the are there how many big size where which shape shapes thing things ground can you see in picture "
    "does it have any both or yes no none nothing 0 1 2 3 4 5 zero one two three four five center centre floor corner"
)
_HYPOTHESES = (
    "not heavy light old new expensive cheap warm cold soft hard made paper glass plastic metal was drawn painted by child "
    "artist for sale somebody touched yesterday today colored lies stands located on"
)


def words() -> list[str]:
    """All words and marks of the drawn world's captions, questions, answers, hypotheses, labels and instructions, sorted."""
    texts: list[str] = [
        _INSTRUCTIONS,
        _QUESTIONS,
        _HYPOTHESES,
        " ".join(scene.COLOURS),
        " ".join(scene.SIZES),
        " ".join(scene.PLACES),
    ]
    texts += [" ".join(names) for names in language.WORDS.values()]
    texts += [" ".join(phrases) for phrases in language.GROUND_PHRASES.values()]
    texts += [*language.UNSEEN, *language.OPENINGS, *language.JOINTS, "a an the on at in corner"]
    return _sorted(texts)


def sound_words() -> list[str]:
    """All words and marks of the sound world's captions and of instructions, sorted."""
    told = (sound_language.WORDS, sound_language.BACKGROUND_PHRASES)
    texts = [_INSTRUCTIONS, "sound hear what which how many is are first last before after"]
    texts += [" ".join(phrases) for phrases_of in told for phrases in phrases_of.values()]
    texts += [*sound_language.OPENINGS, *sound_language.JOINTS, *sound_language.THEN]
    return _sorted([*texts, *sound_language.TIME_PHRASES.values(), "a an the"])


def _sorted(texts: Iterable[str]) -> list[str]:
    return sorted({token for text in texts for token in re.findall(r"\w+|[^\w\s]", text.lower())})


def save_language_model_tokenizer(folder: Path, words: Iterable[str]) -> int:
    """Write T5's tokenizer (pad 0, end 1, unknown 2; "</s>" closes every text) and return the vocabulary's size."""
    return _save(folder, ["<pad>", "</s>", "<unk>", *words], pad="<pad>", end="</s>", unknown="<unk>")


def save_encoder_tokenizer(folder: Path, length: int, words: Iterable[str]) -> int:
    """Write the encoder's tokenizer (start … end) and return the vocabulary's size.

    The end token has the largest id, because open_clip's CLIP takes a text's vector where the id is largest.
    """
    special = {"pad": "<pad>", "unknown": "<unk>", "start": "<start>", "end": "<end>"}
    return _save(folder, ["<pad>", "<unk>", "<start>", *words, "<end>"], length=length, **special)


def _save(
    folder: Path,
    tokens: Iterable[str],
    *,
    pad: str,
    end: str,
    unknown: str,
    start: str | None = None,
    length: int = 512,
) -> int:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: index for index, token in enumerate(tokens)}
    core = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # joins words, and marks to the word before
    opening = [start] if start else []
    core.post_processor = processors.TemplateProcessing(
        single=[*opening, "$A", end],
        pair=[*opening, "$A", "$B", end],
        special_tokens=[(t, ids[t]) for t in [*opening, end]],
    )
    named = {"bos_token": start} if start else {}
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=pad, eos_token=end, unk_token=unknown, model_max_length=length, **named
    ).save_pretrained(folder)
    return len(ids)
