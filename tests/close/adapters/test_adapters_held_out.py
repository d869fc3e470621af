"""What few data may change: λ by groups left out, against leaving them out by hand; `shared` from two groups to many."""

import json
import logging
from itertools import groupby

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as ScikitRidge

from close.adapters import build_adapter, load_adapter, save_adapter
from close.adapters.held_out import NONE, STRENGTHS, Ridge, chosen, held_out_cosines
from close.gap.advice.decoder import agreement
from close.vectors.moments import cross_covariance


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def draw(groups, per=4, dim=32, decay=8.0, wording=1.0, seed=0):
    """Contents (G, dim), and texts (G, per, dim) that are content and wording: the model of probabilistic LDA."""
    rng = np.random.default_rng(seed)
    content_size = np.exp(-np.arange(dim) / decay)
    wording_size = np.random.default_rng(1).permutation(content_size)
    content = rng.normal(size=(groups, dim)) * np.sqrt(content_size / content_size.sum())
    rest = rng.normal(size=(groups, per, dim)) * np.sqrt(wording * wording_size / wording_size.sum())
    return content, content[:, None] + rest


def fitted(spec, texts, **quiet):
    groups, per, dim = texts.shape
    return build_adapter(spec, dim).fit(text=texts.reshape(-1, dim), groups=np.repeat(range(groups), per), **quiet)


def own_cosine(adapter, texts, content):
    """Of texts that it has not seen with what they are of."""
    moved = (texts - adapter.mean.numpy()) @ adapter.matrix.double().numpy()
    return (unit(moved) * unit(content)[:, None]).sum(-1).mean()


@pytest.mark.parametrize("pull", [0.0, 1.0])
def test_held_out_cosines_are_those_of_a_ridge_fitted_without_the_group(pull):
    """Groups smaller and larger than the dimension; scikit-learn fits each time anew."""
    rng, dim = np.random.default_rng(0), 5
    sizes = [1, 1, 2, 3, 3, 4, 9, 9, 12]
    cause = [rng.normal(size=(1, dim)) + 0.8 * rng.normal(size=(size, dim)) for size in sizes]
    x = [rows + 3 for rows in cause]
    y = [rows @ rng.normal(size=(dim, dim)) * 0.3 + rows + 0.1 * rng.normal(size=rows.shape) for rows in cause]
    mean, target, across = cross_covariance([(torch.tensor(np.concatenate(x)), torch.tensor(np.concatenate(y)))])
    within = torch.tensor(np.cov(np.concatenate(x).T))
    ridge = Ridge(mean, target, within, across, sum(sizes), pull)
    blocks = [
        [torch.tensor(np.stack([rows[i] for i in at])) for rows in (x, y)]
        for _, at in ((size, list(at)) for size, at in groupby(range(len(sizes)), key=lambda i: sizes[i]))
    ]
    strengths = (0.003, 0.3, 30.0)
    expected = np.empty((len(sizes), len(strengths)))
    for out in range(len(sizes)):
        kept_x, kept_y = (np.concatenate([rows for i, rows in enumerate(side) if i != out]) for side in (x, y))
        for column, strength in enumerate(strengths):
            penalty = strength * float(ridge.unit) * (sum(sizes) - 1)
            model = ScikitRidge(alpha=penalty, solver="svd").fit(kept_x, kept_y - pull * kept_x)
            ahead = model.predict(x[out]) + pull * x[out] - kept_y.mean(0)
            expected[out, column] = (unit(ahead) * unit(y[out] - kept_y.mean(0))).sum(-1).mean()
    np.testing.assert_allclose(held_out_cosines(ridge, blocks, strengths).numpy(), expected, atol=1e-9)


def test_the_strongest_within_one_standard_error_is_chosen():
    even = torch.zeros(50, 3, dtype=torch.float64)
    assert chosen(even) == 2  # all alike
    even[:, 1] = 0.1
    assert chosen(even) == 1  # better in every group
    even[:, 2] = 0.1 + 0.05 * (-1.0) ** torch.arange(50)
    even[:, 2] -= 0.006  # behind on average, by less than its standard error
    assert chosen(even) == 2
    even[:, 2] -= 0.006
    assert chosen(even) == 1


def test_no_data_no_change_and_less_data_less_change(caplog):
    caplog.set_level(logging.INFO)
    changes = {}
    for groups in (2, 9, 30, 300, 3000):
        adapter = fitted("shared", draw(groups)[1])
        changes[groups] = adapter.learnt["change"]
        assert adapter.learnt["groups"] == groups
        assert adapter.spec() == {"shared": {"alpha": adapter.learnt["alpha"], "toward": "identity"}}
        if groups < 10:
            np.testing.assert_allclose(adapter.matrix, np.eye(32), atol=1e-6)
            assert adapter.learnt["alpha"] == NONE
        told = caplog.records[-1]
        assert (told.levelno == logging.WARNING) == (groups < 100)
        assert f"{groups:,} groups, alpha {adapter.learnt['alpha']:g}" in told.getMessage()
    assert changes[2] == changes[9] == 0 < changes[30] < changes[300] < changes[3000]
    count = len(caplog.records)
    fitted("shared", draw(30)[1], quiet=True)
    assert len(caplog.records) == count


