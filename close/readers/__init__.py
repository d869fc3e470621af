"""Readers of the field's real files: each format is one class in a file of its own, registered by name."""

from close.readers.base import READERS, Reader, ReadOptions, ReadSummary, Skip, read_rows
from close.readers.coco import Coco, NoCaps
from close.readers.convert import convert
from close.readers.entailment import Snli, SnliVe
from close.readers.folder import Folder
from close.readers.karpathy import Karpathy
from close.readers.news import VisualNews
from close.readers.parquet import Parquet
from close.readers.shards import WebDataset
from close.readers.tables import Csv, Jsonl, Txt
from close.readers.vqa import Vqa, VqaE

__all__ = [
    "READERS",
    "Coco",
    "Csv",
    "Folder",
    "Jsonl",
    "Karpathy",
    "NoCaps",
    "Parquet",
    "ReadOptions",
    "ReadSummary",
    "Reader",
    "Skip",
    "Snli",
    "SnliVe",
    "Txt",
    "VisualNews",
    "Vqa",
    "VqaE",
    "WebDataset",
    "convert",
    "read_rows",
]
