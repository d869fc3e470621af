"""Does the mini world stand in CLIP's situation? A bare T5 with a linear prefix, trained four ways, tested on pictures.

    python experiments/mini_world/prototype_check.py --encoder close/mini/encoder --record experiments/mini_world/prototype.json

Each run: the same steps, batch, rate and seed; only what is embedded differs: text as it is, text with noise at cosine .67
and .41, pictures. Scored by CIDEr against five references and by exact attributes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from pycocoevalcap.cider.cider import Cider
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoTokenizer, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from close.io.versions import versions
from close.mini import LANGUAGE_MODEL_DIR, attribute_accuracy, captions, facts, scenes
from close.mini.draw import pixels
from close.mini.scene import Scene

PREFIX = 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=8_000)
    parser.add_argument("--test-scenes", type=int, default=500)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--methods", default="none,0.67,0.41,image", help="none, a noise cosine, or image")
    return parser.parse_args()


class Captioner(torch.nn.Module):
    """Linear prefix and T5, from random weights."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.language_model: Any = T5ForConditionalGeneration(AutoConfig.from_pretrained(LANGUAGE_MODEL_DIR))
        self.prefix = torch.nn.Linear(dim, PREFIX * self.language_model.config.d_model)

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.language_model(inputs_embeds=self.embeds(vectors), labels=labels).loss

    def embeds(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.prefix(vectors).view(len(vectors), PREFIX, -1)

    @torch.inference_mode()
    def write(self, vectors: torch.Tensor, beams: int) -> torch.Tensor:
        hidden = self.language_model.encoder(inputs_embeds=self.embeds(vectors)).last_hidden_state
        mask = torch.ones(hidden.shape[:2], dtype=torch.long)
        return self.language_model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=mask,
            num_beams=beams,
            max_new_tokens=40,
        )


class Embedder:
    """The encoder under test: unit rows of texts and scenes."""

    def __init__(self, folder: Path) -> None:
        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self.model, self.tokenizer = model.eval(), open_clip.get_tokenizer(f"local-dir:{folder}")

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> torch.Tensor:
        batches = (texts[start : start + 500] for start in range(0, len(texts), 500))
        return torch.cat([self.model.encode_text(self.tokenizer(batch), normalize=True) for batch in batches])

    @torch.inference_mode()
    def scenes(self, pool: list[Scene]) -> torch.Tensor:
        rows = []
        for start in range(0, len(pool), 500):
            pictures = torch.stack([torch.from_numpy(pixels(scene)) for scene in pool[start : start + 500]])
            rows.append(self.model.encode_image(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1, normalize=True))
        return torch.cat(rows)


def noised(vectors: torch.Tensor, cosine: float, generator: torch.Generator) -> torch.Tensor:
    """Unit rows at about `cosine` from the unit rows given."""
    std = math.sqrt((1 / cosine**2 - 1) / vectors.shape[1])
    return normalize(vectors + std * torch.randn(vectors.shape, generator=generator), dim=-1)


def train(method: str, sources: torch.Tensor, labels: torch.Tensor, args: argparse.Namespace) -> Captioner:
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    model = Captioner(sources.shape[1]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.0)
    start = time.time()
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * min(1, (step + 1) / 50) * (1 - step / args.steps)
        chosen = torch.randint(len(sources), (args.batch_size,), generator=generator)
        batch = sources[chosen] if method in ("none", "image") else noised(sources[chosen], float(method), generator)
        wanted = labels[chosen]
        wanted = wanted[:, : int((wanted != -100).sum(1).max())].contiguous()
        loss = model(batch, wanted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 200 == 0:
            print(
                f"{method}: step {step + 1} loss {loss.item():.3f} {time.time() - start:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return model.eval()


def scores(written: list[str], references: list[list[str]], pool: list[Scene]) -> dict[str, Any]:
    split = {index: [" ".join(text.replace(",", " ").split())] for index, text in enumerate(written)}
    wanted = {index: [text.replace(",", " ") for text in texts] for index, texts in enumerate(references)}
    attributes = attribute_accuracy(written, [facts(scene) for scene in pool])
    return {"cider": 100 * float(Cider().compute_score(wanted, split)[0]), **asdict(attributes)}


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    embedder, tokenizer = Embedder(args.encoder), AutoTokenizer.from_pretrained(LANGUAGE_MODEL_DIR)
    pool = list(scenes("train", args.scenes, seed=args.seed))
    texts = [text for scene in pool for text in captions(scene)]
    labels = tokenizer(texts, padding=True, return_tensors="pt").input_ids
    labels[labels == tokenizer.pad_token_id] = -100
    text_rows = embedder.texts(texts)
    image_rows = embedder.scenes(pool).repeat_interleave(5, 0)
    test = list(scenes("test", args.test_scenes, seed=args.seed))
    six = [captions(scene, 6) for scene in test]
    references, sources = [texts[:5] for texts in six], [texts[5] for texts in six]
    test_images, test_texts = embedder.scenes(test), embedder.texts(sources)

    results: dict[str, Any] = {"a reference": scores(sources, references, test)}
    for method in args.methods.split(","):
        model = train(method, image_rows if method == "image" else text_rows, labels, args)
        sides = {"image": test_images} if method == "image" else {"image": test_images, "text": test_texts}
        for side, vectors in sides.items():
            written = [
                text
                for start in range(0, len(vectors), 250)
                for text in tokenizer.batch_decode(
                    model.write(vectors[start : start + 250], args.beams), skip_special_tokens=True
                )
            ]
            results[f"{method} on {side}"] = scores(written, references, test)
            show(f"{method} on {side}", results[f"{method} on {side}"], random.Random(0).sample(written, 3))
    if args.record:
        settings = {key: value for key, value in vars(args).items() if key not in ("record", "encoder")}
        args.record.write_text(
            json.dumps({"settings": settings, "results": results, "versions": versions()}, indent=2) + "\n"
        )


def show(name: str, result: dict[str, Any], examples: list[str]) -> None:
    numbers = " ".join(f"{key} {result[key]:.1f}" for key in ("cider", "accuracy", "hallucination", "recall", "claims"))
    print(f"{name:16} {numbers}   e.g. {' | '.join(examples)}", flush=True)


if __name__ == "__main__":
    main()
