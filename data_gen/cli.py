"""The command line: every verb is a thin call of one public function.

Exit codes: 0 done, 1 a told error, 2 wrong usage, 3 stopped by a budget (can be continued), 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from data_gen.errors import DataGenError
from data_gen.verbs.options import CaptionOptions, Options, TextOptions

__all__ = ["app", "main"]

app = typer.Typer(
    help="Training text from any OpenAI-compatible language model. The key is read from OPENAI_API_KEY.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_HELP = {
    "captions": "Write captions for keywords, after the examples of a caption file.",
    "rewrite": "Rewrite the captions of a file into a style.",
    "vqa": "Write questions with answers, from the captions of a file.",
    "entailment": "Write hypotheses for premises: entailment, neutral and contradiction, equally many.",
    "paraphrase": "Write groups of captions that say the same as the captions of a file.",
}


def _verb(name: str, kind: type[Options]) -> Callable[..., None]:
    """The command of a verb, with one option for each field of its options class."""
    hints = get_type_hints(kind, include_extras=True)
    parameters = []
    for field in dataclasses.fields(kind):
        annotation, help_ = get_args(hints[field.name])
        flag = f"--{field.name.replace('_', '-')}"
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        option: Any = Annotated[annotation, typer.Option(flag, help=help_)]
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
        )
    for flag, help_ in (
        ("dry-run", "show three prompts and the estimate, and ask nothing"),
        ("json", "figures as JSON"),
    ):
        option = Annotated[bool, typer.Option(f"--{flag}", help=help_)]
        name_ = flag.replace("-", "_")
        parameters.append(inspect.Parameter(name_, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option))

    def command(*, dry_run: bool, json: bool, **values: Any) -> None:
        _run(name, kind(**values), dry_run, json)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _run(name: str, options: Options, dry_run: bool, as_json: bool) -> None:
    from data_gen.run.synthesis import generate, preview

    if dry_run:
        print(preview(name, options))
        return
    try:
        summary = generate(name, options)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        raise typer.Exit(130) from None
    print(json.dumps(summary.as_json()) if as_json else f"{options.out}: {summary}")


for _name, _help in _HELP.items():
    _kind = CaptionOptions if _name == "captions" else TextOptions
    app.command(_name, help=_help)(_verb(_name, _kind))


@app.command()
def merge(
    inputs: Annotated[list[Path], typer.Argument(help="outputs of the shards of one run")],
    out: Annotated[Path, typer.Option(help="the JSONL file to write")],
) -> None:
    """Join the outputs of a run's shards, without duplicates."""
    from data_gen.run.merge import merge_shards

    kept, dropped = merge_shards(inputs, out)
    print(f"{out}: {kept} rows, {dropped} duplicates left out")


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="what was written: an output of data-gen, or any caption file")],
    target: Annotated[Path, typer.Option(help="the corpus that it should be like")],
    out: Annotated[
        Path | None, typer.Option(help="the HTML file to write; default FILE.report.html, with JSON beside it")
    ] = None,
) -> None:
    """Show how far a file has drifted from a target corpus, as HTML and JSON."""
    from data_gen.report.page import write_report

    print(write_report(file, target, out or Path(f"{file}.report.html")))


@app.command("serve-mini")
def serve_mini(
    port: Annotated[int, typer.Option(help="port on this machine")] = 8000,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
) -> None:
    """Serve the small built-in language model of the mini world over HTTP, without any network."""
    from data_gen.mini.serve import serve

    serve(host, port)


def main() -> None:
    """Entry point of `data-gen`."""
    try:
        app(standalone_mode=True)
    except DataGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
