"""Each adapter against a slow reference in plain numpy, its closed forms, and the interface they share."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.linear_model import LinearRegression, Ridge

from close.adapters import ADAPTERS, Chain, GapAdapter, RowNoise, build_adapter, cosine_to_std, row_seeds
from close.adapters.rows import Adapted, unit_tensor
from close.adapters.shared import group_blocks
from close.errors import DataError, MismatchError, NotFittedError, RecipeError, UnknownNameError
from close.registry import unknown_name
from close.vectors.moments import covariance

DIM = 16
GROUPS = np.random.default_rng(5).integers(0, 120, 400)  # of one text to eight
OPTIONS = {"gaussian": {"std": 0.1}, "uniform": {"radius": 0.3}, "random_shift": {"norm": 0.5}}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_pairs(count, dim=DIM, seed=0):
    """Unit text and image rows that share a cause, with a gap between them."""
    rng = np.random.default_rng(seed)
    cause = rng.normal(size=(count, dim)) @ np.diag(np.linspace(0.3, 1.5, dim))
    turn = np.eye(dim) + 0.2 * rng.normal(size=(dim, dim))
    text = unit(cause + 2 * np.eye(dim)[0] + 0.2 * rng.normal(size=(count, dim)))
    image = unit(cause @ turn - 1.5 * np.eye(dim)[1] + 0.3 * rng.normal(size=(count, dim)))
    return text.astype(np.float32), image.astype(np.float32)


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(400)


@pytest.fixture(scope="module")
def probe():
    """Unit rows that no adapter was fitted on."""
    return make_pairs(50, seed=9)


def raw(rows):
    """Rows of the length that they are, as a stage before makes them."""
    return Adapted(rows, build_adapter("none", DIM), "text")


def fitted(spec, pairs, dim=DIM):
    adapter = build_adapter(spec, dim)
    return adapter.fit(text=pairs[0], image=pairs[1], groups=GROUPS[: len(pairs[0])])


def run(adapter, x, modality="text"):
    return adapter.eval()(torch.from_numpy(x), modality).double().numpy()


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


def close_to(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=2e-6)


# what they compute


@pytest.mark.parametrize("scale", [1, -1, 0.5])
def test_mean_shift(pairs, probe, scale):
    text, image = wide(*pairs)
    adapter = fitted({"mean_shift": {"scale": scale}}, pairs)
    close_to(run(adapter, probe[0]), unit(probe[0] + scale * (image.mean(0) - text.mean(0))))
    close_to(run(adapter, probe[1], "image"), probe[1])


@pytest.mark.parametrize("as_given", [lambda rows: 10 * rows, lambda rows: torch.from_numpy(10 * rows).double()])
def test_arrays_of_any_length_are_brought_to_unit_length(pairs, as_given):
    text, image = pairs
    expected = build_adapter(["centring", "mean_shift"], text.shape[1]).fit(text=text, image=image).state_dict()
    found = build_adapter(["centring", "mean_shift"], text.shape[1]).fit(text=as_given(text), image=as_given(image))
    for name, value in found.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-5), name


def test_mean_shift_makes_the_raw_means_meet(pairs):
    adapter = fitted("mean_shift", pairs)
    moved = adapter.text(torch.from_numpy(pairs[0]), None).double().mean(0)
    close_to(moved.numpy(), pairs[1].astype(np.float64).mean(0))


def test_random_shift_is_one_vector_of_the_given_norm(probe):
    adapter = build_adapter({"random_shift": {"norm": 0.7, "seed": 3}}, DIM)
    step = adapter.text(torch.from_numpy(probe[0]), None) - torch.from_numpy(probe[0])
    torch.testing.assert_close(step, step[:1].expand_as(step), atol=1e-6, rtol=0)
    assert step[0].norm().item() == pytest.approx(0.7, abs=1e-5)
    same, other = (build_adapter({"random_shift": {"norm": 0.7, "seed": seed}}, DIM).shift for seed in (3, 4))
    assert torch.equal(adapter.shift, same)
    assert not torch.allclose(adapter.shift, other)


def test_centring(pairs, probe):
    text, image = wide(*pairs)
    adapter = fitted("centring", pairs)
    close_to(run(adapter, probe[0]), unit(probe[0] - text.mean(0)))
    close_to(run(adapter, probe[1], "image"), unit(probe[1] - image.mean(0)))


def test_centring_then_gaussian_is_c3(pairs, probe):
    text, image = wide(*pairs)
    chain = fitted(["centring", {"gaussian": {"var": 0.016}}], pairs).train()
    seeds = row_seeds(0, 1, torch.arange(len(probe[0])))
    noise = RowNoise(seeds).normal(DIM).double().numpy()
    expected = unit(probe[0] - text.mean(0) + math.sqrt(0.016) * noise)
    close_to(chain(torch.from_numpy(probe[0]), "text", seeds).double().numpy(), expected)
    close_to(run(chain, probe[1], "image"), unit(probe[1] - image.mean(0)))


def test_moments(pairs, probe):
    text, image = wide(*pairs)
    adapter = fitted("moments", pairs)
    expected = (probe[0] - text.mean(0)) * image.std(0, ddof=1) / text.std(0, ddof=1) + image.mean(0)
    close_to(run(adapter, probe[0]), unit(expected))
    moved = adapter.text(torch.from_numpy(pairs[0]), None).double().numpy()
    close_to(moved.mean(0), image.mean(0))
    close_to(moved.std(0), image.std(0))


def test_moments_keeps_the_scale_of_a_constant_dimension(pairs):
    text = pairs[0].copy()
    text[:, 3] = 0.25
    adapter = fitted("moments", (raw(text), pairs[1]))
    assert adapter.ratio[3] == 1
    assert adapter.ratio.isfinite().all()


def test_realign(pairs, probe):
    text, image = wide(*pairs)
    scale = math.sqrt(np.trace(np.cov(image.T)) / np.trace(np.cov(text.T)))

    def first(x):
        return unit(image.mean(0) + scale * (x - text.mean(0)))

    expected = first(probe[0]) - first(text).mean(0) + image.mean(0)
    adapter = fitted("realign", pairs)
    close_to(run(adapter, probe[0]), unit(expected))
    close_to(adapter.text(torch.from_numpy(pairs[0]), None).double().mean(0).numpy(), image.mean(0))


def test_transport_carries_mean_and_covariance(pairs, probe):
    text, image = wide(*pairs)
    sigma_t, sigma_v = np.cov(text.T), np.cov(image.T)
    root = np.real(sqrtm(sigma_t))
    inverse = np.linalg.inv(root)
    matrix = inverse @ np.real(sqrtm(root @ sigma_v @ root)) @ inverse
    adapter = fitted({"transport": {"shrinkage": 0}}, pairs)
    close_to(run(adapter, probe[0]), unit(image.mean(0) + (probe[0] - text.mean(0)) @ matrix.T))
    moved_mean, moved = covariance([adapter.text(torch.from_numpy(pairs[0]), None)])
    close_to(moved_mean.numpy(), image.mean(0))
    close_to(moved.numpy(), sigma_v)


def test_transport_wholly_shrunk_is_trace_scaling(pairs, probe):
    text, image = wide(*pairs)
    scale = math.sqrt(np.trace(np.cov(image.T)) / np.trace(np.cov(text.T)))
    adapter = fitted({"transport": {"shrinkage": 1}}, pairs)
    close_to(run(adapter, probe[0]), unit(image.mean(0) + scale * (probe[0] - text.mean(0))))


def test_transport_takes_fewer_rows_than_dimensions():
    adapter = fitted("transport", make_pairs(10))
    assert adapter.matrix.isfinite().all()
    assert torch.linalg.eigvalsh(adapter.matrix).min() > 0


@pytest.mark.parametrize("count", [400, 12])
def test_least_squares_is_scikit_learns(probe, count):
    pairs = make_pairs(count)  # 12 pairs in 16 dimensions: the solution of least norm
    reference = LinearRegression().fit(*wide(*pairs))
    adapter = fitted("linear", pairs)
    expected = unit(reference.predict(probe[0].astype(np.float64)))
    np.testing.assert_allclose(run(adapter, probe[0]), expected, atol=1e-5)


def test_ridge_is_scikit_learns(pairs, probe):
    text, image = wide(*pairs)
    alpha = 0.3
    penalty = alpha * np.trace(np.cov(text.T)) / DIM * (len(text) - 1)
    reference = Ridge(alpha=penalty).fit(text, image)
    adapter = fitted({"linear": {"method": "ridge", "alpha": alpha}}, pairs)
    close_to(run(adapter, probe[0]), unit(reference.predict(probe[0].astype(np.float64))))


def test_ridge_toward_identity(pairs, probe):
    text, image = wide(*pairs)
    alpha = 0.3
    penalty = alpha * np.trace(np.cov(text.T)) / DIM * (len(text) - 1)
    t, v = text - text.mean(0), image - image.mean(0)
    rest = Ridge(alpha=penalty, fit_intercept=False).fit(t, v - t).coef_  # the map's difference from the identity
    adapter = fitted({"linear": {"method": "ridge", "alpha": alpha, "toward": "identity"}}, pairs)
    centred = probe[0] - text.mean(0)
    close_to(run(adapter, probe[0]), unit(centred + centred @ rest.T + image.mean(0)))
    far = fitted({"linear": {"method": "ridge", "alpha": 1e9, "toward": "identity"}}, pairs)
    close_to(run(far, probe[0]), run(fitted("mean_shift", pairs), probe[0]))


@pytest.mark.parametrize("size", [8192, 50])
def test_shared_is_scikit_learns_ridge_onto_the_others_of_the_group(pairs, probe, size, monkeypatch):
    monkeypatch.setattr(group_blocks, "__defaults__", (size,))
    text = pairs[0].astype(np.float64)
    own = np.array([i for i in range(400) if (GROUPS[i] == GROUPS).sum() > 1])
    others = np.array([text[(GROUPS[i] == GROUPS) & (np.arange(400) != i)].mean(0) for i in own])
    penalty = 0.3 * np.trace(np.cov(text[own].T)) / DIM * (len(own) - 1)
    model = Ridge(alpha=penalty).fit(text[own], others)
    close_to(run(fitted({"shared": {"alpha": 0.3, "toward": "zero"}}, pairs), probe[0]), unit(model.predict(probe[0])))
    step = Ridge(alpha=penalty).fit(text[own], others - text[own])  # what λ holds back is the change
    close_to(run(fitted({"shared": {"alpha": 0.3}}, pairs), probe[0]), unit(probe[0] + step.predict(probe[0])))
    close_to(run(fitted("shared", pairs), probe[1], "image"), probe[1])


def test_shared_finds_what_the_captions_have_in_common():
    """Content in half of the dimensions, wording in all: content is shrunk as by Wiener's filter, and the rest goes."""
    rng = np.random.default_rng(1)
    content, wording = rng.normal(size=(4000, 1, DIM)), rng.normal(size=(4000, 5, DIM))
    content[:, :, DIM // 2 :] = 0
    text = (content + wording).reshape(-1, DIM)
    adapter = build_adapter({"shared": {"alpha": 0}}, DIM).fit(text=raw(text), groups=np.repeat(np.arange(4000), 5))
    np.testing.assert_allclose(adapter.matrix.numpy(), np.diag([0.5] * 8 + [0] * 8), atol=0.02)


def test_shared_does_not_care_for_order_names_and_turns(pairs, probe):
    order = np.random.default_rng(2).permutation(400)
    names = np.array([f"image {label}" for label in GROUPS])
    first = fitted("shared", pairs)
    second = build_adapter("shared", DIM).fit(text=pairs[0][order], groups=names[order])
    close_to(run(first, probe[0]), run(second, probe[0]))
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(DIM, DIM)))[0].astype(np.float32)
    turned = build_adapter("shared", DIM).fit(text=pairs[0] @ turn, groups=GROUPS)
    close_to(run(turned, probe[0] @ turn), run(first, probe[0]) @ turn)


