"""What others made (models, tokenizers, processors), loaded whole or not at all, and without running code of theirs."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import RLock
from traceback import extract_tb
from typing import Any, NoReturn

from close.errors import CloseError, WeightsError, reason

__all__ = [
    "hub_options",
    "load_tokenizer",
    "loading",
    "refuse_bad_weights",
    "settings_sum",
    "trusting",
    "trusts_code",
    "why_unreachable",
]

SECONDS = 5
"""How long the hub may take to answer the one question whether it is there."""

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


@cache
def why_unreachable(place: str) -> str | None:
    """Why the hub can't be asked for `place` now; None where it can, or where `place` is a directory.

    One quick attempt: left to themselves, libraries try every file again and again, for more than a minute.
    """
    if os.path.isdir(place):
        return None
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        get_hf_file_metadata(hf_hub_url(place, "config.json"), timeout=SECONDS)
    except (
        HfHubHTTPError,
        HFValidationError,
    ):  # it answered, or is not to be asked: the libraries say the rest at once
        return None
    except Exception as error:  # of whatever library carries the request; each means that there was no answer
        return reason(error, whole=False)
    return None


def hub_options(place: str) -> dict[str, Any]:
    """What `from_pretrained` is told beside a hub id or directory: only this machine's cache, where the hub is out of reach."""
    return {"local_files_only": True} if why_unreachable(place) else {}


@contextmanager
def loading(failure: str, place: str = "") -> Iterator[bool]:
    """A block that loads what others made; it is given what `trust_remote_code` has to be.

    Libraries pass that on from files (open_clip's `tokenizer_kwargs`), or ask on stdin where it is not given, and pipes answer.
    So the one door through which transformers runs a file is shut during the block.

    Args:
        failure: what a message begins with, such as "hf:X can't be loaded". place: the hub id or directory that is read.
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
        except BaseException as error:  # many kinds, panics of Rust among them; each means that it can't be had
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            if not _trusted and "trust_remote_code" in str(error):
                raise wants_code from None
            away = why_unreachable(place) if place and isinstance(error, OSError) else None
            why = f"no such directory, nothing of it in this machine's cache, and the hub can't be reached ({away})"
            said = why if away else _in_a_pickle(error) or reason(error, whole=False)
            if own := _own_place(error):
                raise WeightsError(
                    f"{failure}: {type(error).__name__}: {said} ({own}; if its files are whole, this is a bug of ours: "
                    "please report it)"
                ) from error
            raise WeightsError(f"{failure}: {said}") from None
        finally:
            dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE = door


def _own_place(error: BaseException) -> str | None:
    """File and line of this package, where it is its own code that failed, rather than a library's."""
    frames = extract_tb(error.__traceback__)
    package = Path(__file__).parents[1]
    own = bool(frames) and package in Path(frames[-1].filename).parents
    return f"{Path(frames[-1].filename).relative_to(package.parent).as_posix()}:{frames[-1].lineno}" if own else None


def _in_a_pickle(error: BaseException | None) -> str | None:
    """What is to be said instead of torch's advice, which is to trust the file; None where it gives none."""
    while error is not None:
        if "weights_only" in (text := str(error)):
            found = re.search(r"GLOBAL ([\w.]+)", text)
            return (
                f"a pickle of whole objects ({found[1]}), which could run any code; where it was made, save the "
                "weights alone: torch.save(model.state_dict(), FILE), or as safetensors"
                if found
                else "not a file of weights, or a damaged one"
            )
        error = error.__cause__ or error.__context__
    return None


def refuse_bad_weights(
    model: Any,
    what: str,
    *,
    state: Mapping[str, Any] | None = None,
    advice: str = "get the file again, or another checkpoint",
) -> None:
    """Name the first weight that is not finite; of what is no weight (a mask may be infinite), the first with NaN.

    Args:
        model: a `torch.nn.Module`. what: it is, for the message. state: its weights by name, where it holds only a part of them.
    Raises:
        WeightsError: there is one; `advice` says what to do.
    """
    weights = dict(model.named_parameters())
    for name, value in (state or model.state_dict()).items():
        if value.is_floating_point() and not (value.isfinite() if name in weights else ~value.isnan()).all():
            raise WeightsError(f"{what}: {name!r} holds NaN or infinity; {advice}")


def load_tokenizer(place: str, vocab_size: int) -> Any:
    """The tokenizer of a hub id or local directory.

    Where its files are missing, transformers makes up one that knows the special tokens only and maps every text to the same
    ids; that is refused.

    Args:
        vocab_size: number of the model's token embeddings.
    Raises:
        WeightsError: it can't be loaded, its files are missing, or it is another model's.
    """
    from transformers import AutoTokenizer

    with loading(f"{place}: the tokenizer can't be loaded", place) as trust:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust, **hub_options(place))
    if 2 * len(tokenizer) < vocab_size:
        raise WeightsError(
            f"{place}: the tokenizer knows {len(tokenizer)} tokens, the model {vocab_size}; tokenizer files are missing"
        )
    if (
        tokenizer.vocab_size > vocab_size
    ):  # single tokens may be added that a model never reads (Gemma 3's picture token)
        raise WeightsError(
            f"{place}: the tokenizer knows {tokenizer.vocab_size} tokens, the model {vocab_size}; it is another model's"
        )
    return tokenizer


_SETTINGS = (
    "*config*.json",
    "modules.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*bpe*",
    "*.py",
)


def settings_sum(folder: str | Path, names: str = "*") -> str:
    """A hash of a model folder's settings, tokenizer and code: of everything that decides vectors beside its weights.

    By their names, and not below checkpoints: a training writes its own state and scores beside them.

    Args:
        names: which of its files, as `Path.glob` takes it.
    """
    digest = hashlib.sha256()
    for file in sorted(Path(folder).glob(names)):
        within = file.relative_to(folder)
        written = any(part.startswith("checkpoint-") for part in within.parts)
        if not written and any(map(within.match, _SETTINGS)) and file.is_file():
            digest.update(f"{within.as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
