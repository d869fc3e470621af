"""Training text from any OpenAI-compatible language model.

    text      words, languages, files of texts     verbs     kinds of training text, one a file; options
    prompts   keywords, styles, shots, answers     filters   what an accepted row must not be
    client    one request, against the odds        run       plan, store, the run, shards
    report    how far the text has drifted         mini      the embedded model, and its server
    registry, plugins                              cli       `data-gen`

Nothing here imports torch or `close`; the two meet in JSONL files only.
"""

from data_gen.errors import BudgetError, DataGenError, InputError, OutputError, ServerError, StuckError
from data_gen.verbs.options import CaptionOptions, Options, TextOptions

__all__ = [
    "BudgetError",
    "CaptionOptions",
    "DataGenError",
    "InputError",
    "Options",
    "OutputError",
    "ServerError",
    "StuckError",
    "TextOptions",
]
