"""How near an encoder of the mini world is to real CLIP: the same measures, of 250 pairs each.

    python experiments/mini_world/geometry.py                                # the shipped encoder
    python experiments/mini_world/geometry.py --encoder FOLDER
    python experiments/mini_world/geometry.py --text text.npy --image image.npy      # of embeddings that lie in files

`trials.json` holds what real CLIP has (ViT-B/16, 250 pairs of COCO, one caption each). Prints JSON: measure, real, by how many
percent it is off.
"""

from __future__ import annotations

import argparse
import json
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from close.encoders import load_encoder
from close.gap import measure_gap
from close.io.files import read_json
from close.mini import captions, draw, scenes

MEASURES = {
    "paired": "cosine.paired.mean",
    "unpaired": "cosine.unpaired.mean",
    "text_text": "cosine.text_text.mean",
    "image_image": "cosine.image_image.mean",
    "centroid_gap": "centroid_gap",
    "pair_distance": "pair_distance",
    "rmg": "rmg",
    "cone.text": "cone.text",
    "cone.image": "cone.image",
    "neighbour_agreement": "neighbour_agreement",
    "recall_text_to_image": "recall.text_to_image.at_1",
    "recall_image_to_text": "recall.image_to_text.at_1",
}
PAIRS = 250


def geometry(text: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """Measures of paired rows, both (N, D)."""
    found = measure_gap(text, image, bootstrap=0).to_dict()
    return {name: round(float(reduce(dict.__getitem__, path.split("."), found)), 3) for name, path in MEASURES.items()}


def embedded(reference: str) -> tuple[np.ndarray, np.ndarray]:
    """One caption and the picture of each test scene."""
    encoder, pool = load_encoder(reference), list(scenes("test", PAIRS))
    texts = encoder.encode_text([captions(scene, 1)[0] for scene in pool])
    return np.asarray(texts), np.asarray(encoder.encode_image([draw(scene) for scene in pool]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--image", type=Path)
    args = parser.parse_args()
    rows = (np.load(args.text), np.load(args.image)) if args.text and args.image else embedded(args.encoder)
    real: dict[str, Any] = read_json(Path(__file__).with_name("trials.json"))["real_clip_vitb16_coco"]
    found = geometry(*rows)
    table = {
        k: {"here": v, "real": real[k], "off_percent": round(100 * (v / real[k] - 1), 1)} for k, v in found.items()
    }
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
