"""close init: a first recipe for data of one's own."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from close.cli.options import Captions, Columns, Encoder, Json, check_outputs, print_json, verb
from close.errors import CloseError, DataError, MissingError, OutputExistsError, RecipeError, WeightsError
from close.io.terminal import show

if TYPE_CHECKING:
    from close.data.rows import RowFile
    from close.gap import Advice
    from close.runs.survey import Lengths, Survey

__all__ = ["register"]

ENCODER, LANGUAGE_MODEL, ADAPTER = "open_clip:ViT-L-14/openai", "google-t5/t5-base", [{"gaussian": {"cosine": 0.41}}]
"""The paper's."""


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(verb(init))


def init(
    data: Annotated[list[Path], typer.Argument(help="Rows to learn from: .jsonl, .txt, .csv …, or a folder of these.")],
    photos: Annotated[
        Path | None, typer.Option(help="Photos like those it will run on, captions not needed: a folder, or a table.")
    ] = None,
    encoder: Encoder = ENCODER,
    language_model: Annotated[str, typer.Option(help="mini, a hub id or a local directory.")] = LANGUAGE_MODEL,
    task: Annotated[str | None, typer.Option(help="What the rows are for; without it, what they look like.")] = None,
    captions: Annotated[
        Captions, typer.Option(help="multiple: the other captions of an image are learnt, not the caption itself.")
    ] = "single",
    columns: Columns = "",
    out: Annotated[Path, typer.Option("--out", help="The recipe.")] = Path("recipe.yaml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the recipe that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a first recipe for data of one's own: say what is in them, ask how to cross the gap, name the next commands.

    Texts are embedded as close train does, which finds them there; photos go into a table in tables/, beside the recipe.
    """
    if len(data) > 1:
        raise RecipeError(
            f"{len(data)} files: a recipe learns from one, or from a folder of them; put them into a folder"
        )
    if photos is not None and not photos.exists():
        raise MissingError(f"{photos}: no such folder or table of photos")
    check_outputs([out], [*data, photos])
    from close.data.columns import by_key, parse_columns
    from close.io.jobs import job

    by_key(given := parse_columns(columns))
    about = {"data": str(data[0]), "encoder": encoder, "language_model": language_model, "captions": captions}
    with job(out, about, "is being written", overwrite=overwrite) as work:
        rows = _opened(data[0], given)  # before torch and transformers are loaded, which takes seconds
        from close.runs.recipe import load_recipe
        from close.runs.survey import survey

        draft = _Draft(rows, survey(rows, task), photos, encoder, language_model, captions, given, out)
        draft.check_captions()
        for line in () if as_json else draft.seen():
            show(line)
        draft.ask()
        work.partial.write_text(draft.recipe(), encoding="utf-8")
        load_recipe(work.partial)
    if as_json:
        print_json(draft.to_dict())
    else:
        advised = "" if draft.advice else ", not advised"
        show(f"{out}: written; adapter{advised}: {_yaml(draft.adapter, flow=True)}\nnext:")
        show("\n".join(f"  {command}" for command in draft.commands()))


def _opened(data: Path, columns: dict[str, str | int]) -> RowFile:
    """The rows; DataError where these are pictures."""
    from close.data.shards import is_rows, open_rows
    from close.io.media import media_below, picture_suffixes

    if data.is_dir() and not is_rows(data) and (found := media_below(data, picture_suffixes(), quiet=True)):
        raise DataError(
            f"{data}: {len(found)} pictures and no captions; expected a file of captions, and the pictures beside it: "
            f"close init captions.txt --photos {data}"
        )
    return open_rows(data, columns or None)


@dataclass
class _Draft:
    """A recipe in the making: what is given and found, and what is advised."""

    rows: RowFile
    found: Survey
    photos: Path | None
    encoder: str
    language_model: str
    captions: str
    columns: dict[str, str | int]
    out: Path
    advice: Advice | None = None
    adapter: Any = field(default_factory=lambda: ADAPTER)
    reasons: list[str] = field(default_factory=list)

    def check_captions(self) -> None:
        """Refuse to learn other captions of an image where there are too few, or where the task asks something of each."""
        from close.gap.advice.halves import LEAST

        task, several = self.found.task, self.found.several
        if self.captions == "multiple" and (task.asks or several < LEAST):
            few = f"{several or 'no'} images have several: {LEAST} are needed, whose rows share a 'group'"
            why = f"task {task.name} asks something of each" if task.asks else few
            raise DataError(
                f"{self.rows.path}: captions: multiple is to learn others of an image, and {why}; leave it out"
            )

    @cached_property
    def tokens(self) -> Lengths | None:
        """Of the targets, where the language model's tokenizer can be had; else it is told why not."""
        try:
            return self.found.tokens(self.language_model)
        except WeightsError as error:
            show(f"note: tokens are not counted: {error}", err=True)
            return None

    def seen(self) -> Iterator[str]:
        """What is there, in a few lines."""
        found, model, tokens = self.found, self.language_model, self.tokens
        several = f"{found.several:,} images have several captions" if found.several else "no two are of one image"
        pictures = f"; {found.pictures:,} name a picture, which is not read" * bool(found.pictures)
        yield f"{self.rows.path}: {len(self.rows):,} rows for task {found.task.name}; {several}{pictures}"
        counted = f", {tokens} of {model}" if tokens else ""
        if tokens and tokens.texts < found.lengths.texts:
            counted += f" in {tokens.texts:,} of {found.lengths.texts:,}"
        capitals = f"; {found.capitals:.0%} have capitals where no sentence begins" * bool(found.capitals)
        yield f"targets: {found.lengths}{counted}{capitals}"
        if found.foreign:
            yield f"{found.foreign}; of another language, {self.encoder} must have learnt it (docs/senses.md)"
        if tokens and tokens.unknown:
            yield f"tokens: {tokens.unknown:.1%} are unknown to {model}, which can't learn to say them"
        if tokens and tokens.changed:
            changes = f": {', '.join(tokens.changes)}" * bool(tokens.changes)
            yield f"characters: {model} writes {tokens.changed:.0%} of the targets otherwise{changes}; and so its captions"

    def ask(self) -> None:
        """How to cross the gap. The paper's noise stays, which is told, where weights can't be loaded or texts are too few."""
        from close.encoders import load_encoder
        from close.gap.advice.advise import advise, comments
        from close.io.progress import progress
        from close.vectors.cache import cached_table

        rows = self.rows
        about: dict[str, Any] = {"captions": self.captions, "task": self.found.task.name}
        try:
            encoder = load_encoder(self.encoder)
        except WeightsError as error:
            self._go_without(error)
            return
        images = None if self.photos is None else _photo_table(self.photos, self.out.parent / "tables", encoder)
        with progress(f"embedding {rows.path.name}") as update:
            texts = cached_table(rows, encoder, "text", progress=update).path
        try:
            self.advice, _ = advise(
                texts, images, unpaired=bool(images), groups=rows.path, rows=lambda _: rows, **about
            )
        except DataError as error:  # of the texts: photos were looked at
            self._go_without(error)
            return
        about |= {"text": rows.path.as_posix(), "encoder": self.encoder}
        about |= {"image": images.as_posix()} if images else {}
        asked = [word for name, value in about.items() for word in (f"--{name}", value)] + ["--unpaired"] * bool(images)
        why = "" if self.columns else shlex.join(["close", "recommend", *asked])  # which takes no columns
        self.reasons = comments(self.advice, texts, images, why=why)
        self.adapter = self.advice.stages({"image": self._said(images)} if images else None)

    def _go_without(self, error: CloseError) -> None:
        said = f"the paper's noise, without advice: {error}"
        show(f"note: {said}", err=True)
        self.reasons = textwrap.wrap(said, 110, initial_indent="# ", subsequent_indent="# ", break_long_words=False)

    def _said(self, place: Path | str) -> str:
        """A place, or what a model is called, as the recipe says it."""
        from close.io.places import reference_from

        return reference_from(os.path.abspath(place) if isinstance(place, Path) else place, self.out.parent)

    def recipe(self) -> str:
        """The recipe's file."""
        task, columns = self.found.task.name, {"columns": self.columns} if self.columns else {}
        about: dict[str, Any] = {"data": {"train": self._said(self.rows.path), **columns}}
        about |= {"task": task} if task != "caption" else {}
        about |= {"encoder": self._said(self.encoder), "language_model": self._said(self.language_model)}
        first = "# begun by close init; docs/recipe.md explains every key"
        return "\n".join([first, _yaml(about), *self.reasons, _yaml({"adapter": self.adapter}), *self._keys(), ""])

    def _keys(self) -> Iterator[str]:
        """Lines of keys that these data want, and those that people change most, as comments; each says why."""
        found, task, mini = self.found, self.found.task, self.language_model == "mini"

        def line(said: str, why: str, *, is_set: bool = False) -> str:
            return f"{said if is_set else f'# {said}':<32}  # {why}"

        if (multiple := self.captions == "multiple") or (found.several and task.name == "caption"):
            yield line("captions: multiple", "what is learnt of a caption are the others of its image", is_set=multiple)
        if found.capitals:
            yield line("lowercase: false", "names and acronyms are learnt as they are written", is_set=found.keeps_case)
        if (lengths := self.tokens or found.lengths).room > task.max_new_tokens:
            why = f"the longest has {lengths.longest} {lengths.unit}; without it texts are cut at {task.max_new_tokens}"
            yield line(f"max_new_tokens: {lengths.room}", why, is_set=lengths.unit == "tokens")
        rate, whose = (", learning_rate: 2.0e-3", "the mini model's") if mini else ("", "the paper's")
        yield line(f"training: {{epochs: 8, batch_size: {64 if mini else 128}{rate}}}", whose, is_set=mini)
        yield line("tune: lora", "a small part of the language model learns: less memory, a smaller run")
        yield line("init_from: runs/GENERAL", "begin from a run on many general captions: its models, its adapter")

    def commands(self) -> list[str]:
        """What to do next."""
        from close.data.shards import is_rows

        task, run, photos = self.found.task, f"runs/{self.rows.path.resolve().stem}", self.photos
        shown = "PHOTOS" if photos is None or _is_table(photos) or is_rows(photos, images=True) else photos.as_posix()
        use = ["--context", "TEXT"] if task.asks else ["--out", "said.jsonl", "--html", "said.html"]
        use += ["--together"] if task.views > 1 else []
        match = [] if task.asks else [["match-length", run, shown]]
        every = [["train", self.out.as_posix(), "--out", run], *match, ["caption", run, shown, *use]]
        return [shlex.join(["close", *words]) for words in every]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.found
        about = {"data": str(self.rows.path), "rows": len(self.rows), "task": found.task.name}
        about |= {"images_with_several_captions": found.several, "rows_with_images": found.pictures}
        about |= {"lengths": asdict(found.lengths), "letters": found.letters, "english_function_words": found.english}
        about |= {"capitals": found.capitals, "tokens": self.tokens and asdict(self.tokens)}
        about |= {"recipe": str(self.out), "adapter": self.adapter, "advice": self.advice and self.advice.to_dict()}
        return about | {"next": self.commands()}


def _yaml(value: Any, *, flow: bool | None = None) -> str:
    """As a recipe has it; with `flow` on one line."""
    made: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=10**6)
    return made.strip()


def _is_table(photos: Path) -> bool:
    from close.vectors.parts import is_plain

    return (photos / "table.json").is_file() or is_plain(photos)


def _photo_table(photos: Path, tables: Path, encoder: Any) -> Path:
    """A table of photos that can be measured, or what is wrong with them: the one that is given, or one in `tables`."""
    from close.io.progress import progress
    from close.vectors.build import embed_images, find_images
    from close.vectors.checked import unit_rows
    from close.vectors.open import check_rows, open_vectors

    made = photos if _is_table(photos) else tables / photos.resolve().stem
    if made != photos:
        images = find_images(photos, encoder.item_suffixes)
        try:
            with progress(f"embedding {photos.name}", encoder.items) as update:
                failed = len(embed_images(images, encoder, made, progress=update).failures)
        except OutputExistsError as error:
            raise OutputExistsError(f"{error}; or give --photos a table of them (close embed images)") from None
        if failed:
            show(f"note: {failed} of {len(images)} {encoder.items} could not be read and are left out", err=True)
    check_rows(f"--photos {photos}", vectors := open_vectors(made, "image"), encoder, "close init")
    unit_rows(vectors, f"{photos}")
    return made
