"""`python -m experiments.bench`: every part against the plain way, interleaved; a table, and bench/results.json."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from close.fast.precision import has_bf16
from close.io.files import read_json, write_json
from close.io.record import stamp
from experiments.bench import floors

GOALS = {
    "text_embedding_exact": 4.0,
    "text_embedding_bf16": 8.0,
    "training_step": 5.5,
    "captions_from_features": 3.5,
    "photos_to_captions": 4.0,
    "demo_training": 2.0,
    "gpt2_captions_from_features": 2.0,
    "gpt2_training_step": 3.0,
    "search": 2.0,
    "cold_start": 1.8,
}
"""Of the ratios to the plain way."""
SHARES = {
    "text_embedding_bf16": 0.75,
    "training_step": 0.55,
    "captions_from_features": 0.6,
    "photos_to_captions": 0.7,
    "gpt2_training_step": 0.55,
    "search": 0.6,
    "serve": 0.85,
}
"""Goals of the floor's share of the time."""
MODELS = {
    "text": "text_embedding",
    "features": "captions_from_features",
    "photos": "photos_to_captions",
    "step": "training_step",
    "gpt2-features": "gpt2_captions_from_features",
    "gpt2-step": "gpt2_training_step",
}
OTHERS = {"demo": "demo_training", "search": "search", "fusion": "fusion_prefix", "cold": "cold_start"}
OWN = ("int8", "by_32")
"""Variants that have a ratio of their own: another precision, and the batch that is taken where nothing is said."""
PARTS = {**MODELS, **OTHERS, "serve": "serve", "data": "data"}
"""Of `--only`, and what results call it."""


def main() -> None:
    """Run what was asked for and write the result."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small: to see that it runs")
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument(
        "--resume", action="store_true", help="keep the parts that a bench of this code finished in --out"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.out / "work"
    shutil.rmtree(folder, ignore_errors=True)
    started, machine = time.perf_counter(), describe_machine(options.threads)
    file = options.out / "results.json"
    kept = kept_results(file, options.size, machine) if options.resume else {}
    runs = dict(kept.get("runs", {}))
    only = tuple(part for part in options.only or PARTS if PARTS[part] not in runs)
    for part, found in (*runs.items(), *run_parts(folder, options.size, only, options.rounds)):
        runs[part] = found
        results = {"size": options.size, **summarise(runs, machine), "machine": machine, "runs": runs}
        results["seconds"] = round(kept.get("seconds", 0) + time.perf_counter() - started)
        write_json(file, results)
    shutil.rmtree(folder, ignore_errors=True)
    show(results)


def kept_results(file: Path, size: str, machine: dict[str, Any]) -> dict[str, Any]:
    """What is finished, by the same code on this machine; its floors are reckoned anew."""
    found = read_json(file) if file.is_file() else {}
    same = found.get("size") == size and all(
        found["machine"].get(key) == machine[key] for key in ("cpu", "threads", "versions", "code")
    )
    return dict(found) if same else {}


def run_parts(folder: Path, size: str, only: tuple[str, ...], rounds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Time each part's variants, one after the other within every round; a round before the first warms up what is cheap."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from experiments.bench import models, parts

    full = size == "full"
    if set(only) & MODELS.keys():
        world = models.build(folder, size, captions=1024 if full else 512, photos=64 if full else 16)
        yield from run_models(world, folder, size, only, rounds)
    if "demo" in only:
        found = interleave(parts.demo_training(folder / "mini", 1000 if full else 60), rounds)
        yield "demo_training", found | {"work": floors.demo_work(folder / "mini" / "data" / "captions.jsonl")}
    if "search" in only:
        from experiments.bench.search import searches

        yield "search", interleave(searches(folder / "search", size), rounds)
    if "fusion" in only:
        from experiments.bench.fusion import fusion

        variants, work = fusion(size)
        yield "fusion_prefix", interleave(variants, rounds) | {"work": work}
    if "cold" in only:
        from experiments.bench.cold import cold_start

        yield "cold_start", interleave(cold_start(folder / "cold"), rounds)
    if "serve" in only:
        from experiments.bench.server import served

        with served(folder / "serve", size) as variants:
            yield "serve", interleave(variants, rounds)
    if "data" in only:
        from experiments.bench.data import data

        yield "data", interleave(data(folder / "data", size), rounds)


def run_models(
    world: Any, folder: Path, size: str, only: tuple[str, ...], rounds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of the large models; floors of narrow products are variants beside the others."""
    from close.encoders import load_encoder
    from experiments.bench import models, parts

    unit = "bf16" if has_bf16(torch.device("cpu")) else "fp32"

    def run(part: str, variants: dict[str, Any], of: Any = world) -> tuple[str, dict[str, Any]]:
        own = "step" not in part  # its steps warm up by themselves
        return part, interleave(variants, rounds, warm_up=own) | {"work": floors.works(part, of, unit)}

    if "text" in only:
        yield run("text_embedding", parts.text_embedding(world, size))
    if "features" in only:
        yield run("captions_from_features", from_features(world))
    if "photos" in only:
        named = {"auto": unit, "by_32": unit, **{name: name for name in parts.INT8}}
        captioners = {
            name: parts.captioner_of(world, own, load_encoder(world.checkpoint, device="cpu", precision=own))
            for name, own in named.items()
        }
        yield run("photos_to_captions", parts.photos_to_captions(world, captioners))
    if "step" in only:
        yield run("training_step", parts.training_step(world, folder))
    if {"gpt2-features", "gpt2-step"} & set(only):
        gpt2 = models.with_gpt2(world, folder, size)
        if "gpt2-features" in only:
            yield run("gpt2_captions_from_features", from_features(gpt2), gpt2)
        if "gpt2-step" in only:
            yield run("gpt2_training_step", parts.training_step(gpt2, folder), gpt2)


