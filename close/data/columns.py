"""Which column of a table is which key of a row: by our names, by the names that data sets use, or as the caller says."""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from close.errors import DataError, NoTextError, RecipeError, listed, shown

__all__ = ["Columns", "Skip", "by_caption", "by_key", "check_flags", "is_known", "key_of", "parse_columns"]

Values = dict[str, Any]

_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("audiocap_id",),
    "source": (
        "caption",
        "text",
        "sentence",
        "comment",
        "raw_caption",
        "caption_str",
        "blip_caption",
        "txt",
        "premise",
    ),
    "references": ("captions", "sentences_raw", "sentences", "raw", "reference_strs"),
    "context": ("question", "hypothesis", "article"),
    "target": ("answer",),
    "answers": (),
    "image": (
        *("image_path", "image_name", "image_file", "file_name", "filename", "filepath", "file_path", "path", "file"),
        *("img", "jpg", "png", "audio", "audio_path", "video", "video_path"),
    ),
    "group": ("image_id", "img_id", "cocoid", "youtube_id"),
    "label": ("gold_label",),
    "task": (),
    "meta": (),
}
"""Our keys, and other names that columns go by; the first one that is there is taken."""
_PERHAPS = ("title", "description", "alt_text", "alt", "headline", "summary")
"""Names of captions in some tables and of other things in others: taken where there is one of them, and no caption else."""
_NUMBERED = re.compile(r"(?:raw_?)?(?:caption|sentence|text|comment)[_ ]?\d+")
_TEXTS = ("source", "references", "target", "answers")
_SAYS = ("source", "references", "target", "answers", "label")
_FLAGS = ("is_rejected", "is_precanned")