def test_shared_says_what_is_wrong_with_groups(pairs):
    with pytest.raises(MismatchError, match=r"a label for each of 400 texts, got groups of shape \(3,\)"):
        build_adapter("shared", DIM).fit(text=pairs[0], groups=[1, 2, 3])
    with pytest.raises(DataError, match="0 groups have two texts or more"):
        build_adapter("shared", DIM).fit(text=pairs[0], groups=np.arange(400))


def test_procrustes_finds_a_rotation_again(probe):
    text, _ = make_pairs(300)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM)))[0]
    shift = np.linspace(-1, 1, DIM)
    adapter = fitted({"linear": {"method": "procrustes"}}, (text, raw((text @ turn + shift).astype(np.float32))))
    np.testing.assert_allclose(adapter.matrix, turn, atol=1e-5)
    np.testing.assert_allclose(adapter.bias, shift, atol=1e-5)


def test_procrustes_beats_other_rotations(pairs):
    adapter = fitted({"linear": {"method": "procrustes"}}, pairs)
    text, image = (x - x.mean(0) for x in wide(*pairs))
    best = np.square(image - text @ adapter.matrix.double().numpy()).sum()
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = np.linalg.qr(rng.normal(size=(DIM, DIM)) * 0.1 + adapter.matrix.double().numpy())[0]
        other *= np.sign(np.diag(other.T @ adapter.matrix.double().numpy()))
        assert np.square(image - text @ other).sum() >= best - 1e-9


