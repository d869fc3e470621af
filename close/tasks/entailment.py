"""Visual entailment: a premise (text in training, an image at test time), a hypothesis, one of three labels."""

from close.data.rows import Row
from close.errors import DataError
from close.tasks.base import TASKS, Task, need

__all__ = ["Entailment"]


@TASKS.register("entailment")
class Entailment(Task):
    """SNLI in training, SNLI-VE at test time: source the premise, context the hypothesis, target the label."""

    name = "entailment"
    instruction = "entailment"
    max_new_tokens = 8
    labels = ("entailment", "neutral", "contradiction")
    metric = "entailment"

    def context(self, row: Row) -> str:
        """The hypothesis."""
        need(row.context, "context", row, self.name)
        return row.context

    def targets(self, row: Row) -> tuple[str, ...]:
        """The label."""
        label = row.label or (row.target[0] if row.target else "")
        if label not in self.labels:
            raise DataError(f"row {row.id!r}: label {label!r}, expected one of {', '.join(self.labels)}")
        return (label,)
