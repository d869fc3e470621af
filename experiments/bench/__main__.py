"""`python -m experiments.bench`: every part against the plain way, interleaved; a table, and bench/results.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from close.fast.precision import has_bf16
from close.io.versions import versions

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
PARTS = ("text", "features", "photos", "step", "demo", "gpt2-features", "gpt2-step", "search", "cold")


def main() -> None:
    """Run what was asked for and write the result."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small: to see that it runs")
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("bench"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.out / "work"
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    runs = run_parts(folder, options.size, options.only or PARTS, options.rounds)
    shutil.rmtree(folder, ignore_errors=True)
    machine = describe_machine(options.threads)
    results = {"size": options.size, **summarise(runs, machine), "machine": machine, "runs": runs}
    results["seconds"] = round(time.perf_counter() - started)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    show(results)


def run_parts(folder: Path, size: str, only: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Time each part's variants, one after the other within every round; a round before the first warms up what is cheap."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from close.encoders import load_encoder
    from experiments.bench import models, parts

    runs: dict[str, Any] = {}
    full = size == "full"
    if set(only) - {"demo", "search", "cold"}:
        world = models.build(folder, size, captions=2048 if full else 512, photos=24 if full else 16)
    if "text" in only:
        runs["text_embedding"] = interleave(parts.text_embedding(world, size), rounds)
    if {"features", "photos"} & set(only):
        encoders = {name: load_encoder(world.checkpoint, device="cpu", precision=name) for name in ("fp32", "bf16")}
        captioners = {name: parts.captioner_of(world, name, encoder) for name, encoder in encoders.items()}
        if "features" in only:
            runs["captions_from_features"] = interleave(parts.captions_from_features(world, captioners), rounds)
        if "photos" in only:
            chosen = captioners["bf16" if has_bf16(torch.device("cpu")) else "fp32"]
            runs["photos_to_captions"] = interleave(parts.photos_to_captions(world, chosen), rounds)
            del chosen
        del captioners, encoders
    if "step" in only:
        flops = parts.step_flops(world)
        runs["training_step"] = interleave(parts.training_step(world, folder), rounds)
        runs["training_step"]["flops_per_step"] = flops
    if {"gpt2-features", "gpt2-step"} & set(only):
        runs |= run_gpt2(models.with_gpt2(world, folder, size), folder, only, rounds)
    if "demo" in only:
        runs["demo_training"] = interleave(parts.demo_training(folder / "mini", 1000 if full else 60), rounds)
    if "search" in only:
        from experiments.bench.search import searches

        runs["search"] = interleave(searches(folder / "search", size), rounds)
    if "cold" in only:
        from experiments.bench.cold import cold_start

        runs["cold_start"] = interleave(cold_start(folder / "cold"), rounds)
    return runs


def run_gpt2(world: Any, folder: Path, only: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """The parts of the decoder-only model; the floor of its search is a variant beside the others."""
    from experiments.bench import parts

    runs: dict[str, Any] = {}
    if "gpt2-features" in only:
        captioners = {name: parts.captioner_of(world, name) for name in ("fp32", "bf16")}
        floors = {f"floor_{name}": parts.products(world, name) for name in captioners}
        variants = parts.captions_from_features(world, captioners) | floors
        runs["gpt2_captions_from_features"] = interleave(variants, rounds)
        del captioners, floors, variants
    if "gpt2-step" in only:
        flops = parts.step_flops(world)
        runs["gpt2_training_step"] = interleave(parts.training_step(world, folder), rounds)
        runs["gpt2_training_step"]["flops_per_step"] = flops
    return runs


def interleave(variants: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, Any]:
    """Seconds an item of every variant in every round."""
    found: dict[str, list[float]] = defaultdict(list)
    facts: dict[str, dict[str, float]] = {}
    for number in range(rounds + 1):
        for name, variant in variants.items():
            seconds, items, about = variant(number)
            facts[name] = about
            if number:  # the first round warms up
                found[name].append(seconds / items)
            print(f"  {name}: {seconds / items:.4f} s an item{'' if number else ' (warm-up)'}", file=sys.stderr)
    return {"seconds_per_item": dict(found), "facts": facts}


def summarise(runs: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """Median of the rounds' ratios, with the least and the greatest."""
    chosen = {
        "text_embedding_exact": ("text_embedding", "exact"),
        "text_embedding_bf16": ("text_embedding", "bf16"),
        "training_step": ("training_step", "auto"),
        "captions_from_features": ("captions_from_features", "bf16" if machine["bf16"] else "fp32"),
        "photos_to_captions": ("photos_to_captions", "auto"),
        "demo_training": ("demo_training", "auto"),
        "gpt2_captions_from_features": ("gpt2_captions_from_features", "bf16" if machine["bf16"] else "fp32"),
        "gpt2_training_step": ("gpt2_training_step", "auto"),
        "search": ("search", "auto"),
        "cold_start": ("cold_start", "auto"),
    }
    ratios, spread, share = {}, {}, {}
    for name, (part, variant) in chosen.items():
        if part in runs:
            times = runs[part]["seconds_per_item"]
            each = [plain / ours for plain, ours in zip(times["plain"], times[variant], strict=True)]
            ratios[name] = round(statistics.median(each), 2)
            spread[name] = [round(min(each), 2), round(max(each), 2)]
    for part in ("training_step", "gpt2_training_step"):
        if part in runs:
            step = statistics.median(runs[part]["seconds_per_item"]["auto"])
            peak = machine["peak_gflops"]["bf16" if machine["bf16"] else "fp32"] * 1e9
            share[part] = round(runs[part]["flops_per_step"] / step / peak, 3)
    floors = {}
    for part, run in runs.items():
        times = {name: statistics.median(found) for name, found in run["seconds_per_item"].items()}
        kinds = [name for name in times if f"floor_{name}" in times]
        floors |= {f"{part}, {name}": round(times[f"floor_{name}"] / times[name], 3) for name in kinds}
    return {"ratios": ratios, "spread": spread, "peak_share": share, "floor_share": floors, "goals": GOALS}


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
        "versions": versions(),
        "bf16": has_bf16(torch.device("cpu")),
        "peak_gflops": {"fp32": round(peak(torch.float32)), "bf16": round(peak(torch.bfloat16))},
    }


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of the best of ten square products."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def show(results: dict[str, Any]) -> None:
    """The table."""
    machine = results["machine"]
    print(
        f"{machine['cpu']}, {machine['threads']} threads, peak {machine['peak_gflops']} GFLOP/s, {results['seconds']} s"
    )
    print(f"{'part':<26}{'ratio':>8}{'spread':>16}{'goal':>8}")
    for name, ratio in results["ratios"].items():
        low, high = results["spread"][name]
        print(f"{name:<26}{ratio:>7.2f}×{f'{low:.2f}–{high:.2f}':>16}{GOALS[name]:>7.1f}×")
    for name, share in results["peak_share"].items():
        print(f"{name}: {100 * share:.0f} % of the measured peak (goal 50 %)")
    for name, share in results["floor_share"].items():
        print(f"{name}: {100 * share:.0f} % of its time are the products alone")
    for part, run in results["runs"].items():
        for variant, facts in run["facts"].items():
            if facts:
                print(f"{part}, {variant}: " + ", ".join(f"{key} {value:.6g}" for key, value in facts.items()))


if __name__ == "__main__":
    main()
