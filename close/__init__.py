"""CLOSE toolkit: text-only cross-modal transfer.

Train on text alone through the shared space of a contrastive model, run on images:

    import close

    close.train(close.load_recipe("recipe.yaml"), "run")
    captioner = close.load("run")
    print(captioner("photo.jpg"))
"""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from close.model.auto import announce

if TYPE_CHECKING:
    from close.adapters import GapAdapter, build_adapter, load_adapter, save_adapter
    from close.encoders import ContrastiveEncoder, load_encoder
    from close.errors import CloseError
    from close.evaluation.compare import compare
    from close.gap import Advice, GapReport, measure_gap, recommend
    from close.model.configuration import CloseConfig
    from close.model.modeling import CloseModel
    from close.plugins import load_plugins
    from close.runs.calibrate import calibrate
    from close.runs.evaluate import evaluate
    from close.runs.length import match_length
    from close.runs.outputs import Output
    from close.runs.pipeline import CloseCaptioner, load
    from close.runs.recipe import Recipe, load_recipe
    from close.study.sweep import sweep
    from close.training.train import train
    from close.vectors.build import embed_images, embed_texts
    from close.vectors.given import table_of_vectors
    from close.vectors.table import EmbeddingTable

__version__ = "0.3.0"

_HOMES = {
    "Advice": "gap",
    "CloseCaptioner": "runs.pipeline",
    "CloseConfig": "model.configuration",
    "CloseError": "errors",
    "CloseModel": "model.modeling",
    "ContrastiveEncoder": "encoders",
    "EmbeddingTable": "vectors.table",
    "GapAdapter": "adapters",
    "GapReport": "gap",
    "Output": "runs.outputs",
    "Recipe": "runs.recipe",
    "build_adapter": "adapters",
    "calibrate": "runs.calibrate",
    "compare": "evaluation.compare",
    "embed_images": "vectors.build",
    "embed_texts": "vectors.build",
    "evaluate": "runs.evaluate",
    "load": "runs.pipeline",
    "load_adapter": "adapters",
    "load_encoder": "encoders",
    "load_plugins": "plugins",
    "load_recipe": "runs.recipe",
    "match_length": "runs.length",
    "measure_gap": "gap",
    "recommend": "gap",
    "save_adapter": "adapters",
    "sweep": "study.sweep",
    "table_of_vectors": "vectors.given",
    "train": "training.train",
}

__all__ = [
    "Advice",
    "CloseCaptioner",
    "CloseConfig",
    "CloseError",
    "CloseModel",
    "ContrastiveEncoder",
    "EmbeddingTable",
    "GapAdapter",
    "GapReport",
    "Output",
    "Recipe",
    "build_adapter",
    "calibrate",
    "compare",
    "embed_images",
    "embed_texts",
    "evaluate",
    "load",
    "load_adapter",
    "load_encoder",
    "load_plugins",
    "load_recipe",
    "match_length",
    "measure_gap",
    "recommend",
    "save_adapter",
    "sweep",
    "table_of_vectors",
    "train",
]


def _rooms() -> set[str]:
    return {found.name for found in iter_modules(__path__) if not found.name.startswith("_")}


def __getattr__(name: str) -> Any:
    """Import a public name, or a package of this one, when it is first used: `import close` alone loads no torch."""
    if name in _HOMES:
        return getattr(import_module(f"close.{_HOMES[name]}"), name)
    if name in _rooms():
        return import_module(f"close.{name}")
    raise AttributeError(f"module 'close' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*__all__, *_rooms()})


announce()