def parse_columns(text: str) -> dict[str, str | int]:
    """`caption=2,image=0` or `caption=Beschreibung`: a key of rows, or another name of it, to a column's place or name.

    Raises:
        RecipeError: not of this form, or one key twice.
    """
    found: dict[str, str | int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, column = (item.strip() for item in part.partition("="))
        if not (key and equals and column):
            raise RecipeError(f"columns are KEY=COLUMN, e.g. caption=2,image=0 or caption=title, not {part!r}")
        if key in found:
            raise RecipeError(
                f"columns: {key}={found[key]} and {key}={column}: a key is one column, leave one of them out"
            )
        found[key] = int(column) if column.isdecimal() and len(column) < 5 else column
    return found


def by_key(given: Mapping[str, str | int]) -> dict[str, tuple[str, str | int]]:
    """Columns that a caller gives, by the key that each is for: the caller's name of it, and the column.

    Raises:
        RecipeError: a name is for no key, or two are for one.
    """
    found: dict[str, tuple[str, str | int]] = {}
    for name, column in given.items():
        if (key := key_of(name)) in found:
            first, other = found[key]
            raise RecipeError(
                f"columns: {first}={other} and {name}={column} are both for the key {key!r}, which is one column: leave one of "
                "them out"
            )
        found[key] = name, column
    return found


class Skip(Exception):  # noqa: N818 - no error: a record that the format itself marks as unusable
    """A record that is left out and counted; its text is the reason."""


def check_flags(record: Mapping[str, Any]) -> None:
    """Leave out a record that its data set flags: VizWiz's tools leave these out, img2dataset has no picture for those.

    Raises:
        Skip: names the flag.
    """
    for flag in _FLAGS:
        if str(record.get(flag, "")).strip().lower() in ("true", "1", "1.0"):
            raise Skip(flag)
    if str(record.get("status", "")).startswith("failed"):
        raise Skip("status failed")


def is_known(name: str) -> bool:
    """Whether a column of this name may be a key of ours."""
    name = name.strip().lower()
    return (
        name in _PERHAPS
        or bool(_NUMBERED.fullmatch(name))
        or any(name in (key, *names) for key, names in _NAMES.items())
    )


class Columns:
    """What the columns of a table are.

    Args:
        names: the columns. given: key to a column's name or place from 0, of which one may serve several keys; keys that are not
            given are found by name.
        where: the file and line, for messages. demand: whether there has to be a column of captions, or of what stands for them.
    Attributes:
        keys: column to the keys that its values are for. unused: columns that go to `meta`.
    Raises:
        RecipeError: an unknown key, or two columns for one. DataError: no such column; two of one name; no column of captions.
    """

    def __init__(
        self, names: Iterable[str], given: Mapping[str, str | int] | None, where: str, *, demand: bool = True
    ) -> None:
        self.names, self.where, self.demand = list(names), where, demand
        self.keys: dict[str, tuple[str, ...]] = {}
        wanted = by_key(given or {})
        self.given = {*wanted}
        lower = {name.strip().lower(): name for name in self.names}
        if len(lower) < len(self.names):
            raise DataError(f"{where}: two columns have one name: {listed(self.names)}")
        for key, (called, column) in wanted.items():
            name = self._find(called, column, lower)
            self.keys[name] = (*self.keys.get(name, ()), key)
        for key, others in _NAMES.items():
            free = (lower[name] for name in (key, *others) if name in lower and lower[name] not in self.keys)
            if key not in self.given and (first := next(free, None)) is not None:
                self.keys[first] = (key,)
        if "references" not in self._found:
            self.keys |= {c: ("references",) for n, c in lower.items() if _NUMBERED.fullmatch(n) and c not in self.keys}
        if demand:
            self._perhaps(lower)
        self.unused = [name for name in self.names if name not in self.keys]

    @property
    def _found(self) -> set[str]:
        return {key for keys in self.keys.values() for key in keys}

    @property
    def layout(self) -> str:
        """What makes rows of a file beside its bytes, for sums of it."""
        return repr({name: keys[0] if len(keys) == 1 else keys for name, keys in self.keys.items()})

    def _find(self, key: str, column: str | int, lower: Mapping[str, str]) -> str:
        name = lower.get(str(column).strip().lower())
        if name is None and isinstance(column, int) and column < len(self.names):
            name = self.names[column]
        if name is None:
            raise DataError(
                f"{self.where}: no column {shown(column)} for {key!r}; there are {len(self.names)}: {listed(self.names)}"
            )
        return name

    def _perhaps(self, lower: Mapping[str, str]) -> None:
        """A column that may be the caption, where nothing else is; never one of several."""
        if {"source", "references"} & self._found or self.given & {*_SAYS, "context"}:
            return
        perhaps = [lower[name] for name in _PERHAPS if name in lower and lower[name] not in self.keys]
        if len(perhaps) == 1:
            self.keys[perhaps[0]] = ("source",)
        elif perhaps or not {*_SAYS} & self._found:
            what = f"which is the caption, {' or '.join(perhaps)}?" if perhaps else "no column of captions"
            left = [name for name in self.names if name not in self.keys]
            example = listed(perhaps[:1] or (left if len(left) == 1 else ["NAME"]))  # of several any may be it
            raise DataError(
                f"{self.where}: {what} (columns: {listed(self.names)}); say it by name or place, from 0: "
                f"close convert csv IN OUT --columns caption={example}, in a recipe data.columns: {{caption: {example}}}"
            )

    def about(self) -> str:
        """What is used, and what is not, in a line."""
        used = listed(f"{key} from {name}" for name, keys in self.keys.items() for key in keys)
        return f"columns: {used}" + (f"; kept in meta: {listed(self.unused)}" if self.unused else "")

    def values(self, record: Mapping[str, Any], where: str) -> Values:
        """One record under our keys; what has no key, or is not of its key's type, goes to `meta` under its own name.

        Raises:
            NoTextError: there is no text in it.
        """
        values: Values = {}
        meta: Values = {}
        for name, value in record.items():
            if value is None or value == "" or isinstance(value, (bytes, bytearray)):
                continue
            taken = [self._take(values, key, name, value) for key in self.keys.get(name, ())]
            if not taken or not all(taken):
                meta[name.strip()] = value
        if meta := values.pop("meta", {}) | meta:
            values["meta"] = meta
        captions = [name for name, keys in self.keys.items() if {"source", "references"} & {*keys}]
        if self.demand and not {*(("source", "references") if captions else (*_SAYS, "context"))} & {*values}:
            found = f"; {captions[0]} is empty, or no text" if captions else ""
            raise NoTextError(f"{where}: no text in it{found}")
        return values

    def _take(self, values: Values, key: str, name: str, value: Any) -> bool:
        """Put a column's value under a key; whether it is of that key's type."""
        fitting = _fitting(key, value, key in self.given)
        if fitting is None:
            return False
        # in a column of captions, several are of one thing, not one in several wordings
        several = key == "source" and isinstance(fitting, list) and name != "source"
        if several or key == "references":
            values.setdefault("references", []).extend(fitting)
        else:
            values[key] = fitting
        return True


def by_caption(values: Values, default_id: str, *, split: bool = True) -> list[Values]:
    """The rows of one record: one for each of its captions, in the group of its image.

    Args:
        default_id: where the record has no id. split: whether several captions are rows of their own.
    """
    values = {"id": default_id} | values
    names = values.get("image")
    if "group" not in values and isinstance(names, (str, list)):
        values["group"] = names if isinstance(names, str) else ", ".join(names)
    if not split or "source" in values or "references" not in values:
        return [values]
    captions = values.pop("references")
    if len(captions) == 1:
        return [values | {"source": captions[0]}]
    values.setdefault("group", values["id"])
    return [values | {"id": f"{values['id']}#{n}", "source": caption} for n, caption in enumerate(captions)]


def key_of(name: str) -> str:
    """The key of a row that a name is for: its own, or one that data sets use.

    Raises:
        RecipeError: it is for none.
    """
    for key, others in _NAMES.items():
        if name.strip().lower() in (key, *others):
            return key
    nearest = difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.5)
    raise RecipeError(
        f"columns: unknown key {name!r}"
        + (f": did you mean {nearest[0]!r}?" if nearest else f"; known: {', '.join(_NAMES)}")
    )


