"""Which way across the gap and how much noise, before anything is trained.

What a decoder learns from noised texts, it is later asked to do for images. A linear decoder can be solved instead of trained,
so every adapter and every noise can be tried in seconds. For source vectors x (texts on the adapter's text side, mean x̄,
covariance S), target vectors y (covariance with the sources C) and noise w, trained on n·unit(x + w·ε) it is

    ŷ(z) = ȳ + C (S + w²I)⁻¹ (n·z − x̄),        n² = E‖x‖² + w²d,

and what counts is its *agreement* on images: the mean cosine of ŷ(z) − ȳ with y − ȳ, y the mean vector of the image's captions.
Noise alone: the least that comes within 2 % of its best agreement, since a language model pays for noise in ways that a linear
decoder does not feel. A linear decoder makes up for any shift, and so hardly tells one adapter from another; a language model
does not, and is best fed where it was trained. So the first adapter of `PREFERRED` that comes within 2 % of the best is taken;
none where nothing is to be gained. Behind a mere shift the noise is that of its best agreement. Behind what takes the wording
away (`shared`, ridge onto pairs) it is noise alone's: the agreement is flat there, and the images are as far as before.

Why single captioning wants more noise than multiple: noise shrinks a direction in which the sources vary by λ to λ/(λ + w²) of
itself. With the source as its own target, C = S, and without noise the decoder copies everything, also what tells one caption
of an image from another and what tells texts from images. Only noise makes it let go. With another caption of the image as the
target, C is the covariance of what captions *share*, and the wording is unlearnt without any noise: what is left for it to do is
to cover the distance of the images, which is what the pair residual measures. Single captioning needs w² near the residual's
variance in those directions where texts vary, E‖Σ_t^½ r‖²/Tr Σ_t, which is several times its mean over all directions.

Without pairs, texts stand in for the images (`close.gap.advice.pseudo_images`). Folds are halved by image: what is
tried on one half was learnt on the other, adapters included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from close.errors import DataError, RecipeError
from close.gap.advice.pseudo_images import TYPICAL_GAP, across, partners
from close.gap.measures.residual import caption_spread, noise_from_pairs, noise_of
from close.gap.modalities import Modalities
from close.vectors.checked import Array, Floats, Ints, Pairs, distinct_rows, unit_rows

__all__ = ["COSINES", "Advice", "Trial", "recommend"]

COSINES = tuple(round(math.cos(math.radians(angle)), 3) for angle in range(0, 81, 3))
"""The noises that are tried, as cosines: every 3 degrees."""
TOLERANCE = 0.02
RIDGE = 1e-3  # of the mean variance: no trained network amplifies a direction that it has hardly seen
TESTS = 1000
RIDGE_MAP = {"linear": {"method": "ridge"}}
GROUPED = ("shared",)
UNPAIRED = ("mean_shift", "centring", "realign")
BOTH = (["shared", "mean_shift"],)
PAIRED = ("covariance", RIDGE_MAP)
PREFERRED: dict[str, tuple[Any, ...]] = {
    "single": (*BOTH, RIDGE_MAP, "shared", "mean_shift", "realign", "centring"),
    "multiple": ("centring", "realign", "mean_shift"),
}
"""In the order of what trained models scored (experiments/gap). `shared` maps a text to the mean of its image's captions, and
ridge to that of its images, which drops the wording: needed where the source is its own target, and unlearnt anyway elsewhere."""
WORDLESS = (None, *GROUPED, *BOTH, RIDGE_MAP)
"""Behind which noise has the same work as alone."""
SHARED = ("vqa", "vqa_e")
"""Tasks whose target is never the source's own wording, and rests on what captions of an image share."""

Data = Literal["captions", "groups", "unpaired", "pairs"]


@dataclass(frozen=True)
class Trial:
    """One adapter's best noise: spec, cosine that the noise leaves, agreement on images with it and without."""

    adapter: Any
    cosine: float
    agreement: float
    without_noise: float


