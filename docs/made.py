"""What the site says of parts, commands, recipe keys and errors is made from the code when the site is built.

A page says where: a line `<!-- made: NAME -->` becomes what the function of that name in `MADE` returns; the line below it, for
who reads the file itself, goes.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pictures
from interface import commands, messages
from markdown_of import cell, code, plain, table
from one_a_line import one_a_line
from recipe_keys import attributes, recipe_keys

__all__ = ["MADE", "filled", "on_page_markdown", "recipe_keys"]

ROOT = Path(__file__).resolve().parents[1]
MENDED = {
    "https://unpkg.com/iframe-worker/shim": "iframe-worker.js",
    'data-md-component="search" role="dialog"': 'data-md-component="search" role="dialog" aria-label="Search"',
}
"""What the theme fetches from elsewhere, or leaves without a name."""
MARK = re.compile(r"^<!-- made: (\w+) -->(?:\n\*On the site .*\*)?$", re.MULTILINE)
"""A part, and what stands in its place for who reads the file itself."""
RECORDS = re.compile(r"^<!-- record: (.+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return filled(markdown)


def on_post_page(output: str, **kwargs: Any) -> str:
    """Called with each page as it is written."""
    for theirs, ours in MENDED.items():
        output = output.replace(theirs, ours)
    return output


on_post_template = on_post_page  # the page for what is not found


def filled(markdown: str) -> str:
    """A page's text with all that is made, and with the records of what it says told."""
    markdown = RECORDS.sub(lambda found: f"<small>Recorded in {_files(found[1])}.</small>", markdown)
    return MARK.sub(lambda found: MADE[found[1]](), markdown)  # a name that is not there ends the build


def _files(records: str) -> str:
    return ", ".join(dict.fromkeys(code(record.partition("#")[0]) for record in records.split()))


def _prose(doc: str) -> str:
    """A docstring as Markdown: its paragraphs, and each argument on a line of its own."""
    text, _, arguments = inspect.cleandoc(doc).partition("\nRaises:\n")[0].partition("\nArgs:\n")
    text = re.sub(r"^(Formula|Paper|Needs|When): ", r"\n**\1** ", text.replace("<", "&lt;"), flags=re.MULTILINE)
    if not arguments:
        return text
    names = re.findall(r"(?:^ {4}|\. )(\w+): ", arguments, re.MULTILINE)
    lines = one_a_line("Args:\n" + arguments, names).splitlines()[1:]
    entries = [re.sub(r"^ {4}([\w, ]+): ", r"\n- `\1`: ", line) for line in lines]
    return text + "\n" + "\n".join(entry.strip(" ") for entry in entries)


def measures() -> str:
    """Every measure of the gap report, under its family's heading."""
    from close.gap import MEASURES

    parts, family = [], ""
    for measure in MEASURES:
        if str(measure.family) != family:
            family = str(measure.family)
            parts.append(f"## {family}\n")
        if measure.title.startswith("  spread"):  # beside its mean
            continue
        lines = [
            f"### {measure.title.strip()} {{ #{measure.name} }}\n",
            f"`{measure.name}` · {plain(measure.meaning)}\n",
        ]
        lines.append(f"- **Healthy:** {plain(measure.healthy)}")
        lines.append(f"- **Where it misleads:** {plain(measure.misleads)}")
        lines.append(f"- **Source:** {plain(measure.source)}")
        if measure.interval is None:
            lines.append("- Without an interval.")
        if measure.few:
            rows, way = measure.few
            lines.append(
                f"- Reads {way} where there are fewer than four times as many {rows} as dimensions; the report says so."
            )
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def adapters() -> str:
    """Every adapter."""
    from close.adapters import list_adapters

    needs = {
        "nothing": "nothing: there is nothing to learn",
        "text": "texts",
        "groups": "captions in groups: several of each image, no pictures",
        "unpaired": "texts, and images that belong to none of them",
        "paired": "images with their texts",
    }
    parts = [
        table(
            ("adapter", "what it does", "learns from"),
            ((f"[`{one.name}`](#{one.name})", cell(one.summary), one.needs) for one in list_adapters()),
        )
    ]
    for one in list_adapters():
        lines = [f"## {one.name} {{ #{one.name} }}\n", one.summary + "\n"]
        told = {
            "Formula": one.formula,
            "When": one.when,
            "Learns from": needs[one.needs],
            "Changes": {"both": "both sides", "neither": "nothing"}.get(one.sides, f"the {one.sides} side"),
            "Paper": one.paper,
            "In a recipe": one.fit,
        }
        lines += [f"- **{title}:** {plain(text)}" for title, text in told.items() if text]
        if one.options:
            options = ((code(o.name), "needed" if o.needed else code(o.default), cell(o.meaning)) for o in one.options)
            lines.append("\n" + table(("option", "default", "meaning"), options))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def prefixes() -> str:
    """Every kind of prefix, with its options."""
    from close.model.prefixes import PREFIXES

    parts = []
    for name, kind in PREFIXES.items():
        options = [p for p in inspect.signature(kind).parameters.values() if p.name not in ("embed_dim", "hidden_size")]
        said = "{kind: " + ", ".join([name, *(f"{p.name}: {_default(p.default)}" for p in options)]) + "}"
        parts.append(f"## {name}\n\n```yaml\nprefix: {said}\n```\n\n{_prose(kind.__doc__ or '')}\n")
    return "\n".join(parts)


