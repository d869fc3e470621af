"""Photos to captions by published code and by this toolkit: rate and peak memory, at the same sizes, with random weights.

    git clone https://github.com/rmokady/CLIP_prefix_caption && git -C CLIP_prefix_caption checkout 1ad805a…
    git clone https://github.com/DavidHuji/CapDec && git -C CapDec checkout 4451bfd…
    python -m experiments.bench.peers --clipcap CLIP_prefix_caption --capdec CapDec

Nothing of theirs is kept here; without a checkout, its rows are left out, and the exact commits are told. Every way runs in a
process of its own, one after the other in each round; the first photos warm it up. Five beams, 20 tokens, ViT-B/32 and GPT-2
(124M) as ClipCap has them; ViT-L/14 beside BLIP, whose tower is made as large.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig

from close.encoders import load_encoder
from close.fast.precision import pick_dtype, pick_precision
from close.io.files import write_json
from close.model.configuration import CloseConfig
from close.model.language_models.kinds import language_model_kind
from close.model.language_models.loading import load_language_model
from close.model.modeling import CloseModel
from close.runs.pipeline import CloseCaptioner
from experiments.bench import models
from experiments.bench.__main__ import describe_machine
from experiments.bench.peers import theirs

WAYS = {
    "clipcap": "ClipCap's code: ViT-B/32, GPT-2",
    "capdec": "CapDec's beam search: ViT-B/32, GPT-2",
    "close-gpt2-fp32": "close: ViT-B/32, GPT-2, fp32",
    "close-gpt2": "close: ViT-B/32, GPT-2, precision auto",
    "blip": "transformers' BLIP: a tower of ViT-L/14's size",
    "close-t5": "close: ViT-L/14, T5-base, precision auto",
}
TOWERS = {"full": ("ViT-B-32", "ViT-L-14"), "small": ("ViT-S-32", "ViT-M-32")}


def prepare(args: argparse.Namespace) -> None:
    """Weights, tokenizers and photos as files, so that a way holds what it needs alone."""
    for tower in TOWERS[args.size]:
        models.SIZES[args.size] = (tower, models.SIZES[args.size][1])
        folder = args.out / "work" / tower
        models.with_gpt2(models.build(folder, args.size, captions=8, photos=args.photos), folder, args.size)


def ours(encoder_name: str, language_model: Path, precision: str) -> theirs.Captions:
    """The toolkit's captioner: an MLP of ten tokens before GPT-2, as ClipCap's; four linear ones before T5."""
    encoder = load_encoder(encoder_name, device="cpu", precision=precision)
    lm, tokenizer = load_language_model(str(language_model)), AutoTokenizer.from_pretrained(language_model)
    template = language_model_kind(lm.config).template_of(tokenizer, lm.config.vocab_size, str(language_model))
    config = CloseConfig(
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        embed_dim=encoder.embed_dim,
        prefix={"kind": "linear", "length": 4} if lm.config.is_encoder_decoder else {"kind": "mlp", "length": 10},
        language_model=lm.config,
        template=template.values() if template else None,
    )
    model = CloseModel(config, lm).eval()
    model.generation_config = GenerationConfig.from_model_config(lm.config)
    model.to(pick_dtype(pick_precision(precision, torch.device("cpu"), model.num_parameters())))
    captioner = CloseCaptioner(model, tokenizer, tasks=["caption"])
    captioner.use_encoder(encoder)
    return lambda photos: [
        one.text for one in captioner(list(photos), batch_size=8, num_beams=theirs.BEAMS, max_new_tokens=theirs.TOKENS)
    ]


def work(args: argparse.Namespace) -> dict[str, Any]:
    """One way, in this process: seconds a photo, and the most memory that it held."""
    way, towers = args.way, TOWERS[args.size]
    tower = towers[way in ("blip", "close-t5")]
    folder = args.out / "work" / tower
    if way == "blip":
        caption = theirs.blip(args.size == "full")
    elif way in ("clipcap", "capdec"):
        search = args.clipcap / "predict.py" if way == "clipcap" else args.capdec / "gpt2_prefix_eval.py"
        caption = theirs.clipcap(tower, folder / "clip.pt", folder / "gpt2", args.clipcap, search)
    else:
        name, lm = f"open_clip:{tower}@{folder / 'clip.pt'}", "t5" if way == "close-t5" else "gpt2"
        caption = ours(name, folder / lm, "fp32" if way.endswith("fp32") else "auto")
    photos = sorted(folder.glob("*.jpg"))
    caption(photos[:8])
    begun = time.perf_counter()
    said = caption(photos)
    seconds = (time.perf_counter() - begun) / len(photos)
    return {
        "seconds": seconds,
        "mb": peak_memory() / 2**20,
        "words": statistics.mean(len(text.split()) for text in said),
    }


def peak_memory() -> int:
    """Bytes that this process held at most; `getrusage` would count those of the one that started it."""
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def run(args: argparse.Namespace, way: str) -> dict[str, Any]:
    """One way in a process of its own."""
    given = ["--way", way, "--size", args.size, "--photos", str(args.photos), "--threads", str(args.threads)]
    given += ["--out", str(args.out)]
    for name in ("clipcap", "capdec"):
        given += [f"--{name}", str(getattr(args, name))] if getattr(args, name) else []
    command = [sys.executable, "-m", "experiments.bench.peers", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """All ways, in turn; a table, and peers.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clipcap", type=Path, help="checkout of CLIP_prefix_caption")
    parser.add_argument("--capdec", type=Path, help="checkout of CapDec; it wants --clipcap too")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("bench/peers"))
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.way:
        print(json.dumps(work(args)))
        return
    ways = [way for way in WAYS if way not in ("clipcap", "capdec")]
    for name, source in (("clipcap", theirs.CLIPCAP), ("capdec", theirs.CAPDEC)):
        if getattr(args, name) is None or args.clipcap is None:
            print(f"{name} is left out; to have it (with --{name}):\n{theirs.how(source)}", file=sys.stderr)
            continue
        theirs.fetched(getattr(args, name), source)
        ways.insert(0, name)
    prepare(args)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(args.rounds):
        for way in ways:
            found[way].append(run(args, way))
            print(f"round {number + 1}, {WAYS[way]}: {1 / found[way][-1]['seconds']:.2f} photos/s", file=sys.stderr)
    table = {
        way: {
            "what": WAYS[way],
            "photos_per_second": 1 / statistics.median(one["seconds"] for one in runs),
            "peak_mb": max(one["mb"] for one in runs),
            "words": runs[0]["words"],
            "rounds": runs,
        }
        for way, runs in found.items()
    }
    record = {
        "machine": describe_machine(args.threads),
        "size": args.size,
        "beams": theirs.BEAMS,
        "tokens": theirs.TOKENS,
    }
    write_json(args.out / "peers.json", record | {"commits": [theirs.CLIPCAP, theirs.CAPDEC], "ways": table})
    print(f"{'':<48}{'photos/s':>10}{'peak MB':>10}{'words':>8}")
    for one in table.values():
        print(f"{one['what']:<48}{one['photos_per_second']:>10.2f}{one['peak_mb']:>10.0f}{one['words']:>8.1f}")


if __name__ == "__main__":
    main()
