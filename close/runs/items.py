"""What a captioner is given: one item or several, folders replaced by their files; a list inside the list is one item."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import IO, Any, TypeAlias

import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from close.encoders.films import is_film
from close.encoders.pictures import cropped, open_picture
from close.errors import CloseError, DataError, RecipeError, shown
from close.io.keys import text_key
from close.io.media import FILMS, describe, is_one, media_below, some
from close.io.parts import FRAMES, MOST_TILES, box_name, check_frames, file_of, frame_names, tile_names
from close.model.configuration import Several
from close.model.sets import Sets, padded_sets

__all__ = [
    "Item",
    "Items",
    "Read",
    "boxed",
    "draw_seeds",
    "expand",
    "item_files",
    "item_name",
    "read_items",
    "tiled",
    "together",
]

_log = logging.getLogger(__name__)

File: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes] | PIL.Image.Image | NDArray[Any] | Tensor
"""One file of the second modality: its name, its content, or what its library makes of it."""
Item: TypeAlias = File | Sequence[File]
"""One file, or several that belong together: views of one thing, frames of one film."""
Items: TypeAlias = File | Iterable[Item]
Read: TypeAlias = tuple[Tensor | list[Tensor], dict[int, CloseError]]
"""Of each item its features, (D,) or (k, D), and the errors of those that could not be read."""


def expand(
    items: Items, suffixes: Sequence[str], *, together: bool = False, frames: int | None = None
) -> tuple[list[Any], bool]:
    """A list of items, and whether a single one was meant; folders are replaced by their files, in order, films by frames.

    Args:
        together: the files of a folder are one item, and so are all files that are named.
        frames: of each film, at even distances; `FRAMES` of a film that is named, without it. With it, a folder is one film if
            pictures are in it, and else its films are items.
    Raises:
        DataError: a folder without any file of these endings, or of pictures beside films; an item of no file; with `frames`, one
            that has none. RecipeError: no such number of frames, or both `frames` and `together`.
    """
    check_frames(frames)
    if items is None:
        raise DataError(
            "an item is None: expected a file's name, its bytes, an open file, a picture, an array, or several"
        )
    if frames is not None and together:
        raise RecipeError("with frames each film is an item, and together all files are one: give one of the two")
    several = not is_one(items)
    found, named = list[Any](), list[Any]()
    every: Iterable[Any] = items if several else [items]  # type: ignore[assignment]
    for item in every:
        if not is_one(item):
            files = expand(item, suffixes)[0]
            if not files:
                raise DataError("an item is an empty list: expected the files that belong together")
            found.append(tuple(files))
        elif isinstance(item, str) and not item:
            raise DataError("an item is an empty text: expected the name of a file or a folder")
        elif isinstance(item, (str, os.PathLike)) and Path(item).is_dir():
            own = _folder(Path(item), suffixes, together, frames)
            found.extend(own)
            several = (
                several or frames is None or file_of(own[0][0]) != Path(item)
            )  # films in a folder, which is none itself
        elif isinstance(item, (str, os.PathLike)) and is_film(Path(item)):
            found.append(tuple(frame_names(item, frames or FRAMES)))
        elif frames is not None:
            raise DataError(
                f"{item_name(item)}: frames are of films ({some(FILMS)}) and of folders of frames, and it is neither"
            )
        else:
            (named if together else found).append(item)
    return ([tuple(named)] if named else []) + found, not several


def _folder(folder: Path, suffixes: Sequence[str], together: bool, frames: int | None) -> list[Any]:
    """The items that a folder stands for."""
    if frames is not None:
        files, films = (media_below(folder, kind, quiet=True) for kind in (suffixes, FILMS))
        if files and films:
            raise DataError(
                f"{folder}: {len(files)} pictures and {len(films)} films are in it, and it is a film's frames or a folder of "
                "films: name the films, or move one kind elsewhere"
            )
        if 0 < len(files) < frames:
            _log.warning(
                "%s: %d pictures are in it, and %d frames are asked for: some are taken again",
                folder,
                len(files),
                frames,
            )
        if files or films:
            return [tuple(frame_names(place, frames)) for place in ([folder] if files else films)]
    files = media_below(folder, suffixes)
    if not files:
        raise DataError(f"{folder}: no file in this folder ends in {some(suffixes)}")
    return [tuple(files)] if together else list(files)


def boxed(items: Sequence[Any], boxes: Sequence[Sequence[float]]) -> list[Any]:
    """The boxes of one picture, an item each.

    Args:
        items: that picture. boxes: left, top, width, height of each, in pixels of the upright picture.
    Raises:
        DataError: there are several pictures, or a box is none. Of bytes, arrays and open pictures also: it lies outside.
    """
    if len(items) != 1 or len(item_files(items[0])) != 1:
        what = "a film" if len(items) == 1 else f"{len(items)} items"
        raise DataError(f"boxes are of one picture, and {what if items else 'nothing'} is given")
    if not len(boxes):
        raise DataError("boxes: expected a list of [left, top, width, height], and it is empty")
    return [_part(items[0], box_name("", box)) for box in boxes]


def _tile_counts(tiles: Any) -> tuple[int, int]:
    """(2, 3) of "2x3", or of two whole numbers.

    Raises:
        RecipeError: it is neither.
    """
    parts = tiles.lower().split("x") if isinstance(tiles, str) else tiles
    numbers = [int(one) for one in parts if str(one).isdecimal()] if isinstance(parts, (list, tuple)) else []
    if len(numbers) != 2 or len(parts) != 2:
        raise RecipeError(f"tiles are ROWSxCOLUMNS, as 2x2 or in Python (2, 2), not {shown(tiles)}")
    return numbers[0], numbers[1]


def tiled(item: Any, tiles: tuple[int, int] | str) -> tuple[Any, ...]:
    """A picture as an item of several: itself, and its tiles in reading order.

    Args:
        tiles: rows and columns, from 1 to 16; also as "2x2".
    Raises:
        RecipeError: no two such numbers. DataError: the item is of several pictures already.
    """
    rows, columns = _tile_counts(tiles)
    if not (1 <= rows <= MOST_TILES and 1 <= columns <= MOST_TILES and rows * columns > 1):
        raise RecipeError(
            f"tiles are ROWSxCOLUMNS, each from 1 to {MOST_TILES} and more than one in all, not {rows}x{columns}"
        )
    if len(item_files(item)) != 1:
        raise DataError(f"{item_name(item)}: tiles are of one picture, and this item has several")
    return tuple(_part(item, part) for part in tile_names("", rows, columns))


def _part(item: Any, part: str) -> Any:
    """A part of a picture: by its name, where it has one."""
    if isinstance(item, (str, os.PathLike)) or not part:
        return f"{os.fspath(item)}{part}" if part else item
    picture = cropped(open_picture(item), part.removeprefix("#"), describe(item))
    picture.filename = f"{describe(item)}{part}"  # type: ignore[attr-defined]
    return picture


def item_files(item: Any) -> tuple[Any, ...]:
    """The files of an item that `expand` gave."""
    return item if isinstance(item, tuple) else (item,)


def item_name(item: Any, number: int | None = None) -> str:
    """How a message or a result names an item: its file, or its files, or its number among those given."""
    files = item_files(item)
    return " + ".join(describe(file, number) for file in files)


def draw_seeds(seed: int, names: Iterable[str], contexts: Iterable[str]) -> list[int]:
    """Of each item what its draws start from: the seed, its name and context, and how many items before it had both.

    Raises:
        RecipeError: the seed is no whole number.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise RecipeError(f"a seed is a whole number, not {seed!r}")
    before: Counter[int] = Counter()
    found = []
    for name, context in zip(names, contexts, strict=False):
        key = text_key(f"{seed} {name}\0{context}")
        found.append(text_key(f"{key} {before[key]}"))
        before[key] += 1
    return found