@dataclass(frozen=True)
class Advice:
    """What to train with.

    Attributes:
        data: what it rests on. captions: the setting it is for.
        adapter: spec of the stage before the noise, or None. cosine, std: of the noise; std is per dimension of the raw vectors
            that it is added to.
        agreement: expected on images, -1–1. without: the same with neither adapter nor noise. ceiling: of the linear decoder
            trained on images; None without pairs. recovered_share: (agreement − without)/(ceiling − without), or None.
        calibrations: `pair_residual`, `caption_spread`: {std, cosine} of isotropic noise of that size, where they can be had.
        trials: every adapter that the data allow. reasons: a sentence each.
    """

    data: Data
    captions: str
    adapter: Any
    cosine: float
    std: float
    dim: int
    agreement: float
    without: float
    ceiling: float | None
    recovered_share: float | None
    calibrations: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trials: Sequence[Trial] = ()
    reasons: Sequence[str] = ()

    def stages(self, fit: Mapping[str, str] | None = None, load: str | None = None) -> list[Any]:
        """The recipe's `adapter`.

        Args:
            fit: the tables that the adapter is to be fitted on, as a recipe names them. load: or the folder of a fitted one.
        """
        from close.adapters.base import stages_of

        stages = [_fitted_on(stage, fit) for stage in stages_of(self.adapter)]
        if stages and load is not None:
            stages = [{"load": load}]
        return stages + ([{"gaussian": {"cosine": self.cosine}}] if self.cosine < 1 else []) or ["none"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"recipe": {"adapter": self.stages(), "captions": self.captions}}


@dataclass(frozen=True)
class _Half:
    """What is learnt from, and what it is tried on."""

    sources: Array
    targets: Floats
    fit: Mapping[str, Array]
    images: Array
    truth: Floats


