"""A run on the Hugging Face hub: which files go, what they say there, and the one commit that brings them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from close.data.shards import open_rows
from close.errors import (
    CloseError,
    DataError,
    MismatchError,
    OutputExistsError,
    RecipeError,
    WeightsError,
    firsts,
    reason,
)
from close.evaluation.metrics import METRICS
from close.evaluation.pictures import pictures_of, small_picture
from close.evaluation.saved import changed_search, check_evaluation
from close.io.files import read_json
from close.io.hub import RUN_FILES
from close.io.places import last_part, moved_reference
from close.io.plain import read_plain
from close.plugins import changed_plugins, short_name
from close.retrieval.finder import settings_in
from close.runs.card import Shown, met_said, model_card
from close.runs.confidence import run_sum
from close.runs.evaluate import as_the_run_says
from close.runs.folder import RECIPE_FILE, RUN_FILE, open_run
from close.runs.predict import Decoding
from close.runs.recipe import checked
from close.runs.recipe_file import named, read_values
from close.runs.words import WORDS, word_lists
from close.tasks import get_task
from close.vectors.open import check_encoder

__all__ = ["Parcel", "check_name", "pack", "publish"]

EXAMPLES = "examples"
PIXELS = 384
"""Longer side of an example's picture that is alone; see `small_picture`."""


@dataclass
class Parcel:
    """What goes to the hub.

    Attributes:
        files: by path there, what is written anew, or the file that goes as it is.
        notes: what others will miss.
    """

    files: dict[str, bytes | Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(what) if isinstance(what, bytes) else what.stat().st_size
            for name, what in sorted(self.files.items())
        }

    @property
    def card(self) -> str:
        """The model card."""
        text = self.files["README.md"]
        return text.decode() if isinstance(text, bytes) else text.read_text(encoding="utf-8")


def check_name(name: str) -> str:
    """A name that a run can have on the hub: ORG/NAME.

    Raises:
        RecipeError: it is none.
    """
    from huggingface_hub import errors, hf_hub_url

    try:
        hf_hub_url(name, RUN_FILE)
    except errors.HFValidationError as error:
        raise RecipeError(f"{name!r}: {reason(error)}") from None
    if "/" not in name:
        raise RecipeError(f"{name!r}: say ORG/NAME, where ORG is you or your organisation")
    return name


def pack(run: str | Path, shown: Shown, *, gap: str | Path | None = None, examples: int = 0) -> Parcel:
    """A finished run as it is published: what using it needs, and a card; no checkpoints, logs, tables or places of this machine.

    Args:
        shown: what the card says; its evaluations, gap and pictures are filled in from the run and `gap`.
        gap: what `close gap … --out` wrote of the run's encoder.
        examples: how many pictures of evaluations go too, at most: they become public.
    Raises:
        MissingError: no finished run, or no such file; or its word lists are gone.
        DataError: a file is damaged, or names a place of this machine.
        MismatchError: the gap is another encoder's.
    """
    folder = Path(run)
    about = open_run(folder)
    parcel = Parcel({path.relative_to(folder).as_posix(): path for path in _files(folder)})
    config = read_plain(folder / "config.json")
    if (words := word_lists(config.get("retrieve"), folder)) is not None:
        parcel.files[WORDS] = words
    _rename(parcel, "config.json", config | _references(config, folder))
    _rename(parcel, RUN_FILE, _run_info(about, folder))
    for name in [name for name in parcel.files if name.startswith("calibration/")]:
        calibrated = read_plain(folder / name)
        own = calibrated.get("run_sha256") == run_sum(folder)
        new = {"data": last_part(str(calibrated.get("data", "")))} | ({"run_sha256": _sum(parcel)} if own else {})
        _rename(parcel, name, calibrated | new)
    place = folder / RECIPE_FILE
    values = named(checked(read_values(place), f"{place}", only_keys=True).dump())
    parcel.files[RECIPE_FILE] = yaml.safe_dump(values, sort_keys=False).encode()
    every = [(name, found, _otherwise(found, folder)) for name, found in _evaluations(folder)]
    evaluations = [found for _, found, why in every if not why]
    pictures = _pictures(parcel, evaluations, examples)
    parcel.notes += _missed(config, parcel, folder)
    if other := [f"{name} ({why})" for name, _, why in every if why]:
        parcel.notes.append(
            f"not on the card: {firsts(other)}; it shows what `close evaluate RUN ROWS` makes, with nothing else said"
        )
    parcel.notes += [
        f"the run has met pictures of {last_part(str(one['data']))} ({met}): their scores are too good, and not in model-index"
        for one in evaluations
        if (met := met_said(one))
    ]
    if examples and not pictures:
        parcel.notes.append(_without_pictures(evaluations))
    measured = None if gap is None else _gap(Path(gap), config.get("embed_dim"), about)
    if measured is not None and not measured.get("fingerprint"):
        parcel.notes.append(f"{gap} does not say of which encoder it is: measured on tables, `close gap` says it")
    shown = replace(shown, evaluations=evaluations, pictures=pictures, gap=measured)
    recipe = checked(values, f"{place}", only_keys=True)
    parcel.files["README.md"] = model_card(recipe, Path("/"), about, shown).encode()
    _refuse_places(parcel, folder)
    return parcel