def test_covariance_noise_has_the_residuals_moments(pairs):
    text, image = wide(*pairs)
    adapter = fitted({"covariance": {"scale": 2}}, pairs).train()
    draws = torch.from_numpy(pairs[0][:1]).expand(200_000, -1)
    noise = RowNoise(row_seeds(0, 0, torch.arange(len(draws))))
    middle, sigma = covariance([adapter.text(draws, noise) - draws])
    expected = 4 * np.cov((image - text).T)
    np.testing.assert_allclose(middle, (image - text).mean(0), atol=0.01)
    np.testing.assert_allclose(sigma, expected, atol=0.02 * np.abs(expected).max())
    close_to(run(adapter, pairs[0]), run(fitted("mean_shift", pairs), pairs[0]))


def test_covariance_after_linear_takes_the_maps_residual(pairs):
    text, image = wide(*pairs)
    chain = fitted(["linear", "covariance"], pairs)
    residual = image - LinearRegression().fit(text, image).predict(text)
    root = chain.members[1].root.double().numpy()
    np.testing.assert_allclose(root @ root, np.cov(residual.T), atol=1e-6)
    np.testing.assert_allclose(chain.members[1].shift, np.zeros(DIM), atol=1e-6)


def test_uniform_ball_fills_the_ball():
    dim, radius = 3, 0.5
    adapter = build_adapter({"uniform": {"radius": radius}}, dim)
    zeros = torch.zeros(50_000, dim)
    draws = adapter.text(zeros, RowNoise(row_seeds(0, 0, torch.arange(len(zeros)))))
    share = (draws.norm(dim=1) / radius) ** dim  # uniform on (0, 1) if the ball is filled evenly
    assert share.max() <= 1 + 1e-5
    for quantile in (0.1, 0.5, 0.9):
        assert share.quantile(quantile).item() == pytest.approx(quantile, abs=0.01)
    torch.testing.assert_close(draws.mean(0), torch.zeros(dim), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", ["uniform", "gaussian"])
@pytest.mark.parametrize("cosine", [0.3, 0.67])
def test_cosine_means_the_same_strength(name, cosine):
    dim = 256
    adapter = build_adapter({name: {"cosine": cosine}}, dim).train()
    x = torch.nn.functional.normalize(torch.randn(4000, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    seeds = row_seeds(0, 0, torch.arange(len(x)))
    assert (x * adapter(x, "text", seeds)).sum(1).mean().item() == pytest.approx(cosine, abs=0.01)
    short = torch.nn.functional.normalize(
        adapter.text(0.3 * x, RowNoise(seeds)), dim=1
    )  # behind a stage that leaves it so
    assert (x * short).sum(1).mean().item() == pytest.approx(cosine, abs=0.01)


def test_noise_is_on_what_is_trained_on_and_off_in_use(pairs, probe):
    seeds = row_seeds(1, 0, torch.arange(len(probe[0])))
    for spec in ({"gaussian": {"std": 0.3}}, {"uniform": {"radius": 0.3}}):
        adapter = build_adapter(spec, DIM)
        for modality, x in zip(("text", "image"), probe, strict=True):
            close_to(run(adapter.eval(), x, modality), x)
            noised = adapter.train()(torch.from_numpy(x), modality, seeds)
            assert not np.allclose(noised.numpy(), x, atol=0.05)
            close_to(adapter(torch.from_numpy(x), modality, seeds, noisy=False).numpy(), x)
            torch.testing.assert_close(noised, adapter(torch.from_numpy(x), "text", seeds))


def test_a_chain_noises_images_behind_their_own_side(pairs, probe):
    image, seeds = torch.from_numpy(probe[1]), row_seeds(1, 0, torch.arange(len(probe[1])))
    chain = fitted(["centring", {"gaussian": {"std": 0.3}}], pairs).train()
    centred = chain.members[0].image(image)
    torch.testing.assert_close(chain(image, "image", seeds), chain.members[1](centred, "text", seeds))
    moved = fitted(["covariance"], pairs).train()  # what moves texts is not for images, nor is its noise
    torch.testing.assert_close(moved(image, "image", seeds), image)


@pytest.mark.parametrize("name", [*ADAPTERS])
def test_noise_belongs_to_the_row(name, pairs, probe):
    adapter = fitted({name: OPTIONS.get(name)}, pairs).train()
    x = torch.from_numpy(probe[0])
    seeds = row_seeds(5, 2, torch.arange(len(x)))
    whole = adapter(x, "text", seeds)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:7]
    torch.testing.assert_close(adapter(x[order], "text", seeds[order]), whole[order], atol=1e-6, rtol=0)


# the interface


@pytest.mark.parametrize("name", [*ADAPTERS])
def test_unit_rows_of_the_same_shape_and_dtype(name, pairs, probe):
    adapter = fitted({name: OPTIONS.get(name)}, pairs)
    for modality, x in zip(("text", "image"), probe, strict=True):
        for dtype in (torch.float32, torch.bfloat16):
            out = adapter.train()(torch.from_numpy(x).to(dtype), modality)
            assert out.shape == x.shape
            assert out.dtype == dtype
            torch.testing.assert_close(out.float().norm(dim=1), torch.ones(len(x)), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", [*ADAPTERS])
def test_fit_says_what_is_missing(name, pairs):
    adapter = build_adapter({name: OPTIONS.get(name)}, DIM)
    sides = {"nothing": [], "text": ["text"], "groups": ["text", "groups"]}.get(adapter.needs, ["text", "image"])
    data = {"text": pairs[0], "image": pairs[1], "groups": GROUPS}
    assert adapter.is_fitted == (not sides)
    for side in sides:
        with pytest.raises(DataError, match=rf"{name}.*needs {adapter.needs} data, and .*{side}.* missing"):
            adapter.fit(**{key: value for key, value in data.items() if key != side})
    if sides:
        with pytest.raises(NotFittedError, match=name):
            adapter(torch.from_numpy(pairs[0]), "text")
    adapter.fit(**{side: data[side] for side in sides})
    assert adapter.is_fitted


def test_unpaired_adapters_take_tables_of_different_lengths(pairs):
    for name in ("mean_shift", "centring", "moments", "realign", "transport"):
        assert build_adapter(name, DIM).fit(text=pairs[0][:30], image=pairs[1]).is_fitted
    for name in ("linear", "covariance"):
        with pytest.raises(MismatchError, match="30 text rows and 400 image rows"):
            build_adapter(name, DIM).fit(text=pairs[0][:30], image=pairs[1])


@pytest.mark.parametrize("name", [name for name in ADAPTERS if ADAPTERS[name].needs != "nothing"])
def test_bad_rows_are_named(name, pairs):
    for value, what in ((np.nan, "not finite"), (np.inf, "not finite"), (0.0, "zero")):
        text = np.tile(pairs[0], (30, 1))
        text[9123] = value
        with pytest.raises(DataError, match=f"text row 9123 is {what}"):
            build_adapter(name, DIM).fit(text=text, image=np.tile(pairs[1], (30, 1)), groups=np.tile(GROUPS, 30))


@pytest.mark.parametrize("name", ["moments", "realign", "transport", "linear", "shared"])
def test_constant_text_is_refused(name, pairs):
    with pytest.raises(DataError, match="all text embeddings are the same"):
        build_adapter(name, DIM).fit(text=np.tile(pairs[0][:1], (400, 1)), image=pairs[1], groups=GROUPS)


def test_wrong_shapes_are_refused(pairs):
    with pytest.raises(MismatchError, match="text embeddings have 16 columns, expected 8"):
        build_adapter("mean_shift", 8).fit(text=pairs[0], image=pairs[1])
    with pytest.raises(DataError, match=r"1 image rows, at least 2"):
        build_adapter("mean_shift", DIM).fit(text=pairs[0], image=pairs[1][:1])
    with pytest.raises(DataError, match=r"\(N, D\), not \(16,\)"):
        build_adapter("mean_shift", DIM).fit(text=pairs[0][0], image=pairs[1])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"gaussian": {}}, "exactly one of std, var, cosine"),
        ({"gaussian": {"std": 0.1, "var": 0.1}}, "exactly one"),
        ({"gaussian": {"std": "0.1"}}, "std is a number ≥ 0, not '0.1'"),
        ({"gaussian": {"cosine": 1.5}}, "cosine is a number ≥ 1e-06 and ≤ 1, not 1.5"),
        ({"uniform": {"radius": -1}}, "radius is a number ≥ 0"),
        ({"mean_shift": {"scale": math.nan}}, "scale is a number, not nan"),
        ({"random_shift": None}, "needs the option 'norm'"),
        ({"random_shift": {"norm": 1, "seed": 0.5}}, "seed is a whole number ≥ 0"),
        ({"covariance": {"scale": True}}, "scale is a number ≥ 0, not True"),
        ({"linear": {"alpha": 1}}, "belong to method ridge"),
        ({"transport": {"shrinkage": 2}}, "≤ 1, not 2"),
        ({"memory": {"temperature": 0}}, "temperature is a number"),
        ({"memory": {"size": 0}}, "size is a whole number ≥ 1"),
        ({"memory": {"size": 5, "disk": True}}, "disk: true keeps every row"),
        ({"linear": {"method": "ridgee"}}, "did you mean 'ridge'"),
        ([[3]], "an adapter is a name or"),
        ({"a": {}, "b": {}}, "an adapter is a name or"),
    ],
)
def test_wrong_options_are_told(spec, message):
    with pytest.raises(RecipeError, match=message):
        build_adapter(spec, DIM)


