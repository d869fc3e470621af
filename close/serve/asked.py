"""What a request asks: JSON, or a form with files, as one checked object."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from email.message import Message
from io import BytesIO
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from close.errors import shown
from close.registry import unknown_name
from close.serve.limits import Limits, RefusedError

__all__ = ["Caption", "Embed", "Picture", "read"]


class Picture(NamedTuple):
    """A file as it came, with the name that it was sent with."""

    name: str
    data: bytes

    def file(self) -> BytesIO:
        """For an encoder, which names it in what it says of it."""
        file = BytesIO(self.data)
        file.name = self.name
        return file


class Embed(BaseModel):
    """Pictures, or texts, for the encoder of a run.

    Attributes:
        run: its name, as `/v1/runs` lists it; without it, the first. images: as base64, or as files of a form.
        texts: in place of images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    run: str | None = None
    images: list[Any] = Field([], json_schema_extra={"items": {"type": "string", "format": "byte"}})
    texts: list[str] = []

    def check(self, limits: Limits) -> None:
        """Hold it against what a server takes.

        Raises:
            RefusedError: it asks for more, or for nothing.
        """
        if bool(self.images) == bool(self.texts):
            raise RefusedError(422, "send images, or texts in place of them")
        _few("images and texts", len(self.images) + len(self.texts), limits.items)
        _check_texts("text", self.texts, limits)
        if not all(map(str.strip, self.texts)):
            raise RefusedError(422, "a text is empty")


class Caption(Embed):
    """The same for a run, with what `close caption` takes beside.

    Attributes:
        task: one of the run's; without it, its first. together: the images (or texts) are one item: views, frames, two pictures.
        context: the question, hypothesis or article: one for all, or one for each.
        n: distinct candidates of each. num_beams: of the search. rerank: "clip" orders candidates by the encoder.
        labels: the closed set of answers. decode, normalise: how one of them is found.
        min_confidence: outputs that are less sure say nothing.
    """

    task: str | None = None
    together: bool = False
    context: str | list[str] = ""
    n: int | None = Field(None, ge=1)
    num_beams: int | None = Field(None, ge=1)
    rerank: Literal["clip"] | None = None
    labels: list[str] | None = Field(None, min_length=1)
    decode: Literal["tree", "score", "free"] | None = None
    normalise: bool = False
    min_confidence: float | None = Field(None, ge=0, le=1)

    def check(self, limits: Limits) -> None:
        """As of `Embed`."""
        super().check(limits)
        _few("candidates", self.n or 1, limits.candidates)
        _few("beams", self.num_beams or 1, limits.candidates)
        _few("labels", len(self.labels or ()), limits.labels)
        _check_texts("context", self.contexts, limits)
        _check_texts("label", self.labels or (), limits)
        room = max(map(len, self.labels or [""])) * len(self.labels or ())
        _few("characters of labels, each as long as the longest", room, limits.label_characters)
        if any(not label.strip() for label in self.labels or ()):
            raise RefusedError(422, "a label is empty")

    @property
    def contexts(self) -> list[str]:
        """One for each item.

        Raises:
            RefusedError: there are as many as neither one nor the items.
        """
        count = 1 if self.together else len(self.images) + len(self.texts)
        found = [self.context] * count if isinstance(self.context, str) else list(self.context)
        if len(found) != count:
            raise RefusedError(422, f"{len(found)} contexts for {count} items: send one for all, or one for each")
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """What of generation's settings was given."""
        names = ("n", "num_beams", "rerank", "labels", "decode", "normalise", "min_confidence")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, False)}


Kind = TypeVar("Kind", bound=Embed)


def read(kind: type[Kind], body: bytes, content_type: str, limits: Limits) -> Kind:
    """A request's body.

    Args:
        kind: what is asked. content_type: of the body, as its header says.
    Raises:
        RefusedError: it is neither JSON nor a form (415), is damaged (400), or asks for what there is not (422).
    """
    about = Message()
    about["Content-Type"] = content_type or "application/json"
    if about.get_content_type() == "multipart/form-data":
        values = _form(kind, body, str(about.get_param("boundary", "")))
    elif about.get_content_type() == "application/json":
        values = _json(body)
    else:
        raise RefusedError(
            415, f"send JSON (application/json) or a form (multipart/form-data), not {shown(content_type)}"
        )
    try:
        asked = kind.model_validate(values, strict=about.get_content_type() == "application/json")
    except ValidationError as error:
        raise RefusedError(422, _explained(error, kind)) from None
    asked.check(limits)
    return asked


