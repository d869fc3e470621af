"""Names to classes, filled by a decorator; an unknown name tells the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from data_gen.errors import InputError

__all__ = ["Registry"]


class _Named(Protocol):
    name: str


T = TypeVar("T", bound=_Named)


class Registry(Generic[T]):
    """Classes by name, in the order that they came in.

    Args:
        kind: what they are, for messages.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Decorator: put a class under `name`, which becomes its attribute `name`; each name is given once.

        Raises:
            ValueError: the name is taken.
        """

        def put(item: type[T]) -> type[T]:
            if name in self._classes:
                raise ValueError(f"{self._kind} {name!r} is registered already")
            item.name = name
            self._classes[name] = item
            return item

        return put

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._classes:
            near = difflib.get_close_matches(name, self._classes, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(f"no {self._kind} {name!r}: {hint}known: {', '.join(self._classes)}")
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)
