"""A run's model card, as the Hugging Face hub reads it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from close.errors import written
from close.evaluation.metrics import METRICS
from close.plugins import short_name
from close.runs.recipe import Recipe
from close.runs.recipe_file import portable

__all__ = ["Shown", "met_said", "model_card"]

_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Shown:
    """What a card says beyond the run's own files.

    Attributes:
        name: how the run is loaded: `ORG/NAME`, or a folder. language, license, datasets: by the hub's ids.
        evaluations: what their `scores.json` say. gap: what `close gap --json` said of the encoder.
        pictures: of examples, a file in the run's folder and what `close.evaluation.examples` says of it.
    """

    name: str = "this/folder"
    language: Sequence[str] = ()
    license: str | None = None
    datasets: Sequence[str] = ()
    evaluations: Sequence[Mapping[str, Any]] = ()
    gap: Mapping[str, Any] | None = None
    pictures: Sequence[tuple[str, Mapping[str, Any]]] = field(default_factory=tuple)


def model_card(recipe: Recipe, folder: Path, about: Mapping[str, Any], shown: Shown | None = None) -> str:
    """Markdown of what the run in `folder` is and how it is used; nothing in it says where on a machine it was made.

    Args:
        about: what `run.json` says, as far as it is known.
    """
    shown = shown or Shown()
    values = portable(recipe.dump(), folder)
    tasks = ", ".join(part.task for part in recipe.parts())
    names = {key: _short(values[key]) for key in ("encoder", "language_model")}
    parts = [
        f"---\n{_head(recipe, names, shown)}\n---",
        f"# {tasks}: {names['language_model']} behind {names['encoder']}",
        _ABOUT.format(train_on=recipe.train_on, carried=_CARRIED if recipe.train_on == "text" else "", **names),
        _USE.format(name=shown.name, **_own_parts(about.get("plugins") or recipe.plugins)),
        _trained(recipe, values, about),
        *_scores(shown.evaluations),
        *_examples(shown.pictures),
        *_gap(shown.gap),
        _LIMITS.format(learnt_from=_learnt_from(recipe), **names),
        f"## Recipe\n\n```yaml\n{yaml.safe_dump(values, sort_keys=False)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _own_parts(plugins: Sequence[str]) -> dict[str, str]:
    """What has to be done about its plug-ins before it can be loaded, in Python and on the command line, and a word on them."""
    names = [short_name(name) for name in plugins]
    if not names:
        return {"own": "", "load": "", "flags": ""}
    own = f"It has parts of its own, in {', '.join(f'`{_inline(name)}`' for name in names)}, which is not in here: load code "
    return {
        "own": own + "that you trust, from whoever published this.\n\n",
        "load": f"close.load_plugins({[*map(written, names)]!r})\n",
        "flags": "".join(f" --plugin {shlex.quote(written(name))}" for name in names),
    }


def _of_text_alone(recipe: Recipe) -> bool:
    """Whether no image taught it; the run that it began from is another's affair."""
    return recipe.train_on == "text" and recipe.init_from is None


def _learnt_from(recipe: Recipe) -> str:
    if recipe.init_from is not None:
        return "what is listed above, and from what the run that it began from had learnt from"
    return "text alone" if _of_text_alone(recipe) else "images"


def _short(reference: str) -> str:
    """A directory by its name."""
    return Path(reference).name if reference.startswith("..") else reference


def _head(recipe: Recipe, names: Mapping[str, str], shown: Shown) -> str:
    """The card's metadata, in the hub's own words."""
    from huggingface_hub import ModelCardData

    tasks = [part.task for part in recipe.parts()]
    results = list(_results(shown.evaluations))
    data = ModelCardData(
        library_name="close-toolkit",
        pipeline_tag="image-to-text",
        tags=[*(["text-only-transfer"] if _of_text_alone(recipe) else []), "cross-modal", *dict.fromkeys(tasks)],
        base_model=list(_base_models(recipe)) or None,
        language=list(shown.language) or None,
        license=shown.license,
        datasets=list(shown.datasets) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        eval_results=results or None,
        model_name=(shown.name.rpartition("/")[2] if results else None),
    )
    return str(data.to_yaml()).strip()


