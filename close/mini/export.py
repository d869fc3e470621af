"""The mini world as files, so that every command can be tried exactly as with one's own data."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from close.errors import RecipeError
from close.io.jobs import job
from close.mini.entailment import entailment
from close.mini.pairs import pairs, partners
from close.mini.questions import questions
from close.mini.scene import Scene
from close.mini.splits import SPLITS
from close.mini.worlds import WORLDS, World

__all__ = ["CAPTIONS_PER_SCENE", "export"]

CAPTIONS_PER_SCENE = 5
Row = dict[str, Any]


def export(
    out: str | Path,
    split: str = "train",
    count: int = 1_000,
    seed: int = 0,
    *,
    style: str = "plain",
    world: str = "drawn",
) -> dict[str, int]:
    """Write `count` scenes of `split` to the new folder `out`; the same arguments give the same bytes.

    The folder holds `images/*.png`, `captions.jsonl` (a row a caption, `group` = scene), `eval.jsonl` (a row an image:
    five references, ground truth in `meta.facts`, and as `source` a sixth caption that is no reference), `vqa.jsonl` (source:
    the five captions) and `entailment.jsonl` (labels are given the premise's text; `meta.picture_label` given the picture).
    `pairs.jsonl` (a statement about two pictures, true or false of them; `meta.told` says whether the two source captions
    decide it) needs two scenes. Captions are in `style`, but for the premises of `entailment.jsonl` and the sources of
    `pairs.jsonl`, which are plain. Of the world "sound" it holds `sounds/*.wav` and the first two files.

    Returns:
        The number of rows of each file, and of images (or sounds).

    Raises:
        OutputExistsError: `out` exists, or another process makes it.
        RecipeError: unknown split, style or world, or `count` below 1.
    """
    if split not in SPLITS:
        raise RecipeError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    if world not in WORLDS:
        raise RecipeError(f"world {world!r}: expected one of {', '.join(WORLDS)}")
    made = WORLDS[world]
    if style not in made.styles:
        raise RecipeError(f"style {style!r}: expected one of {', '.join(made.styles)}")
    if count < 1:
        raise RecipeError(f"count {count}: expected at least 1 scene")
    about = {"world": world, "split": split, "count": count, "seed": seed, "style": style}
    with job(Path(out), about, "is being written") as work:
        rows = _write(work.partial, made, made.scenes(split, count, seed), style)
    return {made.files: count, **{name: len(lines) for name, lines in rows.items()}}


def _write(folder: Path, world: World, scenes: Iterable[Any], style: str) -> dict[str, list[Row]]:
    """A folder of scenes; the rows of its files."""
    (folder / world.files).mkdir(parents=True)
    pool: list[tuple[Any, list[str]]] = []
    rows: dict[str, list[Row]] = {"captions": [], "eval": []}
    for scene in scenes:
        file = f"{world.files}/{scene.id}{world.suffix}"
        (folder / file).write_bytes(world.file(scene))
        texts = world.captions(scene, CAPTIONS_PER_SCENE + 1, style=style)
        rows["captions"] += _caption_rows(world, scene, file, texts[:-1])
        rows["eval"].append(_eval_row(world, scene, file, texts))
        pool.append((scene, texts[:-1]))
    if world.name == "drawn":
        rows |= _tasks(pool)
    for name, lines in rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return rows


def _tasks(drawn: Sequence[tuple[Scene, list[str]]]) -> dict[str, list[Row]]:
    """What there is of the drawn world's scenes beside their captions."""
    rows: dict[str, list[Row]] = {"vqa": [], "entailment": [], "pairs": []}
    for scene, texts in drawn:
        image = f"images/{scene.id}.png"
        rows["vqa"] += _vqa_rows(scene, image, texts)
        rows["entailment"] += _entailment_rows(scene, image)
    if len(drawn) > 1:
        scenes = [scene for scene, _ in drawn]
        others = zip(scenes, partners(scenes), strict=True)
        rows["pairs"] = [row for left, right in others for row in _pair_rows(left, right)]
    return rows


def _caption_rows(world: World, scene: Any, file: str, texts: Sequence[str]) -> Iterator[Row]:
    for index, text in enumerate(texts):
        yield {
            "id": f"{scene.id}-{index}",
            "source": text,
            "target": text,
            world.key: file,
            "group": scene.id,
            "task": "caption",
        }


def _eval_row(world: World, scene: Any, file: str, texts: Sequence[str]) -> Row:
    *references, source = texts
    row = {
        "id": scene.id,
        "source": source,
        "references": references,
        world.key: file,
        "group": scene.id,
        "task": "caption",
    }
    return {**row, "meta": {"facts": world.facts(scene)}}


def _vqa_rows(scene: Scene, image: str, texts: Sequence[str]) -> Iterator[Row]:
    for index, question in enumerate(questions(scene)):
        yield {
            "id": f"{scene.id}-q{index}",
            "source": list(texts),
            "context": question.text,
            "target": _targets(question.answers),
            "answers": list(question.answers),
            "image": image,
            "group": scene.id,
            "task": "vqa",
            "meta": {
                "answer_type": question.answer_type,
                "question_type": question.question_type,
                "truth": question.answer,
            },
        }


def _targets(answers: Sequence[str]) -> list[str]:
    """The commonest answers, and every one given at least three times (Gu et al., 2023)."""
    counts = Counter(answers)
    most = max(counts.values())
    return [answer for answer, count in counts.most_common() if count == most or count >= 3]


def _entailment_rows(scene: Scene, image: str) -> Iterator[Row]:
    rng = random.Random(f"entailment {scene.id}")
    for index, triple in enumerate(entailment(scene, rng=rng)):
        yield {
            "id": f"{scene.id}-e{index}",
            "source": triple.premise,
            "context": triple.hypothesis,
            "target": triple.label,
            "label": triple.label,
            "image": image,
            "group": scene.id,
            "task": "entailment",
            "meta": {"picture_label": triple.picture_label},
        }


def _pair_rows(left: Scene, right: Scene) -> Iterator[Row]:
    for index, statement in enumerate(pairs(left, right)):
        label = str(statement.truth).lower()
        yield {
            "id": f"{left.id}-p{index}",
            "source": list(statement.captions),
            "context": statement.text,
            "target": label,
            "label": label,
            "image": [f"images/{scene.id}.png" for scene in (left, right)],
            "task": "nlvr2",
            "meta": {"kind": statement.kind, "told": statement.told},
        }