def recommend(
    text: Any,
    image: Any = None,
    *,
    pairs: Pairs = None,
    groups: npt.ArrayLike | None = None,
    captions: str = "single",
    task: str = "caption",
    sample: int = 20_000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Advice:
    """Adapter and noise for what there is: captions, groups of captions, unpaired images as well, or pairs.

    Args:
        text: (N, D) caption embeddings. image: (M, D), if there are any.
        pairs: with images: None pairs by row, "unpaired", or (P, 2) integers (text, image).
        groups: (N,) labels: captions of one image share theirs. From the pairs, where not given.
        captions: "single": the source is the target; "multiple": the other captions of its group are.
        task: what it is for; in vqa and vqa_e the target is never the source, which is "multiple".
        sample: with more texts than this, whole groups of them are drawn with `seed`.
    Raises:
        DataError: rows that can't be used; "multiple" without groups; fewer than 8 images or groups.
        MismatchError: widths differ. RecipeError: unknown setting. UnknownNameError: unknown task.
    """
    from close.tasks import TASKS

    TASKS[task]
    if captions not in ("single", "multiple"):
        raise RecipeError(f"captions is 'single' or 'multiple', not {captions!r}")
    setting = "multiple" if task in SHARED else captions
    rows, images, index, labels = _read(text, image, pairs, groups, sample, seed)
    data: Data = (
        "pairs" if len(index) else "unpaired" if images is not None else "groups" if labels is not None else "captions"
    )
    if setting == "multiple" and labels is None:
        raise DataError(
            "the targets are other captions of the same image, and no two texts share a group: give groups or pairs, "
            "or ask for captions: single"
        )
    halves = list(_halves(rows, images, index, labels, setting, seed))
    tell = progress or (lambda _: None)
    grouped, shown = labels is not None, images is not None
    specs: list[Any] = [None] + [*GROUPED] * grouped + [*UNPAIRED] * shown + [*BOTH] * (grouped and shown)
    specs += [*PAIRED] * bool(len(index))
    curves, lengths = [], []
    for spec in specs:
        tell(f"trying {_name(spec)}")
        found = [_curve(half, spec, seed) for half in halves]
        curves.append(np.mean([curve for curve, _ in found], axis=0))
        lengths.append(np.mean([length for _, length in found]))
    enough = (1 - TOLERANCE) * max(float(curve.max()) for curve in curves)
    able = [spec for spec, curve in zip(specs, curves, strict=True) if curve.max() >= enough]
    alone = curves[0]
    spec = None if alone[0] >= enough else next((spec for spec in PREFERRED[setting] if spec in able), able[0])
    which = specs.index(spec)
    curve = curves[which]
    at = int(np.argmax(alone >= (1 - TOLERANCE) * alone.max())) if spec in WORDLESS else int(curve.argmax())
    ceiling = np.mean([_ceiling(half) for half in halves]) if data == "pairs" else None
    without, agreement = float(alone[0]), float(curve[at])
    advice = Advice(
        data=data,
        captions=captions,
        adapter=spec,
        cosine=COSINES[at],
        std=float(lengths[which] * np.sqrt((COSINES[at] ** -2 - 1) / rows.shape[1])),
        dim=rows.shape[1],
        agreement=agreement,
        without=without,
        ceiling=None if ceiling is None else float(ceiling),
        recovered_share=None
        if ceiling is None or ceiling <= without
        else float((agreement - without) / (ceiling - without)),
        calibrations=_calibrations(rows, images, index, labels),
        trials=[_trial(s, c) for s, c in zip(specs, curves, strict=True)],
    )
    return replace(advice, reasons=tuple(_reasons(advice, setting, alone)))


def _read(
    text: Any, image: Any, pairs: Pairs, groups: npt.ArrayLike | None, sample: int, seed: int
) -> tuple[Array, Array | None, Ints, Array | None]:
    """Unit rows of both sides, pairs, and the texts' labels if any two share one; texts that are alone are distinct."""
    index, images = np.empty((0, 2), np.int64), None
    if image is not None:
        data = Modalities.of(text, image, pairs, groups)
        rows, images, index, labels = data.text, data.image, data.pairs, data.groups
    else:
        rows = unit_rows(text, "text")[0]
        if groups is not None and np.shape(groups) != (len(rows),):
            raise DataError(f"groups: expected a label for each of {len(rows)} texts, got shape {np.shape(groups)}")
        labels = np.arange(len(rows)) if groups is None else np.asarray(groups)
    labels = np.unique(labels, return_inverse=True)[1]
    shared = len(np.unique(labels)) < len(labels)
    keep = np.arange(len(rows)) if shared or len(index) else distinct_rows(rows)[0]
    if len(keep) > sample:
        order = np.random.default_rng(seed).permutation(int(labels.max()) + 1)[labels]
        keep = np.sort(keep[np.argsort(order[keep], kind="stable")[:sample]])
    place = np.full(len(rows), -1)
    place[keep] = np.arange(len(keep))
    index = np.stack((place[index[:, 0]], index[:, 1]), axis=1)
    return rows[keep], images, index[index[:, 0] >= 0], labels[keep] if shared else None


def _halves(
    rows: Array, images: Array | None, index: Ints, labels: Array | None, setting: str, seed: int
) -> Iterator[_Half]:
    """Two ways round: learn from one half of the groups and images, try on the other."""
    names = np.arange(len(rows)) if labels is None else np.unique(labels, return_inverse=True)[1]
    count = int(names.max()) + 1
    if count < 8:
        raise DataError(f"{count} images or groups of captions: at least 8 are needed to advise on")
    rng = np.random.default_rng([seed, 2])
    side = (rng.permutation(count) % 2)[names]
    image_side = np.empty(0, int) if images is None else rng.permutation(len(images)) % 2
    if len(index):
        image_side[index[:, 1]] = side[index[:, 0]]  # images of one group stay on its side
    others = _others(rows, names)
    z, truth, owner = _tests(rows, images, index, labels, others, seed)
    for learn in (0, 1):
        train = np.flatnonzero(side == learn)
        if setting == "multiple":
            train = train[np.isfinite(others[train, 0])]
        test = np.flatnonzero(side[owner] != learn)
        test = test[rng.permutation(len(test))[:TESTS]]
        if len(train) < 4 or not len(test):
            raise DataError("too few images or groups of captions to learn from one half and try on the other")
        fit = {"text": rows[side == learn], "groups": names[side == learn]}
        if images is not None:
            fit["image"] = images[image_side == learn]
        if len(index):
            inside = index[side[index[:, 0]] == learn]
            fit |= {"paired_text": rows[inside[:, 0]], "paired_image": images[inside[:, 1]]}  # type: ignore[index]
        targets = others[train] if setting == "multiple" else rows[train].astype(np.float64)
        yield _Half(rows[train], targets, fit, z[test], truth[test])


def _others(rows: Array, names: Ints) -> Floats:
    """(N, D) the mean of the other rows of each row's group; NaN for a row alone."""
    total = np.zeros((int(names.max()) + 1, rows.shape[1]))
    np.add.at(total, names, rows.astype(np.float64))
    rest = (np.bincount(names)[names] - 1)[:, None].astype(float)
    return np.divide(total[names] - rows, rest, out=np.full(rows.shape, np.nan), where=rest > 0)


def _tests(
    rows: Array, images: Array | None, index: Ints, labels: Array | None, others: Floats, seed: int
) -> tuple[Array, Floats, Ints]:
    """Images, or what stands in for them; the vector that is to come out; and a text row that says whose half it is."""
    if len(index):
        assert images is not None
        shown, first, where = np.unique(index[:, 1], return_index=True, return_inverse=True)
        truth = np.zeros((len(shown), rows.shape[1]))
        np.add.at(truth, where, rows[index[:, 0]].astype(np.float64))
        return images[shown], truth / np.bincount(where)[:, None], index[first, 0]
    pairs = partners(rows, labels)
    truth = others[pairs[:, 1]] if labels is not None else rows[pairs[:, 0]].astype(np.float64)
    return across(rows[pairs[:, 1]], rows, images, seed=seed), truth, pairs[:, 0]


def _adapted(half: _Half, spec: Any, seed: int) -> tuple[Floats, Floats]:
    """Sources as they are trained on, raw and without the Gaussian noise to come, and images as the model will get them."""
    if spec is None:
        return half.sources.astype(np.float64), half.images.astype(np.float64)
    import torch

    from close.adapters import RowNoise, build_adapter, row_seeds

    adapter = build_adapter(spec, half.sources.shape[1])
    if adapter.needs == "paired":
        adapter.fit(text=half.fit["paired_text"], image=half.fit["paired_image"])
    else:
        adapter.fit(text=half.fit["text"], image=half.fit.get("image"), groups=half.fit["groups"])
    seeds = row_seeds(seed, 0, torch.arange(len(half.sources)))
    with torch.no_grad():
        sources = adapter.text(torch.from_numpy(half.sources), RowNoise(seeds)).double().numpy()
        images = adapter.eval()(torch.from_numpy(half.images), "image").double().numpy()
    return sources, images


def _curve(half: _Half, spec: Any, seed: int) -> tuple[Floats, float]:
    """Agreement at each of `COSINES`, and √E‖x‖² of the sources that the noise is added to."""
    sources, images = _adapted(half, spec, seed)
    return agreement(sources, half.targets, images, half.truth), float(np.sqrt((sources**2).sum(axis=1).mean()))


def _ceiling(half: _Half) -> float:
    """The best of the same decoder, trained on the other half's images."""
    sources, targets = half.fit["paired_image"].astype(np.float64), half.fit["paired_text"].astype(np.float64)
    return float(agreement(sources, targets, half.images.astype(np.float64), half.truth).max())


def agreement(sources: Floats, targets: Floats, images: Floats, truth: Floats) -> Floats:
    """(len(COSINES),) mean cosine of what the linear decoder says of the images with what is true, both centred.

    Args:
        sources, targets: (N, D) what it learns from. images: (M, D) unit rows. truth: (M, D).
    """
    mean, middle, dim = sources.mean(axis=0), targets.mean(axis=0), sources.shape[1]
    x, y = sources - mean, targets - middle
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    values = values.clip(0)
    decode = vectors.T @ (x.T @ y / len(x))
    size = float((sources**2).sum(axis=1).mean())
    wanted = _unit(truth - middle)
    out = []
    for cosine in COSINES:
        kept = 1 / (values + size * (cosine**-2 - 1) / dim + RIDGE * values.mean())
        said = ((images * (np.sqrt(size) / cosine) - mean) @ vectors * kept) @ decode
        out.append((_unit(said) * wanted).sum(axis=1).mean())
    return np.array(out)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12))


