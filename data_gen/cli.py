"""The command line: every verb is a thin call of one public function.

Exit codes: 0 done, 1 a told error, 2 wrong usage, 3 stopped by a budget (can be continued), 130 interrupted.
`--json` prints JSON on stdout in every verb; `--out` names a file; `--plugin` brings verbs and filters of one's own.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from data_gen.errors import DataGenError, written
from data_gen.filters import FILTERS
from data_gen.plugins import load_installed, load_plugins
from data_gen.prompts.style import STYLES
from data_gen.text.files import builtin
from data_gen.text.language import LANGUAGES
from data_gen.verbs import VERBS, Options, Verb

__all__ = ["build", "main"]

_HELP = """Training text from any OpenAI-compatible language model. The key is read from OPENAI_API_KEY.

Styles: {0}. Languages: {1}. Each may be a TOML file of one's own."""

_Json = Annotated[bool, typer.Option("--json", help="print figures as JSON")]
_Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="FILE_OR_MODULE", help="Python with verbs or filters of one's own; may be repeated"
    ),
]


def _print(value: dict[str, Any], lines: Iterable[str], as_json: bool) -> None:
    if as_json:
        print(written(json.dumps(value, ensure_ascii=False)))
    else:
        print("\n".join(map(written, lines)))


def _help(field: str, text: str) -> str:
    """The help of an option, with the names that it takes where these are in a registry or a folder."""
    if field == "filter":
        names = [FILTERS[name].usage or name for name in FILTERS]
    else:
        names = builtin({"style": STYLES, "language": LANGUAGES}[field]) if field in ("style", "language") else []
    return f"{text}: {', '.join(names)}" if names else text


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _command(verb: type[Verb]) -> Callable[..., None]:
    """The command of a verb, with one option for each field of its options class."""
    kind = verb.options_class
    hints = get_type_hints(kind, include_extras=True)
    parameters = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        annotation, text = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, "")
        option = typer.Option(f"--{field.name.replace('_', '-')}", help=_help(field.name, text))
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        parameters.append(_parameter(field.name, Annotated[annotation, option], default))
    dry_run = typer.Option("--dry-run", help="show three prompts and the estimate, and ask nothing")
    parameters.append(_parameter("dry_run", Annotated[bool, dry_run], False))
    parameters += [_parameter("as_json", _Json, False), _parameter("plugin", _Plugins, None)]

    def command(*, dry_run: bool, as_json: bool, plugin: list[str] | None, **values: Any) -> None:
        _run(verb.name, kind(**values), dry_run, as_json)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _run(name: str, options: Options, dry_run: bool, as_json: bool) -> None:
    from data_gen.run import generate, preview

    if dry_run:
        shown = preview(name, options)
        _print(dataclasses.asdict(shown), str(shown).split("\n"), as_json)
        return
    try:
        summary = generate(name, options)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        raise typer.Exit(130) from None
    _print(summary.as_json(), [f"{options.out}: {summary}"], as_json)


def _merge(
    inputs: Annotated[list[Path], typer.Argument(help="outputs of the shards of one run")],
    out: Annotated[Path, typer.Option(help="the JSONL file to write")],
    as_json: _Json = False,
    plugin: _Plugins = None,
) -> None:
    """Join the outputs of a run's shards, without duplicates."""
    from data_gen.run import merge_shards

    kept, dropped = merge_shards(inputs, out)
    figures = {"out": str(out), "rows": kept, "duplicates": dropped}
    _print(
        figures, [f"{out}: {kept} rows, {dropped} left out (duplicates, and what is accepted only with them)"], as_json
    )


def _report(
    file: Annotated[Path, typer.Argument(help="what was written: an output of data-gen, or any caption file")],
    target: Annotated[Path, typer.Option(help="the corpus that it should be like")],
    out: Annotated[
        Path | None, typer.Option(help="the HTML file to write; default FILE.report.html, with JSON beside it")
    ] = None,
    as_json: _Json = False,
    plugin: _Plugins = None,
) -> None:
    """Show how far a file has drifted from a target corpus, as HTML and JSON."""
    from data_gen.report import write_report

    page = out or Path(f"{file}.report.html")
    _print(write_report(file, target, page), [str(page)], as_json)


def _serve_mini(
    port: Annotated[int, typer.Option(help="port on this machine")] = 8000,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    as_json: _Json = False,
    plugin: _Plugins = None,
) -> None:
    """Serve the small built-in language model of the mini world over HTTP, without any network."""
    from data_gen.mini.serve import MODEL, check, serve

    check(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"

    def ready() -> None:
        if as_json:
            print(json.dumps({"model": MODEL, "base_url": url}), flush=True)
        print(f"model {MODEL!r} listens at {url} (Ctrl-C ends it)", file=sys.stderr, flush=True)

    print(f"loading {MODEL!r} …", file=sys.stderr, flush=True)
    serve(host, port, ready)


def _plugins_in(arguments: list[str]) -> list[str]:
    """What `--plugin` names, before or after the verb: it must be loaded before the verbs are known."""
    following = [value for flag, value in itertools.pairwise(arguments) if flag == "--plugin"]
    return following + [a.removeprefix("--plugin=") for a in arguments if a.startswith("--plugin=")]


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"data-gen {version('close-toolkit')}")
        except PackageNotFoundError:
            print("data-gen, not installed: run from its source")
        raise typer.Exit


def _take_plugins(
    plugin: _Plugins = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version, and end")
    ] = False,
) -> None:
    """Not called for anything but its options."""


def build() -> typer.Typer:
    """The command line, with a command for each verb that is registered now."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback(help=_HELP.format(*(", ".join(builtin(folder)) for folder in (STYLES, LANGUAGES))))(_take_plugins)
    for name in VERBS:
        text = inspect.getdoc(VERBS[name]) or f"Write {name}."
        app.command(name, help=text.split("\n\n")[0])(_command(VERBS[name]))
    for name, command in (("merge", _merge), ("report", _report), ("serve-mini", _serve_mini)):
        app.command(name)(command)
    return app


def main() -> None:
    """Entry point of `data-gen`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: names that no encoding has
    try:
        load_installed()
        load_plugins(_plugins_in(sys.argv[1:]))
        build()(standalone_mode=True)
    except DataGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
