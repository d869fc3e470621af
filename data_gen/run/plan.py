"""The plan of a run: what request number i asks, and what its answer means. Nothing here knows of time or servers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from data_gen.client import Prompt
from data_gen.errors import InputError
from data_gen.filters import Candidate, Filter, Setting, default_filters, make_filter
from data_gen.prompts.answers import Reading, parse
from data_gen.prompts.compose import compose, instruct, json_schema
from data_gen.prompts.keywords import Sampler, Uniform, UnigramMatched, extract_keywords
from data_gen.prompts.shots import read_shots, show, style_shots
from data_gen.prompts.style import Style, load_style
from data_gen.run.progress import note
from data_gen.text.files import Text, read_lines, read_texts
from data_gen.text.language import Language, load_language
from data_gen.text.words import count_tokens, count_words
from data_gen.verbs import VERBS, CaptionOptions, Options, Record, Row, Shot, TextOptions, Verb

__all__ = ["Given", "Plan", "Request", "Unit"]

# what changes no row: where and how fast the run goes, when it stops, and files, which count by their content
_NOT_CONTENT = {"out", "count", "base_url", "concurrency", "timeout", "retries", "patience", "max_tokens", "max_cost"}
_NOT_CONTENT |= {"price_in", "price_out", "batch", "answer_tokens"}
_MIN_COUNT = 5


@dataclass(frozen=True)
class Given:
    """What one answer is asked for: keywords, or a text of the input with its id."""

    text: str
    keywords: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class Request:
    """Request number `index` of the run."""

    index: int
    given: tuple[Given, ...]
    shots: tuple[str, ...]
    prompt: Prompt


@dataclass(frozen=True)
class Unit:
    """Rows that are accepted together: at least `least` of them must pass the filters."""

    given: Given
    rows: list[Row]
    candidates: list[Candidate]
    least: int


class Plan:
    """Requests by number, from the options alone and, for unigram matching, the words accepted before each block.

    Args:
        name: of the verb.
        options: of the run.
        began: how the run began that is continued (see `store.begun`): the same files may be named otherwise now, and their
            names in its rows stay as they were.

    Attributes:
        names: what files are called in the rows.
        sampler: of keywords; it draws none where texts are given.

    Raises:
        InputError: a file is unreadable, empty or does not fit.
    """

    def __init__(self, name: str, options: Options, began: Mapping[str, Any] | None = None) -> None:
        kind = VERBS[name]
        if not isinstance(options, kind.options_class):
            raise InputError(f"{name} takes {kind.options_class.__name__}, got {type(options).__name__}")
        self.verb: Verb = kind(options)
        self._options = options
        self._style_name = options.style or self.verb.style
        self.style = load_style(self._style_name)
        self._language = load_language(options.language)
        self._began, named = (began or {}).get("params", {}), (began or {}).get("names", {}).get("style")
        known = isinstance(named, str) and self._began.get("style") == _settings(self.style)
        self.names = {"style": str(named) if known else self._style_name}
        self._shots = self._find_shots()
        self._shown = [show(self.verb, shot) for shot in self._shots]
        self._many = (options.per_request or self.verb.many) if self.verb.many else 0
        self._givens = 1 if self.verb.many else options.per_request or 1
        self._texts_per_request = max(self._givens, self._many, 1)
        labelled = self._givens == 1 and not self._many and len(self.verb.fields) == 1
        self._structured = options.endpoint == "chat" and not labelled
        if options.endpoint == "completions" and self._givens > 1:
            raise InputError("--per-request above 1 needs --endpoint chat, whose answers can be told apart")
        if 0 < self._many < self.verb.least <= self.verb.many:
            told = f"--per-request must be at least {self.verb.least} for {name}, whose rows are accepted together"
            raise InputError(f"{told}, got {self._many}")
        self._instruction = instruct(self.verb, self.style, self._language, self._many)
        self._seed = f"{options.seed}:{options.shard_of[0]}"
        self.sampler, self._texts = self._find_source()

    def _find_shots(self) -> list[Shot]:
        options, verb = self._options, self.verb
        if options.examples:
            count = options.keyword_count if isinstance(options, CaptionOptions) else 0
            return read_shots(verb, options.examples, self._language, count, options.seed)
        shots = style_shots(verb, self.style, self.names["style"])
        if verb.is_keyword_driven() and not shots and options.shots:
            raise InputError(f"the style {self._style_name!r} has no examples of its own: give --examples FILE")
        if shots and self._language.name != "English" and not self._style_name.endswith(".toml"):
            told, wanted = f"the examples of the style {self._style_name!r} are English", self._language.name
            if isinstance(options, CaptionOptions) and not (options.keywords or options.corpus):
                raise InputError(
                    f"{told}, and so are keywords from them: give --examples, --keywords or --corpus in {wanted}"
                )
            if options.shots:
                note(f"{told}; --examples takes others in {wanted}, --shots 0 shows none")
        return shots

    def _find_source(self) -> tuple[Sampler, list[Text]]:
        options = self._options
        if isinstance(options, CaptionOptions):
            return self._find_sampler(options), []
        assert isinstance(options, TextOptions)  # a verb takes one or the other
        shard, shards = options.shard_of
        texts = read_texts(options.input)[shard::shards]
        if not texts:
            raise InputError(f"{options.input} holds fewer texts than there are shards ({shards})")
        return Uniform([]), texts

    def _find_sampler(self, options: CaptionOptions) -> Sampler:
        corpus = [text.text for text in read_texts(options.corpus)] if options.corpus else []
        shot_texts = [text for shot in self._shots for record in shot.records for text in record.values()]
        texts = corpus or shot_texts
        counts = count_words(texts)
        least = (options.min_count or _MIN_COUNT) if corpus else 1
        if options.keywords:
            keywords = list(dict.fromkeys(read_lines(options.keywords)))
        else:
            keywords = extract_keywords(counts, self._language, least)
        if not keywords:
            source = options.keywords or options.corpus or options.examples or self._style_name
            hint = f" {least} times or more; lower --min-count" if corpus and not options.keywords else ""
            raise InputError(f"no keyword found in {source}{hint}")
        if options.sampling == "uniform":
            return Uniform(keywords)
        sampler = UnigramMatched(keywords, counts, texts)
        if gone := sampler.left_out:
            listed = ", ".join(gone[:5]) + ", …" * (len(gone) > 5)
            note(f"keywords that the corpus lacks are not asked for ({len(gone)} of {len(keywords)}): {listed}")
        return sampler

    @property
    def rows_per_request(self) -> int:
        """Rows that a request brings where nothing is rejected."""
        return self._givens * max(self._many, self.verb.least, 1)

    def filters(self) -> list[Filter]:
        """Fresh filters: the ones that are always on, then those asked for."""
        options = self._options
        setting = Setting(self.style, self._language, options.seed)
        asked = [make_filter(name, setting) for name in options.filter or ()]
        return [*default_filters(self._shots), *asked]

    @cached_property
    def params(self) -> dict[str, Any]:
        """Everything that the rows depend on, as JSON; files by their content."""
        values = {k: v for k, v in dataclasses.asdict(self._options).items() if k not in _NOT_CONTENT}
        values = {k: _content(v) if isinstance(v, Path) else v for k, v in values.items()}
        filters = [_parts(option) for option in self._options.filter or ()]
        values["filter_files"] = [_content(Path(part)) for parts in filters for part, is_file in parts if is_file]
        if self._began.get("filter_files") == values["filter_files"] and _alike(self._began.get("filter"), filters):
            values["filter"] = self._began["filter"]
        values |= {"style": _settings(self.style), "language": _settings(self._language)}
        if not self.sampler.adaptive:
            del values["block"]
        return {"verb": self.verb.name, **values}

    @cached_property
    def run_id(self) -> str:
        """Short name of the run, the same for the same parameters."""
        return _digest(json.dumps(self.params, sort_keys=True).encode())[:8]

    def sampling(self) -> dict[str, float]:
        """The model's sampling parameters: the style's, and over them the options'."""
        given = {"temperature": self._options.temperature, "top_p": self._options.top_p}
        return {**self.style.sampling, **{name: value for name, value in given.items() if value is not None}}

    def request(self, index: int) -> Request:
        """Request number `index`, from 0."""
        rng = Random(f"{self._seed}:{index}")
        given = tuple(self._give(rng, index * self._givens + j) for j in range(self._givens))
        chosen = rng.sample(range(len(self._shots)), min(self._options.shots, len(self._shots)))
        shown = [self._shown[i] for i in chosen]
        text = compose(self.verb, self._instruction, shown, [g.text for g in given], self._structured)
        line = len(self.verb.fields) == 1 and not self._many
        prompt = Prompt(
            text,
            (self._options.answer_tokens or self.style.max_tokens) * self._texts_per_request,
            rng.getrandbits(31),
            json_schema(self.verb) if self._structured else None,
            ("\n",) if line else ("\n\n",),
        )
        return Request(index, given, tuple(self._shots[i].id for i in chosen), prompt)

    def _give(self, rng: Random, number: int) -> Given:
        if not self._texts:
            keywords = self.sampler.draw(rng, self._options.keyword_count)  # type: ignore[attr-defined]
            if self.style.names:
                keywords = (rng.choice(self.style.names), *keywords)
            return Given(", ".join(keywords), keywords)
        epoch, place = divmod(number, len(self._texts))
        text = self._texts[self._order(epoch)[place]]
        return Given(text.text, id=text.id)

    def _order(self, epoch: int) -> list[int]:
        """The order of the input in an epoch; each epoch has its own."""
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._epoch_order = epoch, list(range(len(self._texts)))
            Random(f"{self._seed}:order:{epoch}").shuffle(self._epoch_order)
        return self._epoch_order

    def read(self, answer: str) -> Reading:
        """The records in an answer, none where it can't be read."""
        text = answer if self._structured or self._options.endpoint == "chat" else f"{self.verb.fields[0]}:{answer}"
        reading = parse(text, self.verb.fields, self.verb.given, one=self._givens == 1 and not self._many)
        found = len(reading.records)
        if self._givens > 1 and found not in (0, self._givens):  # nobody knows which belongs to which
            return Reading([], f"{found} items for {self._givens} lines")
        return reading

    def units(self, request: Request, records: Sequence[Record], verdicts: Sequence[str] = ()) -> list[Unit]:
        """The rows in an answer's records."""
        if self._givens > 1:
            pairs = [(given, [record]) for given, record in zip(request.given, records, strict=bool(records))]
        else:
            pairs = [(request.given[0], list(records[: self._many or 1]))] if records else []
        stem, number = f"{self.verb.name}-{self.run_id}-{request.index:06d}", 0
        units = []
        for given, some in pairs:
            for rows in self.verb.rows(given.text, some):
                candidates = []
                for row in rows:
                    verdict = verdicts[number] if number < len(verdicts) else ""
                    row["id"] = f"{stem}-{number}"
                    candidates.append(self._candidate(row, given, verdict))
                    number += 1
                if self.verb.grouped:
                    for row in rows:
                        row["group"] = given.id
                units.append(Unit(given, rows, candidates, self.verb.least))
        return units

    def _candidate(self, row: Row, given: Given, verdict: str) -> Candidate:
        text = " ".join(str(row[part]) for part in self.verb.written)
        return Candidate(row["id"], given.text, text, self.verb.key(row), given.keywords, verdict)

    def judge(self, request: Request, records: Sequence[Record]) -> list[Prompt]:
        """The question whether it is right about each row in an answer's records, for a second call."""
        units = self.units(request, records)
        return [self._question(request, unit.given, self.verb.record(row)) for unit in units for row in unit.rows]

    def _question(self, request: Request, given: Given, record: Record) -> Prompt:
        lines = [f"{self.verb.given}: {given.text}", *(f"{k}: {v}" for k, v in record.items())]
        text = "\n".join([*lines, "", f"{self.verb.judged} Answer yes or no."])
        if self._options.endpoint == "completions":  # of a model that goes on from a label, and else begins a new line
            text += "\nanswer:"
        return Prompt(text, 16, request.prompt.seed, None, ("\n",))

    def takes(self, request: Request, share: float = 1.0) -> tuple[int, float, float]:
        """About what a request takes before any was answered, with the judge's questions about its rows.

        Args:
            share: of the room that answers have; what they fill of it.

        Returns:
            Requests, prompt tokens (see `count_tokens`), answer tokens.
        """
        prompt = request.prompt
        asked, tokens_in, tokens_out = 1, float(count_tokens(prompt.text)), share * prompt.max_tokens
        if "judge" in (self._options.filter or ()):
            question = self._question(request, request.given[0], dict.fromkeys(self.verb.fields, ""))
            asked += self.rows_per_request
            written = min(
                prompt.max_tokens, self.style.max_tokens * self._texts_per_request
            )  # the rest is for thoughts
            tokens_in += self.rows_per_request * count_tokens(question.text) + share * written  # which questions repeat
            tokens_out += self.rows_per_request * share * question.max_tokens
        return asked, tokens_in, tokens_out

    def meta(self, request: Request, unit: Unit) -> dict[str, Any]:
        """Where rows come from: prompt hash, shots' ids, and their keywords or the text that was given."""
        given = unit.given
        source: dict[str, Any] = (
            {"keywords": list(given.keywords)} if given.keywords else {"input": given.id, "given": given.text}
        )
        return {"prompt": _digest(request.prompt.text.encode()), **source, "shots": list(request.shots)}


def _parts(option: str) -> list[tuple[str, bool]]:
    """A filter's option in parts, and which are files: its value, or what the last colon of that divides."""
    name, equals, value = option.partition("=")
    parts = [value] if os.path.isfile(value) else value.rpartition(":")
    return [(name + equals, False), *((part, os.path.isfile(part)) for part in parts)]


def _alike(there: object, filters: Sequence[Sequence[tuple[str, bool]]]) -> bool:
    """Whether a run's filters are these in all but what their files are called."""
    shapes = ("".join(".+" if is_file else re.escape(part) for part, is_file in parts) for parts in filters)
    return (
        isinstance(there, list) and len(there) == len(filters)
        and all(isinstance(option, str) and re.fullmatch(shape, option) for option, shape in zip(there, shapes, strict=True))
    )  # fmt: skip


def _settings(value: Style | Language) -> str:
    return _digest(json.dumps(dataclasses.asdict(value), default=sorted, sort_keys=True).encode())


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: blake2b(digest_size=8)).hexdigest()
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from None