def _calibrations(rows: Array, images: Array | None, index: Ints, labels: Array | None) -> dict[str, dict[str, float]]:
    """Isotropic noise as large as the pair residual, and as the spread of captions of one image."""
    found = {}
    if len(index):
        noise = noise_from_pairs(rows, images, index)
        found["pair_residual"] = {"std": noise.std, "cosine": noise.cosine}
    if labels is not None:
        std = caption_spread(rows, labels).std
        found["caption_spread"] = {"std": std, "cosine": float(noise_of(std**2 * rows.shape[1], rows.shape[1])[1])}
    return found


def _trial(spec: Any, curve: Floats) -> Trial:
    at = int(curve.argmax())
    return Trial(spec or "none", COSINES[at], float(curve[at]), float(curve[0]))


def _name(spec: Any) -> str:
    if isinstance(spec, list):
        return " and ".join(map(_name, spec))
    return "noise alone" if spec is None else spec if isinstance(spec, str) else str(next(iter(spec)))


def _fitted_on(stage: Any, fit: Mapping[str, str] | None) -> Any:
    """A stage with the tables for it; what learns from text alone takes the training data's."""
    from close.adapters.base import ADAPTERS, split_spec

    name, options = split_spec(stage)
    if fit and ADAPTERS[name].needs in ("unpaired", "paired"):
        options["fit"] = dict(fit)
    return {name: options} if options else name


