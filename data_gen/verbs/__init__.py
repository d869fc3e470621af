"""The verbs, one kind of training text a file, and the options of their runs.

A verb of one's own is a class in any file that `--plugin` names:

    from data_gen.verbs import VERBS, Verb, text_of

    @VERBS.register("titles")
    class Titles(Verb):
        \"\"\"Write a title for each caption of a file.\"\"\"

        instruction = "Write a title for the photo that the caption describes."
        fields = ("title",)

        def rows(self, given, records):
            return [[{"task": "caption", "source": given, "target": r["title"]}] for r in records]

        def record(self, row):
            return {"title": text_of(row, "target")}
"""

from data_gen.verbs.base import VERBS, Record, Row, Shot, Verb, row_key, text_of
from data_gen.verbs.captions import Captions
from data_gen.verbs.entailment import Entailment
from data_gen.verbs.options import CaptionOptions, Options, TextOptions
from data_gen.verbs.paraphrase import Paraphrase
from data_gen.verbs.rewrite import Rewrite
from data_gen.verbs.vqa import Vqa

__all__ = [
    "VERBS",
    "CaptionOptions",
    "Captions",
    "Entailment",
    "Options",
    "Paraphrase",
    "Record",
    "Rewrite",
    "Row",
    "Shot",
    "TextOptions",
    "Verb",
    "Vqa",
    "row_key",
    "text_of",
]
