"""The word lists of a run's own (`retrieve.language: mine.toml`), which go wherever it goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from close.errors import MissingError

if TYPE_CHECKING:
    from close.model.configuration import CloseConfig

__all__ = ["WORDS", "keep_words", "word_lists"]

WORDS = "words.toml"
"""Where a run keeps them."""


def word_lists(retrieve: Mapping[str, Any] | None, run: Path) -> Path | None:
    """The file of word lists that a run finds words by; None where it has none of its own.

    Args:
        retrieve: what the run's configuration says. run: its folder.
    Raises:
        MissingError: it is gone.
    """
    language = str((retrieve or {}).get("language"))
    if not language.endswith(".toml"):
        return None
    if not os.path.isfile(run / language):
        raise MissingError(f"{run / language}: no such file, the word lists that {run} finds words by")
    return run / language


def keep_words(config: CloseConfig, words: Path | None, folder: Path) -> None:
    """Copy a run's word lists to where it is being saved, and name them so in its configuration; nothing where it has none."""
    if words is not None:
        if words != folder / WORDS:
            shutil.copyfile(words, folder / WORDS)
        config.retrieve = dict(config.retrieve or {}) | {"language": WORDS}
