"""What every contrastive encoder offers, whatever its library and its second modality."""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from close.encoders.devices import exact_convolutions, opening_threads, pick_device
from close.encoders.identity import taken
from close.errors import CloseError, DataError, WeightsError, counted, reason, shown
from close.fast.memory import in_cache, kept_memory
from close.fast.packing import pack
from close.fast.precision import INT8, pick_dtype, pick_precision
from close.io.media import describe, is_one, picture_suffixes
from close.io.places import last_part, moved_reference
from close.io.plain import read_plain
from close.io.pretrained import refuse_bad_weights, trusting, trusts_code
from close.plugins import load_plugins, loaded, sum_of_code
from close.registry import Registry

__all__ = [
    "ENCODERS",
    "ContrastiveEncoder",
    "check_ids",
    "check_sizes",
    "of_parts",
    "told_cut",
    "windows",
]

_log = logging.getLogger(__name__)


def windows(items: Any, size: int) -> Iterator[list[Any]]:
    """Consecutive lists of at most `size` items of any iterable."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


ENCODERS: Registry[type[ContrastiveEncoder]] = Registry("encoder")


class ContrastiveEncoder(ABC):
    """A frozen contrastive model: text and a second modality ("image") in one space.

    The encoder owns the loader of its second modality (pictures for CLIP, audio for CLAP); nothing else opens such a file.
    A family is registered under the word that its references begin with: `@ENCODERS.register("open_clip")`.

    Attributes:
        items: what its second tower takes, for messages.
        form: how its references look, for messages. marker: a file that its local directories have; None if it has none.
        name: the reference it was loaded by (`load_encoder`), stored in tables and runs.
        embed_dim: width D of the shared space.
        fingerprint: of the weights, or where torch has none of the class and what its reference names; decides whether tables,
            adapters and runs fit together.
        weights: how many there are. reading: what else decides vectors: of a local directory its settings, how texts and items
            are prepared; of an encoder without weights its code. Vectors that were kept are not taken for those of another.
        precision: fp32, bf16, fp16 or int8: what `auto` came to.
        int8_cosines: of int8 the least cosine with features in the precision of before: of "texts", of "images".
        context: tokens of a text that it reads, what is behind them is cut; None where that is not known.
        family: the registered class whose `load` made it, where `load_encoder` did.
    """

    items: str = "images"
    int8_cosines: dict[str, float] | None = None
    reading: str = ""
    form: ClassVar[str]
    marker: ClassVar[str | None] = None
    context: int | None = None
    family: type[ContrastiveEncoder] | None = None

    @classmethod
    @abstractmethod
    def load(
        cls, reference: str, *, name: str, device: str | torch.device | None = None, precision: str = "auto"
    ) -> ContrastiveEncoder:
        """The encoder of a reference, without the word that it begins with; or of a local directory.

        Args:
            name: what tables and runs store.
        Raises:
            UnknownNameError, MissingError, WeightsError: see `load_encoder`.
        """

    def __init__(self, name: str, model: nn.Module, *, device: str | torch.device | None, precision: str) -> None:
        refuse_bad_weights(model, f"encoder {name}")
        self._told = set[str]()
        self.name = name
        self.weights = sum(parameter.numel() for parameter in model.parameters())
        self.device = pick_device(device)
        self._asked = None if device is None else self.device.type
        self.precision = pick_precision(precision, self.device, self.weights)
        self.dtype = pick_dtype(self.precision)
        with taken(model, type(self).__qualname__) as self.fingerprint:
            self.model: Any = model.requires_grad_(False).eval().to(self.device, self.dtype)
            if precision != INT8:  # `load_encoder` packs that, once it can be tried
                pack(self.model)
        if not self.fingerprint:
            about = f"{type(self).__qualname__} {moved_reference(name, _sum_of_place)}"
            self.fingerprint = hashlib.sha256(about.encode()).hexdigest()[:32]
            self.reading = _code(type(self))

    def __reduce__(self) -> Any:
        """Pickled as its reference: another process loads the same weights for itself.

        On the kind of device that was asked for, which may be any; in this one's precision, so that a table is of one.
        """
        settings: Any = {"device": "cpu" if self.precision == INT8 else self._asked, "precision": self.precision}
        return partial(_load_again, trust=trusts_code(), **settings), (self.name, loaded())

    def __repr__(self) -> str:
        about = f"embed_dim={self.embed_dim}, device={str(self.device)!r}, precision={self.precision!r}"
        return f"{type(self).__name__}({self.name!r}, {about})"

    @property
    def item_suffixes(self) -> tuple[str, ...]:
        """How names of the files end that its second tower takes; here, all pictures."""
        return picture_suffixes()

    @property
    @abstractmethod
    def embed_dim(self) -> int:
        """Width D of the shared space."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Model inputs of N texts, and their (N,) lengths in tokens."""

    @abstractmethod
    def text_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) raw features of tokenised texts."""

    @abstractmethod
    def open(self, item: Any) -> Any:
        """A file, or what its library would make of it, as what `prepare` takes.

        Raises:
            DataError: the file can't be read.
        """

    @abstractmethod
    def prepare(self, item: Any) -> dict[str, Tensor]:
        """Model inputs of one opened item, each with a batch axis: of 1, or of the parts that it is cut into.

        The features of an item of several parts are the mean of the parts' unit ones.
        """

    @abstractmethod
    def image_tower(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) raw features of prepared items."""

    def trim(self, inputs: dict[str, Tensor], length: int) -> dict[str, Tensor]:
        """The inputs cut to `length` tokens where that leaves the features unchanged; here, as they are."""
        return inputs

    def count_cut(self, texts: Sequence[str], inputs: dict[str, Tensor], lengths: Tensor) -> int:
        """How many of N tokenised texts are longer than the context; here, none that is known of."""
        return 0

    def text_features(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """(N, D) raw float32 features on the CPU; texts of like length share a batch.

        Raises:
            DataError: a text is empty or not a string.
        """
        return self.read_texts(texts, batch_size)[0]

    @torch.inference_mode()
    def read_texts(self, texts: Sequence[str], batch_size: int = 256) -> tuple[Tensor, int]:
        """`text_features`, and how many of the texts are longer than the context and were cut."""
        if not len(texts):  # no tokenizer takes none
            return torch.empty(0, self.embed_dim), 0
        self.check_texts(texts)
        batch_size = counted(batch_size, "batch_size")
        inputs, lengths = self.tokenize(list(texts))
        cut = self.count_cut(texts, inputs, lengths)
        order = torch.argsort(lengths, stable=True)
        out = torch.empty(len(texts), self.embed_dim)
        for batch in order.split(batch_size):
            size = in_cache(len(batch), int(lengths[batch].max()) * self.embed_dim, self.weights, self.device)
            for rows in batch.split(size):
                cut_off = self.trim({key: value[rows] for key, value in inputs.items()}, int(lengths[rows].max()))
                out[rows] = self._through(self.text_tower, cut_off)
        return out, cut

    @staticmethod
    def check_texts(texts: Sequence[str]) -> None:
        """Refuse what no tokenizer takes.

        Raises:
            DataError: a text is empty, not a string, or holds half a character.
        """
        for index, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"text {index} is {text!r}: expected a non-empty string")
            if not text.isascii() and re.search("[\ud800-\udfff]", text):
                raise DataError(f"text {index} holds half a character, which no tokenizer takes: {text!r}")

    def image_features(self, items: Sequence[Any], batch_size: int = 64) -> tuple[Tensor, dict[int, CloseError]]:
        """(N, D) raw float32 features on the CPU, and the error of every item that could not be read (its row is NaN)."""
        out = torch.full((len(items), self.embed_dim), torch.nan)
        errors: dict[int, CloseError] = {}
        start = 0
        for features, wrong in self.image_batches(items, batch_size):
            out[start : start + len(features)] = features
            errors |= {start + index: error for index, error in wrong.items()}
            start += len(features)
        return out, errors

    def image_batches(
        self, items: Sequence[Any], batch_size: int = 64
    ) -> Iterator[tuple[Tensor, dict[int, CloseError]]]:
        """`image_features` of one batch after the other.

        Threads open the items ahead, while the model, or whoever takes the batches, works on those before them.
        """
        batch_size = counted(batch_size, "batch_size")
        several = len(items) > batch_size  # one batch leaves nothing for a next one
        with kept_memory() if several else nullcontext(), opening_threads(self.device) as pool:
            for window in windows(_ahead(pool, self.opened, list(items), 2 * batch_size), batch_size):
                errors = {index: value for index, value in enumerate(window) if isinstance(value, CloseError)}
                out = torch.full((len(window), self.embed_dim), torch.nan)
                good = [index for index in range(len(window)) if index not in errors]
                if good:
                    out[good] = self._features_of([window[index] for index in good], batch_size)
                yield out, errors

    def encode_text(self, texts: str | Iterable[str], *, batch_size: int = 256) -> Tensor:
        """(N, D) unit float32 rows; texts that are cut are told, once an encoder.

        Raises:
            DataError: a text is empty or not a string.
        """
        if texts is None or (is_one(texts) and not isinstance(texts, str)):
            raise DataError(f"texts are one text or several, not {shown(texts)}")
        many = [texts] if isinstance(texts, str) else list(texts)
        features, cut = self.read_texts(many, batch_size)
        if cut:
            self.tell_once("cut", told_cut(cut, len(many), self.context))
        return F.normalize(features, dim=-1)

    def encode_image(self, items: Any, *, batch_size: int = 64) -> Tensor:
        """(N, D) unit float32 rows of a file, an opened item or an array, or of several: a list, a generator, a column of names.

        Raises:
            DataError: an item can't be read; it is named.
        """
        many = [items] if isinstance(items, dict) or is_one(items) else list(items)
        features, errors = self.image_features(many, batch_size)
        for error in errors.values():
            raise error
        return F.normalize(features, dim=-1)

    def opened(self, item: Any) -> dict[str, Tensor] | CloseError:
        """Model inputs of one item, which are an item too, already opened; or why it can't be read."""
        if isinstance(item, dict):
            return item
        if item is None:
            return DataError("an item is None: expected a file's name, its bytes, an open file or an array")
        try:
            opened = self.open(item)
        except CloseError as error:
            return error
        except Exception as error:  # decoders raise whatever they meet in a damaged file
            return DataError(f"can't read {describe(item)}: {reason(error)}")
        return self.prepare(opened)

    @torch.inference_mode()
    def _features_of(self, prepared: list[dict[str, Tensor]], batch_size: int) -> Tensor:
        """(N, D) features of N prepared items, whatever the number of each one's parts."""
        parts = [len(next(iter(inputs.values()))) for inputs in prepared]
        batch = {key: torch.cat([inputs[key] for inputs in prepared]) for key in prepared[0]}
        numbers = sum(value.numel() for value in batch.values()) // sum(parts)
        size = in_cache(min(batch_size, sum(parts)), numbers, self.weights, self.device)
        some = ({key: value[i : i + size] for key, value in batch.items()} for i in range(0, sum(parts), size))
        return of_parts(torch.cat([self._through(self.image_tower, inputs) for inputs in some]), parts)

    def tell_once(self, what: str, message: str) -> None:
        """Warn of something that an encoder says once, however often it happens."""
        if what not in self._told:
            self._told.add(what)
            _log.warning("encoder %s: %s", self.name, message)

    def _through(self, tower: Callable[[dict[str, Tensor]], Tensor], inputs: dict[str, Tensor]) -> Tensor:
        """(B, D) float32 features on the CPU."""
        with exact_convolutions(self.device, self.dtype):
            return tower(self._place(inputs)).float().cpu()

    def _place(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            key: value.to(self.device, self.dtype if torch.is_floating_point(value) else None, non_blocking=True)
            for key, value in inputs.items()
        }


