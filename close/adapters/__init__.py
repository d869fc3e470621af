"""Ways across the modality gap, under one interface.

`close adapters` lists them; a new one is a class in a file of its own here, registered by name.
"""

from close.adapters.advised import Advised
from close.adapters.base import ADAPTERS, Chain, GapAdapter, Needs, build_adapter
from close.adapters.centring import Centring
from close.adapters.covariance import CovarianceNoise
from close.adapters.described import AdapterInfo, AdapterOption, list_adapters
from close.adapters.distribution import MomentMatching, ReAlign, Transport
from close.adapters.gaussian import Gaussian, Identity, cosine_to_std, std_to_cosine
from close.adapters.linear import LinearMap
from close.adapters.memory import Memory, Nearest
from close.adapters.noise import RowNoise, row_seeds, vector_seeds
from close.adapters.resolve import check_adapter, check_on_images, fit_adapter, resolve_adapter
from close.adapters.shared import Shared
from close.adapters.shift import MeanShift, RandomShift
from close.adapters.storage import load_adapter, save_adapter
from close.adapters.uniform import UniformBall

__all__ = [
    "ADAPTERS",
    "AdapterInfo",
    "AdapterOption",
    "Advised",
    "Centring",
    "Chain",
    "CovarianceNoise",
    "GapAdapter",
    "Gaussian",
    "Identity",
    "LinearMap",
    "MeanShift",
    "Memory",
    "MomentMatching",
    "Nearest",
    "Needs",
    "RandomShift",
    "ReAlign",
    "RowNoise",
    "Shared",
    "Transport",
    "UniformBall",
    "build_adapter",
    "check_adapter",
    "check_on_images",
    "cosine_to_std",
    "fit_adapter",
    "list_adapters",
    "load_adapter",
    "resolve_adapter",
    "row_seeds",
    "save_adapter",
    "std_to_cosine",
    "vector_seeds",
]