@pytest.mark.parametrize("wording", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("decay", [8.0, 1e9])
def test_shared_is_never_worse_than_nothing_in_expectation(decay, wording):
    """With a decay of 1e9 content and wording lie alike in all directions, and there is nothing to be gained."""
    for groups in (3, 10, 30, 100):
        gained = []
        for seed in range(12):
            adapter = fitted("shared", draw(groups, decay=decay, wording=wording, seed=seed)[1], quiet=True)
            content, texts = draw(300, decay=decay, wording=wording, seed=1000 + seed)
            plain = (unit(texts - adapter.mean.numpy()) * unit(content)[:, None]).sum(-1).mean()
            gained.append(own_cosine(adapter, texts, content) - plain)
        assert np.mean(gained) > -0.004, groups
        if decay < 100 and groups >= 30:
            assert np.mean(gained) > 0.01 * wording, groups


def test_many_groups_lose_nothing_by_the_identity():
    content, texts = draw(1000, seed=7)
    shipped, now = ({"shared": {"toward": "zero"}}, "shared")
    scores = [own_cosine(fitted(spec, draw(3000)[1]), texts, content) for spec in (shipped, now)]
    assert scores[1] > scores[0] - 0.002
    few = [own_cosine(fitted(spec, draw(10)[1], quiet=True), texts, content) for spec in (shipped, now)]
    assert few[1] > few[0] + 0.05


def test_the_choice_does_not_care_for_order_names_and_turns():
    texts = draw(60)[1]
    rows, groups = texts.reshape(-1, 32), np.repeat(np.arange(60), 4)
    rng = np.random.default_rng(0)
    order, turn = rng.permutation(240), np.linalg.qr(rng.normal(size=(32, 32)))[0]
    first = build_adapter("shared", 32).fit(text=rows, groups=groups)
    second = build_adapter("shared", 32).fit(text=(rows @ turn)[order], groups=[f"photo {-g}" for g in groups[order]])
    assert first.learnt == pytest.approx(second.learnt)
    np.testing.assert_allclose(second.matrix, turn.T @ first.matrix.double().numpy() @ turn, atol=1e-5)
    assert first.learnt["alpha"] in STRENGTHS[1:-1]  # a choice, and not an end of what is tried


def test_alpha_alone_pulls_toward_the_identity_and_says_so(caplog):
    rows = draw(200)[1]
    for given in (rows[:20], rows):
        fitted({"shared": {"alpha": 0.3}}, given)
        assert "`toward: zero`" in caplog.records[-1].getMessage()
    count = len(caplog.records)
    fitted({"shared": {"alpha": 0.3, "toward": "identity"}}, rows)
    assert len(caplog.records) == count


def test_what_was_fitted_before_toward_was_an_option_gives_what_it_gave(tmp_path):
    texts = draw(40)[1]
    adapter = fitted({"shared": {"alpha": 0.01, "toward": "zero"}}, texts, quiet=True)
    save_adapter(adapter, tmp_path / "A")
    info = json.loads((tmp_path / "A" / "adapter.json").read_text())
    assert info.pop("learnt") == {"shared": adapter.learnt}
    info["adapter"] = {"shared": {"alpha": 0.01}}
    (tmp_path / "A" / "adapter.json").write_text(json.dumps(info))
    x = torch.tensor(texts.reshape(-1, 32)).float()
    torch.testing.assert_close(
        load_adapter(tmp_path / "A").eval()(x, "text"), adapter.eval()(x, "text"), rtol=0, atol=0
    )


def test_groups_larger_than_the_dimension_and_many(caplog):
    """Classes instead of pictures: of thousands of texts in few groups, twenty or so are left out in turn."""
    texts = draw(24, per=400, dim=8, decay=3.0)[1]
    adapter = fitted("shared", texts)
    assert 0 < adapter.learnt["change"] < 1


def test_captions_of_few_images_are_few(caplog):
    """As the advice counts them."""
    rows, groups = pairs_of(60), np.repeat(range(20), 3)
    build_adapter("mean_shift", 16).fit(**rows)
    assert "are few" not in caplog.text
    build_adapter("mean_shift", 16).fit(**rows, groups=groups)
    assert "20 images are few, and may do harm: it is to be trusted from 30 on" in caplog.text


def pairs_of(count, dim=16):
    content, texts = draw(count, per=1, dim=dim)
    images = content + 0.1 * np.random.default_rng(2).normal(size=content.shape) + 1
    return {"text": unit(texts[:, 0]), "image": unit(images)}


def test_ridge_onto_pairs_changes_nothing_but_the_mean_where_they_are_few():
    ridge = {"linear": {"method": "ridge"}}
    few = build_adapter(ridge, 16).fit(**pairs_of(9))
    x = torch.tensor(pairs_of(50)["text"]).float()
    shift = build_adapter("mean_shift", 16).fit(**pairs_of(9))
    torch.testing.assert_close(few.eval()(x, "text"), shift.eval()(x, "text"), atol=1e-6, rtol=0)
    changes = [build_adapter(ridge, 16).fit(**pairs_of(count)).learnt["change"] for count in (30, 100, 2000)]
    assert changes == sorted(changes)
    assert changes[-1] > 0.2


def test_captions_of_one_image_are_left_out_together():
    """Pairs that stand there twice teach nothing new, so that λ stays; left out one by one they would seem to be known."""
    once = pairs_of(60)
    twice = {side: np.concatenate((rows, rows)) for side, rows in once.items()}
    alphas = [build_adapter({"linear": {"method": "ridge"}}, 16).fit(**rows).learnt["alpha"] for rows in (once, twice)]
    assert alphas[0] == alphas[1] >= 0.3


SPECS = ["mean_shift", "centring", "moments", "realign", "transport", "covariance", "linear", "memory", "nearest"]
SPECS += [{"linear": {"method": method}} for method in ("ridge", "procrustes")]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_few_rows_are_told_once_and_enough_are_not(spec, caplog):
    least = build_adapter(spec, 16).trusted
    assert least > 2
    build_adapter([spec], 16).fit(**pairs_of(least - 1))
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"{least - 1} " in told
    assert f"it is to be trusted from {least} on" in told
    caplog.clear()
    build_adapter([spec], 16).fit(**{side: np.repeat(rows, 2, axis=0) for side, rows in pairs_of(least - 1).items()})
    assert f"{least - 1} different " in caplog.text  # twice the same pairs are no more
    caplog.clear()
    build_adapter(spec, 16).fit(**pairs_of(least))
    build_adapter(spec, 16).fit(**pairs_of(least - 1), quiet=True)
    assert not caplog.records


@pytest.fixture(scope="module")
def world():
    """Scenes of the mini world through its encoder: training texts (300, 5, D), of others pictures (150, D) and texts."""
    from close.encoders import load_encoder
    from close.mini.draw import draw as picture_of
    from close.mini.language import captions
    from close.mini.scene import scenes

    encoder = load_encoder("mini")
    seen, other = list(scenes("train", 300)), list(scenes("test", 150))
    texts = [encoder.encode_text([t for s in many for t in captions(s, 5)]).double().numpy() for many in (seen, other)]
    images = encoder.encode_image([picture_of(scene) for scene in other]).double().numpy()
    train, test = (rows.reshape(-1, 5, rows.shape[-1]) for rows in texts)
    return train, images, test.mean(1)


def test_the_mini_worlds_linear_decoder_is_never_worse_off(world):
    train, images, truth = world
    rows = train.reshape(-1, train.shape[-1])
    plain = agreement(rows, rows, images, truth).max()
    for groups in (5, 15, 40, 100, 300):
        adapter = fitted("shared", train[:groups], quiet=True).double()
        moved = adapter.text(torch.from_numpy(rows), None).numpy()
        assert agreement(moved, rows, images, truth).max() > plain - 0.006, groups
    shipped = fitted({"shared": {"toward": "zero"}}, train[:40], quiet=True).double()
    assert agreement(shipped.text(torch.from_numpy(rows), None).numpy(), rows, images, truth).max() < plain - 0.05


def test_real_clip_is_never_worse_off(shared_data):
    """40 photos, ViT-B/32, five folds: an unseen caption's cosine with its photo, both centred."""
    place = shared_data / "flickr40_clip_vitb32"
    text, image = (np.load(place / f"{side}.npy").astype(np.float64) for side in ("text", "image"))
    groups = np.array(json.loads((place / "groups.json").read_text()))
    scores = {"plain": [], "shared": [], "shipped": []}
    for fold in range(5):
        test = groups % 5 == fold
        wanted = unit(image - np.delete(image, np.unique(groups[test]), axis=0).mean(0))[groups[test]]
        for name in scores:
            spec = {"shared": {"toward": "zero"}} if name == "shipped" else "shared"
            adapter = build_adapter(spec, 512).fit(text=text[~test], groups=groups[~test], quiet=True)
            x = text[test] - text[~test].mean(0)
            x = x if name == "plain" else x @ adapter.matrix.double().numpy()
            scores[name].append((unit(x) * wanted).sum(1).mean())
    means = {name: np.mean(found) for name, found in scores.items()}
    assert means["shared"] > means["plain"] > means["shipped"] + 0.1
