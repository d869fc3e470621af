"""Two pictures and a statement on the mini world: how much of it text-only training recovers.

    python experiments/senses/pairs/run.py                      # all of it; a stopped one goes on
    python experiments/senses/pairs/run.py --only "warm-up 0"   # one setting, and the other in a second process
    python experiments/senses/pairs/run.py --record             # train nothing: write down what is finished

Statements (`pairs.jsonl` of `close mini export`) are true or false of two pictures, half of them each; chance is 50. A run learns
from two captions, or from the two pictures (`images`), and is asked about pictures it never saw: none, noise, `shared` + noise.
`shared` learns its directions from the captions of single pictures. `share recovered`: of what the run of images gains over text
without a crossing. Writes results.json, .md and .png beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from senses import CROSSINGS, Bench, main, options

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.mini import export
from close.vectors.cache import cached_table

if __name__ == "__main__":
    bench = Bench(
        options(__doc__, __file__),
        lambda folder, split, count: export(folder, split, count) and None,
        rows=("pairs.jsonl", "pairs.jsonl"),
        base={"task": "nlvr2"},
        scores=("accuracy",),
        evaluation={"decode": "score"},
    )
    captions = bench.data["train"] / "captions.jsonl"
    table = cached_table(RowFile(captions), load_encoder("mini"), "text").path
    fit = {"text": str(table.resolve()), "groups": str(captions.resolve())}
    shared = {"adapter": [{"shared": {"fit": fit}}, {"gaussian": {"cosine": 0.67}}]}
    main(bench, CROSSINGS | {"shared + noise .67": shared})
