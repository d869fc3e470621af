"""What scores a text: one file a metric."""

# tables show metrics in the order in which they are registered
# isort: off
from close.evaluation.metrics.bleu import bleu
from close.evaluation.metrics.rouge_l import rouge_l
from close.evaluation.metrics.cider import cider
from close.evaluation.metrics.meteor import meteor
from close.evaluation.metrics.spice import spice
from close.evaluation.metrics.spider import spider
from close.evaluation.metrics.clip_score import clip_score, clip_scores
from close.evaluation.metrics.attributes import attributes
from close.evaluation.metrics.vqa import VqaReference, vqa_accuracy, vqa_scores
from close.evaluation.metrics.labels import label_scores
from close.evaluation.metrics.consistency import consistency
from close.evaluation.metrics.diversity import diversity
from close.evaluation.metrics.captions import caption_scores
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score

# isort: on

__all__ = [
    "METRICS",
    "Inputs",
    "Metric",
    "Score",
    "VqaReference",
    "attributes",
    "bleu",
    "caption_scores",
    "cider",
    "clip_score",
    "clip_scores",
    "consistency",
    "diversity",
    "label_scores",
    "meteor",
    "rouge_l",
    "spice",
    "spider",
    "vqa_accuracy",
    "vqa_scores",
]