@pytest.mark.parametrize(
    "spec",
    [
        "mean_shfit",
        {"mean_shift": {"scael": 1}},
        {"mean_shift": {"options": {}}},
        {"gaussian": {"cosine": 0, 41: None}},
    ],
)
def test_unknown_names_tell_the_nearest(spec):
    with pytest.raises(UnknownNameError, match=r"did you mean|known:"):
        build_adapter(spec, DIM)


def test_many_known_names_are_told_in_part():
    assert str(unknown_name("key", 2, map(str, range(100, 150)))).endswith(", 138, 139, … and 10 more")


# chains


def test_chain_is_fitted_stage_by_stage_without_noise(pairs):
    chain = fitted([{"gaussian": {"std": 9}}, "centring", "mean_shift"], pairs)
    assert chain.members[2].shift.abs().max() < 1e-6  # nothing is left to shift between centred sides
    renormed = fitted([{"centring": {"renorm": True}}, "mean_shift"], pairs)
    text, image = (unit(x - x.mean(0)) for x in wide(*pairs))
    close_to(renormed.members[1].shift.double().numpy(), image.mean(0) - text.mean(0))


def test_fitted_stages_are_kept(pairs):
    first = fitted("mean_shift", pairs)
    before = first.shift.clone()
    chain = Chain(DIM, [first, build_adapter("centring", DIM)]).fit(text=pairs[0][:50], image=pairs[1][:50])
    assert torch.equal(chain.members[0].shift, before)
    assert chain.is_fitted