def _default(value: Any) -> str:
    return "null" if value is None else json.dumps(value)


def metrics() -> str:
    """Every metric, by the kind of task that it scores."""
    from close.evaluation.metrics import METRICS

    rows = []
    for one in METRICS:
        says = ", ".join(score.label for score in one.scores) or inspect.getdoc(one.function) or ""
        when = "asked for" if not one.default else "always"
        when = "where the rows have what it needs" if one.automatic else when
        needs = {"java": "Java", "encoder": "the run's encoder"}
        rows.append(
            (
                code(one.name),
                one.kind,
                cell(says),
                when + "".join(f"; needs {needs[need]}" for need in one.needs),
                ", ".join(code(score.key) for score in one.scores),
                cell(one.source),
            )
        )
    return table(("metric", "of", "what", "made", "keys in the JSON", "source"), rows)


def readers() -> str:
    """Every format that `close convert` reads."""
    from close.data.readers import READERS

    rows = (
        (
            code(name),
            cell(kind.reads),
            f"a row per {kind.default_per}",
            ", ".join(code(f"--{use}") for use in kind.uses),
        )
        for name, kind in READERS.items()
    )
    return table(("format", "reads", "makes", "options"), rows)


def tasks() -> str:
    """Every task: what goes where."""
    from close.tasks import TASKS

    rows = (
        (
            code(name),
            cell((inspect.getdoc(kind) or "").split("\n\n")[0]),
            str(kind.max_new_tokens),
            ", ".join(map(code, kind.labels)) or "any text",
            kind.metric,
        )
        for name, kind in TASKS.items()
    )
    return table(("task", "what goes where", "tokens at most", "answers", "scored as"), rows)


def encoders() -> str:
    """Every kind of encoder."""
    from close.encoders import ENCODERS

    rows = ((code(kind.form), cell((inspect.getdoc(kind) or "").split("\n\n")[0])) for _, kind in ENCODERS.items())
    return table(("reference", "what it is"), rows)


def row_keys() -> str:
    """The keys of a row, from the class's documentation."""
    from close.data.rows import Row

    names = ["image" if name == "images" else name for name in Row.__annotations__]  # as a file has it
    return table(("key", "meaning"), ((code(name), cell(text)) for name, text in attributes(Row, names).items()))


def recipe() -> str:
    """The table of all keys."""
    rows = ((code(key), cell(kind), default, cell(meaning)) for key, kind, default, meaning in recipe_keys())
    return table(("key", "type", "default", "meaning"), rows)


def kinds_of_errors() -> str:
    """The classes of errors with what each means."""
    import close.errors as errors

    kinds = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error") and name != "CloseError"]
    rows = ((code(kind.__name__), code(kind.__bases__[-1].__name__), cell(inspect.getdoc(kind))) for kind in kinds)
    return table(("error", "is also a", "when"), rows)


def world() -> str:
    """What was recorded of the embedded encoder."""
    recorded = json.loads((ROOT / "experiments" / "mini_world" / "encoder.json").read_text(encoding="utf-8"))
    test = recorded["test"]
    names = {
        "paired": "cosine of a pair",
        "unpaired": "of strangers",
        "text_text": "of two texts",
        "image_image": "of two images",
    }
    rows = [(title, f"{test[key]:.2f}") for key, title in names.items()]
    rows.append(("distance of the means", f"{test['centroid_gap']:.2f}"))
    for way in ("text_to_image", "image_to_text"):
        rows.append((f"R@1 {way.replace('_', ' ')}", f"{test[f'{way}_recall_at_1']:.0f} %"))
    return table((f"encoder `mini`, {test['scenes']:,} test scenes", ""), rows)


