"""Which optional parameters a server takes: learnt from what it refuses, whatever its words and its status."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from data_gen.client.exchange import dumped
from data_gen.text.words import clean

__all__ = ["RefusedError", "Terms", "Trial", "named", "optional", "parameter"]

_SCHEMA, _JSON, _LIMIT = "json_schema", "response_format", "max_tokens"
_OTHERS = (
    "seed",
    "stop",
    "top_k",
    "min_p",
    "best_of",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "top_p",
)
_FORMAT = r"response.?format|json.?schema|json.?object|json.?mode|structured.?outputs?|guided.?\w+|grammar|schema"
_WORDS = {name: re.sub("_", r"[\\s_-]?", name) for name in _OTHERS} | {"stop": r"stop(?:[\s_-]?sequences?)?"}


class RefusedError(Exception):
    """The server refuses a request, perhaps for one of its parameters.

    Args:
        message: what it says.
        param: the parameter that it names by itself, beside the message.
        error: what to raise where no parameter is to blame.
        asked: whether a parameter may be to blame without being named.
    """

    def __init__(self, message: str, param: str, error: Exception, *, asked: bool) -> None:
        super().__init__(message)
        self.message, self.param, self.error, self.asked = message, param, error, asked


class Terms:
    """What a server is known to take, shared by all requests.

    Args:
        tell: is given a line for each parameter that is left out from then on.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.dropped: frozenset[str] = frozenset()
        self.accepted: frozenset[str] = frozenset()

    def learn(self, sent: frozenset[str], left_out: frozenset[str], whys: Mapping[str, str]) -> None:
        """A request was answered that had `sent` and not `left_out`, after refusals that said `whys` (see `Trial`)."""
        self.accepted |= sent
        new = left_out - self.dropped
        self.dropped |= left_out
        for name in sorted(new - {_LIMIT}):
            what = "a JSON schema: JSON is asked for without one" if name == _SCHEMA else f"{name}: it is left out"
            self._tell(f"the server does not take {what} ({whys.get(name) or whys.get('', '')})")

    def body(self, whole: Mapping[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
        """A request's body without what the server does not take, and without `left_out`."""
        gone, body = self.dropped | left_out, dict(whole)
        if _SCHEMA in gone and _JSON in body:
            body[_JSON] = {"type": "json_object"}
        if _LIMIT in gone:
            body["max_completion_tokens"] = body[_LIMIT]
        return {name: value for name, value in body.items() if name not in gone}


def optional(body: Mapping[str, Any]) -> frozenset[str]:
    """What may be left out of a body, by name; a JSON schema before JSON as such."""
    names = {name for name in (_LIMIT, *_OTHERS) if name in body}
    if _JSON in body:
        names.add(_SCHEMA if body[_JSON].get("type") == _SCHEMA else _JSON)
    return frozenset(names)


class Trial:
    """One request's search for what to leave out: what the server names, else each part alone, else all together."""

    def __init__(self) -> None:
        self.left_out: frozenset[str] = frozenset()
        self.whys: dict[str, str] = {}  # what the server said of each parameter; "" where it first named none
        self._named: frozenset[str] = frozenset()
        self._queue: list[frozenset[str]] | None = None

    def next(self, refusal: RefusedError, sent: frozenset[str], accepted: frozenset[str]) -> bool:
        """Whether there is something else to leave out: then it is in `left_out`.

        Args:
            refusal: of the last try.
            sent: the optional parameters that it had.
            accepted: those that the server took in other requests; only its own word makes them suspects.
        """
        name = named(refusal, sent)
        self.whys.setdefault(name or "", clean(refusal.message)[:120])
        if name:
            self._named |= {name}
            self.left_out, self._queue = self._named, None
            return True
        if not refusal.asked:
            return False
        if self._queue is None:
            suspects = sorted(sent - accepted - {_LIMIT}, key=lambda name: name != _SCHEMA)
            alone = [frozenset({name}) for name in suspects]
            formats = [frozenset({_SCHEMA, _JSON})] if _SCHEMA in suspects else []
            everything = [frozenset({*suspects, _JSON})] if suspects else []
            self._queue = list(dict.fromkeys([*alone[:1], *formats, *alone[1:], *everything]))
        if not self._queue:
            return False
        self.left_out = self._named | self._queue.pop(0)
        return True


def named(refusal: RefusedError, sent: frozenset[str]) -> str | None:
    """The parameter of a request that a refusal names, the earliest where there are several."""
    text = f"{refusal.param} {refusal.message}"
    if _LIMIT in sent and "max_completion_tokens" in text:
        return _LIMIT
    words = {name: _WORDS[name] for name in sent & _WORDS.keys()}
    words |= dict.fromkeys(sent & {_SCHEMA, _JSON}, _FORMAT)
    places = {name: re.search(rf"(?<![A-Za-z]){word}(?![A-Za-z])", text, re.IGNORECASE) for name, word in words.items()}
    found = [(match.start(), name) for name, match in places.items() if match]
    return min(found)[1] if found else None


def parameter(body: object) -> str:
    """The parameter that an error's body names beside its message: OpenAI's `param`, or pydantic's `loc`."""
    while isinstance(body, Mapping):
        if isinstance(body.get("param"), str):
            return str(body["param"])
        inner = next(
            (body[key] for key in ("error", "detail", "message") if isinstance(body.get(key), Mapping | list)), None
        )
        body = inner
    if isinstance(body, list):
        return " ".join(dumped(item.get("loc")) for item in body if isinstance(item, Mapping) and item.get("loc"))
    return ""
