"""Groups made by rewording: does `shared` learn from them what it learns from several captions of one image?

    python experiments/shared/paraphrases.py                      # all of it; a stopped one goes on
    python experiments/shared/paraphrases.py --only "warm-up 0"   # one setting, and the other in a second process
    python experiments/shared/paraphrases.py --record             # train nothing: write down what is finished

Who has one caption an image can have it reworded (`data-gen paraphrase`). Here a rewording is exact: it claims what the caption
claims, in other words and another order, as a perfect writer's would; what other captions of the image tell beside is not in it.
Or it tells a part of that, another part each time, as people do who write of one image.

First the mean cosine of an unseen caption with its picture, both centred, by how many groups the adapter was fitted on; then
models trained with the adapter of all groups, and noise, scored as they come and with texts as long as those of training. Writes
paraphrases.json, .md and .png beside this file.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import WARM_UPS, Lab, arms_table, dots, noise, parser, shared_by, summary
from worlds import around, mini, spread, unit

from close.adapters import build_adapter
from close.data.rows import RowFile
from close.encoders import load_encoder
from close.mini.grammar import join, with_article
from close.mini.language import GROUND_PHRASES, JOINTS, OPENINGS, WORDS, claims
from close.vectors.cache import cached_table

GROUPS = (10, 30, 100, 300, 1000, 3000)
COSINE, DRAWS, TIMES = 0.67, 5, 4
KEPT = 0.6
"""Of the phrases and adjectives of a caption, where a rewording tells a part of it."""
WAYS = {"rewordings": ("reworded.jsonl", 1.0), "rewordings of a part": ("reworded-in-part.jsonl", KEPT)}
"""By title the file of groups, and how much each rewording keeps."""
GROUNDS = {phrase: said for said in GROUND_PHRASES.values() for phrase in said}
CALLED = {word: words for words in WORDS.values() for word in words}


def reworded(caption: str, rng: random.Random, kept: float = 1.0) -> str:
    """A plain caption in other words: the things in another order, each called anew, the ground before or behind.

    Args:
        kept: of its phrases and adjectives, at least one thing.
    """
    text = re.sub(r"^(there is |a picture of )", "", caption)
    ground = next((phrase for phrase in GROUNDS if re.search(rf"(^{phrase}, | {phrase}$)", text)), None)
    if ground:
        text = re.sub(rf"(^{ground}, )|( {ground}$)", "", text)
        text = re.sub(r"^(there is |a picture of )", "", text)
    phrases = re.split(r", | and | with ", text)
    rng.shuffle(phrases)
    if kept < 1:
        phrases = [phrase for phrase in phrases if rng.random() < kept] or phrases[:1]
        ground = ground if rng.random() < kept else None
    said = []
    for phrase in phrases:
        _, *words = _some(phrase, kept, rng).split()
        said.append(with_article([rng.choice(CALLED.get(word, (word,))) for word in words]))
    found = rng.choice(OPENINGS) + join(said, JOINTS, rng)
    if ground:
        told = rng.choice(GROUNDS[ground])
        found = f"{told}, {found}" if rng.random() < 0.3 else f"{found} {told}"
    told, given = set(claims(found)), set(claims(caption))
    assert told <= given if kept < 1 else told == given, (caption, found)
    return found


def _some(phrase: str, kept: float, rng: random.Random) -> str:
    """An article, some of the adjectives, the thing, and perhaps its place."""
    found = re.fullmatch(r"(an?) (.*?)( (?:on|at|in) the .*)?", phrase)
    assert found, phrase
    *adjectives, thing = found[2].split()
    words = [found[1], *(word for word in adjectives if rng.random() < kept), thing]
    return " ".join(words) + (found[3] or "" if rng.random() < kept else "")


def paraphrases(rows: Path, out: Path, kept: float = 1.0) -> Path:
    """The first caption of every picture and `TIMES` rewordings, a group each."""
    if not out.is_file():
        lines = []
        for row in list(RowFile(rows))[::5]:
            (text,), rng = row.source, random.Random(f"reworded {row.id}")
            for number, said in enumerate((text, *(reworded(text, rng, kept) for _ in range(TIMES)))):
                lines.append(json.dumps({"id": f"{row.id}-{number}", "source": said, "target": said, "group": row.id}))
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def cosines(lab: Lab) -> dict[str, Any]:
    """By groups, the cosine that each kind of group brings, less that without an adapter."""
    world = mini("mini", lab.work / "data", lab.args.scenes, lab.args.test_scenes)
    rows = lab.work / "data" / f"train-{lab.args.scenes}" / "captions.jsonl"
    made = {title: paraphrases(rows, lab.work / name, kept) for title, (name, kept) in WAYS.items()}
    own = {
        title: np.asarray(cached_table(RowFile(file), load_encoder("mini"), "text")[:]) for title, file in made.items()
    }
    found: dict[str, Any] = {}
    for groups in (count for count in GROUPS if count <= lab.args.scenes):
        gains: dict[str, list[float]] = {}
        for learn, test in world.draws(groups, 1 if groups == lab.args.scenes else DRAWS):
            tried = world.rows(test)
            wanted = unit(world.image - world.image[test].mean(0))[world.groups[tried]]
            texts = {"several captions": world.text, **own}
            for kind, text in ((kind, np.float64(text[world.rows(learn)])) for kind, text in texts.items()):
                names = np.repeat(np.arange(len(learn)), 5)
                matrix = build_adapter("shared", text.shape[1]).fit(text=text, groups=names, quiet=True).matrix
                x = world.text[tried] - text.mean(0)
                scores = [(unit(each) * wanted).sum(1).mean() for each in (x @ matrix.double().numpy(), x)]
                gains.setdefault(kind, []).append(float(scores[0] - scores[1]))
        for kind, values in gains.items():
            found.setdefault(kind, {})[str(groups)] = spread(values)
    return found


def arms(lab: Lab, rows: Path) -> dict[str, dict[str, Any]]:
    """Adapters by title."""
    groups = {"several captions": rows}
    groups |= {title: paraphrases(rows, lab.work / name, kept) for title, (name, kept) in WAYS.items()}
    shared = {f"shared by {title}, noise": [shared_by(own), noise(COSINE)] for title, own in groups.items()}
    return {title: {"adapter": adapter} for title, adapter in {"noise": [noise(COSINE)], **shared}.items()}


def markdown(record: dict[str, Any]) -> str:
    """The cosines, and a table of models a setting."""
    counts = list(next(iter(record["cosines"].values())))
    lines = ["### Cosine of an unseen caption with its picture, less that without an adapter", ""]
    lines += ["| groups of | " + " | ".join(counts) + " |", "|---" * (len(counts) + 1) + "|"]
    for kind, by in record["cosines"].items():
        lines.append(f"| {kind} | " + " | ".join(map(around, by.values())) + " |")
    columns = {
        "CIDEr, pictures in": lambda arm: arm["image"]["cider"],
        "told alike": lambda arm: arm["alike"]["cider"],
        "attributes true %, told alike": lambda arm: arm["alike"]["attribute_accuracy"],
        "told %": lambda arm: arm["alike"]["attribute_recall"],
        "CIDEr, text in": lambda arm: arm["text"]["cider"],
    }
    for setting, table in record["arms"].items():
        lines += ["", f"### Models, {setting}", "", *arms_table(table, columns)[:-1]]
    return "\n".join(lines) + "\n"


def main() -> None:
    made = parser(__doc__, __file__, WARM_UPS)
    made.set_defaults(out=Path(__file__).with_suffix(".json"))
    lab = Lab(made.parse_args(), scores=("cider", "attribute_accuracy", "attribute_recall"))
    rows, test = lab.data("train") / "captions.jsonl", lab.data("test") / "eval.jsonl"
    runs = lab.gathered(WARM_UPS, arms(lab, rows), lab.recipe(rows), lab.three_ways(test))
    tables = {name: {arm: summary(each, lab.keys) for arm, each in table.items()} for name, table in runs.items()}
    record = {"cosines": cosines(lab), "noise": COSINE, "arms": tables, "runs": runs}
    lab.finish(record, markdown, lambda made, to: dots(tables, "cider", to))


if __name__ == "__main__":
    main()
