"""The main job on an embedded mini world, start to finish: train on text, caption what was never seen or heard, compare."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from close.data.rows import RowFile
from close.data.shards import open_rows
from close.demo.report import SCORES, write_report
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import CloseError, OutputExistsError
from close.evaluation.transfer import recovered_share
from close.io.children import Child, ended, start
from close.io.files import read_json, write_json, write_text
from close.io.jobs import clear, exclusively
from close.io.plain import read_yaml
from close.io.progress import progress
from close.io.record import stamp
from close.io.terminal import console_for
from close.io.versions import mini_world
from close.mini import WORLDS, World, export
from close.runs.evaluate import evaluated
from close.runs.folder import RECIPE_FILE, RUN_FILE
from close.runs.length import LENGTH_FILE
from close.runs.recipe import Recipe
from close.runs.recipe_file import portable
from close.runs.sections import TrainingSection
from close.vectors.cache import cached_table

__all__ = ["METHODS", "run_demo", "show_results"]

TRAIN_SCENES, TEST_SCENES, PHOTO_SCENES = 3000, 300, 100
TRAINING = {"epochs": 8, "batch_size": 64, "learning_rate": 2.0e-3, "save_strategy": "no", "warmup_steps": 50}

EPOCHS = {"none": 4, "close": 8, "shared": 4, "image": 4}
"""How long each is trained: tuned by experiments/demo/tune.py, all but `shared` on the world before version 3. Noise alone makes
longer training pay; with `shared` twice as long says more, of which less is true."""
METHODS: dict[str, dict[str, Any]] = {
    "none": {"adapter": "none"},
    "close": {"adapter": [{"gaussian": {"cosine": 0.41}}]},
    "shared": {"adapter": ["shared", {"gaussian": {"cosine": 0.67}}]},
    "image": {"adapter": "none", "train_on": "image"},
}
"""What differs between the runs; everything else is the same. What `shared` takes away need not be drowned in noise."""
CROSSING = ("close", "shared")
"""Those that are trained on text alone, and cross the gap."""


def _short(world: World) -> dict[str, str]:
    return {"none": "no noise", "close": "CLOSE", "shared": "CLOSE + shared", "image": f"trained on {world.files}"}


def run_demo(
    out: str | Path = "demo",
    *,
    seed: int = 0,
    scenes: int = TRAIN_SCENES,
    epochs: float | None = None,
    world: str = "drawn",
) -> Path:
    """Train the methods, score them on pictures (or sounds), write `results.json` and `report.html`.

    Runs that are finished already, with the same settings, are kept.

    Args:
        out: the folder. scenes: training scenes (5 captions each). epochs: of all methods, instead of each one's own.
        world: "drawn" or "sound".
    Returns:
        The report's path.
    Raises:
        OutputExistsError: the folder holds something else, such as a demo of another world, version of it or seed, or another
            process makes it.
    """
    folder = Path(out)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "data").is_dir():
        raise OutputExistsError(f"{folder} exists and holds no demo; choose another folder with --out")
    version = mini_world(WORLDS[world].folder / "world.json").partition(" ")[0]
    data = folder / "data" / f"{world}-{version}-seed-{seed}"
    with exclusively(folder, "is being made"):
        if others := [path.name for path in data.parent.glob("[!.]*") if path.name != data.name]:
            told = f"{folder} holds another demo (data of {others[0]}, this is of {data.name})"
            raise OutputExistsError(f"{told}; choose another folder with --out")
        clear(folder)
        _run(folder, data.resolve(), WORLDS[world], seed, scenes, epochs)
    return folder / "report.html"


def _run(folder: Path, data_folder: Path, world: World, seed: int, scenes: int, epochs: float | None) -> None:
    started = time.perf_counter()
    data = _data(data_folder, world, scenes, seed)
    train_data, test_data = data["train"] / "captions.jsonl", data["test"] / "eval.jsonl"
    training = {name: TRAINING | {"epochs": epochs or EPOCHS[name]} for name in METHODS}
    models = {"encoder": world.encoder, "language_model": world.encoder}
    recipes = {}
    for name, differs in METHODS.items():
        recipes[name] = Recipe.model_validate(
            {"data": {"train": train_data}, "training": training[name], "seed": seed, **models, **differs}
        )
    _train(folder / "runs", recipes, data["val"] / world.files, scenes * 5, _short(world))
    methods = {name: _scores(folder / "runs" / name, test_data) for name in recipes}
    results = {
        "methods": methods,
        "recovered_share": {
            name: {
                score: recovered_share(*(methods[one][score] for one in (name, "none", "image"))) for score in SCORES
            }
            for name in CROSSING
        },
        "recovered_share_note": "(method − none) / (image − none); above 1 where text-only training passes the ceiling",
        "world": world.name,
        "train_captions": scenes * 5,
        "test_pictures": TEST_SCENES,
        "photos": PHOTO_SCENES,
        "seed": seed,
        "recipes": METHODS,
        "training": training,
        "length_penalty": {name: read_json(folder / "runs" / name / LENGTH_FILE)["length_penalty"] for name in recipes},
        "gap": _gap(load_encoder(world.encoder), open_rows(test_data)),
        "seconds": round(time.perf_counter() - started, 1),
        **stamp(folder / "runs"),
    }
    write_json(folder / "results.json", results)
    write_report(folder, results, open_rows(test_data))


def _data(folder: Path, world: World, scenes: int, seed: int) -> dict[str, Path]:
    """Folders by split; of "val" only what is to be described is looked at, for the length of texts."""
    found = {}
    for split, count in (("train", scenes), ("val", PHOTO_SCENES), ("test", TEST_SCENES)):
        found[split] = folder / f"{split}-{count}"
        if not found[split].exists():
            export(found[split], split, count, seed, world=world.name)
    return found


def _train(folder: Path, recipes: dict[str, Recipe], photos: Path, examples: int, short: dict[str, str]) -> None:
    """`close train` for each that is not finished, as many at a time as there are cores: a model this small can't use two.

    Each is then made to tell as much of photos as its training texts do: how much is told moves scores as methods do.
    """
    left = {name: recipe for name, recipe in recipes.items() if not _is_done(folder / name, recipe)}
    cores = _cores()
    at_once = max(1, min(cores, len(left)))
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(cores // at_once)}
    size = {name: _steps(recipe.training, examples) for name, recipe in left.items()}
    done: dict[str, int] = {}
    running: dict[str, Child] = {}
    with ended(running), progress("training " + ", ".join(short[name] for name in left), "steps") as update:
        while len(done) < len(left) or running:
            for name in [name for name in left if name not in done][: at_once - len(running)]:
                running[name], done[name] = _start(folder, name, left[name], photos, environment), 0
            time.sleep(0.2)
            for name, process in list(running.items()):
                if process.poll() is None:
                    done[name] = max(done[name], _steps_done(folder / f"{name}.progress.json"))
                    continue
                del running[name]
                done[name] = size[name]
                if process.returncode:
                    raise CloseError(f"{short[name]}: {_last_words(folder / f'{name}.log', process.returncode)}")
            update(sum(done.values()), sum(size.values()))


def _cores() -> int:
    """Those that this process may use, where the system says so; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _steps_done(file: Path) -> int:
    """How far a training is; before it trains, it embeds, and behind it, it describes photos."""
    if not file.is_file():
        return 0
    found = read_json(file)
    return int(found["done"]) if found["what"] == "training" else 0


