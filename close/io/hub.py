"""Runs on the Hugging Face hub: found by `ORG/NAME[@REVISION]`, kept in the hub's own cache."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from close.errors import MissingError, OutputExistsError, RecipeError, reason, shown
from close.io.pretrained import why_unreachable

__all__ = ["RUN_FILES", "HubRun", "hub_run_of", "is_on_hub", "own_folder", "run_folder"]

_log = logging.getLogger(__name__)

RUN_FILES = (
    "config.json",
    "generation_config.json",
    "run.json",
    "recipe.yaml",
    "README.md",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "memory-*.npy",  # of an adapter
    "calibration/*.json",
    "memory/rows.jsonl",
    "memory/*/*.json",
    "memory/*/*.npy",
    "memory/*/ids.bin",
    "words.toml",  # lists of its own that it finds words by
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.spm",
    "*.model",  # of sentencepiece
    "chat_template.jinja",
)
"""What a run needs to be used: nothing else is fetched, whatever else lies there, and nothing else is published."""

_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


class HubRun(NamedTuple):
    """A run in the hub's cache: its name there, and the commit."""

    name: str
    revision: str


def run_folder(run: Any, *, marker: str = "run.json") -> Path:
    """Where a run lies on this machine: a folder, or what the hub has by that name.

    A folder of the name wins; and where ORG is one, a name in it that is not there is taken for a slip, and the hub is not asked.

    Args:
        run: a folder, or `ORG/NAME`, with `@REVISION` (a branch, a tag or a commit) to stay with one state of it; or a run
            that is loaded.
        marker: the file that what lies there is known by.
    Raises:
        MissingError: the hub has no such run or revision; or it can't be reached, and its cache has none.
        RecipeError: it is none of these.
    """
    run = getattr(run, "folder", run)  # of a run that is loaded
    if not isinstance(run, (str, os.PathLike)):
        raise RecipeError(f"a run is its folder, or ORG/NAME of the hub, not {shown(run)}")
    found = _name(run)
    if found is None:
        return Path(run)
    name, revision = found[1], found[2]
    folder = _fetched(name, revision, marker)
    if revision != folder.name:
        _log.info("%s is a run of the hub; %s@%s is this state of it", name, name, folder.name)
    return folder


def is_on_hub(run: str | os.PathLike[str]) -> bool:
    """Whether `run_folder` asks the hub for it."""
    return _name(run) is not None


def _name(run: str | os.PathLike[str]) -> re.Match[str] | None:
    """The parts of the hub's name that it is; None of a folder, or of a slip for one."""
    found = _NAME.fullmatch(str(run))
    return None if found is None or os.path.exists(run) or os.path.isdir(found[1].split("/")[0]) else found


def _fetched(name: str, revision: str | None, marker: str) -> Path:
    from huggingface_hub import errors, hf_hub_download, snapshot_download

    what = name if revision is None else f"{name}@{revision}"
    away = why_unreachable(name)
    try:
        asked: dict[str, Any] = {"revision": revision, "local_files_only": away is not None}
        about = Path(hf_hub_download(name, marker, **asked))  # before gigabytes that are no run's
        if away is None:
            snapshot_download(name, revision=about.parent.name, allow_patterns=list(RUN_FILES))
        return about.parent
    except errors.HFValidationError as error:
        why = reason(error)
    except errors.RepositoryNotFoundError:
        why = "the hub has no model of that name, or it is private (log in: hf auth login)"
    except errors.RevisionNotFoundError:
        why = f"the hub has no revision {revision!r} of it"
    except errors.LocalEntryNotFoundError:
        why = f"no run of that name in the hub's cache on this machine, and the hub can't be reached ({away or 'it broke off'})"
    except errors.EntryNotFoundError:
        why = f"the hub's model of that name is no run of `close train` (it has no {marker})"
    except (
        errors.HfHubHTTPError,
        OSError,
        ValueError,
    ) as error:  # of the cache's disk, or of whatever carries requests
        why = f"it can't be had from the hub ({reason(error, whole=False)})"
    raise MissingError(f"{what}: no such folder, and {why}")


def hub_run_of(folder: str | Path) -> HubRun | None:
    """The run of the hub that a folder of its cache is; None of any other folder."""
    place = Path(os.path.abspath(folder))
    repository = place.parent.parent.name.split("--")
    if place.parent.name == "snapshots" and len(repository) == 3 and repository[0] == "models":
        return HubRun("/".join(repository[1:]), place.name)
    return None


def own_folder(run: Any) -> Path:
    """A run's folder to write into.

    Raises:
        OutputExistsError: it is the hub's cache, which is the hub's own.
    """
    folder = run_folder(run)
    if found := hub_run_of(folder):
        raise OutputExistsError(
            f"{found.name} lies in the hub's cache, which is not written to; take a copy of your own: "
            f"hf download {found.name} --revision {found.revision} --local-dir FOLDER"
        )
    return folder
