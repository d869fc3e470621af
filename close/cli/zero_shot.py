"""close classify, close retrieve: what the bare encoder can do, for comparison on the same data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from close.cli.looks import look_at
from close.cli.options import Device, Encoder, Json, Precision, print_json, verb
from close.errors import PartialError, RecipeError, firsts, written
from close.io.terminal import show

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for function in (classify, retrieve):
        app.command()(verb(function))


def classify(
    data: Annotated[
        Path, typer.Argument(help="A picture, a folder (one per class inside), or rows with 'image' (and 'label').")
    ],
    label: Annotated[
        list[str] | None, typer.Option(help="A class, again for each; else the folders' names or rows' labels.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Text file of the classes, one a line.")] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="Prompt with {} for the class, again for each (they are averaged); else 'a photo of a {}.'"),
    ] = None,
    templates: Annotated[Path | None, typer.Option(help="Text file of prompts, one a line.")] = None,
    encoder: Encoder = "mini",
    device: Device = None,
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Zero-shot classification: the class whose prompt is nearest, and where the truth is known the accuracy."""
    look_at(pictures=data, rows=[labels, templates])
    from close.encoders import load_encoder
    from close.evaluation.classification import classify as run
    from close.evaluation.classification import read_lines

    classes = [*(label or []), *(read_lines(labels) if labels else [])]
    prompts = [*(template or []), *(read_lines(templates) if templates else [])]
    found = run(data, load_encoder(encoder, device=device, precision=precision), classes, templates=prompts)
    if as_json:
        print_json(asdict(found))
    else:
        show(f"picture, probability of its class among {len(found.classes)}, class (encoder {found.encoder})", err=True)
        for item in found.items:
            show(f"{written(item['file'])}\t{item['probability']:.3f}\t{written(item['label'])}")
        if found.scores:
            _accuracy(found.scores)
    _told(found.failed)


def _told(failed: list[str]) -> None:
    if failed:
        raise PartialError(f"{len(failed)} pictures could not be read: {firsts(failed)}")


def _accuracy(scores: dict[str, Any]) -> None:
    show(f"accuracy {scores['accuracy']:.2f}{_interval(scores, 'accuracy', 2)}, {scores['n']} pictures")
    for name, row in scores["confusion"].items():
        show(f"  {written(name)}: " + ", ".join(f"{written(said)} {count}" for said, count in row.items() if count))


def retrieve(
    data: Annotated[Path, typer.Argument(help="Where to look: pictures (a folder or rows), or texts (rows).")],
    query: Annotated[
        list[str] | None, typer.Option(help="A text that pictures are wanted for, again for each.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture that texts are wanted for, again for each.")
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many to find.")] = 10,
    encoder: Encoder = "mini",
    device: Device = None,
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Find pictures for texts or texts for pictures; without a query, R@k both ways over rows with image and source."""
    if query and image:
        raise RecipeError("ask for pictures (--query) or for texts (--image), not for both at once")
    look_at(pictures=data)
    from close.encoders import load_encoder
    from close.evaluation.retrieval import pictures_for, recall, texts_for

    model = load_encoder(encoder, device=device, precision=precision)
    about = {"encoder": model.name, "fingerprint": model.fingerprint}
    if not query and not image:
        scores = recall(data, model)
        if as_json:
            print_json(about | scores)
            return
        show(f"{scores['texts']} texts, {scores['images']} images, encoder {model.name}")
        for way in ("text_to_image", "image_to_text"):
            parts = (
                f"R@{rank} {scores[way][f'r@{rank}']:.2f}{_interval(scores[way], f'r@{rank}')}" for rank in (1, 5, 10)
            )
            show(f"{way.replace('_', ' '):<14}" + "   ".join(parts))
        return
    failed = list[str]()
    found = pictures_for(query, data, model, k, failed=failed) if query else texts_for(image or [], data, model, k)
    if as_json:
        print_json(about | {"results": found} | ({"failed": failed} if failed else {}))
    else:
        show(f"cosine and {'picture' if query else 'text'}, best first (encoder {model.name})", err=True)
        for result in found:
            show(written(result["query"]))
            for one in result["found"]:
                show(f"  {one['cosine']:.3f}\t{written(one.get('file') or one.get('text'))}")
    _told(failed)


def _interval(scores: dict[str, Any], name: str, digits: int = 1) -> str:
    """None of one picture."""
    low, high = scores["ci"].get(name, (None, None))
    return "" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
