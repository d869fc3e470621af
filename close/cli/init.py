"""close init: a first recipe for data of one's own."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from close.cli.options import Captions, Encoder, Json, check_outputs, print_json, verb
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
    columns: Annotated[str, typer.Option(help="Of a table, as in close convert: caption=2,image=0.")] = "",
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

        draft = _Draft(survey(rows, task), encoder, language_model, captions, out, given)
        draft.count_tokens()
        for line in () if as_json else draft.seen():
            show(line)
        draft.ask(photos)
        work.partial.write_text("\n".join([*draft.lines(), ""]), encoding="utf-8")
        load_recipe(work.partial)
    if as_json:
        print_json(draft.to_dict(photos))
        return
    show(f"{out}: written; adapter{'' if draft.advice else ', not advised'}: {_flow(draft.adapter)}\nnext:")
    for command in draft.commands(photos):
        show(f"  {command}")


def _opened(data: Path, columns: dict[str, str | int]) -> RowFile:
    """The rows.

    Raises:
        DataError: they are pictures. CloseError: what opening them raises.
    """
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
    """A recipe in the making."""

    found: Survey
    encoder: str
    language_model: str
    captions: str
    out: Path
    columns: dict[str, str | int]
    tokens: Lengths | None = None
    unknown: float = 0.0
    advice: Advice | None = None
    adapter: Any = field(default_factory=lambda: ADAPTER)
    reasons: list[str] = field(default_factory=list)

    def count_tokens(self) -> None:
        """Of the targets, where the language model's tokenizer can be had; else say why not."""
        try:
            self.tokens, self.unknown = self.found.tokens(self.language_model)
        except WeightsError as error:
            show(f"note: tokens are not counted: {error}", err=True)

    def seen(self) -> Iterator[str]:
        """What is there, in a few lines."""
        found, model = self.found, self.language_model
        several = f"{found.several:,} images have several captions" if found.several else "no two are of one image"
        pictures = f"; {found.pictures:,} name a picture, which is not read" * bool(found.pictures)
        yield f"{found.rows.path}: {len(found.rows):,} rows for task {found.task}; {several}{pictures}"
        tokens = f", {self.tokens} of {model}" if self.tokens else ""
        capitals = f"; {found.capitals:.0%} have capitals where no sentence begins" * bool(found.capitals)
        yield f"targets: {found.lengths}{tokens}{capitals}"
        if found.foreign:
            yield f"{found.foreign}; of another language, {self.encoder} must have learnt it (docs/senses.md)"
        if self.unknown:
            yield f"tokens: {self.unknown:.1%} are unknown to {model}, which can't learn to say them"

    def ask(self, photos: Path | None) -> None:
        """How to cross the gap. The paper's noise stays, which is told, where weights can't be loaded or texts are too few."""
        from close.gap.advice.advise import advise, comments

        rows = self.found.rows
        about: dict[str, Any] = {"captions": self.captions, "task": self.found.task, "groups": rows.path}
        try:
            table, images = self._tables(photos)
        except WeightsError as error:
            self._go_without(error)
            return
        try:
            self.advice, _ = advise(table, images, unpaired=images is not None, rows=lambda _: rows, **about)
        except DataError as error:
            if self.captions == "multiple":  # which was asked for, and is what can't be had
                raise
            self._go_without(error)
            return
        said = {"text": rows.path, "encoder": self.encoder, "task": self.found.task, "captions": self.captions}
        asked = [word for name, value in said.items() for word in (f"--{name}", str(value))]
        asked += [] if images is None else ["--image", str(images), "--unpaired"]
        why = "" if self.columns else shlex.join(["close", "recommend", *asked])  # which takes no columns
        self.reasons = comments(self.advice, table, images, why=why)
        self.adapter = self.advice.stages({"image": self._place(images)} if images else None)

    def _tables(self, photos: Path | None) -> tuple[Path, Path | None]:
        """Of the texts, where training looks for it, and of the photos."""
        from close.encoders import load_encoder
        from close.io.progress import progress
        from close.vectors.cache import cached_table

        encoder, rows = load_encoder(self.encoder), self.found.rows
        images = None if photos is None else _photo_table(photos, self.out.parent / "tables", encoder)
        with progress(f"embedding {rows.path.name}") as update:
            return cached_table(rows, encoder, "text", progress=update).path, images

    def _go_without(self, error: CloseError) -> None:
        said = f"the paper's noise, without advice: {error}"
        show(f"note: {said}", err=True)
        self.reasons = textwrap.wrap(said, 110, initial_indent="# ", subsequent_indent="# ", break_long_words=False)

    def _place(self, place: Path) -> str:
        """A place as the recipe's file names it."""
        from close.io.places import seen_from

        return seen_from(place, self.out.parent) or os.path.abspath(place)

    def lines(self) -> Iterator[str]:
        """The recipe."""
        from close.io.places import reference_from

        yield "# begun by close init; docs/recipe.md explains every key"
        columns = {"columns": self.columns} if self.columns else {}
        yield f"data: {_flow({'train': self._place(self.found.rows.path), **columns})}"
        if self.found.task != "caption":
            yield f"task: {self.found.task}"
        yield f"encoder: {_flow(reference_from(self.encoder, self.out.parent))}"
        yield f"language_model: {_flow(reference_from(self.language_model, self.out.parent))}"
        yield from self.reasons
        yield yaml.safe_dump({"adapter": self.adapter}, sort_keys=False, allow_unicode=True).rstrip()
        for key, value, why, is_set in self._keys():
            line = f"{'' if is_set else '# '}{key}: {value}"
            yield f"{line:<32}  # {why}"

    def _keys(self) -> Iterator[tuple[str, str, str, bool]]:
        """Keys that these data want, and those that people change most, as comments: key, value, why, whether it is set."""
        found, task, mini = self.found, self.found.kind, self.language_model == "mini"
        if (is_set := self.captions == "multiple") or (found.several and found.task == "caption"):
            yield "captions", "multiple", "what is learnt of a caption are the others of its image", is_set
        if found.capitals and task.teaches_texts:
            yield "lowercase", "false", "names and acronyms are learnt as they are written", found.keeps_case
        room, longest = found.room(self.tokens), self.tokens or found.lengths
        if room > task.max_new_tokens:
            why = f"the longest has {longest:longest}; without it texts are cut at {task.max_new_tokens}"
            yield "max_new_tokens", f"{room}", why, longest is self.tokens
        rate, whose = ", learning_rate: 2.0e-3" if mini else "", "the mini model's" if mini else "the paper's"
        yield "training", f"{{epochs: 8, batch_size: {64 if mini else 128}{rate}}}", whose, mini
        yield "tune", "lora", "a small part of the language model learns: less memory, a smaller run", False
        yield "init_from", "runs/GENERAL", "begin from a run on many general captions: its models, its adapter", False

    def commands(self, photos: Path | None) -> list[str]:
        """What to do next."""
        task, run = self.found.kind, str(Path("runs") / _name(self.found.rows.path))
        shown = str(photos) if photos and not _is_table(photos) else "PHOTOS"
        use = ["--context", "TEXT"] if task.asks else ["--out", "said.jsonl", "--html", "said.html"]
        use += ["--together"] if task.views > 1 else []
        match = [] if task.asks else [["match-length", run, shown]]
        every = [["train", str(self.out), "--out", run], *match, ["caption", run, shown, *use]]
        return [shlex.join(["close", *words]) for words in every]

    def to_dict(self, photos: Path | None) -> dict[str, Any]:
        """For JSON."""
        tokens = self.tokens and asdict(self.tokens) | {"unknown": self.unknown}
        about = {"tokens": tokens, "recipe": str(self.out), "adapter": self.adapter}
        advice = self.advice and self.advice.to_dict()
        return self.found.to_dict() | about | {"advice": advice, "next": self.commands(photos)}


