"""Write a mini world's language model: a small T5's configuration and its tokenizer, no weights.

python experiments/mini_world/make_language_model.py --out close/mini/language_model
python experiments/mini_world/make_language_model.py --world sound --out close/mini/sound/language_model
"""

from __future__ import annotations

import argparse
from pathlib import Path

from transformers import T5Config

from close.mini.vocabulary import save_language_model_tokenizer
from close.mini.worlds import WORLDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--world", choices=list(WORLDS), default="drawn")
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    vocab_size = save_language_model_tokenizer(out, WORLDS[args.world].words())
    config = T5Config(
        vocab_size=vocab_size,
        d_model=128,
        d_kv=32,
        num_heads=4,
        d_ff=512,
        dropout_rate=0.0,
        num_layers=2,
        num_decoder_layers=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        architectures=["T5ForConditionalGeneration"],
    )
    config.save_pretrained(out)


if __name__ == "__main__":
    main()