def _base_models(recipe: Recipe) -> Iterator[str]:
    """Language model and encoder, as far as the hub has them."""
    if _ID.fullmatch(recipe.language_model) and not Path(recipe.language_model).exists():
        yield recipe.language_model
    scheme, _, rest = recipe.encoder.partition(":")
    if scheme == "open_clip" and "@" not in rest and not rest.startswith("hf-hub:"):
        import open_clip

        architecture, _, tag = rest.partition("/")
        rest = (open_clip.get_pretrained_cfg(architecture, tag) or {}).get("hf_hub") or ""
    rest = rest.removeprefix("hf-hub:").rstrip("/")
    if _ID.fullmatch(rest) and not Path(rest).exists():
        yield rest


def _measured(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str, float, Any]]:
    """Key, label, value and 95 % interval (or None) of each score."""
    labels, scores = METRICS.labels, evaluation["scores"]
    other = _of_tokens() if scores.get("tokenizer") == "unicode" else ()
    for key, value in scores.items():
        if key in labels and isinstance(value, (int, float)) and not isinstance(value, bool):
            label = labels[key] + " (Unicode words)" * (key in other)
            yield key, label, round(float(value), 2), (scores.get("ci") or {}).get(key)


def _of_tokens() -> set[str]:
    """Scores that papers print of Penn Treebank tokens."""
    metrics = (metric for metric in METRICS.of("caption") if metric.source and "encoder" not in metric.needs)
    return {score.key for metric in metrics for score in metric.scores}


