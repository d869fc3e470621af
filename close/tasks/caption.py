"""Captioning: the caption's own embedding, no context, the caption."""

from close.tasks.base import TASKS, Task

__all__ = ["Caption"]


@TASKS.register("caption")
class Caption(Task):
    """Single and multiple captioning (the recipe's `captions`), and stylistic captioning (text in that style)."""

    name = "caption"
    instruction = "caption"
