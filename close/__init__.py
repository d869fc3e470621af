"""CLOSE toolkit: text-only cross-modal transfer.

Train on text alone through the shared space of a contrastive model, run on images:

    import close

    close.train(close.load_recipe("recipe.yaml"), "run")
    captioner = close.load("run")
    print(captioner("photo.jpg"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from close.model.auto import announce

if TYPE_CHECKING:
    from close.adapters import GapAdapter, build_adapter
    from close.encoders import ContrastiveEncoder, load_encoder
    from close.errors import CloseError
    from close.model.configuration import CloseConfig
    from close.model.modeling import CloseModel
    from close.runs.pipeline import CloseCaptioner, load
    from close.runs.recipe import Recipe, load_recipe
    from close.training.train import train
    from close.vectors.table import EmbeddingTable

__version__ = "0.3.0"

_HOMES = {
    "CloseCaptioner": "runs.pipeline",
    "CloseConfig": "model.configuration",
    "CloseError": "errors",
    "CloseModel": "model.modeling",
    "ContrastiveEncoder": "encoders",
    "EmbeddingTable": "vectors.table",
    "GapAdapter": "adapters",
    "Recipe": "runs.recipe",
    "build_adapter": "adapters",
    "load": "runs.pipeline",
    "load_encoder": "encoders",
    "load_recipe": "runs.recipe",
    "train": "training.train",
}

__all__ = [
    "CloseCaptioner",
    "CloseConfig",
    "CloseError",
    "CloseModel",
    "ContrastiveEncoder",
    "EmbeddingTable",
    "GapAdapter",
    "Recipe",
    "build_adapter",
    "load",
    "load_encoder",
    "load_recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import close` alone loads no torch."""
    if name in _HOMES:
        return getattr(import_module(f"close.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'close' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


announce()
