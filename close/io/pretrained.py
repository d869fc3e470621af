"""What others made (models, tokenizers, processors), loaded whole or not at all, and without running code of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, NoReturn

from close.errors import CloseError, WeightsError, reason

__all__ = ["load_tokenizer", "loading", "trusting", "trusts_code"]

_trusted = False
_ONE_AT_A_TIME = RLock()


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """A block in which files that are loaded may run code of their own: for who was asked, never for a recipe or a run."""
    global _trusted
    before, _trusted = _trusted, trust
    try:
        yield
    finally:
        _trusted = before


def trusts_code() -> bool:
    """What every `trust_remote_code` is to be."""
    return _trusted


@contextmanager
def loading(failure: str) -> Iterator[bool]:
    """A block that loads what others made; it is given what `trust_remote_code` has to be.

    Libraries pass that on from files (open_clip's `tokenizer_kwargs`), or ask on stdin where it is not given, and pipes answer.
    So the one door through which transformers runs a file is shut during the block.

    Args:
        failure: what a message begins with, such as "hf:X can't be loaded".
    Raises:
        WeightsError: the block raised an error that is not the product's own, or the files want to run code.
    """
    from transformers import dynamic_module_utils as dynamic

    wants_code = WeightsError(
        f"{failure}: its files want to run code of their own, which is never done unasked; if you have read that code and "
        "trust it, add --trust-remote-code"
    )

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise wants_code

    with _ONE_AT_A_TIME:
        door = dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE
        if not _trusted:
            dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE = refuse, 0  # 0: no question is asked
        try:
            yield _trusted
        except CloseError:
            raise
        except Exception as error:  # many kinds; each means that it can't be had
            if not _trusted and "trust_remote_code" in str(error):
                raise wants_code from None
            raise WeightsError(f"{failure}: {reason(error, whole=False)}") from None
        finally:
            dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE = door


def load_tokenizer(place: str, vocab_size: int) -> Any:
    """The tokenizer of a hub id or local directory.

    Where its files are missing, transformers makes up one that knows the special tokens only and maps every text to the same
    ids; that is refused.

    Args:
        vocab_size: number of the model's token embeddings.
    Raises:
        WeightsError: it can't be loaded, or its files are missing.
    """
    from transformers import AutoTokenizer

    with loading(f"{place}: the tokenizer can't be loaded") as trust:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust)
    if 2 * len(tokenizer) < vocab_size:
        raise WeightsError(
            f"{place}: the tokenizer knows {len(tokenizer)} tokens, the model {vocab_size}; tokenizer files are missing"
        )
    return tokenizer
