"""close train, close sweep, close merge, close demo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from close.cli.looks import look_at, look_at_recipe
from close.cli.options import Json, LanguageModelPlace, Memory, Pairs, Seed, Verb, print_json, verb
from close.errors import CloseError, RecipeError, written
from close.io.terminal import show
from close.runs.slips import Slips, SlipsError

if TYPE_CHECKING:
    from close.runs.recipe import Recipe

__all__ = ["register"]

_PHOTOS = "Photos without captions"
_VARY = "A setting that every method is tried in"
_DRY = "Check all, say what would be trained, and stop"
_SELECT = "Choose the best run without images"
_TABLE = "{} that adapters {}: a table's folder, .npy, or a data file."
Adapters = Annotated[
    list[str] | None,
    typer.Option(help="Adapter spec, again for each; none: noise alone. In place of the recipe's own, as --noise is."),
]
Named = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=SPEC", help="An adapter spec by a name, whatever --noise says; again for each."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help=f"{_DRY}.")]
DrySweep = Annotated[
    bool, typer.Option("--dry-run", help=f"{_DRY}; --text and --image are embedded first, where they are data files.")
]
Groups = Annotated[
    Path | None, typer.Option(help="The data file of --text: adapters that learn from groups do from these.")
]
Noises = Annotated[list[float] | None, typer.Option(help="Cosine that noise leaves, again for each; 1: none.")]
Photos = Annotated[
    Path | None, typer.Option(help=f"{_PHOTOS}, on which each run is made to tell as much as its training texts.")
]
Select = Annotated[Path | None, typer.Option(help=f"{_SELECT}, by rows with references or captions in groups.")]
SelectImages = Annotated[Path | None, typer.Option(help="With --select: unpaired images that its texts are made like.")]
Fed = Annotated[
    list[Path] | None,
    typer.Option(help="A table of the rows' vectors, in place of pictures, or captions, and encoder; again for each."),
]
Varied = Annotated[list[str] | None, typer.Option(help=f"{_VARY}: training.warmup_steps=0,50; again for each.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command(cls=_OfRecipe)(verb(train))
    app.command(cls=_OfRecipe)(verb(sweep))
    app.command()(verb(merge))
    app.command()(verb(demo))


class _OfRecipe(Verb):
    less = (
        "embed beforehand, in smaller parts (close embed text --batch-size; data.embeddings names the table), "
        "or lower training.batch_size"
    )

    def invoke(self, ctx: Any) -> Any:
        """Several mistakes have a line each."""
        try:
            return super().invoke(ctx)
        except SlipsError as error:
            *before, last = error.each
            for line in before:
                show(f"error: {written(line)}", err=True)
            raise CloseError(last) from None

    def instead(self, name: str, value: str) -> str | None:
        """A recipe's key, as it is given."""
        from close.runs.recipe import key_named
        from close.runs.sections import does_nothing

        key = key_named(name)
        if key is None:
            return does_nothing(name)
        if not key.startswith("--"):
            return f"a recipe's key is given as {key}={value or '…'}"
        return f"it is {key} here" if any(key in parameter.opts for parameter in self.params) else None


