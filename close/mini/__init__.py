"""The mini worlds: drawn scenes, their captions, questions and hypotheses with exact truth, and an encoder trained on them.

Beside them the sound world (`close.mini.sound`); what every world has is in `close.mini.worlds`.
"""

from pathlib import Path

from close.mini.draw import draw
from close.mini.entailment import Triple, entailment, judge
from close.mini.export import export
from close.mini.language import Claim, captions, claims
from close.mini.pairs import Statement, pairs, partners
from close.mini.questions import Question, questions
from close.mini.scene import Facts, Scene, Thing, facts, sample_scene, scenes
from close.mini.score import AttributeScore, attribute_accuracy
from close.mini.worlds import WORLDS, World, world_of

__all__ = [
    "ENCODER_DIR",
    "LANGUAGE_MODELS",
    "LANGUAGE_MODEL_DIR",
    "WORLDS",
    "AttributeScore",
    "Claim",
    "Facts",
    "Question",
    "Scene",
    "Statement",
    "Thing",
    "Triple",
    "World",
    "attribute_accuracy",
    "captions",
    "claims",
    "draw",
    "entailment",
    "export",
    "facts",
    "judge",
    "pairs",
    "partners",
    "questions",
    "sample_scene",
    "scenes",
    "world_of",
]

ENCODER_DIR = Path(__file__).parent / "encoder"
"""The trained encoder, in open_clip's local-dir format."""
LANGUAGE_MODEL_DIR = Path(__file__).parent / "language_model"
"""A small T5's configuration and tokenizer; it has no weights."""
LANGUAGE_MODELS = {world.encoder: world.folder / "language_model" for world in WORLDS.values()}
"""Reference to folder, of every world: it is called as its encoder is."""