def test_stages_pass_raw_vectors_unless_told(pairs, probe):
    text, image = wide(*pairs)
    delta = image.mean(0) - text.mean(0)
    noise = RowNoise(row_seeds(0, 0, torch.arange(50))).normal(DIM).double().numpy()
    for renorm in (False, True):
        chain = fitted([{"mean_shift": {"renorm": renorm}}, {"gaussian": {"std": 0.2}}], pairs).train()
        moved = unit(probe[0] + delta) if renorm else probe[0] + delta
        out = chain(torch.from_numpy(probe[0]), "text", row_seeds(0, 0, torch.arange(50)))
        close_to(out.double().numpy(), unit(moved + 0.2 * noise))


def test_gaussian_cosine_in_a_chain_follows_the_rows_norm(pairs, probe):
    chain = fitted(["centring", {"gaussian": {"cosine": 0.5}}], pairs).train()
    raw = probe[0] - pairs[0].astype(np.float64).mean(0)
    noise = RowNoise(row_seeds(0, 0, torch.arange(50))).normal(DIM).double().numpy()
    std = cosine_to_std(0.5, DIM) * np.linalg.norm(raw, axis=1, keepdims=True)
    out = chain(torch.from_numpy(probe[0]), "text", row_seeds(0, 0, torch.arange(50)))
    close_to(out.double().numpy(), unit(raw + std * noise))