def _fitting(key: str, value: Any, given: bool) -> Any:
    """A value as its key takes it; None where it does not."""
    if key in _TEXTS:
        texts = _texts(value)
        alone = texts is not None and len(texts) == 1 and key != "references" and not isinstance(value, list)
        return texts[0] if texts and alone else texts
    if key == "image":
        value = [one for one in value if one is not None] if isinstance(value, list) else value
        several = isinstance(value, list) and bool(value) and all(map(_is_image, value))
        return value if several or isinstance(value, dict) or _is_image(value) else None
    if key == "meta":
        return value if isinstance(value, dict) else None
    if isinstance(value, str):
        return value.strip() or None
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole and (given or key in ("id", "group")) else None


def _is_image(value: Any) -> bool:
    """Whether it is the name of a file, or a picture that has its content."""
    if isinstance(value, dict):
        return isinstance(value.get("bytes"), bytes)
    return isinstance(value, str) and "://" not in value


def _texts(value: Any) -> list[str] | None:
    """The texts of a cell: one, a list of them, or a list as pandas and others write it into a cell."""
    if isinstance(value, str):
        return _listed(value.strip()) or [value.strip()]
    if isinstance(value, dict):  # COCO's sentences and VQA's answers, as Hugging Face's data sets nest them
        value = next((value[name] for name in ("raw", "caption", "answer") if name in value), None)
        return _texts(value) if isinstance(value, (str, list)) else None
    if not isinstance(value, list):
        return None
    found = [_texts(item) if isinstance(item, (str, dict)) else None for item in value]
    texts = [text for part in found if part for text in part if text]
    return texts if texts and None not in found else None


def _listed(cell: str) -> list[str] | None:
    if not (cell.startswith(('["', "['")) and cell.endswith(('"]', "']"))):
        return None
    for read in (json.loads, ast.literal_eval):
        if read is ast.literal_eval and "\\" in cell:  # it would warn of what Python does not know
            continue
        try:
            found = read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(text, str) for text in found):
            return [text.strip() for text in found if text.strip()] or None
    return None