def _sum_of_place(place: str) -> str:
    """What a place that a reference names stands for, wherever it lies: the file's content, or a folder's name."""
    if not Path(place).is_file():
        return last_part(place)
    with Path(place).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _code(kind: type) -> str:
    """What is known of the file that a class is defined in (`sum_of_code`); nothing of one that was typed in."""
    try:
        return sum_of_code(Path(inspect.getfile(kind)))
    except (OSError, TypeError):
        return ""


def _load_again(name: str, plugins: list[str], *, trust: bool, **settings: Any) -> ContrastiveEncoder:
    """In another process, with the plug-ins and the trust that this one was given."""
    from close.encoders import load_encoder

    load_plugins(plugins)
    with trusting(trust):
        return load_encoder(name, **settings)


LAYERS, SIZE = 1000, 10**8


def check_sizes(config: Path) -> None:
    """Refuse a configuration with sizes that no model has, before memory is taken for them.

    Raises:
        MissingError: no such file. WeightsError: no JSON, more than 1,000 layers, or a number above 100 million.
    """
    try:
        waiting: list[tuple[str, Any]] = [("", read_plain(config))]
    except DataError as error:
        raise WeightsError(str(error)) from None
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, part) for part in value]
        elif isinstance(value, (int, float)) and value > (LAYERS if re.search("layers|depth", key) else SIZE):
            raise WeightsError(f"{config}: {key} is {value}, more than any model has")