# checkpoints


@pytest.mark.parametrize("name", [*ADAPTERS])
def test_built_on_the_meta_device_and_loaded(name, pairs, probe):
    adapter = fitted([{name: OPTIONS.get(name)}, "centring"], pairs).eval()
    with torch.device("meta"):
        empty = build_adapter(adapter.spec(), DIM)
    report = empty.load_state_dict(adapter.state_dict(), assign=True)
    assert not report.missing_keys
    assert set(dict(empty.named_buffers())) == set(adapter.state_dict())  # every buffer is persistent
    empty.eval()
    for modality, x in zip(("text", "image"), probe, strict=True):
        assert torch.equal(empty(torch.from_numpy(x), modality), adapter(torch.from_numpy(x), modality))


@pytest.mark.parametrize("spec", [["mean_shift"], [], "none", [["centring"], "mean_shift"]])
def test_spec_builds_the_same_adapter_again(spec, pairs):
    adapter = fitted(spec, pairs)
    build_adapter(adapter.spec(), DIM).load_state_dict(adapter.state_dict())


def test_a_chain_is_fitted_anew_and_a_memory_as_large_as_asked(pairs):
    chain = Chain(DIM, [build_adapter("mean_shift", DIM), build_adapter({"memory": {"size": 40}}, DIM)])
    for count in (20, 50):
        chain.fit(text=pairs[0][:count], image=pairs[1][:count])
    alone = fitted("mean_shift", [side[:50] for side in pairs])
    assert torch.equal(chain.members[0].shift, alone.shift)
    assert chain.members[1].memory.shape == (40, DIM)


