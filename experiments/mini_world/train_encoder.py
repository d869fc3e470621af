"""Train a mini world's contrastive encoder and record what it became.

    python experiments/mini_world/train_encoder.py --out close/mini/encoder --record experiments/mini_world/encoder.json
    python experiments/mini_world/train_encoder.py --world sound --image-width 12 --layers 2 --out close/mini/sound/encoder \\
        --record experiments/mini_world/sound_encoder.json

open_clip's own model class and loss, at a fixed temperature. Another world to try advice on is one option away: --seed, --width,
--layers, --embed-dim, --logit-scale, --learning-rate. The folder written is open_clip's local-dir format; the record (settings,
loss, gap, retrieval, time) goes to --record.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from safetensors.torch import save_file

from close.io.versions import versions
from close.mini.vocabulary import save_encoder_tokenizer
from close.mini.worlds import WORLDS, World

CONTEXT_LENGTH = 32
SIDE = 64


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the encoder")
    parser.add_argument("--record", type=Path, help="JSON of settings and measures (default: none)")
    parser.add_argument("--world", choices=list(WORLDS), default="drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=25_000)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--warm-start", type=int, default=1_200, help="steps of the image tower on labels, before")
    parser.add_argument(
        "--warm", type=Path, help="file of the warm-started image tower: read where it exists, else written"
    )
    parser.add_argument(
        "--freeze",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="convolutions stay as the warm start left them: 4 times as fast",
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--logit-scale", type=float, default=60.0, help="fixed 1/temperature of the loss")
    parser.add_argument("--embed-dim", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--image-width", type=int, default=16, help="channels of the image tower (a small ResNet)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16", help="of the matrix products")
    return parser.parse_args()


def write_config(args: argparse.Namespace, vocab_size: int) -> None:
    tower = {"layers": args.layers, "width": args.width}
    config = {
        "model_cfg": {
            "embed_dim": args.embed_dim,
            "init_logit_scale": math.log(args.logit_scale),
            # Convolutions learn shapes from few pictures; a transformer of the same cost needs many times as many.
            "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": args.image_width, "head_width": 64},
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocab_size,
                "heads": args.width // 32,
                "hf_tokenizer_name": "mini",  # open_clip then takes the tokenizer of this folder
                **tower,
            },
        },
        "preprocess_cfg": {"size": SIDE, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
    }
    (args.out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def draw_all(world: World, pool: list[Any]) -> torch.Tensor:
    """What the other tower sees of scenes: (N, 3, 64, 64) uint8."""
    pictures = np.empty((len(pool), SIDE, SIDE, 3), np.uint8)
    for index, scene in enumerate(pool):
        pictures[index] = world.view(scene)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.float() / 127.5 - 1


def train(model: Any, tokenizer: Any, args: argparse.Namespace) -> list[float]:
    """Contrastive training on a pool of scenes, with captions written anew each time; returns the losses."""
    world = WORLDS[args.world]
    pool = list(world.scenes("encoder", args.scenes, args.seed))
    start = time.time()
    pictures = draw_all(world, pool)
    print(f"made {len(pool)} scenes in {time.time() - start:.0f} s", file=sys.stderr, flush=True)
    model.logit_scale.requires_grad_(False)
    model.visual.to(memory_format=torch.channels_last)
    warm_start(model.visual, pool, pictures, args)
    features = frozen_features(model.visual, pictures) if args.freeze else None
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, args.warmup, args.steps))
    loss_of, rng = ClipLoss(), random.Random(args.seed)
    losses: list[float] = []
    start = time.time()
    for step in range(args.steps):
        chosen = rng.sample(range(len(pool)), args.batch_size)
        texts = tokenizer([world.captions(pool[index], 1, rng)[0] for index in chosen])
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
            if features is None:
                images = model.encode_image(normalise(pictures[chosen]).to(memory_format=torch.channels_last))
            else:
                images = model.visual.attnpool(features[chosen].float())
            vectors = model.encode_text(texts)
        unit = (torch.nn.functional.normalize(rows.float(), dim=-1) for rows in (images, vectors))
        loss = loss_of(*unit, model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            pace = (time.time() - start) / (step + 1)
            left = pace * (args.steps - step - 1)
            recent = sum(losses[-50:]) / 50
            print(
                f"step {step + 1}/{args.steps} loss {recent:.3f} {pace:.2f} s/step {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    return losses


def warm_start(tower: Any, pool: list[Any], pictures: torch.Tensor, args: argparse.Namespace) -> None:
    """Train the image tower to name what is there, before it meets any text.

    Towers that start together learn colours and grounds, and then neither learns shapes: the captions' vectors hold none while
    the pictures' don't, and the other way round. An image tower that can see is where LiT (Zhai et al., 2022) starts as well.
    Only the convolutions are kept: the pooling that leads into the shared space begins at random, as any CLIP's does.
    """
    if args.warm and args.warm.exists():
        tower.load_state_dict(tower.state_dict() | torch.load(args.warm, weights_only=True))
        return
    truth = torch.tensor([WORLDS[args.world].labels(scene) for scene in pool])
    fresh = copy.deepcopy(tower.attnpool.state_dict())
    head = torch.nn.Linear(args.embed_dim, truth.shape[1])
    parameters = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=args.weight_decay, fused=True)
    rng = random.Random(args.seed)
    for step in range(args.warm_start):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * rate(step, 30, args.warm_start)
        chosen = rng.sample(range(len(pool)), 96)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
            logits = head(tower(normalise(pictures[chosen]).to(memory_format=torch.channels_last)))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), truth[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"warm start {step + 1}/{args.warm_start} loss {loss.item():.3f}", file=sys.stderr, flush=True)
    tower.attnpool.load_state_dict(fresh)
    if args.warm:
        torch.save(
            {name: kept for name, kept in tower.state_dict().items() if not name.startswith("attnpool")}, args.warm
        )


@torch.no_grad()
def convolved(tower: Any, pictures: torch.Tensor) -> torch.Tensor:
    """What the pooling is given, (N, C, 2, 2)."""
    x = tower.stem(normalise(pictures).to(memory_format=torch.channels_last))
    return tower.layer4(tower.layer3(tower.layer2(tower.layer1(x))))


def frozen_features(tower: Any, pictures: torch.Tensor) -> torch.Tensor:
    """Those of all pictures, half precision; all of the tower but its pooling is frozen."""
    tower.requires_grad_(False).attnpool.requires_grad_(True)
    tower.eval()
    with torch.autocast("cpu", torch.bfloat16):
        found = [convolved(tower, some).half() for some in pictures.split(256)]
    return torch.cat(found)  # not under autocast, which takes no halves


def rate(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


@torch.inference_mode()
def measure(model: Any, tokenizer: Any, world: World, count: int = 1_000, seed: int = 0) -> dict[str, float]:
    """Gap statistics and retrieval on fresh test scenes, one caption each."""
    pool = list(world.scenes("test", count, seed))
    images = model.encode_image(normalise(draw_all(world, pool)), normalize=True)
    texts = model.encode_text(tokenizer([world.captions(scene, 1)[0] for scene in pool]), normalize=True)
    cross = texts @ images.T
    off = ~torch.eye(count, dtype=torch.bool)
    own = torch.arange(count)
    return {
        "paired": cross.diagonal().mean().item(),
        "unpaired": cross[off].mean().item(),
        "text_text": (texts @ texts.T)[off].mean().item(),
        "image_image": (images @ images.T)[off].mean().item(),
        "centroid_gap": (images.mean(0) - texts.mean(0)).norm().item(),
        "text_to_image_recall_at_1": 100 * (cross.argmax(1) == own).float().mean().item(),
        "image_to_text_recall_at_1": 100 * (cross.argmax(0) == own).float().mean().item(),
        "text_to_image_recall_at_5": 100 * (cross.topk(5, 1).indices == own[:, None]).any(1).float().mean().item(),
        "scenes": count,
    }


def save(model: Any, folder: Path) -> None:
    """Half precision on disk: half the bytes; open_clip loads it into float32."""
    weights = {name: weight.half().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    write_config(args, save_encoder_tokenizer(args.out, CONTEXT_LENGTH, WORLDS[args.world].words()))
    reference = f"local-dir:{args.out}"
    tokenizer = open_clip.get_tokenizer(reference)
    config = json.loads((args.out / "open_clip_config.json").read_text())["model_cfg"]
    start = time.time()
    model = open_clip.CLIP(**config)
    losses = train(model.train(), tokenizer, args)
    minutes = (time.time() - start) / 60
    save(model, args.out)
    loaded, _ = open_clip.create_model_from_pretrained(reference)
    record = {
        "settings": {key: value for key, value in vars(args).items() if key not in ("out", "record", "warm")},
        "minutes": round(minutes, 1),
        "final_loss": round(sum(losses[-100:]) / len(losses[-100:]), 4),
        "test": {key: round(value, 4) for key, value in measure(loaded.eval(), tokenizer, WORLDS[args.world]).items()},
        "versions": versions(),
    }
    print(json.dumps(record, indent=2))
    if args.record:
        args.record.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
