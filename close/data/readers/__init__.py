"""Readers of the field's real files: each format is one class in a file of its own, registered by name.

A format of one's own is a class in any file that `--plugin` names:

    from close.data.readers import READERS, Reader

    @READERS.register("pipes")
    class Pipes(Reader):
        reads = "captions with their number before a |"
        uses = ()

        def records(self):
            for number, line in enumerate(self.path.read_text().splitlines(), 1):
                yield f"{self.path}:{number}", line

        def row(self, record, where):
            number, _, caption = record.partition("|")
            return {"id": number, "source": caption}
"""

from close.data.readers.base import READERS, Reader, ReadOptions, ReadSummary, Skip, formats, read_rows
from close.data.readers.boxes import CocoBoxes, VisualGenome, named_boxes
from close.data.readers.coco import Coco, NoCaps
from close.data.readers.convert import convert
from close.data.readers.entailment import Snli, SnliVe
from close.data.readers.films import MsrVtt, Msvd
from close.data.readers.folder import Folder
from close.data.readers.json_list import JsonList
from close.data.readers.karpathy import Karpathy
from close.data.readers.lines import Csv, Jsonl, Txt
from close.data.readers.news import VisualNews
from close.data.readers.nlvr2 import Nlvr2
from close.data.readers.parquet import Parquet
from close.data.readers.sound import AudioCaps, DrCap
from close.data.readers.textcaps import TextCaps
from close.data.readers.vqa import Vqa, VqaE
from close.data.readers.webdataset import WebDataset

__all__ = [
    "READERS",
    "AudioCaps",
    "Coco",
    "CocoBoxes",
    "Csv",
    "DrCap",
    "Folder",
    "JsonList",
    "Jsonl",
    "Karpathy",
    "MsrVtt",
    "Msvd",
    "Nlvr2",
    "NoCaps",
    "Parquet",
    "ReadOptions",
    "ReadSummary",
    "Reader",
    "Skip",
    "Snli",
    "SnliVe",
    "TextCaps",
    "Txt",
    "VisualGenome",
    "VisualNews",
    "Vqa",
    "VqaE",
    "WebDataset",
    "convert",
    "formats",
    "named_boxes",
    "read_rows",
]