def check_ids(ids: Tensor, vocabulary: int | None, name: str) -> None:
    """Refuse tokens that the text tower does not know; on an accelerator they would end the process.

    Raises:
        WeightsError: there is one.
    """
    if vocabulary and ids.numel() and int(ids.max()) >= vocabulary:
        raise WeightsError(
            f"encoder {name}: its tokenizer gives token {int(ids.max())}, its text tower knows {vocabulary}: the files do not "
            "belong together"
        )


def told_cut(cut: int, count: int, context: int | None) -> str:
    """What is said of texts that are longer than the context."""
    is_longer, was = ("is", "was") if cut == 1 else ("are", "were")
    return f"{cut} of {count} texts {is_longer} longer than the encoder reads ({context} tokens) and {was} cut"


def of_parts(features: Tensor, parts: list[int]) -> Tensor:
    """(N, D) features of items of so many parts each, by the (P, D) ones of all parts: the mean of unit ones."""
    if max(parts) == 1:
        return features
    return torch.stack([own[0] if len(own) == 1 else F.normalize(own, dim=-1).mean(0) for own in features.split(parts)])


def _ahead(pool: ThreadPoolExecutor, function: Any, items: list[Any], depth: int) -> Iterator[Any]:
    """`map` that keeps at most `depth` results ahead of its reader."""
    pending = [pool.submit(function, item) for item in items[:depth]]
    for index in range(len(items)):
        result = pending[index].result()
        pending[index] = None  # type: ignore[call-overload]
        if index + depth < len(items):
            pending.append(pool.submit(function, items[index + depth]))
        yield result
