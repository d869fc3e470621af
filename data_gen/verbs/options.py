"""The options of a run, validated in one place."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from data_gen.errors import InputError, shown

__all__ = ["CaptionOptions", "Options", "TextOptions"]

Endpoint = Literal["chat", "completions"]
_MOST = 10**12
_MOST_OF = {"concurrency": 10_000, "retries": 1000, "timeout": 1e6, "per_request": 1000, "answer_tokens": 10**6}
Sampling = Literal["uniform", "unigram"]


@dataclass(kw_only=True)
class Options:
    """What every verb takes.

    Raises:
        InputError: a value is out of its range, or two do not go together.
    """

    out: Annotated[Path, "the JSONL file that the rows are appended to"]
    count: Annotated[int, "rows that the file ends with, exactly"]
    model: Annotated[str, "the server's name of the model"]
    base_url: Annotated[str | None, "of an OpenAI-compatible server; default OPENAI_BASE_URL, or OpenAI"] = None
    style: Annotated[str | None, "a built-in style or a TOML file"] = None
    language: Annotated[str, "a built-in language or a TOML file"] = "en"
    examples: Annotated[Path | None, "file that the shots are drawn from"] = None
    shots: Annotated[int, "examples in each prompt"] = 20
    per_request: Annotated[int | None, "texts, or questions or paraphrases of a text, asked for in one request"] = None
    answer_tokens: Annotated[int | None, "most tokens of an answer, thoughts included; default the style's"] = None
    endpoint: Annotated[Endpoint, "what the server is asked through"] = "chat"
    filter: Annotated[list[str] | None, "what more a row must pass; may be repeated"] = None
    temperature: Annotated[float | None, "the model's temperature; default the style's"] = None
    top_p: Annotated[float | None, "the model's top_p; default the style's"] = None
    seed: Annotated[int, "of everything that is drawn here, and passed to the server"] = 0
    shard: Annotated[str | None, "i/n: the i-th (from 1) of n runs that `data-gen merge` joins"] = None
    batch: Annotated[bool, "use the Batch API"] = False
    block: Annotated[int, "requests whose prompts are fixed together, for unigram matching"] = 200
    concurrency: Annotated[int, "requests under way"] = 16
    timeout: Annotated[float, "seconds for one try"] = 120.0
    retries: Annotated[int, "tries after the first"] = 6
    patience: Annotated[int, "stop after so many requests without an accepted row"] = 1000
    max_tokens: Annotated[int | None, "stop with exit code 3 before the run takes more tokens than this"] = None
    max_cost: Annotated[float | None, "stop with exit code 3 before the run costs more than this"] = None
    price_in: Annotated[float, "price of a million prompt tokens"] = 0.0
    price_out: Annotated[float, "price of a million answer tokens"] = 0.0

    def __post_init__(self) -> None:
        self.filter = self.filter or []
        least = {"count": 1, "shots": 0, "block": 1, "concurrency": 1, "retries": 0, "patience": 1}
        least |= {"per_request": 1, "max_tokens": 1, "answer_tokens": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"--{name.replace('_', '-')} must be at least {low}, got {value}")
        for name in ("temperature", "top_p", "timeout", "price_in", "price_out", "max_cost"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be a number from 0, got {value:g}")
        for name in (*least, "timeout"):
            value, most = getattr(self, name), _MOST_OF.get(name, _MOST)
            if value is not None and value > most:
                raise InputError(f"--{name.replace('_', '-')} must be at most {most:.0f}, got {shown(value)}")
        if self.timeout == 0:
            raise InputError("--timeout must be above 0 seconds, got 0")
        if self.endpoint not in get_args(Endpoint):
            raise InputError(f"--endpoint must be chat or completions, got {self.endpoint!r}")
        if self.max_cost is not None and not (self.max_cost > 0 and self.price_in + self.price_out > 0):
            raise InputError("--max-cost must be above 0, and needs --price-in and --price-out, per million tokens")
        if self.batch and "judge" in self.filter:
            raise InputError("--filter judge asks a second time, which --batch can't; leave one of them out")
        _ = self.shard_of

    @property
    def shard_of(self) -> tuple[int, int]:
        """Which shard of how many; (0, 1) where there is only one."""
        if self.shard is None:
            return 0, 1
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.shard)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--shard must be i/n with i from 1 to n, got {shown(self.shard)}")
        return int(match[1]) - 1, int(match[2])


@dataclass(kw_only=True)
class CaptionOptions(Options):
    """What `captions` takes besides."""

    keywords: Annotated[Path | None, "file of keywords, one a line"] = None
    corpus: Annotated[
        Path | None, "captions whose nouns and verbs are the keywords, and that unigram matching aims at"
    ] = None
    sampling: Annotated[Sampling, "how keywords are drawn"] = "uniform"
    keyword_count: Annotated[int, "keywords in each request"] = 2
    min_count: Annotated[int | None, "a word of the corpus must occur so often to be a keyword; default 5"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling not in get_args(Sampling):
            raise InputError(f"--sampling must be uniform or unigram, got {self.sampling!r}")
        if not 1 <= self.keyword_count <= 100:
            raise InputError(f"--keyword-count must be from 1 to 100, got {shown(self.keyword_count)}")
        if self.min_count is not None and self.min_count < 1:
            raise InputError(f"--min-count must be at least 1, got {self.min_count}")
        if self.min_count is not None and (self.keywords or not self.corpus):
            raise InputError("--min-count chooses keywords from --corpus, without --keywords; leave it out")


@dataclass(kw_only=True)
class TextOptions(Options):
    """What the verbs take besides that start from texts."""

    input: Annotated[Path, "captions to start from"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if "keywords" in (self.filter or ()):
            raise InputError("--filter keywords needs keywords, and this verb is given texts; leave it out")
