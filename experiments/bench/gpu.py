"""`python -m experiments.bench.gpu`: rates on one accelerator, as shares of its best, and whether it says what the CPU says.

    make bench-gpu                                                          # where there is one; without a hand
    python -m experiments.bench.gpu --size small --rounds 1 --out FOLDER    # a minute on a CPU, to see that it runs

ViT-L/14, T5-base and GPT-2 with random weights. Batches are found by trial: doubled as long as that brings a twentieth more, and
fits. Shares are of the products' rate at its best (`floors.py` has the operations). Writes gpu.json: the device, its measured
peak, rates, shares, how long the COCO schedule takes (414,113 captions, eight epochs), and the differences to the CPU in fp32.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn import functional as F

from close.data.rows import RowFile
from close.encoders import ContrastiveEncoder, load_encoder, pick_device
from close.errors import RecipeError
from close.fast.memory import is_out_of_memory
from close.fast.precision import has_bf16, pick_dtype
from close.io.files import write_json
from close.io.record import stamp
from close.vectors.cache import cached_table
from experiments.bench import floors, models, parts
from experiments.bench.models import World
from experiments.bench.parts import timed

COCO = {"captions": 414_113, "epochs": 8, "minutes": 10}
"""The paper's schedule on Karpathy's training split; the minutes are the goal on one H200."""
GAIN = 1.05
SIZES: dict[str, dict[str, Any]] = {
    "full": {"captions": 16_384, "photos": 512, "batches": (64, 2048), "training": (256, 2048)},
    "small": {"captions": 256, "photos": 8, "batches": (8, 16), "training": (8, 16)},
}
"""What there is to do, and the least and the greatest batch."""
STEPS = {"full": (8, 10), "small": (1, 2)}
"""Of training: those that warm up, and those that are timed of a trial and of each round."""


def main() -> None:
    """Run all parts and write the record after each."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.gpu")
    parser.add_argument("--size", choices=SIZES, default="full", help="small: to see that it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    options = parser.parse_args()
    device = pick_device(None)
    if options.size == "full" and device.type == "cpu":
        raise SystemExit("no accelerator here: `make bench` is for CPUs, and `--size small` shows that this runs")
    begun = time.perf_counter()
    with TemporaryDirectory() as folder:
        bench = Bench(device, options.size, options.rounds, Path(folder))
        record: dict[str, Any] = {"machine": bench.machine, "size": options.size, "coco": COCO, "parts": {}}
        for name, part in PARTS.items():
            record["parts"][name] = part(bench)
            record["seconds"] = round(time.perf_counter() - begun)
            write_json(options.out / "gpu.json", record)
            print(f"{record['seconds']} s, {name}: {record['parts'][name]}", file=sys.stderr)


class Bench:
    """The models and the device, and how things are timed on it."""

    def __init__(self, device: torch.device, size: str, rounds: int, folder: Path) -> None:
        self.device, self.size, self.rounds, self.folder = device, size, rounds, folder
        os.environ["CLOSE_CACHE"] = str(folder / "cache")
        self.unit = "bf16" if has_bf16(device) else "fp32"
        self.machine = self._machine()
        some = SIZES[size]
        self.world = models.build(folder, size, captions=some["captions"], photos=some["photos"])
        self.gpt2 = models.with_gpt2(self.world, folder, size)
        self.batches, self.training = some["batches"], some["training"]
        encoder = load_encoder(self.world.checkpoint, device=device, precision="auto")
        self.table = cached_table(RowFile(self.world.data), encoder, "text").path

    def _machine(self) -> dict[str, Any]:
        """The card by name, and what one large product reaches on it."""
        cuda = self.device.type == "cuda"
        about = torch.cuda.get_device_properties(self.device) if cuda else None
        size = 8192 if self.device.type != "cpu" else 1024
        peaks = {unit: round(floors.peak(pick_dtype(unit), size, self.device)) for unit in {"fp32", self.unit}}
        return {
            "device": about.name if about else self.device.type,
            "memory_gb": round(about.total_memory / 1e9, 1) if about else None,
            "torch": torch.__version__,
            "peak_gflops": peaks,
            **stamp(),
        }

    def by_trial(
        self,
        rate: Callable[[int], float],
        operations: float,
        *,
        batches: tuple[int, int] | None = None,
        rates: Callable[[int], list[float]] | None = None,
    ) -> dict[str, Any]:
        """The best batch, its rate in every round, and its share of the peak.

        Args:
            rate: items a second with a batch. operations: of an item. batches: the least and the greatest.
            rates: that of every round; without it `rate` again.
        """
        tried: dict[int, float] = {}
        size, most = batches or self.batches
        while size <= most and (found := self._fits(lambda size=size: rate(size))) is not None:
            tried[size] = found
            if len(tried) > 1 and found < GAIN * max(value for key, value in tried.items() if key != size):
                break
            size *= 2
        if not tried:
            raise SystemExit(f"a batch of {size} does not fit into this device's memory")
        best = max(tried, key=lambda key: tried[key])
        rounds = rates(best) if rates else [rate(best) for _ in range(self.rounds)]
        middle = statistics.median(rounds)
        return {
            "batch": best,
            "a_second": round(middle, 2),
            "rounds": [round(value, 2) for value in rounds],
            "share_of_peak": round(middle * operations / 1e9 / self.machine["peak_gflops"][self.unit], 4),
            "tried": {str(key): round(value, 2) for key, value in tried.items()},
        }

    def _fits(self, work: Callable[[], float]) -> float | None:
        """What it gives; None where memory does not suffice."""
        try:
            return work()
        except (RuntimeError, MemoryError, RecipeError) as error:
            if not any(is_out_of_memory(one) for one in (error, error.__cause__) if one):
                raise
        finally:
            gc.collect()  # a trainer and its callbacks know each other, and hold the model
        if self.device.type != "cpu":
            torch.accelerator.empty_cache()
        return None

    def encoder(self, precision: str) -> ContrastiveEncoder:
        """The same weights, as the toolkit loads them."""
        return load_encoder(self.world.checkpoint, device=self.device, precision=precision)


def texts(bench: Bench) -> dict[str, Any]:
    """Captions to unit vectors."""
    encoder = bench.encoder(bench.unit)
    captions = bench.world.captions
    encoder.encode_text(captions[:512])

    def rate(size: int) -> float:
        return len(captions) / timed(lambda: encoder.encode_text(captions, batch_size=size))[0]

    return bench.by_trial(rate, floors.works("text_embedding", bench.world, bench.unit)["bf16"]["operations"])


def photos(bench: Bench) -> dict[str, Any]:
    """Files to unit vectors, decoding and resizing included; and the tower alone on pixels that are there."""
    encoder, files = bench.encoder(bench.unit), bench.world.photos
    pixels = encoder.prepare(encoder.open(files[0]))["pixels"]
    tower = floors.tower_operations(bench.world)

    def from_files(size: int) -> float:
        many = enough(files, size)
        return len(many) / timed(lambda: encoder.encode_image(many, batch_size=size))[0]

    def alone(size: int) -> float:
        given = pixels.expand(size, -1, -1, -1).to(bench.device, encoder.dtype)
        times = max(1, len(files) // size)
        with torch.inference_mode():
            encoder.image_tower({"pixels": given})
            spent = timed(lambda: [encoder.image_tower({"pixels": given}) for _ in range(times)])[0]
        return size * times / spent

    return {"tower": bench.by_trial(alone, tower), "files": bench.by_trial(from_files, tower)}


def enough(files: list[Path], size: int) -> list[Path]:
    """Four batches at least, so that files are read while the models work."""
    return files * -(-4 * size // len(files))


def captions(bench: Bench) -> dict[str, Any]:
    """Unit vectors to texts, beam 5, 32 tokens: T5 and GPT-2. Shares are of 32 tokens, and texts that end sooner flatter them."""
    found = {}
    for name, world in (("t5", bench.world), ("gpt2", bench.gpt2)):
        captioner = parts.captioner_of(world, bench.unit, device=bench.device)

        def rate(size: int, world: World = world, captioner: Any = captioner) -> float:
            embeds = F.normalize(torch.randn(size, world.prefix.in_features), dim=-1)
            captioner.generate(embeds[: size // 2], [""] * (size // 2), **parts.BEAMS)
            return size / timed(lambda: captioner.generate(embeds, [""] * size, **parts.BEAMS))[0]

        found[name] = bench.by_trial(rate, floors.search_operations(world))
    return found


def whole(bench: Bench) -> dict[str, Any]:
    """Photo files to texts with T5, beam 5."""
    captioner = parts.captioner_of(bench.world, bench.unit, bench.encoder(bench.unit), device=bench.device)
    files = bench.world.photos
    operations = floors.tower_operations(bench.world) + floors.search_operations(bench.world)

    def rate(size: int) -> float:
        many = enough(files, size)
        return len(many) / timed(lambda: captioner(many, batch_size=size, **parts.BEAMS))[0]

    captioner(files[:8], batch_size=8, **parts.BEAMS)
    return bench.by_trial(rate, operations)


def training(bench: Bench, world: World) -> dict[str, Any]:
    """Captions a second, target tokens a second and the COCO schedule, embeddings made before."""
    warm, steps = STEPS[bench.size]
    tokens = statistics.mean(len(text.split()) + 1 for text in world.captions)

    def rates(size: int, rounds: int = bench.rounds) -> list[float]:
        marks = [warm + steps * number for number in range(rounds + 1)]
        ends = parts.timed_steps(world, bench.folder, size, marks, embeddings=bench.table)
        return [size * steps / (end - start) for start, end in pairwise(ends)]

    work = floors.step_operations(world)
    found = bench.by_trial(lambda size: rates(size, 1)[0], work, batches=bench.training, rates=rates)
    minutes = COCO["captions"] * COCO["epochs"] / found["a_second"] / 60
    return found | {"tokens_a_second": round(found["a_second"] * tokens), "coco_minutes": round(minutes, 2)}


def exactness(bench: Bench) -> dict[str, Any]:
    """In fp32 the device makes the CPU's vectors and texts; in its own precision vectors nearly like these."""
    cpu, world = torch.device("cpu"), bench.world
    some, files = world.captions[:64], world.photos[:8]
    reference = load_encoder(world.checkpoint, device=cpu, precision="fp32")
    wanted = {"texts": reference.encode_text(some), "photos": reference.encode_image(files)}
    found: dict[str, Any] = {}
    for precision in dict.fromkeys(("fp32", bench.unit)):
        encoder = bench.encoder(precision)
        made = {"texts": encoder.encode_text(some), "photos": encoder.encode_image(files)}
        for name, rows in wanted.items():
            cosine = F.cosine_similarity(rows, made[name].cpu().float()).min()
            found[f"{name}_{precision}"] = {
                "least_cosine": round(float(cosine), 7),
                "largest_difference": float((rows - made[name].cpu().float()).abs().max()),
            }
    embeds = F.normalize(torch.randn(16, world.prefix.in_features, generator=torch.Generator().manual_seed(1)), dim=-1)
    for name, own in (("t5", world), ("gpt2", bench.gpt2)):
        here, there = (parts.captioner_of(own, "fp32", device=place) for place in (cpu, bench.device))
        said = [one.generate(embeds, [""] * len(embeds), **parts.BEAMS) for one in (here, there)]
        same = sum(a[0] == b[0] for a, b in zip(*said, strict=True))
        found[f"{name}_same_texts"] = f"{same} of {len(embeds)}"
        found[f"{name}_score_difference"] = max(abs(a[1] - b[1]) for a, b in zip(*said, strict=True))
    return found


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "exactness": exactness,
    "training_t5": lambda bench: training(bench, bench.world),
    "training_gpt2": lambda bench: training(bench, bench.gpt2),
    "photo_embedding": photos,
    "photos_to_captions": whole,
    "captions_from_features": captions,
    "text_embedding": texts,
}


if __name__ == "__main__":
    main()