@pytest.mark.parametrize("name", ADAPTERS)
def test_arrays_go_in_as_they_are_fitted_on_and_arrays_come_out(name, pairs, probe):
    adapter = fitted({name: OPTIONS[name]} if name in OPTIONS else name, pairs).eval()
    for modality, rows in zip(("text", "image"), probe, strict=True):
        found = adapter(7 * rows.astype(np.float64), modality)  # of any length, as `fit` takes them
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
        assert np.allclose(found, run(adapter, rows, modality), atol=1e-5)
        assert np.allclose(run(adapter, 7 * rows, modality), found, atol=1e-5)


def test_tensors_that_are_no_rows_are_refused_as_arrays_are(pairs, probe):
    adapter, x = fitted("mean_shift", pairs), torch.from_numpy(probe[0])
    assert unit_tensor(x, DIM, "") is x  # what is of unit length stays to the bit
    with pytest.raises(MismatchError, match="embeddings have 8 columns, expected 16"):
        adapter(x[:, :8], "text")
    with pytest.raises(DataError, match="row 3 is not finite"):
        adapter(torch.where(torch.arange(50)[:, None] == 3, torch.nan, x), "text")
    assert adapter(torch.eye(DIM, dtype=torch.int64), "text").dtype == torch.float32


def test_an_adapter_without_a_fit_is_exported_whole(probe):
    adapter, x = build_adapter("none", DIM).eval(), torch.from_numpy(probe[0])
    whole = torch.export.export(adapter, (x,), kwargs={"modality": "text"}).module()
    assert torch.allclose(whole(7 * x, modality="text"), adapter(x, "text"), atol=1e-5)


