"""A run: what each request asks, the files that no kill can hurt, and everything between.

plan        what request number i asks, and the rows in its answer
store       the journal, and the row files that follow from it
synthesis   the state: which answers were taken, which rows accepted
live        requests under way     batches     the same through the Batch API
generate    the whole run          merge       the shards of one run
"""

from data_gen.run.generate import Preview, generate, preview
from data_gen.run.merge import merge_shards
from data_gen.run.progress import Summary

__all__ = ["Preview", "Summary", "generate", "merge_shards", "preview"]
