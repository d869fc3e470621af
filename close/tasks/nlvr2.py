"""Two pictures, one statement (NLVR2): is it true of them?"""

from close.data.rows import Row
from close.errors import DataError
from close.tasks.base import TASKS, Task, need

__all__ = ["Nlvr2"]


@TASKS.register("nlvr2")
class Nlvr2(Task):
    """Sources a caption of the left picture and one of the right, context the statement, target whether it is true."""

    name = "nlvr2"
    instruction = "statement"
    max_new_tokens = 8
    labels = ("true", "false")
    metric = "entailment"
    views = 2

    def context(self, row: Row) -> str:
        """The statement."""
        need(row.context, "context", row, self.name)
        for key, found in (("source", row.source), ("image", row.images)):
            if found:
                self.check_views(len(found), f"row {row.id!r}: '{key}'")
        return row.context

    def targets(self, row: Row) -> tuple[str, ...]:
        """The label."""
        label = (row.label or (row.target[0] if row.target else "")).lower()
        if label not in self.labels:
            raise DataError(f"row {row.id!r}: label {label!r}, expected one of {', '.join(self.labels)}")
        return (label,)
