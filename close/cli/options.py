"""Options that several verbs take, each described once."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

import typer
import typer.core

from close.errors import CloseError, OutputExistsError, reason
from close.io.files import nan_as_null
from close.io.pretrained import trusting
from close.io.terminal import show
from close.plugins import load_plugins

__all__ = [
    "Address",
    "BatchSize",
    "Beams",
    "Captions",
    "Columns",
    "Device",
    "Encoder",
    "EngineName",
    "Json",
    "LanguageModelPlace",
    "LengthPenalty",
    "Memory",
    "MetricNames",
    "MovedEncoder",
    "Pairs",
    "Precision",
    "Run",
    "Samples",
    "Seed",
    "TaskKind",
    "TextTable",
    "Tokenizer",
    "Unpaired",
    "Verb",
    "Workers",
    "check_outputs",
    "pick_engine",
    "print_json",
    "verb",
]

Address = Annotated[
    str | None, typer.Option(help="With --engine ray: of a running cluster; without it, one is started here.")
]
BatchSize = Annotated[int, typer.Option(min=1)]
Beams = Annotated[int | None, typer.Option("--num-beams", min=1, help="Beams; without it, as the run says (5).")]
Captions = Literal["single", "multiple"]
Columns = Annotated[str, typer.Option("--columns", help="Of a table, as in close convert: caption=2,image=0.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps …; without it, an accelerator if there is one.")]
Encoder = Annotated[
    str, typer.Option("--encoder", help="mini, open_clip:NAME/TAG, open_clip:NAME@FILE, hf:ID or a folder.")
]
EngineName = Annotated[Literal["local", "ray"], typer.Option("--engine", help="ray: spread over a Ray cluster.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
LanguageModelPlace = Annotated[
    str | None, typer.Option("--language-model", help="Where the run's language model is now, if it has moved.")
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        "--length-penalty",
        help="Of the beams: the higher, the more is told; without it, as the run says (1, or what close match-length found).",
    ),
]
Memory = Annotated[
    Path | None,
    typer.Option(
        "--memory", help="Texts to search in place of the run's own memory: rows, or an embedding table of them."
    ),
]
MetricNames = Annotated[
    list[str] | None,
    typer.Option("--metric", help="One of the task's metrics, again for each; `close list metrics` names them."),
]
MovedEncoder = Annotated[str | None, typer.Option("--encoder", help="Where the run's encoder is now, if it has moved.")]
Pairs = Annotated[
    Path | None,
    typer.Option(help='Rows {"text": id or row, "image": id or row}, or the data file the tables were made of.'),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"],
    typer.Option(
        help="auto: bf16 for large models on hardware that has it, else fp32. int8: an encoder's products in 8 bits, on the CPU."
    ),
]
Run = Annotated[
    Path,
    typer.Argument(
        help="Folder of a run; or ORG/NAME of the Hugging Face hub, @REVISION to stay with one state of it."
    ),
]
Seed = Annotated[int, typer.Option(min=0)]
Samples = Annotated[int, typer.Option(min=0, help="Bootstrap resamples; 0 for no intervals.")]
TaskKind = Literal["caption", "vqa", "entailment"]
TextTable = Annotated[Path | None, typer.Option(help="Text embeddings: a table, .npy, or a folder of .npy parts.")]
Tokenizer = Annotated[
    Literal["auto", "java", "python", "unicode"],
    typer.Option(help="PTB tokens, as published (auto: by java if it is there), or unicode: words of any script."),
]
Unpaired = Annotated[bool, typer.Option("--unpaired", help="No text belongs to an image.")]
Workers = Annotated[int | None, typer.Option(min=1, help="With --engine ray: how many; 2 without it.")]

_PLUGIN = inspect.Parameter(
    "plugin",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        list[str] | None,
        typer.Option(help="A module or file with own parts (adapters, metrics, …); repeatable. Its code is run."),
    ],
)

_TRUST = inspect.Parameter(
    "trust_remote_code",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="Let models that are loaded run code of their own files: read it before."
        ),
    ],
)


_LESS = {
    "--batch-size": "a smaller --batch-size",
    "--precision": "--precision bf16",
    "--device": "where it is a GPU's, another --device",
}
"""What is to be given where memory is full, by the option that a verb must have."""


class Verb(typer.core.TyperCommand):
    """A command that says of an option which there is not what is given in its place: an argument, or what `instead` knows.

    Attributes:
        less: what takes less memory, where its options do not say it.
    """

    less: ClassVar[str] = ""

    def instead(self, name: str, value: str) -> str | None:
        """What to say of an option of this name in snake case, and of its value if that is joined to it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look at what begins with two dashes first; errors are without pydantic's own words."""
        known = {name for parameter in self.params for name in parameter.opts + parameter.secondary_opts}
        for flag, _, value in (arg.partition("=") for arg in args if arg.startswith("--")):
            name = flag[2:].replace("-", "_")
            said = "it is given without its name" if name in known else self.instead(name, value)
            if flag not in known and said:
                raise typer.BadParameter(said, ctx=ctx, param_hint=flag)
        given = list(args)  # what is parsed is taken from the list
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise
        for stray in (one for one in ctx.params.get("overrides") or () if "=" not in one):
            option = next((arg for arg in given[given.index(stray) :: -1] if arg.startswith("--")), None)
            if any(parameter.multiple for parameter in self.params if option in parameter.opts):
                said = f"it takes one value, and is given again for each; {stray!r} is no key=value of the recipe"
                raise typer.BadParameter(said, ctx=ctx, param_hint=option)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Memory that is full is told with what of this verb takes less of it."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, CloseError) and "torch" not in sys.modules:
                raise
            from close.fast.memory import is_out_of_memory  # torch, which need not be there yet

            if not is_out_of_memory(error):
                raise
            raise CloseError(f"no memory left ({reason(error, whole=False)}); {self._takes_less()}") from error

    def _takes_less(self) -> str:
        known = {name for parameter in self.params for name in parameter.opts}
        ways = [way for option, way in _LESS.items() if option in known]
        if self.less or not ways:
            return self.less or "give it less at a time, or free what other programs hold"
        return f"give {', or '.join(ways)}"


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A command that takes two options beside its own: `--plugin`, loaded before anything else, and `--trust-remote-code`."""

    @wraps(function)
    def command(*args: Any, plugin: list[str] | None = None, trust_remote_code: bool = False, **kwargs: Any) -> None:
        load_plugins(plugin or [])
        with trusting(trust_remote_code):
            function(*args, **kwargs)

    hints = get_type_hints(function, include_extras=True)
    own = inspect.signature(function).parameters.values()
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    command.__signature__ = inspect.Signature([*parameters, _PLUGIN, _TRUST])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*parameters, _PLUGIN, _TRUST]}
    return command


def check_outputs(outputs: Iterable[Path | None], read: Iterable[Path | None]) -> None:
    """Refuse files to write that can't be, before the work for them is done.

    Raises:
        OutputExistsError: an output is one of the files that are read, another output, or a folder.
    """
    there, before = [path for path in read if path is not None and path.exists()], set[Path]()
    for output in filter(None, outputs):
        if output.exists() and any(output.samefile(path) for path in there):
            raise OutputExistsError(f"{output} is read here, and would be replaced; give another output")
        if output.is_dir():
            raise OutputExistsError(f"{output} is a folder; expected a file to write")
        if output.resolve() in before:
            raise OutputExistsError(f"{output} is given for two outputs; give each a file of its own")
        before.add(output.resolve())


def pick_engine(name: str, workers: int | None, address: str | None, device: str | None) -> Any:
    """What runs the parts of a job on that device: `map`, or a Ray cluster."""
    if name == "local":
        for option, value in (("--workers", workers), ("--address", address)):
            if value is not None:
                raise typer.BadParameter("it goes with --engine ray", param_hint=option)
        return map
    from close.io.cluster import RayEngine

    return RayEngine(workers or 2, address, gpus=device is None or not device.startswith("cpu"))


def print_json(value: Any) -> None:
    """A result on stdout, indented; NaN and infinity become null, which JSON has no other word for."""
    show(json.dumps(nan_as_null(value), indent=2, ensure_ascii=False, allow_nan=False, default=str))
