"""What a response body holds: a text, whether it is whole, and why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from data_gen.client.exchange import Prompt, Reply, RequestError, error_message
from data_gen.text.files import too_deep
from data_gen.text.thoughts import without_thought
from data_gen.text.words import clean, count_tokens

__all__ = ["read_reply"]

_CUT = {"length", "max_tokens", "model_length", "max_output_tokens"}
_MOST_TOKENS = 10**9
_WITHHELD = {"content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii"}


def read_reply(answer: str, prompt: Prompt, model: str) -> Reply:
    """The reply in a response body.

    Args:
        answer: the body.
        prompt: that it answers.
        model: its name where the server tells none.

    Raises:
        RequestError: there is no text in it, with the cause.
    """
    try:
        data = json.loads(answer)
    except (ValueError, RecursionError):
        begun = answer.lstrip().startswith("{")  # and broken off, on the way here
        raise RequestError("the answer is not JSON", answer, lost=begun) from None
    if too_deep(data):
        raise RequestError("the answer is nested too deep", answer)
    data = data if isinstance(data, dict) else {}
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    for holder in (data, choice):
        if holder.get("error"):
            told = f"the server answers with an error: {clean(error_message(holder))[:300]}"
            raise RequestError(told, answer, status=_status(holder["error"]), body=holder)
    message = choice["message"] if isinstance(choice.get("message"), dict) else {"content": choice.get("text")}
    usage = data["usage"] if isinstance(data.get("usage"), dict) else {}
    finish = clean(str(choice.get("finish_reason") or "")).casefold()[:40]
    text = _content(message.get("content"))
    if not text and isinstance(message.get("refusal"), str):
        text = message["refusal"]
    cut, thought = finish in _CUT, _reasoned(message, usage)
    tokens_in, tokens_out = _tokens(usage, prompt, text or "")
    took = {"in": tokens_in, "out": tokens_out} if choice else {}
    if finish in _WITHHELD:
        raise RequestError(f"the server withholds the answer ({finish})", answer, final=True, took=took)
    if text is None and not (cut and thought):
        ended = f" (finish_reason {finish!r})" if finish not in ("", "stop") else ""
        told = f"the answer holds {'only reasoning, no text' if thought else 'no text'}{ended}"
        raise RequestError(told, answer, took=took)
    if not text and thought and not cut:
        raise RequestError("the answer holds only reasoning, no text", answer, took=took)
    text = text or ""
    if cut and any(stop in text for stop in prompt.stop) and "text" in choice:
        text, cut = min((text.partition(stop)[0] for stop in prompt.stop), key=len), False  # where stops are not known
    why = f"{_left(text, thought)} before the limit of {prompt.max_tokens} tokens" if cut else ""
    name = data.get("model")
    return Reply(text, clean(name)[:200] if isinstance(name, str) else model, tokens_in, tokens_out, why)


def _status(error: object) -> int:
    """The status of an error that came with status 200; 0 where it says none."""
    code, kind = (error.get("code"), error.get("type")) if isinstance(error, dict) else (None, None)
    if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(str(code)[:4]) < 600:
        return int(code)
    return 400 if "invalid" in f"{code} {kind}" else 0


def _left(text: str, thought: bool) -> str:
    """What came of an answer that was cut off."""
    rest = without_thought(text)
    return "only reasoning came" if rest is None or (thought and not rest.strip()) else "the answer did not end"


def _content(value: Any) -> str | None:
    """The text of a message: a string, or a list of parts, of which thoughts are left out."""
    if isinstance(value, list):
        parts = [part for part in value if isinstance(part, dict)]
        texts = [part.get("text") for part in parts if part.get("type", "text") in ("text", "output_text")]
        found = [text for text in texts if isinstance(text, str)]
        return "".join(found) if found else None
    return value if isinstance(value, str) else None


def _reasoned(message: Mapping[str, Any], usage: Mapping[str, Any]) -> bool:
    """Whether the model thought, by what the server shows of it."""
    if message.get("reasoning_content") or message.get("reasoning") or message.get("thinking"):
        return True
    content = message.get("content")
    if isinstance(content, list) and any(
        "think" in str(part.get("type")) for part in content if isinstance(part, dict)
    ):
        return True
    details = usage.get("completion_tokens_details")
    return isinstance(details, dict) and bool(details.get("reasoning_tokens"))


def _tokens(usage: Mapping[str, Any], prompt: Prompt, text: str) -> tuple[int, int]:
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    guesses = [count_tokens(prompt.text), count_tokens(text)]
    one, other = (c if type(c) is int and 0 < c < _MOST_TOKENS else g for c, g in zip(counts, guesses, strict=True))
    return one, other
