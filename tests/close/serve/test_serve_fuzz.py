"""Bodies of requests, damaged and hostile: what they ask, or one line why not."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fuzzing import INPUTS, Tried, as_json, damaged, reshaped

from close.serve.asked import Caption, Embed, read
from close.serve.limits import Limits, RefusedError

PICTURE = b"\x89PNG\r\n\x1a\n\x00\xff--"
ASKED: dict[str, Any] = {
    "run": "mine",
    "images": [base64.b64encode(PICTURE).decode(), "data:image/png;base64," + base64.b64encode(PICTURE).decode()],
    "task": "vqa",
    "context": ["what is it?", ""],
    "n": 3,
    "num_beams": 5,
    "rerank": "clip",
    "labels": ["a dog", "a cat"],
    "decode": "tree",
    "normalise": True,
    "min_confidence": 0.5,
}
TEXTS: dict[str, Any] = {"texts": ["a dog", "Zoë 😀"], "context": "why?"}
FORM = b"".join(
    b"--cut\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n"
    for head, data in (
        (b'name="images"; filename="a.png"\r\nContent-Type: image/png', PICTURE),
        (b'name="images"; filename="caf\xc3\xa9.png"', b""),
        (b'name="context"', b"what is it?"),
        (b'name="n"', b"2"),
        (b'name="labels"', "a dög".encode()),
    )
) + b"--cut--\r\n"  # fmt: skip
LIMITS = Limits()


def asks(tried: Tried, kind: type[Embed], body: bytes, content: str = "application/json") -> Any:
    """What is asked, or the refusal; what is asked is within the limits, and every text of it is text."""
    found = tried(lambda: read(kind, body, content, LIMITS))
    if isinstance(found, RefusedError):
        assert found.status in (400, 415, 422)
        return found
    for text in (
        *found.texts,
        *(found.contexts if isinstance(found, Caption) else ()),
        *(getattr(found, "labels", 0) or ()),
    ):
        assert len(text.encode()) <= 4 * LIMITS.characters
    assert 0 < len(found.images) + len(found.texts) <= LIMITS.items
    assert all(isinstance(picture.data, bytes) for picture in found.images)
    return found


@pytest.mark.parametrize("values", [ASKED, TEXTS], ids=["images", "texts"])
def test_fuzz_bodies_in_json(tried: Tried, values: dict[str, Any]) -> None:
    assert isinstance(asks(tried, Caption, as_json(values)), Caption)
    for body in map(as_json, reshaped(values)):
        for kind in (Caption, Embed):
            asks(tried, kind, body)
    for body in damaged(as_json(values), INPUTS // 2):
        asks(tried, Caption, body)


def test_fuzz_bodies_that_are_forms(tried: Tried) -> None:
    whole = asks(tried, Caption, FORM, "multipart/form-data; boundary=cut")
    assert [picture.data for picture in whole.images] == [PICTURE, b""]
    for body in damaged(FORM):
        asks(tried, Caption, body, "multipart/form-data; boundary=cut")


def test_fuzz_content_types(tried: Tried) -> None:
    for head in damaged(b'multipart/form-data; boundary="cut"; charset=utf-8'):
        asks(tried, Caption, FORM, head.decode("latin-1"))


@pytest.mark.parametrize("key", ["context", "labels", "texts"])
def test_half_a_character_is_refused_wherever_text_is(key: str) -> None:
    values = TEXTS | {key: ["a", "b\ud83d"]}
    with pytest.raises(RefusedError, match="holds half a character"):
        read(Caption, as_json(values), "application/json", LIMITS)