_BASIS = {
    "captions": "No images and one caption of each: every caption's nearest other caption, shifted by a gap as long as CLIP's "
    f"({TYPICAL_GAP}), half of it against the captions' mean, stands in for an image. Captions in groups, or some images, make "
    "this surer.",
    "groups": "No images: another caption of the same image, shifted by a gap as long as CLIP's "
    f"({TYPICAL_GAP}), half of it against the captions' mean, stands in for the image.",
    "unpaired": "Images without captions: texts carried to the images' mean and covariance stand in for captioned images.",
    "pairs": "Captioned images: what is learnt on one half of them is tried on the other.",
}


def _reasons(found: Advice, setting: str, alone: Floats) -> Iterator[str]:
    yield _BASIS[found.data]
    if setting == "single":
        yield (
            "The source is its own target, so without noise the model learns to copy what no image carries: its wording, and "
            "the side of the gap it is on. Only noise makes it let go of that, so it takes more than the distance of an image."
        )
    else:
        yield (
            "The target is not the source, so what captions of an image do not share is unlearnt without noise; the noise has "
            "only to cover how far images lie from their captions."
        )
    if found.captions == "multiple":
        yield (
            "Consider captions: single. With the wording taken away by shared, captions that are their own targets made better "
            "captioners than other captions as targets, on every encoder tried (experiments/gap)."
        )
    for name, noise in found.calibrations.items():
        size = f"std {noise['std']:.3f}, cosine {noise['cosine']:.2f}"
        yield f"For comparison, noise as large as the {name.replace('_', ' ')}: {size}."
    at = COSINES[int(alone.argmax())]
    yield (
        f"Linear decoder on images, noise alone: agreement {alone[0]:.2f} without noise, {alone.max():.2f} at the best "
        f"cosine {at:.2f}."
    )
    if found.adapter is None:
        yield f"The least noise within {TOLERANCE:.0%} of the best: cosine {found.cosine:.2f}, agreement {found.agreement:.2f}."
    else:
        yield (
            f"Of the adapters within {TOLERANCE:.0%} of the best, {_name(found.adapter)} is the one that trained models did best "
            f"with for {setting} targets. Noise of cosine {found.cosine:.2f}, "
            + ("the least within 2 % of the best alone" if found.adapter in WORDLESS else "the best behind it")
            + f": agreement {found.agreement:.2f}."
        )
    if found.ceiling is not None:
        yield f"Trained on these images instead, it reaches {found.ceiling:.2f}."
