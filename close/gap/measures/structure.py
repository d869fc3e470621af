"""Whether both modalities have the same inner structure, whatever shift or rotation lies between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from close.errors import DataError
from close.gap.measures.base import MEASURES, Family, Measure
from close.gap.modalities import Modalities
from close.vectors.checked import Pairs
from close.vectors.second_moments import PairMoments, pair_moments

__all__ = ["cka", "procrustes_residual"]


def cka(text: Any, image: Any = None, pairs: Pairs = None) -> float:
    """Linear, centred kernel alignment ‖TᵀV‖_F²/(‖TᵀT‖_F ‖VᵀV‖_F) of the paired rows (Kornblith et al., ICML 2019).

    Linear and exact; takes a `PairMoments` instead of rows too. Healthy: 1 the same up to rotation and scale; CLIP has .4–.7.
    Biased upwards where there are fewer pairs than some multiple of D.
    """
    m = text if isinstance(text, PairMoments) else pair_moments(text, image, pairs)
    size = np.linalg.norm(m.text.cov) * np.linalg.norm(m.image.cov)
    if size < 1e-24:
        raise DataError("the paired texts or the paired images are all the same")
    return float((m.cross**2).sum() / size)


@MEASURES.register(
    Measure(
        "cka",
        Family.STRUCTURE,
        "Linear CKA",
        "same inner structure?",
        "over 0.5; 1 is the same",
        low=0.5,
        few=("pairs", "high"),
        source="Kornblith et al., ICML 2019",
        misleads="Blind to shifts and rotations: it can be 1 where retrieval is at chance.",
    )
)
def _cka(data: Modalities, seed: int) -> float:
    return cka(data.joint)


def procrustes_residual(text: Any, image: Any = None, pairs: Pairs = None) -> float:
    """min_R ‖VR − T‖_F²/P over orthogonal R (reflections included; nothing is centred): E‖t‖² + E‖v‖² − 2‖E[t vᵀ]‖_*.

    Schönemann, 1966. Linear and exact; takes a `PairMoments` instead of rows too. Healthy: 0 the modalities are rotations of each
    other; alignment, 2 − 2 · paired cosine, is its value without a rotation. Reads low where there are few pairs for D.
    """
    m = text if isinstance(text, PairMoments) else pair_moments(text, image, pairs)
    lengths = np.trace(m.text.second) + np.trace(m.image.second)
    return float(max(lengths - 2 * np.linalg.svd(m.second, compute_uv=False).sum(), 0.0))


@MEASURES.register(
    Measure(
        "procrustes_residual",
        Family.STRUCTURE,
        "Procrustes residual",
        "mean ‖vR − t‖², best R",
        "under 0.4; alignment without R",
        high=0.4,
        few=("pairs", "low"),
        source="Schönemann, 1966",
        misleads="With fewer pairs than dimensions a rotation fits nearly anything, pairs dealt out at random too.",
    )
)
def _procrustes_residual(data: Modalities, seed: int) -> float:
    return procrustes_residual(data.joint)
