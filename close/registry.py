"""Names to classes, with the nearest name told when one is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from close.errors import UnknownNameError
from close.plugins import loading

__all__ = ["Registry", "plugins_of", "unknown_name"]

T = TypeVar("T")
FEW = 40
"""Names that a message lists."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest one, and all of them where they are few.

    Args:
        kind: what it would be of. name: a text; what YAML or Python put in its place is told as it is.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hints = [f"did you mean {nearest[0]!r}?"] if nearest else []
    if not nearest or len(names) <= FEW:
        more = [f"… and {len(names) - FEW} more"] if len(names) > FEW else []
        hints.append(f"known: {', '.join([*names[:FEW], *more])}")
    return UnknownNameError(f"unknown {kind} {name!r}: {' '.join(hints)}")


class _Brought(Protocol):
    @property
    def origins(self) -> Mapping[str, str]: ...


def plugins_of(*used: tuple[_Brought, Iterable[str]]) -> list[str]:
    """The plug-ins that brought what is used: names in their registries."""
    return sorted({registry.origins[name] for registry, names in used for name in names if name in registry.origins})


class Registry(Generic[T]):
    """A mapping from a name to a class, filled by a decorator.

    Attributes:
        every: all that are made. kind: what its items are, for messages.
        origins: name to the plug-in that brought it; what the package itself brings is not in it.
    """

    every: ClassVar[list[Registry[Any]]] = []

    def __init__(self, kind: str) -> None:
        self.every.append(self)
        self.kind = kind
        self._items: dict[str, T] = {}
        self.origins: dict[str, str] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: put the decorated object under `name`; a name is given once."""

        def put(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered already")
            self._items[name] = item
            if plugin := loading():
                self.origins[name] = plugin
            return item

        return put

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            raise unknown_name(self.kind, name, self._items)
        return self._items[name]

    def items(self) -> list[tuple[str, T]]:
        """Names and items, by name."""
        return sorted(self._items.items())

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))

    def __len__(self) -> int:
        return len(self._items)
