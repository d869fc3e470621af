"""Visual question answering: captions of the image, the question, its answers."""

from close.data.answers import answers_to_learn
from close.data.rows import Row
from close.tasks.base import TASKS, Task, need

__all__ = ["ExplainedVqa", "Vqa"]


@TASKS.register("vqa")
class Vqa(Task):
    """VQA 2.0: sources are all captions of the image (their raw vectors are averaged), context the question."""

    name = "vqa"
    instruction = "question"
    max_new_tokens = 16
    metric = "vqa"

    def context(self, row: Row) -> str:
        """The question."""
        need(row.context, "context", row, self.name)
        return row.context

    def targets(self, row: Row) -> tuple[str, ...]:
        """Given targets, or those that the answers teach."""
        need(row.target or row.answers, "target' or 'answers", row, self.name)
        return tuple(t.lower() for t in row.target) if row.target else answers_to_learn(row.answers)


@TASKS.register("vqa_e")
class ExplainedVqa(Vqa):
    """VQA-E: the source is the explanation sentence."""

    name = "vqa_e"