def _last_words(log: Path, code: int) -> str:
    """What a process that failed said last, and where the rest is."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f"{said[-1] if said else f'ended with exit code {code}'} (all of it: {log})"


def _start(folder: Path, name: str, recipe: Recipe, photos: Path, environment: dict[str, str]) -> Child:
    file, watched = folder / f"{name}.yaml", folder / f"{name}.progress.json"
    write_text(file, yaml.safe_dump(recipe.dump(), sort_keys=False))
    watched.unlink(missing_ok=True)
    how = "--resume" if _is_trained(folder / name, recipe) else "--overwrite"
    arguments = ["train", str(file), how, "--out", str(folder / name), "--match-length", str(photos)]
    with (folder / f"{name}.log").open("w") as log:
        return start("close", arguments, log=log, environment=environment | {"CLOSE_PROGRESS": str(watched)})


def _steps(training: TrainingSection, examples: int) -> int:
    return math.ceil(examples / training.batch_size) * math.ceil(training.epochs)


def _is_done(folder: Path, recipe: Recipe) -> bool:
    return _is_trained(folder, recipe) and (folder / LENGTH_FILE).is_file()


def _is_trained(folder: Path, recipe: Recipe) -> bool:
    own = folder / RECIPE_FILE
    same = own.is_file() and read_yaml(own) == portable(recipe.dump(), folder)
    return same and (folder / RUN_FILE).is_file()


def _scores(folder: Path, test: Path) -> dict[str, Any]:
    fed_text = evaluated(folder, test, "text")
    return {**evaluated(folder, test), "fed_text": {key: fed_text[key] for key in (*SCORES, "attribute_recall")}}


def _gap(encoder: ContrastiveEncoder, rows: RowFile) -> dict[str, Any]:
    """Cosines of test pictures and captions, and the distance of the two means."""
    image, text = (cached_table(rows, encoder, modality)[:] for modality in ("image", "text"))
    cross = image @ text.T
    return {
        "cosines": {
            "paired": _histogram(np.diagonal(cross)),
            "unpaired": _histogram(_off_diagonal(cross)),
            "text_text": _histogram(_off_diagonal(text @ text.T)),
            "image_image": _histogram(_off_diagonal(image @ image.T)),
        },
        "centroid_gap": float(np.linalg.norm(image.mean(0) - text.mean(0))),
        "fingerprint": encoder.fingerprint,
    }


def _off_diagonal(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    return matrix[~np.eye(len(matrix), dtype=bool)]


def _histogram(values: NDArray[np.float32]) -> dict[str, Any]:
    counts, edges = np.histogram(values, bins=60, range=(-0.2, 1.0))
    share = (counts / counts.sum()).round(6).tolist()
    return {"mean": float(values.mean()), "std": float(values.std()), "edges": edges.round(4).tolist(), "share": share}


def show_results(results: dict[str, Any]) -> None:
    """Print the scores of `results.json` as a table."""
    from rich.table import Table

    world = WORLDS[results["world"]]
    table = Table(
        title=f"{results['test_pictures']} {world.items} never met; trained on {results['train_captions']} captions"
    )
    for column in ("method", "CIDEr", "95 %", "attribute accuracy", "attribute recall", "CIDEr when fed text"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, scores in results["methods"].items():
        interval = "–".join(f"{end:.1f}" for end in scores["ci"].get("cider", ()))  # of few scenes there is none
        table.add_row(
            _short(world)[name], f"{scores['cider']:.1f}", interval, f"{scores['attribute_accuracy']:.1f}",
            f"{scores['attribute_recall']:.1f}", f"{scores['fed_text']['cider']:.1f}",
        )  # fmt: skip
    (console := console_for(table)).print(table)
    for name, by in results["recovered_share"].items():
        shares = ", ".join(f"{key} {value:.2f}" for key, value in by.items() if value is not None)
        console.print(f"{_short(world)[name]}, recovered share of (image − none): {shares}")