def _check_texts(what: str, texts: Sequence[str], limits: Limits) -> None:
    for text in texts:
        _few(f"characters of a {what}", len(text), limits.characters)
        if re.search("[\ud800-\udfff]", text):
            raise RefusedError(422, f"a {what} holds half a character, which no tokenizer takes")


def _few(what: str, count: int, most: int) -> None:
    if count > most:
        raise RefusedError(422, f"{count:,} {what}: this server takes {most:,} at most")


def _json(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise RefusedError(400, f"the body is a JSON object of fields, not {shown(values)}")
    for key in ("images", "texts", "labels"):
        if isinstance(values.get(key), str):
            values[key] = [values[key]]
    images = values.get("images")
    if isinstance(images, list):
        values["images"] = [_decoded(f"image {number}", image) for number, image in enumerate(images, 1)]
    return values


def _decoded(name: str, image: Any) -> Picture:
    if not isinstance(image, str):
        raise RefusedError(422, f"{name} is base64 text of a file, not {shown(image)}")
    if re.match("[a-z]{3,10}://", image, re.IGNORECASE):
        raise RefusedError(422, f"{name} is an address: nothing is fetched; send the file itself, as base64")
    text = re.sub(r"\Adata:[^,]{0,100};base64,", "", image)
    try:
        return Picture(name, base64.b64decode("".join(text.split()), validate=True))
    except (ValueError, binascii.Error):
        raise RefusedError(422, f"{name} is no base64: {shown(image)}") from None


def _form(kind: type[Embed], body: bytes, boundary: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for about, data in _parts(body, boundary):
        name = about.get("name", "")
        if "filename" in about:
            if name != "images":
                raise RefusedError(422, f"files are sent as the field images, not {shown(name)}")
            values.setdefault("images", []).append(Picture(about["filename"] or "image", data))
            continue
        if name == "images":
            raise RefusedError(422, "images are files: the form's field has no filename (curl -F images=@photo.jpg)")
        try:
            values.setdefault(name, []).append(data.decode())
        except UnicodeDecodeError:
            raise RefusedError(400, f"the form's field {shown(name)} is not UTF-8") from None
    several = {name for name in kind.model_fields if name in ("images", "texts", "labels")}
    return {
        name: found if name in several or len(found) > 1 else found[0]
        for name, found in values.items()
        if found != [""]  # what a page's form leaves empty
    }


_NAMED = re.compile(rb';[ \t]*([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))')


def _parts(body: bytes, boundary: str) -> Iterator[tuple[dict[str, str], bytes]]:
    """What a form's parts are called, and their contents (RFC 7578); names are UTF-8, as browsers send them."""
    mark = b"\r\n--" + boundary.encode("ascii", "replace")
    pieces = (b"\r\n" + body).split(mark)
    if not boundary or len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise RefusedError(400, "the form is cut off, or its boundary is not the one that its header names")
    for piece in pieces[1:-1]:
        head, gap, data = piece.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-disposition:")]
        if not gap or len(lines) != 1:
            raise RefusedError(400, "a part of the form does not say what it is (Content-Disposition)")
        found = _NAMED.findall(lines[0])
        yield {name.decode().lower(): _plain(quoted or bare) for name, quoted, bare in found}, data


def _plain(value: bytes) -> str:
    return re.sub(r'\\([\\"])', r"\1", value.decode("utf-8", "replace"))


def _explained(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first fault, in a line."""
    first = error.errors(include_url=False)[0]
    path: Sequence[Any] = [part for part in first["loc"] if part not in ("str", "list[str]")]
    name = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        return str(unknown_name("field", name, kind.model_fields))
    return f"{name}: {first['msg']}, not {shown(first['input'])}"