def _look_whole(given: Recipe | None, **places: Any) -> None:
    """Look at what a recipe names, and at other places."""
    slips = Slips()
    with slips.kept():
        if given is not None:
            look_at_recipe(given)
    with slips.kept():
        look_at(**places)
    slips.tell()


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, e.g. training.epochs=3")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; without it, runs/NAME_OF_RECIPE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in the folder.")] = False,
    embed_memory: Annotated[
        bool, typer.Option("--embed-memory", help="Put the memory that the run searches into its folder.")
    ] = False,
    match_length: Annotated[
        Path | None, typer.Option(help=f"{_PHOTOS}, on which the run is made to tell as much as its training texts.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train as a recipe says; the whole recipe is checked before work starts."""
    from close.runs.recipe import load_recipe

    def look(given: Recipe) -> None:
        _look_whole(None if resume else given, photos=match_length)  # a finished run needs nothing any more

    checked = load_recipe(recipe, overrides, look=look)
    from close.model.configuration import CloseConfig
    from close.runs.folder import open_run
    from close.runs.length import check_match
    from close.runs.searching import has_memory
    from close.training.origin import filled_in
    from close.training.plan import lines_of, plan
    from close.training.processes import is_first
    from close.training.train import train as run

    out = out or Path("runs") / recipe.stem
    if resume and is_first() and not out.exists():
        show(f"note: {written(out)} is not there: nothing to resume, it is trained from the start", err=True)
    if match_length is not None:
        check_match(filled_in(checked, out, resume=resume), match_length)
    if dry_run:
        planned = plan(checked, out, resume=resume, overwrite=overwrite, embed_memory=embed_memory)
        if is_first():  # under torchrun every process is here
            print_json(planned) if as_json else show(lines_of(planned))
        return
    with _told_how_to_go_on(out, overwrite):
        folder = run(checked, out, resume=resume, overwrite=overwrite, embed_memory=embed_memory)
    if is_first():
        if embed_memory and not has_memory(CloseConfig.from_pretrained(folder)):
            raise RecipeError(
                f"{folder} was finished without its memory in it: close merge {folder} NEW_FOLDER writes it with its memory"
            )
        if match_length is not None:
            _match(folder, match_length, resume)
        print_json({"run": str(folder)} | open_run(folder)) if as_json else show(folder)


def _match(run: Path, photos: Path, resume: bool) -> None:
    """Make a run's texts as long as those that it learnt from, unless that was done before it was resumed."""
    from close.runs.length import LENGTH_FILE, match_length, outcome

    if resume and (run / LENGTH_FILE).is_file():
        show(f"matched before, and kept; close match-length {written(run)} PHOTOS does it again", err=True)
        return
    try:
        show(outcome(match_length(run, photos, tell=partial(show, err=True))), err=True)
    except CloseError as error:
        raise type(error)(f"{error} (the run is whole; close match-length {run} PHOTOS finishes it)") from None


@contextmanager
def _told_how_to_go_on(out: Path, overwrite: bool) -> Iterator[None]:
    """Where somebody stops a run, say from which step it can go on, and by what."""
    from close.runs.folder import CHECKPOINTS, started_run
    from close.training.checkpoints import latest_checkpoint
    from close.training.processes import is_first

    try:
        yield
    except KeyboardInterrupt:
        with suppress(CloseError):
            if is_first() and started_run(out) is not None:
                step = (latest_checkpoint(out / CHECKPOINTS) or "").rpartition("-")[2]
                where = f"goes on from step {step}" if step else "begins anew, since no checkpoint is there yet"
                how = "--resume in place of --overwrite" if overwrite else "--resume"
                show(f"{written(out)}: the same command with {how} {where}", err=True)
        raise


def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML file: what all runs share.")],
    test: Annotated[Path | None, typer.Option(help="Rows to score on; each has an image and a source.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value")] = None,
    adapter: Adapters = None,
    noise: Noises = None,
    arm: Named = None,
    vary: Varied = None,
    tune: Annotated[Path | None, typer.Option(help="Rows as those of --test, to choose settings by.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 3,
    select: Select = None,
    select_image: SelectImages = None,
    match_length: Photos = None,
    text: Annotated[Path | None, typer.Option(help=_TABLE.format("Texts", "learn from in pairs or groups"))] = None,
    image: Annotated[Path | None, typer.Option(help=_TABLE.format("Images", "learn from"))] = None,
    pairs: Pairs = None,
    groups: Groups = None,
    vectors: Fed = None,
    no_image: Annotated[bool, typer.Option("--no-image", help="Leave out the image-supervised ceiling.")] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of the sweep.")] = Path("sweep"),
    dry_run: DrySweep = False,
    as_json: Json = False,
) -> None:
    """Train adapters × noise × settings × seeds; a table, a plot, and what may be claimed. A stopped sweep continues.

    All arms are checked before the first is trained. Without --adapter, --noise and --arm the recipe's own adapter is tried,
    beside none at all and training on images. Adapters that name no data are given what they need: pairs --text and --image,
    unpaired images --image, and else the training texts. --vectors finds what each table is of: pictures and captions of --test,
    pictures of --tune, captions of --select, training pictures.
    """
    from close.runs.recipe import load_recipe

    rows = [test, tune, select, *((pairs, groups) if text else ())]
    places: dict[str, Any] = {"data": [text, image], "rows": rows, "vectors": select_image if select else None}
    look = partial(_look_whole, **places, tables=vectors, photos=match_length)
    base = load_recipe(recipe, overrides, look=look)
    from close.study.arms import settings_of
    from close.study.export import table_of
    from close.study.plan import lines_of, plan
    from close.study.sweep import sweep as run
    from close.study.tables import Tables

    with TemporaryDirectory() if dry_run else nullcontext() as spare:
        tables = Tables(text, image, pairs, groups, out / "adapters", spare).opened(base)
        ceiling = test is not None and not no_image
        arms = _arms(base, out, adapter, noise, arm, settings=settings_of(vary or []), image=ceiling, tables=tables)
        asked: Any = (base, arms, list(range(base.seed, base.seed + seeds)), test, out)
        looks: dict[str, Any] = {"tune": tune, "select": select, "select_images": select_image, "photos": match_length}
        looks["vectors"] = vectors or ()
        if dry_run:
            planned = plan(*asked, **looks)
            print_json(planned) if as_json else show(lines_of(planned))
            return
    summary = run(*asked, tell=partial(show, err=True), **looks)
    print_json(summary) if as_json else show(table_of(summary))


def _arms(
    base: Recipe,
    out: Path,
    adapters: list[str] | None,
    noises: list[float] | None,
    named: list[str] | None,
    **more: Any,
) -> list[Any]:
    """The arms that are asked for; where none is, the recipe's own adapter."""
    from close.adapters.resolve import parse_spec
    from close.study.arms import arms_of, named_arm, own_adapter
    from close.training.origin import filled_in

    tried, whole = [parse_spec(spec) for spec in adapters or ()], [named_arm(one) for one in named or ()]
    if not tried and (noises or not whole):
        tried = ["none" if noises else own_adapter(filled_in(base, out))]
    return arms_of(tried, noises or [1.0], named=whole, **more)


def merge(
    run: Annotated[Path, typer.Argument(help="A run tuned by LoRA, or not at all, or one that searches a memory.")],
    out: Annotated[Path, typer.Argument(help="New folder.")],
    language_model: LanguageModelPlace = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Write a run whole that holds only what was trained, and names its language model or the memory that it searches."""
    look_at(runs=run)
    from close.runs.folder import open_run
    from close.runs.merge import merge as run_merge

    folder = run_merge(run, out, language_model=language_model, memory=memory)
    print_json({"run": str(folder)} | open_run(folder)) if as_json else show(folder)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("demo"),
    seed: Seed = 0,
    world: Annotated[Literal["drawn", "sound"], typer.Option(help="Of pictures, or of sounds.")] = "drawn",
    as_json: Json = False,
) -> None:
    """The main job on an embedded mini world: train on text, caption pictures or sounds, compare; writes report.html."""
    from close.demo import run_demo, show_results
    from close.io.files import read_json

    page = run_demo(out, seed=seed, world=world)
    results = read_json(out / "results.json")
    if as_json:
        print_json(results)
    else:
        show_results(results)
        show(page)
        show(f"try it on a page: close serve {written(out / 'runs' / 'close')}", err=True)