class Own(GapAdapter):
    name, needs = "own", "text"

    def learn(self, text, image):
        self.mean = text[:].mean(0)

    def text(self, x, noise):
        return x[:, :8] - self.mean[:8]


class Kept(Own):
    name = "kept"

    def __init__(self, dim):
        super().__init__(dim)
        self.register_buffer("mean", torch.zeros(dim))


def test_an_own_adapter_that_can_keep_nothing_or_makes_another_shape_is_told(pairs):
    with pytest.raises(RecipeError, match=r"'own' learns from data, and has no place .* self.register_buffer"):
        Own(DIM).fit(text=pairs[0])
    with pytest.raises(MismatchError, match=r"'kept': its text side made \(400, 8\) of \(400, 16\), expected the same"):
        Kept(DIM).fit(text=pairs[0])(pairs[0], "text")
    with pytest.raises(RecipeError, match=r"adapter Other: needs is one of nothing, text, groups, .*, not 'image'"):
        type("Other", (GapAdapter,), {"needs": "image"})


def test_what_is_no_array_is_refused_in_one_line(pairs, probe):
    adapter = fitted("mean_shift", pairs)
    with pytest.raises(DataError, match=r"embeddings are a \(N, 16\) array, tensor, list or embedding table, not dict"):
        adapter({}, "text")
    with pytest.raises(DataError, match="'mean_shift': text: expected numbers, got <U1"):
        build_adapter("mean_shift", DIM).fit(text=["a", "b"], image=probe[1])
    rows = np.ma.masked_array(probe[0], np.isin(np.arange(50), (3, 7))[:, None] & np.ones_like(probe[0], bool))
    with pytest.raises(DataError, match=r"text: 2 of 50 rows are masked \(row 3, …\); leave them out"):
        build_adapter("mean_shift", DIM).fit(text=rows, image=probe[1])
    with pytest.raises(DataError, match=r"embeddings are \(N, D\), not \(16,\)"):
        adapter(probe[0][0], "text")
    with pytest.raises(MismatchError, match="embeddings have 8 columns, expected 16"):
        adapter(probe[0][:, :8], "text")
    with pytest.raises(DataError, match="row 3 is zero"):
        adapter(np.where(np.arange(50)[:, None] == 3, 0, probe[0]), "text")
    with pytest.raises(NotFittedError):
        build_adapter("mean_shift", DIM)(probe[0], "text")


def test_lists_and_data_frames_are_rows_too(pairs, probe):
    pandas = pytest.importorskip("pandas")
    text, image = pairs
    adapter = fitted("mean_shift", pairs).eval()
    wanted = adapter(probe[0], "text")
    for made in (np.ndarray.tolist, list, pandas.DataFrame, lambda rows: list(torch.from_numpy(rows))):
        again = build_adapter("mean_shift", DIM).fit(text=made(text), image=made(image)).eval()
        assert np.allclose(again(made(probe[0]), "text"), wanted, atol=1e-6)


def test_a_repr_tells_options_and_whether_it_is_fitted(pairs):
    assert repr(build_adapter({"mean_shift": {"scale": 0.5}}, DIM)) == "MeanShift(dim=16, scale=0.5, not fitted)"
    assert repr(fitted("mean_shift", pairs)) == "MeanShift(dim=16, scale=1.0, fitted)"
    assert repr(build_adapter({"gaussian": {"cosine": 0.41}}, DIM)) == "Gaussian(dim=16, cosine=0.41)"
    chain = repr(build_adapter(["mean_shift", {"gaussian": {"cosine": 0.41}}], DIM))
    assert "dim=16, not fitted" in chain
    assert "MeanShift(dim=16, scale=1.0, not fitted)" in chain
    with torch.device("meta"):
        assert repr(build_adapter("centring", DIM)) == "Centring(dim=16)"