def records() -> str:
    """Every record of an experiment, and whether world and code are what they were, or make the same numbers."""
    from close.io.record import outdated, stamped

    rows = []
    for file in sorted((ROOT / "experiments").rglob("*.json")):
        for one in stamped(json.loads(file.read_text(encoding="utf-8"))):
            world = one["versions"].get("mini_world", "1")
            old = [_since(one, part) for part in outdated(one) if "code" in one or "world" in part]
            said = [*old, *(["not known of the code"] if "code" not in one else [])]
            name, commit = code(str(file.relative_to(ROOT))), one.get("commit") or "–"
            rows.append((name, cell(world), cell(commit), ", ".join(said) or "nothing"))
    return table(("record", "mini world", "commit", "changed since"), rows)


def _since(record: Mapping[str, Any], part: str) -> str:
    """What is known of a part of the code, or of a world, that has another hash today."""
    from close.io.record import UNKNOWN, code_sums

    again = json.loads((ROOT / "experiments" / "again" / "results.json").read_text(encoding="utf-8"))
    tried = again["codes"].get(part, {}) if again["today"].get(part) == code_sums().get(part) else {}
    sums = str(record.get("code", {}).get(part, "")).split()
    about = [tried.get(each) for each in sums if each != UNKNOWN]
    if not about or None in about:
        return part.replace("_", " ")
    changed = sorted({each for one in about if one for each in one["differs"]})
    told = f"{part}: {', '.join(changed)}" if changed else f"{part}, not its numbers"
    return told + (" (of some of it the code is not known)" if UNKNOWN in sums else "")


def conclusions() -> str:
    """What experiments/conclusions says of each claim."""
    file = ROOT / "experiments" / "conclusions" / "results.json"
    recorded = json.loads(file.read_text(encoding="utf-8"))

    def span(said: dict[str, Any]) -> str:
        ends = said["ci"]
        return f"{said['difference']:.1f}" + (f" ({ends[0]:.1f} to {ends[1]:.1f})" if ends else "")

    rows = []
    for claim, alike in recorded["claims_told_alike"].items():
        named, alone = recorded["primary"][claim], recorded["confirmed"][claim]
        told, trained = alike["cider"], recorded["claims"][claim]["cider"]
        tried = f"{named['ahead_in']} of {len(named['settings'])} × {len(named['seeds'])}"
        first = (span(named), named["verdict"], span(alone), alone["verdict"], tried)
        worst = cell(told["worst"]["setting"])
        rows.append(
            (
                cell(claim),
                *first,
                span(told["tuned"]),
                worst,
                trained["verdict"],
                alike["attribute_accuracy"]["verdict"],
            )
        )
    head = ("claim", "CIDEr told alike, over settings", "verdict", "seed 2 alone", "verdict", "settings ahead × seeds")
    return table((*head, "explored: each tuned", "worst in", "as trained", "accuracy, told alike"), rows)


def notebook(name: str) -> str:
    """A notebook of docs/notebooks as a page."""
    cells = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ((cell["cell_type"], "".join(cell["source"])) for cell in cells)
    page = "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for kind, text in texts)
    return f"{page}\n\nThis page is `docs/notebooks/{name}.ipynb`.\n"


def tables() -> str:
    """What experiments/tasks says of itself."""
    text = (ROOT / "experiments" / "tasks" / "README.md").read_text(encoding="utf-8").partition("\n")[2]
    return re.sub(r"!\[[^]]*\]\([^)]*\)\n", "", text)


PARTS = (
    measures,
    adapters,
    prefixes,
    metrics,
    readers,
    tasks,
    encoders,
    row_keys,
    recipe,
    commands,
    messages,
    tables,
    kinds_of_errors,
    records,
    conclusions,
    world,
)
MADE: dict[str, Callable[[], str]] = {function.__name__: function for function in PARTS} | {
    f"picture_{name}": getattr(pictures, name) for name in pictures.__all__
}
MADE |= {
    f"notebook_{path.stem}": partial(notebook, path.stem) for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")
}
