"""Every command with its options, and every message of an error, from the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown_of import cell, code, plain, table

__all__ = ["commands", "messages"]

ROOT = Path(__file__).resolve().parents[1]


def commands() -> str:
    """Every command of `close` and `data-gen`, with every option."""
    from typer.main import get_command

    from close.cli import commands as close_commands
    from data_gen.cli import build

    parts = []
    for program, app in (("close", close_commands()), ("data-gen", build())):
        for name, command in _leaves(program, get_command(app)):
            parts.append(f"## {name} {{ #{name.replace(' ', '-')} }}\n\n{_help(command.help or '')}\n")
            arguments = [p for p in command.params if p.param_type_name == "argument"]
            usage = " ".join([name, *(_argument(p) for p in arguments), "[OPTIONS]"])
            parts.append(f"```text\n{usage}\n```\n")
            context = command.make_context(name, [], resilient_parsing=True)
            parts += [_told(p, context) for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
            parts.append("")
    return "\n".join(parts)


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for inner, child in sorted(getattr(command, "commands", {}).items()):
        if getattr(child, "commands", None):
            yield from _leaves(f"{name} {inner}", child)
        else:
            yield f"{name} {inner}", child


def _help(text: str) -> str:
    return plain(inspect.cleandoc(text.replace("\b", "")))


def _argument(parameter: Any) -> str:
    name = parameter.name.upper() + ("…" if parameter.nargs != 1 else "")
    return name if parameter.required else f"[{name}]"


def _told(parameter: Any, context: Any) -> str:
    """One option, or argument, as an entry of a list."""
    argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    kind = "" if getattr(parameter, "is_flag", False) else str(parameter.metavar or parameter.display_type(context))
    kind = re.sub(r"list\[(.*)\]", r"\1, again for each", kind.strip("<>")).replace("|", ", ")
    value = parameter.default
    empty = value is None or value is False or value in ([], ()) or callable(value)
    default = "needed" if parameter.required else "" if empty else f"default {code(value)}"
    about = ", ".join(part for part in (plain(kind), default) if part)
    meaning = plain(" ".join((getattr(parameter, "help", None) or "").split()))
    return f"- {', '.join(map(code, names))}" + f" ({about})" * bool(about) + f": {meaning}" * bool(meaning)


def messages() -> str:
    """Every message of an error that is told, by its class; `…` stands for what it names."""
    import close.errors as errors
    import data_gen.errors as others

    kinds = {name: kind for module in (others, errors) for name, kind in vars(module).items() if isinstance(kind, type)}
    found: dict[str, dict[str, str]] = {}
    for package in ("close", "data_gen"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for name, text in _raised(ast.parse(path.read_text(encoding="utf-8"))):
                if name in kinds:
                    found.setdefault(name, {}).setdefault(text, str(path.relative_to(ROOT)))
    parts = []
    for name, told in sorted(found.items()):
        parts.append(f"## {name}\n\n{plain(inspect.getdoc(kinds[name]) or '')}\n")
        parts.append(table(("message", "told by"), ((cell(text), code(path)) for text, path in sorted(told.items()))))
    return "\n".join(parts)


def _raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id.endswith("Error")
            and node.args
        ):
            text = _template(node.args[0])
            if re.search(r"\w{3}", text):
                yield node.func.id, text


def _template(node: ast.expr) -> str:
    """The words of a string, with `…` for what is put in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (_template(node.left) or "…") + (_template(node.right) or "…")
    return ""
