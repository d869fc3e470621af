"""News captioning: a caption with its article as context (VisualNews)."""

from close.data.rows import Row
from close.tasks.base import TASKS, Task, need

__all__ = ["News"]


@TASKS.register("news")
class News(Task):
    """Source a caption, context the article, target the caption."""

    name = "news"
    instruction = "news caption"
    max_new_tokens = 64

    def context(self, row: Row) -> str:
        """The article."""
        need(row.context, "context", row, self.name)
        return row.context
