"""Two pictures and a statement on the mini world: how much of it text-only training recovers.

    python experiments/senses/pairs/run.py                      # all of it; a stopped one goes on
    python experiments/senses/pairs/run.py --only "warm-up 0"   # one setting, and the other in a second process
    python experiments/senses/pairs/run.py --record             # train nothing: write down what is finished

Statements (`pairs.jsonl` of `close mini export`) are true or false of two pictures, half of them each; chance is 50. A run learns
from two captions, or from the two pictures (`images`), and is asked about pictures it never saw: none, noise, `shared` + noise,
and a mean shift from unpaired pictures, which hides nothing. `shared` learns its directions from the captions of single
pictures. `share recovered`: of what the run of images gains over text without a crossing. Writes results.json, .md and .png.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab import CROSSINGS, Lab, noise, shared_by
from senses import options, study

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.vectors.cache import cached_table

TRAINING = {"batch_size": 256, "learning_rate": 1e-3}
SIZES = {"steps": 704, "scenes": 12_000, "test_scenes": 500}
"""True or false is one bit a row: captioning's batches, rate and number of rows do not find it, on text or on pictures."""

if __name__ == "__main__":
    lab = Lab(options(__doc__, __file__, **SIZES), scores=("accuracy",), training=TRAINING)
    train, test = (lab.data(split) / "pairs.jsonl" for split in ("train", "test"))
    captions = train.with_name("captions.jsonl")
    image = str(cached_table(RowFile(captions), load_encoder("mini"), "image").path.resolve())
    arms = CROSSINGS | {"shared + noise .67": {"adapter": [shared_by(captions), noise(0.67)]}}
    arms |= {"noise .84": {"adapter": [noise(0.84)]}}
    arms |= {"mean shift": {"adapter": [{"mean_shift": {"fit": {"image": image}}}]}}
    study(lab, lab.recipe(train, task="nlvr2"), test, arms, decode="score")