def from_features(world: Any) -> dict[str, Any]:
    """The search in both precisions, and its products alone."""
    from experiments.bench import parts

    captioners = {name: parts.captioner_of(world, name) for name in ("fp32", "bf16")}
    return parts.captions_from_features(world, captioners) | {
        f"floor_{name}": parts.products(world, name) for name in captioners
    }


def interleave(variants: dict[str, Callable[[int], Any]], rounds: int, *, warm_up: bool = True) -> dict[str, Any]:
    """Seconds an item of every variant in every round."""
    found: dict[str, list[float]] = defaultdict(list)
    facts: dict[str, dict[str, float]] = {}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, variant in variants.items():
            seconds, items, about = variant(number)
            facts[name] = about
            if number:
                found[name].append(seconds / items)
            print(f"  {name}: {seconds / items:.4f} s an item{'' if number else ' (warm-up)'}", file=sys.stderr)
    return {"seconds_per_item": dict(found), "facts": facts}


def summarise(runs: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """Median of the rounds' ratios with the least and the greatest, and the floors with their shares of the time."""
    unit = "bf16" if machine["bf16"] else "fp32"
    rows = {
        "text_embedding_exact": ("text_embedding", "exact"),
        "text_embedding_bf16": ("text_embedding", "bf16"),
        "captions_from_features": ("captions_from_features", unit),
        "gpt2_captions_from_features": ("gpt2_captions_from_features", unit),
        **{part: (part, "auto") for part in runs if "auto" in runs[part]["seconds_per_item"]},
        **{f"{part}_{own}": (part, own) for part in runs for own in OWN if own in runs[part]["seconds_per_item"]},
    }
    ratios, spread, lowest, share = {}, {}, {}, {}
    for name, (part, variant) in rows.items():
        if part not in runs:
            continue
        times = runs[part]["seconds_per_item"]
        if "plain" in times:
            each = [plain / ours for plain, ours in zip(times["plain"], times[variant], strict=True)]
            ratios[name] = round(statistics.median(each), 2)
            spread[name] = [round(min(each), 2), round(max(each), 2)]
        if f"floor_{variant}" in times:
            lowest[name] = {"seconds": statistics.median(times[f"floor_{variant}"]), "by": "measured"}
        elif work := runs[part].get("work", {}).get(variant):
            lowest[name] = floors.floor(work, machine)
        if name in lowest:
            share[name] = round(lowest[name]["seconds"] / statistics.median(times[variant]), 3)
    return {
        "ratios": ratios,
        "spread": spread,
        "goals": GOALS,
        "floors": lowest,
        "floor_share": share,
        "share_goals": SHARES,
    }


def describe_machine(threads: int) -> dict[str, Any]:
    """Processor, threads, versions, and the peak of one large product in each precision."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    name = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return {
        "cpu": name,
        "threads": threads,
        "torch": torch.__version__,
        **stamp(),
        "bf16": has_bf16(torch.device("cpu")),
        "peak_gflops": {"fp32": round(floors.peak(torch.float32)), "bf16": round(floors.peak(torch.bfloat16))},
        "memory_gb_per_second": round(floors.bandwidth(), 1),
    }


def show(results: dict[str, Any]) -> None:
    """The table."""
    machine = results["machine"]
    print(
        f"{machine['cpu']}, {machine['threads']} threads, {machine['peak_gflops']} GFLOP/s, memory "
        f"{machine['memory_gb_per_second']} GB/s, {results['seconds']} s"
    )
    print(f"{'part':<29}{'ratio':>7}{'spread':>14}{'goal':>6}{'floor':>12}{'share':>8}{'goal':>6}  floor by")
    for name in {**results["ratios"], **results["floor_share"]}:
        ratio, goal, wanted = results["ratios"].get(name), GOALS.get(name), SHARES.get(name)
        low, high = results["spread"].get(name, (0, 0))
        compared = f"{ratio:>6.2f}×{f'{low:.2f}–{high:.2f}':>14}" if ratio else f"{'':>21}"
        lowest, share = results["floors"].get(name), results["floor_share"].get(name)
        left = f"{1000 * lowest['seconds']:>10.2f}ms{share:>8.0%}" if lowest else f"{'':>20}"
        goals = f"{goal:>5.1f}×" if goal else f"{'':>6}", f"{wanted:>6.0%}" if wanted else f"{'':>6}"
        print(f"{name:<29}{compared}{goals[0]}{left}{goals[1]}  {lowest['by'] if lowest else ''}")
    for part, run in results["runs"].items():
        for variant, facts in run["facts"].items():
            if facts:
                print(f"{part}, {variant}: " + ", ".join(f"{key} {value:.6g}" for key, value in facts.items()))


if __name__ == "__main__":
    main()