def _results(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """`model-index`: the hub has no field for intervals, so they lie among the metric's arguments.

    Scores of pictures that the run has met stay on the card, where that is said; boards that read this index would not.
    """
    from huggingface_hub import EvalResult

    for data, evaluation in zip(_names(evaluations), evaluations, strict=True):
        for key, label, value, interval in () if evaluation.get("met") else _measured(evaluation):
            more = {"interval_95": [round(float(end), 2) for end in interval]} if interval else {}
            more |= {"tokenizer": used} if (used := evaluation["scores"].get("tokenizer")) else {}
            yield EvalResult(
                task_type="image-to-text",
                task_name=str(evaluation["task"]),
                dataset_type=data,
                dataset_name=data,
                metric_type=key,
                metric_name=label,
                metric_value=value,
                metric_args={
                    "rows": evaluation["rows"],
                    "modality": evaluation["modality"],
                    **more,
                    **_fed(evaluation),
                },
            )


def _names(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each was measured on: its file's name, with task and sum where several are called so (the hub groups by it).

    Other pictures beside the same lines are told apart by their key.
    """
    stems = [Path(str(one["data"])).stem for one in evaluations]
    more = [f"-{one['task']}-{str(one.get('data_sha256'))[:8]}" for one in evaluations]
    names = [stem + (end if stems.count(stem) > 1 else "") for stem, end in zip(stems, more, strict=True)]
    keys = [str(one["images_key"])[:8] if "images_key" in one else "" for one in evaluations]
    looks = {pair for pair in zip(names, keys, strict=True) if pair[1]}
    several = Counter(name for name, _ in looks)
    return [f"{name}-{key}" if key and several[name] > 1 else name for name, key in zip(names, keys, strict=True)]


def _trained(recipe: Recipe, values: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    files = [values["data"]["train"]] if isinstance(recipe.task, str) else [part["train"] for part in values["task"]]
    lines = [
        f"- {facts['task']}: {facts['rows']:,} rows of `{Path(file).name}`, {facts['examples']:,} examples "
        f"(SHA-256 {facts['sha256'][:16]})"
        for file, facts in zip(files, about.get("train", ()), strict=False)
    ] or [f"- `{Path(file).name}`" for file in files]
    how = {"full": "trained whole", "lora": "adapted by LoRA", "none": "frozen: prefix and adapter alone were trained"}
    steps = f", {about['steps']} steps" if about.get("steps") else ""
    if best := about.get("best"):
        steps += f", of which it holds step {best['step']}, the best by {best['metric']} on `data.val`"
    adapter = yaml.safe_dump(values["adapter"], default_flow_style=True).removesuffix("...\n")  # a lone word's end mark
    lines += [f"- begun from the run `{Path(origin['run']).name}`"] if (origin := about.get("init_from")) else []
    lines += [
        f"- language model {how[recipe.tune]}, seed {recipe.seed}{steps}",
        f"- across the gap: `{' '.join(adapter.replace('`', '').split())}`",
    ]
    return "## Trained on\n\n" + "\n".join(lines)


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        f"| {_inline(name)} ({one['rows']}, {one['modality']}{' vectors' * bool(_fed(one))}) | {label} | {value:g} | "
        + ("" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}")
        + " |"
        for name, one in zip(_names(evaluations), evaluations, strict=True)
        for _, label, value, interval in _measured(one)
    ]
    if rows:
        table = ["| Rows | Score | Value | 95 % interval |", "|---|---|---|---|", *rows]
        yield "## Scores\n\n" + "\n".join(table)
        for name, one in zip(_names(evaluations), evaluations, strict=True):
            if met := met_said(one):
                told = f"It has learnt from pictures of {_inline(name)}, or was chosen by them ({_inline(met)})"
                yield f"{told}: these scores are too good."
        if given := dict.fromkeys(f"`{name.replace('`', '')}`" for one in evaluations for name in _fed(one).values()):
            yield f"Scores of vectors are of tables that were given ({', '.join(given)}): the encoder read no picture for them."


def met_said(evaluation: Mapping[str, Any]) -> str:
    """Which of its pictures the run has met, and in what, by its name alone; empty where in nothing that is known."""
    return ", ".join(f"{one['pictures']} in {Path(str(one['place'])).name}" for one in evaluation.get("met") or ())


def _fed(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """The name of the table that an evaluation was fed in the encoder's place, as `vectors`; nothing where there was none."""
    given = evaluation.get("vectors")
    return {"vectors": Path(str(given.get("table"))).name} if isinstance(given, Mapping) else {}


def _examples(pictures: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    if pictures:
        rows = [
            f"| ![{_inline(one['prediction'])}]({file}) | {_inline(one['context'] or '')} | {_inline(one['prediction'])} | "
            f"{_inline(' / '.join(one['references'][:2]))} |"
            for file, one in pictures
        ]
        head = ["Drawn at random, not chosen.", "", "| Picture | Asked | Said | References |", "|---|---|---|---|"]
        yield "## Examples\n\n" + "\n".join([*head, *rows])


def _gap(gap: Mapping[str, Any] | None) -> Iterator[str]:
    """The main measures, those with an interval."""
    if gap:
        rows = [
            f"| {_inline(name)} | {_at(gap, name):.3f} | {low:.3f} to {high:.3f} |"
            for name, (low, high) in gap["intervals"].items()
        ]
        head = f"Measured by `close gap` on {gap['n_text']:,} texts and {gap['n_image']:,} images."
        table = ["| Measure | Value | 95 % interval |", "|---|---|---|", *rows]
        yield "\n".join(["## The gap of its encoder", "", head, "", *table])


def _at(gap: Mapping[str, Any], name: str) -> float:
    """A measure, nested by the dots in its name."""
    node: Any = gap
    for part in name.split("."):
        node = node[part]
    return float(node)


def _inline(text: Any) -> str:
    """Text that ends no cell, line or code, and is no markup."""
    plain = "".join(one if written(one) == one else " " for one in " ".join(str(text).split()))
    return re.sub(r"([\\|`*_\[\]<>#!&])", r"\\\1", plain)


_ABOUT = """Trained on {train_on} embeddings of the contrastive encoder `{encoder}` with CLOSE toolkit (Gu, Clark and Kembhavi,
ICCV 2023){carried}. The encoder's own weights are not in here."""

_CARRIED = "; at test time the encoder's image tower takes the text tower's place"

_USE = """## How to use

{own}```python
import close

{load}model = close.load("{name}")
print(model("photo.jpg"))
```

```sh
close caption {name} photo.jpg{flags}
```

With transformers, which reads embeddings of the encoder:

```python
import close  # with it, AutoModel knows the architecture; no code is fetched
from transformers import AutoModel

{load}model = AutoModel.from_pretrained("{name}")
```"""

_LIMITS = """## Limits

- It learnt from {learnt_from}: what its texts never spoke of, it does not say, and it says what is likely in them where it
  can't see.
- It sees what `{encoder}` sees, with what that gets wrong and is biased by, and writes what `{language_model}` writes.
- The score of an output is how sure the model is, and no measure of truth."""
