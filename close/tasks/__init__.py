"""Tasks: what is read, what comes out. A new one is a class in a file of its own here, registered by name."""

from close.tasks.base import TASKS, Task, check_views, get_task, source_labels, targets_of
from close.tasks.caption import Caption
from close.tasks.entailment import Entailment
from close.tasks.news import News
from close.tasks.nlvr2 import Nlvr2
from close.tasks.vocabulary import answer_vocabulary
from close.tasks.vqa import ExplainedVqa, Vqa

__all__ = [
    "TASKS",
    "Caption",
    "Entailment",
    "ExplainedVqa",
    "News",
    "Nlvr2",
    "Task",
    "Vqa",
    "answer_vocabulary",
    "check_views",
    "get_task",
    "source_labels",
    "targets_of",
]