def _files(folder: Path) -> Iterator[Path]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    yield from (folder / name for name in names if _is_ours(name))


def _is_ours(name: str, *more: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in (*RUN_FILES, *more))


def _rename(parcel: Parcel, name: str, values: Mapping[str, Any]) -> None:
    """Write a file of settings anew, if it says other than it did: a file that stays the same keeps its sum."""
    path = parcel.files[name]
    if not isinstance(path, Path) or values != read_plain(path):
        parcel.files[name] = (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _sum(parcel: Parcel) -> str:
    about = parcel.files[RUN_FILE]
    return hashlib.sha256(about if isinstance(about, bytes) else about.read_bytes()).hexdigest()


def _name(reference: Any, folder: Path) -> Any:
    """A reference with the last part alone of a place."""
    return moved_reference(reference, last_part, folder) if isinstance(reference, str) else reference


def _references(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Encoder and language model of a configuration, by name."""
    base = config.get("base")
    new = {"encoder": _name(config.get("encoder"), folder)} | _search(config, folder)
    return new | ({"base": base | {"reference": _name(base["reference"], folder)}} if base else {})


def _search(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What it searches, memory and encoder, each place by its last part alone."""
    if config.get("retrieve") is None:
        return {}
    _, memory = settings_in(config["retrieve"], "config.json")
    places = {new: memory[key] for new, key in (("memory", "reference"), ("texts", "texts")) if memory.get(key)}
    found = named({"retrieve": dict(config["retrieve"]) | {"memory": None} | places})["retrieve"]
    found["encoder"] = _name(config["retrieve"].get("encoder"), folder)
    own = {key: found.pop(new) for new, key in (("memory", "reference"), ("texts", "texts")) if new in places}
    found |= {"language": WORDS} if word_lists(config["retrieve"], folder) else {}
    return {"retrieve": found | {"memory": dict(memory) | own}}


def _missed(config: Mapping[str, Any], parcel: Parcel, folder: Path) -> Iterator[str]:
    """What others will miss, and what becomes public beside the run."""
    search = config.get("retrieve") or {}
    memory = (search.get("memory") or {}) if isinstance(search, dict) else {}
    for what, reference, fix in (
        ("encoder", config.get("encoder"), "its --encoder says where"),
        ("language model", (config.get("base") or {}).get("reference"), "`close merge` writes the run with it"),
        ("encoder that its memory is searched in", search.get("encoder"), "where it is named in config.json"),
    ):
        if isinstance(reference, str) and moved_reference(reference, lambda _: "", folder) != reference:
            yield f"the {what} {last_part(reference)!r} is a folder of this machine, which others need too; {fix}"
    if plugins := open_run(folder).get("plugins"):
        names = ", ".join(map(short_name, plugins))
        yield f"its parts of {names} are not in it, and others need that code too: say on its page where they get it"
    if "memory/rows.jsonl" in parcel.files:
        yield "the texts of its memory are in memory/rows.jsonl, and become public with it"
    elif search and "memory/table/table.json" not in parcel.files:
        name = last_part(str(memory.get("reference")))
        yield f"the memory {name!r} is on this machine, and others need one too; `close merge` writes the run with it"


def _run_info(about: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    new = dict(about) | {"encoder": _name(about.get("encoder"), folder)} | named({"plugins": about.get("plugins", [])})
    if isinstance(origin := about.get("init_from"), dict) and "run" in origin:
        new["init_from"] = origin | {"run": last_part(str(origin["run"]))}
    if isinstance(merged := about.get("merged"), dict) and "reference" in merged:
        new["merged"] = merged | {"reference": _name(merged["reference"], folder)}
    return new


def _evaluations(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was measured on images, by name."""
    for file in sorted(folder.glob("evaluations/*/scores.json")):
        found = read_json(file)
        check_evaluation(found, f"{file}", METRICS.labels)
        if not all(key in found for key in ("data", "task", "rows", "modality")):
            raise DataError(f"{file}: no evaluation of a run: it says no data, task, rows or modality")
        if found["modality"] == "image":
            yield file.parent.name, found


def _otherwise(found: Mapping[str, Any], folder: Path) -> str:
    """In what an evaluation is otherwise than the run's own of all rows, in words; empty where in nothing."""
    if found.get("unreadable"):
        return "without pictures that could not be read"
    if other := changed_plugins(read_plain(folder / RUN_FILE), found):
        return f"with other code of {', '.join(other)} than it was trained with"
    # versions of before did not say these
    older = {"precision": "auto", "decoding": Decoding().describe(get_task(found["task"]), None)}
    if as_the_run_says({**older, **found}, folder):
        return ""
    if found.get("limit") is not None:
        return f"of the first {found['limit']} rows"
    if found.get("precision", "auto") != "auto":
        return f"precision {found['precision']}"
    return changed_search(found, folder) or "another memory, search or set of answers"


def _pictures(parcel: Parcel, evaluations: list[dict[str, Any]], count: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Small copies of the pictures of random examples, without what their files say besides; they go into the parcel."""
    shown: list[tuple[str, Mapping[str, Any]]] = []
    for one in _drawn(evaluations) if count else ():
        if len(shown) == count:
            break
        small, absent = small_picture(pictures_of(one), PIXELS)
        if small and not absent:
            made, name = BytesIO(), f"{EXAMPLES}/{len(shown) + 1}.jpg"
            small.save(made, "JPEG", quality=90)
            parcel.files[name] = made.getvalue()
            shown.append((name, one))
    return shown


def _drawn(evaluations: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Random examples with a picture; one that is named as from elsewhere, only where its rows are those that lie there."""
    for found in evaluations:
        given = [one for one in (found.get("examples") or {}).get("random", []) if one.get("image")]
        data = Path(str(found["data"]))
        here = data.exists() and open_rows(data).sha256 == found.get("data_sha256") if given else False
        yield from (one for one in given if here or os.path.isabs(one["image"]))


def _without_pictures(evaluations: list[dict[str, Any]]) -> str:
    if not evaluations:
        return "no picture is shown: no evaluation on images is saved with the run (`close evaluate`)"
    return (
        "no picture is shown: those of its evaluations are not to be found from here; publish it from the folder that "
        "`close evaluate` ran in"
    )


def _gap(file: Path, width: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """What `close gap --json` said.

    Raises:
        DataError: it is none. MismatchError: of another encoder.
    """
    found = read_plain(file)
    if not isinstance(found.get("intervals"), dict) or not isinstance(found.get("n_text"), int):
        raise DataError(f"{file}: expected what `close gap --text T --image V --out {file}` writes")
    if found.get("dim") != width:
        raise MismatchError(f"{file} is of vectors of width {found.get('dim')}, and the run's encoder has {width}")
    named = found.get("encoder"), found.get("fingerprint")
    if not all(isinstance(one, (str, type(None))) for one in named):
        raise DataError(f"{file}: encoder and fingerprint are {named!r}, expected texts")
    check_encoder(f"{file}", *named, "the run", about.get("encoder"), about.get("fingerprint"))
    return found


def _refuse_places(parcel: Parcel, folder: Path) -> None:
    """A last look at all that people write and read: nothing says where it lay."""
    places = {os.path.abspath(folder), os.path.realpath(folder), os.getcwd(), os.path.expanduser("~")}
    wanted = re.compile(
        "|".join(re.escape(place) + r"(?![\w.-])" for place in places if len(Path(place).parts) > 2) or "(?!)"
    )
    for name, what in parcel.files.items():
        if name.endswith((".json", ".yaml", ".md", ".jinja")) and name not in ("tokenizer.json", "vocab.json"):
            text = (what if isinstance(what, bytes) else what.read_bytes()).decode(errors="replace")
            if found := wanted.search(text):
                raise DataError(
                    f"{folder / name}: names {found[0]!r}, a place of this machine; edit it, and publish again"
                )


def publish(
    run: str | Path,
    name: str,
    parcel: Parcel,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Send a parcel to the hub, as one commit; files of an earlier one that are in it no more are removed.

    Args:
        name: ORG/NAME there, made if need be. private: seen by its owners alone. revision: a branch, made if need be.
    Returns:
        The commit.
    Raises:
        OutputExistsError: what lies there is no run, or is public and was to be private; nothing was changed.
        WeightsError: the hub refuses it, or can't be reached; nothing was changed there.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
    from huggingface_hub.errors import RevisionNotFoundError

    api = HfApi(endpoint=constants.ENDPOINT)
    try:
        api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.model_info(name).private:
            raise OutputExistsError(
                f"{name} is public there, and --private is for one that is made: make it private on the hub first, or choose "
                "another name"
            )
        try:
            there = api.list_repo_files(name, revision=revision)
        except RevisionNotFoundError:
            there = api.list_repo_files(name)  # of which a branch is made
        if RUN_FILE not in there and (other := [path for path in there if _is_ours(path) and path != "README.md"]):
            raise OutputExistsError(
                f"{name} holds {other[0]} and is no run, and what is published would take its place: choose another name, or "
                "remove it on the hub first"
            )
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        gone = {path for path in there if _is_ours(path, f"{EXAMPLES}/*")} - parcel.files.keys()
        adds = [
            CommitOperationAdd(path, BytesIO(what) if isinstance(what, bytes) else str(what))
            for path, what in sorted(parcel.files.items())
        ]
        found = api.create_commit(
            name,
            [*adds, *(CommitOperationDelete(path) for path in sorted(gone))],
            commit_message=message or "A run of close toolkit",
            revision=revision,
        )
    except CloseError:
        raise
    except Exception as error:  # of huggingface_hub, or of whatever carries its requests
        raise WeightsError(
            f"{name}: the hub did not take {run} ({reason(error, whole=False)}); log in by `hf auth login`, or say --dry-run "
            "to see what would go"
        ) from None
    return str(found.oid)
