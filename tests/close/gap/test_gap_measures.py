"""Every measure against slow, independent code: on real CLIP embeddings, and on random ones with several captions an image."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import linalg, stats
from scipy.spatial.distance import cdist, pdist

from close.gap import measure_gap
from close.gap.measures.centroid import centroid_gap, constancy
from close.gap.measures.cosine import group_cosine, paired_cosine, relative_gap, unpaired_cosine, within_cosine
from close.gap.measures.distance import pair_distance
from close.gap.measures.distribution import coral, frechet, mmd, sliced_w2
from close.gap.measures.hubness import hubness
from close.gap.measures.residual import (
    caption_spread,
    consecutive_cosine,
    noise_from_pairs,
    residual_normality,
    residual_size,
    residual_spectrum,
)
from close.gap.measures.retrieval import neighbour_agreement, pair_recall
from close.gap.measures.separability import separability
from close.gap.measures.shifted_loss import shifted_loss
from close.gap.measures.spread import cone, dimension_gap, trace_ratio
from close.gap.measures.structure import cka, procrustes_residual
from close.gap.measures.uniformity import alignment, cross_uniformity, uniformity

DATA = Path(os.environ.get("CLOSE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "coco250_clip_vitb16"


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def several_captions():
    """60 images with 1 to 4 captions each, in 24 dimensions, with a gap."""
    rng = np.random.default_rng(5)
    images = rng.normal(size=(60, 24)) * np.linspace(2, 0.3, 24)
    owner = np.repeat(np.arange(60), rng.integers(1, 5, size=60))
    texts = images[owner] * 0.8 + rng.normal(size=(len(owner), 24)) * 0.6
    order = rng.permutation(len(owner))
    text, image = unit(texts[order] + 0.5), unit(images - 0.5)
    return text, image, np.stack((np.arange(len(owner)), owner[order]), axis=1)


@pytest.fixture(params=["coco", "captions"])
def data(request):
    if request.param == "captions":
        return several_captions()
    if not DATA.is_dir():
        pytest.skip(f"needs real CLIP embeddings in {DATA}")
    text, image = (unit(np.load(DATA / f"{side}.npy").astype(np.float64)) for side in ("text", "image"))
    return text, image, np.stack((np.arange(250), np.arange(250)), axis=1)


@pytest.fixture
def pairs_of(data):
    text, image, pairs = data
    return text[pairs[:, 0]], image[pairs[:, 1]]


def close(value, rel=1e-5, floor=1e-9):
    return pytest.approx(value, rel=rel, abs=floor)


def test_distances(data, pairs_of):
    text, image, pairs = data
    t, v = pairs_of
    lengths = [np.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True))) for x, y in zip(t, v, strict=True)]
    assert centroid_gap(text, image) == close(np.linalg.norm(image.mean(0) - text.mean(0)))
    assert pair_distance(text, image, pairs) == close(np.mean(lengths))
    assert alignment(text, image, pairs) == close(np.mean(np.square(lengths)))
    assert alignment(text, image, pairs) == close(2 - 2 * paired_cosine(text, image, pairs).mean)


def test_relative_gap(data, pairs_of):
    text, image, pairs = data
    a = np.mean([(1 - x @ y) / 2 for x, y in zip(*pairs_of, strict=True)])
    b, c = ((pdist(side, "cosine") / 2).mean() for side in (image, text))
    assert relative_gap(text, image, pairs) == close(a / (a + (b + c) / 2))


def test_relative_gap_counts_a_repeated_image_once(data):
    text, image, pairs = data
    image_rows = image[pairs[:, 1]]
    assert relative_gap(text[pairs[:, 0]], image_rows) == close(relative_gap(text, image, pairs))


def test_cosine_table(data, pairs_of):
    text, image, pairs = data
    together = {tuple(pair) for pair in pairs.tolist()}
    apart = [x @ y for i, x in enumerate(text) for j, y in enumerate(image) if (i, j) not in together]
    same = [
        text[i] @ text[j]
        for i, a in pairs
        for j, b in pairs
        if a == b and i < j  # every text has one image in both sets
    ]
    expected = {
        paired_cosine(text, image, pairs): [x @ y for x, y in zip(*pairs_of, strict=True)],
        unpaired_cosine(text, image, pairs): apart,
        unpaired_cosine(text, image, "unpaired"): (text @ image.T).ravel(),
        within_cosine(text): 1 - pdist(text, "cosine"),
        within_cosine(image): 1 - pdist(image, "cosine"),
    }
    if same:
        groups = pairs[np.argsort(pairs[:, 0]), 1]
        expected[group_cosine(text, groups)] = same
    for spread, cosines in expected.items():
        assert spread.mean == close(np.mean(cosines))
        assert spread.std == close(np.std(cosines))


def test_uniformity(data):
    text, image, pairs = data
    assert uniformity(text) == close(np.log(np.exp(-2 * pdist(text, "sqeuclidean")).mean()))
    apart = np.ones((len(text), len(image)), bool)
    apart[pairs[:, 0], pairs[:, 1]] = False
    kernel = np.exp(-2 * cdist(text, image, "sqeuclidean"))
    assert cross_uniformity(text, image, pairs) == close(np.log(kernel[apart].mean()))
    assert cross_uniformity(text, image, "unpaired") == close(np.log(kernel.mean()))


def test_spread(data):
    text, image, _ = data
    s_t, s_v = np.cov(text.T), np.cov(image.T)
    assert trace_ratio(text, image) == close(np.sqrt(np.trace(s_v) / np.trace(s_t)))
    assert (cone(text, image).text, cone(text, image).image) == close(
        (np.linalg.norm(text.mean(0)), np.linalg.norm(image.mean(0)))
    )
    gap = np.abs(image.mean(0) - text.mean(0))
    by_dimension = dimension_gap(text, image)
    assert by_dimension.top10_gap_share == close(sum(sorted(gap)[-10:]) / sum(gap))
    assert by_dimension.std_ratio_median == close(np.median(image.std(0, ddof=1) / text.std(0, ddof=1)))


def test_clouds(data):
    text, image, _ = data
    s_t, s_v, delta = np.cov(text.T), np.cov(image.T), image.mean(0) - text.mean(0)
    root = linalg.sqrtm(s_t + 1e-12 * np.eye(len(s_t)))
    inner = np.trace(linalg.sqrtm(root @ (s_v + 1e-12 * np.eye(len(s_v))) @ root)).real
    assert frechet(text, image, centred=True) == close(np.trace(s_t + s_v) - 2 * inner, rel=1e-4)
    assert frechet(text, image) == close(delta @ delta + np.trace(s_t + s_v) - 2 * inner, rel=1e-4)
    assert coral(text, image) == close(np.sqrt(((s_v - s_t) ** 2).sum()))


def test_mmd(data):
    text, image, _ = data
    width = 2 * np.median(pdist(np.vstack((text, image)))) ** 2
    within = [np.exp(-pdist(side, "sqeuclidean") / width).mean() for side in (text, image)]
    expected = sum(within) - 2 * np.exp(-cdist(text, image, "sqeuclidean") / width).mean()
    assert mmd(text, image) == close(expected)


def test_sliced_w2_is_near_its_mean_over_many_random_directions(data):
    text, image, _ = data
    directions = unit(np.random.default_rng(1).normal(size=(8000, text.shape[1])))
    grid = (np.arange(4000) + 0.5) / 4000
    total = 0.0
    for theta in directions:
        x, y = np.sort(text @ theta), np.sort(image @ theta)
        total += ((x[(grid * len(x)).astype(int)] - y[(grid * len(y)).astype(int)]) ** 2).mean()
    assert sliced_w2(text, image) == close(np.sqrt(total / len(directions)), rel=0.03)


def test_residual(data, pairs_of):
    text, image, pairs = data
    t, v = pairs_of
    r = v - t - (image.mean(0) - text.mean(0))
    size = residual_size(text, image, pairs)
    assert size.per_dim_mean == close(np.abs(r.mean(0)).mean(), floor=1e-12)
    assert size.per_dim_std == close(np.sqrt(r.var(0).mean()))
    assert size.norm == close(np.mean([np.sqrt(row @ row) for row in r]))
    noise = noise_from_pairs(text, image, pairs)
    w = np.sqrt((r**2).sum(1).mean() / r.shape[1])
    assert (noise.std, noise.cosine) == close((w, 1 / np.sqrt(1 + w**2 * r.shape[1])))
    neighbours = zip(itertools.pairwise(r), itertools.pairwise(pairs[:, 1]), strict=True)
    turned = [a @ b / np.sqrt((a @ a) * (b @ b)) for (a, b), (i, j) in neighbours if i != j]
    assert consecutive_cosine(text, image, pairs) == close(np.mean(turned))
    p_values = [stats.normaltest(column).pvalue for column in r.T]
    assert residual_normality(text, image, pairs) == close(np.median(p_values))
    values = np.linalg.svd(r - r.mean(0), compute_uv=False) ** 2
    share = values / values.sum()
    spectrum = residual_spectrum(text, image, pairs)
    assert spectrum.participation_ratio == close(values.sum() ** 2 / (values**2).sum())
    assert spectrum.effective_rank == close(np.exp(stats.entropy(share)))
    assert spectrum.top10_share == close(share[:10].sum())


def test_constancy_in_its_own_words(data):
    text, image, pairs = data
    if len(pairs) < 200:
        found = constancy(text, image, pairs, size=30)
        groups = len(pairs) // 30
    else:
        found, groups = constancy(text, image, pairs), len(pairs) // 100
    size = 30 if len(pairs) < 200 else 100
    order = np.random.default_rng(0).permutation(pairs)[: groups * size]
    gaps = np.stack([(image[g[:, 1]] - text[g[:, 0]]).mean(0) for g in order.reshape(groups, size, 2)])
    delta = gaps.mean(0)
    assert found.length_cv == close(np.linalg.norm(gaps, axis=1).std() / np.linalg.norm(gaps, axis=1).mean())
    assert found.direction_cosine == close(np.mean([1 - pdist([g, delta], "cosine")[0] for g in gaps]))
    every = []
    for side in (text, image):
        apart = side[:, None] - side[None]
        apart = apart[~np.eye(len(side), dtype=bool)]
        every.append(np.abs(unit(apart) @ delta / np.linalg.norm(delta)).mean())
    assert found.orthogonality == close(np.mean(every), rel=0.12)  # a sample of all differences


def test_caption_spread():
    text, _, pairs = several_captions()
    groups = pairs[np.argsort(pairs[:, 0]), 1]
    squared, free, farthest = 0.0, 0, []
    for label in set(groups.tolist()):
        rows = text[groups == label]
        if len(rows) > 1:
            squared += ((rows - rows.mean(0)) ** 2).sum()
            free += len(rows) - 1
            farthest.append(pdist(rows, "chebyshev").mean())
    found = caption_spread(text, groups)
    assert found.std == close(np.sqrt(squared / free / text.shape[1]))
    assert found.linf == close(np.mean(farthest))
    many = np.random.default_rng(0).normal(size=(3000, 6))
    most = caption_spread(many, np.arange(3000) // 1500)  # some of a group are compared, all are counted
    exact = caption_spread(many[:1000], np.arange(1000) // 500)
    assert most.linf != exact.linf
    assert most.linf == pytest.approx(exact.linf, rel=0.02)


def check_recall(text, image, pairs):
    """Against sorting everything."""
    scores = image @ text.T
    right = np.zeros_like(scores, bool)
    right[pairs[:, 1], pairs[:, 0]] = True
    found = pair_recall(text, image, pairs)
    for direction, s, r in (("image_to_text", scores, right), ("text_to_image", scores.T, right.T)):
        asked = r.any(axis=1)
        order = np.argsort(-s[asked], axis=1, kind="stable")
        for at in (1, 5, 10):
            hits = [row_right[row[:at]].any() for row, row_right in zip(order, r[asked], strict=True)]
            assert getattr(getattr(found, direction), f"at_{at}") == close(np.mean(hits))


@pytest.mark.parametrize(("texts", "images"), [(200, 4), (3, 500), (30, 6)])
def test_recall_where_a_side_has_fewer_rows_than_are_looked_at(texts, images):
    rng, pairs = np.random.default_rng(5), np.repeat(np.arange(min(texts, images)), 2).reshape(-1, 2)
    check_recall(*(unit(rng.normal(size=(rows, 8))) for rows in (texts, images)), pairs)


def test_retrieval(data):
    text, image, _ = data
    check_recall(*data)
    scores = image @ text.T
    hubs = hubness(text, image)
    for side, s in (("text", scores), ("image", scores.T)):
        occurrence = np.bincount(np.argsort(-s, axis=1)[:, :10].ravel(), minlength=s.shape[1])
        assert getattr(hubs, side) == close(stats.skew(occurrence))


def test_neighbour_agreement(data):
    text, image, pairs = data
    first = {}
    for t, v in pairs[np.argsort(pairs[:, 0], kind="stable")].tolist():
        first.setdefault(v, t)
    images, texts = list(first), list(first.values())
    agree = []
    for i in range(len(images)):
        near = []
        for rows in (text[texts], image[images]):
            scores = rows @ rows[i]
            scores[i] = -np.inf
            near.append(set(np.argsort(-scores)[:10].tolist()))
        agree.append(len(near[0] & near[1]) / 10)
    assert neighbour_agreement(text, image, pairs) == close(np.mean(agree))


def test_structure(data, pairs_of):
    text, image, pairs = data
    t, v = pairs_of
    k_t, k_v = ((x - x.mean(0)) @ (x - x.mean(0)).T for x in (t, v))
    assert cka(text, image, pairs) == close((k_t * k_v).sum() / np.sqrt((k_t**2).sum() * (k_v**2).sum()))
    rotation, _ = linalg.orthogonal_procrustes(v, t)
    assert procrustes_residual(text, image, pairs) == close(((v @ rotation - t) ** 2).sum() / len(t))


def test_separability_in_its_own_words(data):
    from sklearn.linear_model import LogisticRegression

    text, image, pairs = data
    train = set(np.random.default_rng(0).permutation(len(image))[::2].tolist())
    owner = dict(pairs.tolist())
    rows = [(x, 0, owner[i]) for i, x in enumerate(text)] + [(x, 1, i) for i, x in enumerate(image)]
    seen, unseen = ([row for row in rows if (row[2] in train) == side] for side in (True, False))
    model = LogisticRegression(class_weight="balanced").fit([r[0] for r in seen], [r[1] for r in seen])
    right = [(model.predict([r[0] for r in unseen if r[1] == label]) == label).mean() for label in (0, 1)]
    assert separability(text, image, pairs) == close(np.mean(right), rel=0.02)


def test_shifted_loss(data):
    import torch
    from torch.nn import functional as F

    text, image, pairs = data
    first = np.unique(pairs[:, 1], return_index=True)[1]
    t, v = (torch.tensor(side[pairs[first, k]]) for k, side in enumerate((text, image)))
    half = torch.tensor(image.mean(0) - text.mean(0)) / 2
    found = shifted_loss(text, image, pairs, shifts=(0, 0.5, 1))
    for shift, gap, loss in zip(found.shift, found.gap, found.loss, strict=True):
        x, y = F.normalize(t + shift * half, dim=1), F.normalize(v - shift * half, dim=1)
        logits, own = x @ y.T / 0.01, torch.arange(len(x))
        assert loss == close(float(F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2)
        assert gap == close(float((y.mean(0) - x.mean(0)).norm()))


def test_the_report_holds_what_the_functions_give(data):
    text, image, pairs = data
    report = measure_gap(text, image, pairs=pairs, bootstrap=0)
    exact = {
        "centroid_gap": centroid_gap(text, image),
        "rmg": relative_gap(text, image, pairs),
        "cosine.unpaired.std": unpaired_cosine(text, image, pairs).std,
        "cosine.text_text.mean": within_cosine(text).mean,
        "uniformity.cross": cross_uniformity(text, image, pairs),
        "dimension.top10_gap_share": dimension_gap(text, image).top10_gap_share,
        "frechet.centred": frechet(text, image, centred=True),
        "mmd": mmd(text, image),
        "sliced_w2": sliced_w2(text, image),
        "residual.per_dim_std": residual_size(text, image, pairs).per_dim_std,
        "residual.top10_share": residual_spectrum(text, image, pairs).top10_share,
        "noise.cosine": noise_from_pairs(text, image, pairs).cosine,
        "recall.text_to_image.at_5": pair_recall(text, image, pairs).text_to_image.at_5,
        "hubness.image": hubness(text, image).image,
        "neighbour_agreement": neighbour_agreement(text, image, pairs),
        "cka": cka(text, image, pairs),
        "procrustes_residual": procrustes_residual(text, image, pairs),
    }
    for name, value in exact.items():
        assert report[name] == close(value, rel=1e-4), name


def test_known_figures_of_real_clip():
    """What the literature leads to expect of CLIP on COCO; a wrong formula falls out of these ranges."""
    if not DATA.is_dir():
        pytest.skip(f"needs real CLIP embeddings in {DATA}")
    report = measure_gap(np.load(DATA / "text.npy"), np.load(DATA / "image.npy"), bootstrap=0)
    assert 0.8 < report["centroid_gap"] < 0.9
    assert 0.28 < report["cosine.paired.mean"] < 0.34
    assert report["cosine.unpaired.mean"] < report["cosine.paired.mean"] < report["cosine.text_text.mean"]
    assert report["separability"] == 1.0
    assert report["constancy.direction_cosine"] > 0.95
    assert 0.5 < report["recall.image_to_text.at_1"] < 0.8
