"""Sounds from text alone, on the mini sound world; and whether the advice, made on pictures, carries over.

    python experiments/senses/sound/run.py                      # all of it; a stopped one goes on
    python experiments/senses/sound/run.py --only "warm-up 0"   # one setting, and the other in a second process
    python experiments/senses/sound/run.py --record             # train nothing: write down what is finished

Trained on captions, or on the sounds (`images`: what the other tower takes), and asked about sounds that no run
has heard. `advised` is what `close recommend` says of the captions in groups and of nothing else, its rule as it stands; its
reasons and the gap's measures are in advice.json. Writes results.json, .md and .png beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab import CROSSINGS, Lab
from senses import options, study

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.gap.advice.advise import advise
from close.gap.measured_tables import measure_tables
from close.io.files import write_json
from close.vectors.cache import cached_table

if __name__ == "__main__":
    args = options(__doc__, __file__)
    lab = Lab(args, world="mini_sound_world")
    rows = lab.data("train", world="sound") / "captions.jsonl"
    test = lab.data("test", world="sound") / "eval.jsonl"
    advice, _ = advise(rows, groups=rows, encoder="mini-sound")
    if not args.record:
        encoder = load_encoder("mini-sound")
        texts, sounds = (cached_table(RowFile(test), encoder, modality).path for modality in ("text", "image"))
        measured = measure_tables([("sound", texts, sounds)], bootstrap=200)
        record = {"advice": advice.to_dict(), "gap": measured[0].report.to_dict()}
        write_json(args.out.with_name("advice.json"), record)
    recipe = lab.recipe(rows, encoder="mini-sound", language_model="mini-sound")
    study(lab, recipe, test, CROSSINGS | {"advised": {"adapter": advice.stages()}}, items="sounds")
