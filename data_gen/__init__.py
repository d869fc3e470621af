"""Training text from any OpenAI-compatible language model.

    options   what a run can be told          verbs     captions, rewrite, vqa, entailment, paraphrase, as data
    plan      what request number i asks      prompts   styles, shots, how a request is written and an answer read
    keywords  uniform or unigram-matched      filters   what an accepted row must not be
    client    one request, against the odds   batch     the same through the Batch API
    store     files that no kill can hurt     synthesis the run

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
