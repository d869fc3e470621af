"""Distances between the two clouds as a whole; none needs pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from close.errors import DataError
from close.gap.measures.base import MEASURES, Family, Measure
from close.gap.measures.distance import cross_distances, within_distances
from close.gap.modalities import Modalities
from close.vectors.checked import Array, Floats, matrices
from close.vectors.second_moments import both_moments

__all__ = ["coral", "frechet", "mmd", "sliced_w2"]

PROBE = 500  # rows a side


def frechet(text: Any, image: Any, *, centred: bool = False) -> float:
    """Squared Fréchet (Wasserstein-2) distance of the two Gaussians: ‖Δ‖² + Tr(Σ_t + Σ_v − 2(Σ_t^½ Σ_v Σ_t^½)^½).

    Heusel et al., NeurIPS 2017; covariances have divisor N − 1. `centred` leaves ‖Δ‖² out: both clouds moved onto the origin.
    Linear and exact; small samples read high (N ≫ D is wanted).

    Healthy: 0 the same cloud; the raw value of CLIP is about 1, most of it ‖Δ‖². What is left after centring is the part that
    no shift removes.
    """
    t, v = both_moments(text, image)
    values, vectors = np.linalg.eigh(t.cov)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ v.cov @ root).clip(0)).sum()
    spread = max(t.total + v.total - 2 * float(overlap), 0.0)
    return spread if centred else float(((v.mean - t.mean) ** 2).sum()) + spread


@MEASURES.register(
    Measure(
        "frechet.raw",
        Family.CLOUDS,
        "Fréchet distance",
        "squared, of Gaussians",
        "under 0.2; CLIP 1.0–1.3",
        high=0.2,
        few=("rows", "high"),
        source="Heusel et al., NeurIPS 2017",
        misleads="Means and covariances are all it sees: texts dealt out to the wrong images read the same.",
    )
)
def _frechet(data: Modalities, seed: int) -> float:
    return frechet(*data.moments)


@MEASURES.register(
    Measure(
        "frechet.centred",
        Family.CLOUDS,
        "  after centring",
        "what no shift removes",
        "under 0.2",
        high=0.2,
        few=("rows", "high"),
        source="Heusel et al., NeurIPS 2017",
        misleads="Covariances are all it sees: texts dealt out to the wrong images read the same.",
    )
)
def _centred_frechet(data: Modalities, seed: int) -> float:
    return frechet(*data.moments, centred=True)


def mmd(text: Any, image: Any) -> float:
    """Unbiased MMD² (Gretton et al., JMLR 2012): mean_{i≠j} k(t_i, t_j) + mean_{i≠j} k(v_i, v_j) − 2 mean_{ij} k(t_i, v_j).

    k(x, y) = exp(−‖x − y‖²/(2σ²)), σ the median distance between different points of both clouds together.
    Quadratic, in tiles. Healthy: 0 (slightly negative happens) the same cloud; CLIP has .3–.6.

    Raises:
        DataError: the median distance is 0.
    """
    text, image = matrices(text, image)
    width = 2 * _median_distance(text, image)
    if width == 0:
        raise DataError("more than half of all vectors are equal: the median distance, MMD's bandwidth, is 0")

    def mean_kernel(parts: Iterable[Array], count: float) -> float:
        return sum(float(np.exp(part / np.float32(-width)).sum(dtype=np.float64)) for part in parts) / count

    n, m = len(text), len(image)
    return (
        mean_kernel(within_distances(text), n * (n - 1) / 2)
        + mean_kernel(within_distances(image), m * (m - 1) / 2)
        - 2 * mean_kernel(cross_distances(text, image), n * m)
    )


@MEASURES.register(
    Measure(
        "mmd",
        Family.CLOUDS,
        "MMD²",
        "unbiased, RBF, median width",
        "under 0.01; CLIP 0.3–0.6",
        high=0.01,
        sample=("text", "image"),
        source="Gretton et al., JMLR 2012",
        misleads="The kernel is as wide as the median distance, so that values of encoders with different spread "
        "can't be compared.",
    )
)
def _mmd(data: Modalities, seed: int) -> float:
    return mmd(data.text, data.image)


def _median_distance(text: Array, image: Array) -> float:
    """Exact median of all squared distances, too many to hold: a sample brackets it, only what is inside is kept and sorted."""

    def distances(x: Array, y: Array) -> Iterator[Array]:
        return chain(within_distances(x), within_distances(y), cross_distances(x, y))

    total = (len(text) + len(image)) * (len(text) + len(image) - 1) // 2
    ranks = [(total - 1) // 2, total // 2]
    rng = np.random.default_rng(0)
    some = (x[np.sort(rng.choice(len(x), min(len(x), PROBE), replace=False))] for x in (text, image))
    probe = np.concatenate([part.ravel() for part in distances(*some)])
    for margin in (0.02, 0.1, 0.5):
        low, high = np.quantile(probe, [0.5 - margin, 0.5 + margin]) if margin < 0.5 else (-np.inf, np.inf)
        below, kept = 0, []
        for part in distances(text, image):
            below += int(np.count_nonzero(part < low))
            kept.append(part[(part >= low) & (part <= high)])
        inside = np.concatenate(kept)
        if below <= ranks[0] and ranks[1] < below + len(inside):
            break
    places = [rank - below for rank in ranks]
    return float(np.partition(inside, places)[places].mean(dtype=np.float64))


def sliced_w2(text: Any, image: Any, *, seed: int = 0) -> float:
    """Sliced Wasserstein-2 distance √(mean_θ W₂²(θ·t, θ·v)) (Bonneel et al., 2015); not squared.

    The directions θ are those of random orthogonal bases, at least 256 in all, so that the part of the gap itself, ‖Δ‖²/D, is
    exact. N log N, exact for the given seed, and for clouds of different sizes too.

    Healthy: 0 the same cloud. A pure shift gives ‖Δ‖/√D; what exceeds it is difference in shape.
    """
    text, image = matrices(text, image)
    n, m = len(text), len(image)
    edges = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # in units of 1/(n·m): exact
    widths = np.diff(edges, prepend=0) / (n * m)
    left, right = (edges - 1) // m, (edges - 1) // n
    directions = _directions(text.shape[1], np.random.default_rng(seed))
    total = 0.0
    for start in range(0, len(directions), 32):
        part = directions[start : start + 32].astype(np.float32)
        apart = np.sort(part @ text.T)[:, left] - np.sort(part @ image.T)[:, right]
        total += float((np.square(apart, dtype=np.float64) @ widths).sum())
    return float(np.sqrt(total / len(directions)))


@MEASURES.register(
    Measure(
        "sliced_w2",
        Family.CLOUDS,
        "Sliced Wasserstein-2",
        "√(mean W₂²)",
        "near 0; a pure shift gives ‖Δ‖/√D",
        source="Bonneel et al., 2015",
        misleads="A difference along one direction is divided by √D: in 768 dimensions the whole gap of CLIP looks "
        "like 0.03.",
    )
)
def _sliced_w2(data: Modalities, seed: int) -> float:
    return sliced_w2(data.text, data.image, seed=seed)


def _directions(dim: int, rng: np.random.Generator) -> Floats:
    bases = [np.linalg.qr(rng.standard_normal((dim, dim)))[0].T for _ in range(-(-256 // dim))]
    return np.concatenate(bases)


def coral(text: Any, image: Any) -> float:
    """‖Σ_v − Σ_t‖_F, neither squared nor scaled (Sun & Saenko, ECCV-W 2016); covariances have divisor N − 1.

    Linear and exact. Healthy: small against ‖Σ_t‖_F; 0 says that both spread alike in all directions.
    """
    t, v = both_moments(text, image)
    return float(np.linalg.norm(v.cov - t.cov))


@MEASURES.register(
    Measure(
        "coral",
        Family.CLOUDS,
        "CORAL",
        "‖Σ_v − Σ_t‖_F",
        "small against ‖Σ_t‖_F",
        source="Sun & Saenko, ECCV-W 2016",
        misleads="A pure shift, which is most of CLIP's gap, reads 0.",
    )
)
def _coral(data: Modalities, seed: int) -> float:
    return coral(*data.moments)
