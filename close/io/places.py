"""Where models and files lie, as a run says it: relative to its own folder, so that what is moved together goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from close.errors import MissingError

__all__ = ["check_directory", "last_part", "moved_reference", "place_of", "reference_from", "seen_from", "seen_through"]

Place = str | os.PathLike[str]


def moved_reference(reference: str, moved: Callable[[str], str], base: Place = "") -> str:
    """A model's reference, with the directory or file in it `moved`; one that names none (a hub's id, a tag, `mini`) as it is.

    Args:
        base: where what it names is looked for, to know whether it names a place at all.
    """
    scheme, colon, rest = reference.partition(":")
    if not colon or len(scheme) < 2:  # or a drive's letter
        return (
            moved(reference)
            if reference not in ("", "mini", "mini-sound") and _is_place(reference, base)
            else reference
        )
    head, at, checkpoint = rest.partition("@")
    if rest and (_is_place(rest, base) or os.path.isfile(os.path.join(base, rest))):
        return f"{scheme}:{moved(rest)}"
    if at and (os.path.isabs(checkpoint) or os.path.isfile(os.path.join(base, checkpoint))):
        return f"{scheme}:{head}@{moved(checkpoint)}"
    if at and _is_place(head, base):  # a directory, and which of its parts is meant
        return f"{scheme}:{moved(head)}@{checkpoint}"
    return reference


def check_directory(language_model: str) -> None:
    """Refuse the reference of a language model that can be nothing but a directory, where there is none.

    Raises:
        MissingError: there is none.
    """
    named = language_model.startswith((".", "/", "~")) or language_model.count("/") > 1  # no hub id looks so
    if named and not os.path.isdir(language_model):
        raise MissingError(f"language model {language_model!r}: no such directory")


def _is_place(name: str, base: Place) -> bool:
    """Whether it is a directory, or can be nothing else; False where it is too long for one, as pathlib's is not."""
    return os.path.isabs(name) or os.path.isdir(os.path.join(base, name))


def seen_from(place: Place, folder: Place, shared: int = 2) -> str | None:
    """A place relative to a folder, either of which need not be there; None where they have nothing but the root in common.

    Args:
        shared: parts that their paths begin with alike; 1 where the root is enough.
    """
    for whole in (os.path.abspath, os.path.realpath):  # names as they were given, where no link leads elsewhere
        there, here = whole(place), whole(folder)
        apart = os.path.splitdrive(there)[0] != os.path.splitdrive(here)[0]
        if apart or len(Path(os.path.commonpath([there, here])).parts) < shared:
            continue
        near = os.path.relpath(there, here)
        if os.path.realpath(os.path.join(here, near)) == os.path.realpath(place):
            return Path(near).as_posix()
    return None


def seen_through(place: Place, folder: Place) -> str:
    """A place relative to a folder, alike through whatever links both are reached: these are followed, those further in are not.

    A working directory is always known by its real path, and places in full are not.
    """
    here, there = Path(os.path.realpath(folder)), Path(os.path.abspath(place))
    for above in (there, *there.parents):  # from the place to what both lie in
        real = Path(os.path.realpath(above))
        if len(real.parts) > 1 and here.is_relative_to(real):
            return Path(os.path.relpath(real / there.relative_to(above), here)).as_posix()
    real = Path(os.path.realpath(there))
    return Path(os.path.relpath(real, here)).as_posix() if real.anchor == here.anchor else str(real)


def last_part(place: Place) -> str:
    """A place's name alone: where it lies is its machine's own affair."""
    return Path(os.path.abspath(place)).name


def reference_from(reference: str, folder: Place) -> str:
    """A reference that is given in the working directory, as a run in a folder says it; in full, where they lie apart."""
    return moved_reference(reference, lambda place: seen_from(place, folder) or os.path.abspath(place))


def place_of(reference: str, folder: Place) -> str:
    """What a run in a folder says, as it is loaded from the working directory: what lies where it says, else the reference."""
    return moved_reference(reference, lambda place: os.path.join(folder, place), folder)