def read_items(
    read: Callable[[list[Any], int], Iterator[tuple[Tensor, dict[int, CloseError]]]],
    items: Sequence[Any],
    batch_size: int,
) -> Iterator[Read]:
    """The raw features of items, `batch_size` items after the other.

    Args:
        read: features and errors of files, batch by batch (`ContrastiveEncoder.image_batches`).
    """
    counts = [len(item_files(item)) for item in items]
    ahead = read([file for item in items for file in item_files(item)], batch_size)
    if max(counts, default=1) == 1:
        yield from ahead
        return
    waiting: list[tuple[Tensor, CloseError | None]] = []
    for start in range(0, len(items), batch_size):
        wanted = counts[start : start + batch_size]
        while len(waiting) < sum(wanted):
            features, errors = next(ahead)
            waiting += [(row, errors.get(place)) for place, row in enumerate(features)]
        found, wrong = list[Tensor](), dict[int, CloseError]()
        for place, count in enumerate(wanted):
            own, waiting = waiting[:count], waiting[count:]
            found.append(own[0][0] if count == 1 else torch.stack([row for row, _ in own]))
            if error := next((error for _, error in own if error), None):
                wrong[place] = error
        yield found, wrong


def together(features: Tensor | list[Tensor], good: Sequence[int], several: Several) -> Sets:
    """These items' unit vectors.

    Args:
        features: of each item, raw: (D,), or (k, D) of several files.
        several: "mean": one vector an item, that of the raw ones' mean. "set": all of them.
    """
    if isinstance(features, Tensor):
        return Sets(F.normalize(features[list(good)], dim=-1))
    if not good:
        return Sets(torch.empty(0, features[0].shape[-1]))
    chosen = (features[place] for place in good)
    merged = [one.mean(0) if several == "mean" and one.ndim == 2 else one for one in chosen]
    return Sets(*padded_sets([F.normalize(one, dim=-1) for one in merged]))
