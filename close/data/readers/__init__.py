"""Readers of the field's real files: each format is one class in a file of its own, registered by name."""

from close.data.readers.base import READERS, Reader, ReadOptions, ReadSummary, Skip, read_rows
from close.data.readers.coco import Coco, NoCaps
from close.data.readers.convert import convert
from close.data.readers.entailment import Snli, SnliVe
from close.data.readers.folder import Folder
from close.data.readers.karpathy import Karpathy
from close.data.readers.news import VisualNews
from close.data.readers.parquet import Parquet
from close.data.readers.tables import Csv, Jsonl, Txt
from close.data.readers.vqa import Vqa, VqaE
from close.data.readers.webdataset import WebDataset

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