def _flow(value: Any) -> str:
    """A value as YAML has it on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.strip().removesuffix("...").strip()


def _name(place: Path) -> str:
    """A folder's name, or a file's without its ending."""
    whole = place.resolve()
    return whole.name if whole.is_dir() else whole.stem


def _is_table(photos: Path) -> bool:
    from close.vectors.parts import has_parts

    folder = photos.is_dir() and ((photos / "table.json").is_file() or has_parts(photos))
    return folder or photos.suffix.lower() == ".npy"


def _photo_table(photos: Path, tables: Path, encoder: Any) -> Path:
    """A table of photos: the one that is given, or one of them in `tables`.

    Raises:
        OutputExistsError: another one lies there. CloseError: what is wrong with the photos.
    """
    from close.io.progress import progress
    from close.vectors.build import embed_images, find_images

    if _is_table(photos):
        return photos
    images, made = find_images(photos, encoder.item_suffixes), tables / _name(photos)
    try:
        with progress(f"embedding {photos.name}", encoder.items) as update:
            table = embed_images(images, encoder, made, progress=update)
    except OutputExistsError as error:
        raise OutputExistsError(
            f"{error}; or embed them with close embed images, and give --photos that table"
        ) from None
    if failed := len(table.failures):
        show(f"note: {failed} of {len(images)} {encoder.items} could not be read and are left out", err=True)
    return made
