"""What measure_gap refuses, in one line that names what and where, and what it takes with a remark."""

import json

import numpy as np
import pytest
import torch

from close.adapters import build_adapter
from close.errors import CloseError, DataError, MismatchError
from close.gap import measure_gap, recommend
from close.gap.adapted import adapt
from close.gap.measure import measure_modalities
from close.gap.measures import MEASURES
from close.gap.measures.centroid import centroid_gap, constancy
from close.gap.measures.cosine import group_cosine
from close.gap.measures.distribution import coral, frechet
from close.gap.measures.hubness import hubness
from close.gap.measures.residual import caption_spread
from close.gap.measures.retrieval import neighbour_agreement
from close.gap.measures.shifted_loss import shifted_loss
from close.gap.measures.spread import cone, dimension_gap, trace_ratio
from close.gap.modalities import Modalities
from close.gap.report.words import verdict


def rows(count, dim=12, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim))


def spoilt(index, value):
    out = rows(30)
    out[index] = value
    return out


TEXT, IMAGE = rows(30, seed=1), rows(30, seed=2)


@pytest.mark.parametrize(
    ("text", "image", "options", "error", "said"),
    [
        (rows(30, 8), IMAGE, {}, MismatchError, "text has 8 dimensions and image 12"),
        (rows(1), IMAGE, {}, DataError, "text: 1 rows"),
        (TEXT, rows(1), {"pairs": "unpaired"}, DataError, "image: 1 rows"),
        (rows(20), IMAGE, {}, MismatchError, "20 texts and 30 images can't be paired by row"),
        (spoilt(7, np.nan), IMAGE, {}, DataError, "text: 1 of 30 rows is NaN or infinite (row 7)"),
        (TEXT, spoilt([3, 4], np.inf), {}, DataError, "image: 2 of 30 rows are NaN or infinite (row 3, 4)"),
        (TEXT, spoilt(range(9), 0), {}, DataError, "image: 9 of 30 rows are all zeros (row 0, 1, 2, 3, 4, …)"),
        (TEXT, np.ones((30, 12)), {}, DataError, "image: all 30 rows are the same vector"),
        (np.outer(np.arange(1, 31), np.ones(12)), IMAGE, {}, DataError, "text: all 30 rows are the same vector"),
        (TEXT[0], IMAGE, {}, DataError, "expected an (N, D) array of real numbers, got shape (12,)"),
        (TEXT.astype(complex), IMAGE, {}, DataError, "complex128"),
        (np.array([["a"] * 12] * 30), IMAGE, {}, DataError, "expected an (N, D) array of real numbers"),
        (
            TEXT,
            IMAGE,
            {"pairs": [[0, 0], [1, 30]]},
            DataError,
            "pair 1 points at image 30, but image rows go from 0 to 29",
        ),
        (TEXT, IMAGE, {"pairs": [[-1, 0], [1, 1]]}, DataError, "pair 0 points at text -1"),
        (TEXT, IMAGE, {"pairs": [[99, 0], [98, 1]]}, DataError, "(2 such pairs)"),
        (TEXT, IMAGE, {"pairs": [0, 1]}, DataError, "expected (P, 2) integers"),
        (TEXT, IMAGE, {"pairs": [[0.0, 1.0]]}, DataError, "float64"),
        (TEXT, IMAGE, {"pairs": np.empty((0, 2), int)}, DataError, "P ≥ 1"),
        (TEXT, IMAGE, {"pairs": "none"}, DataError, "'unpaired'"),
        (TEXT, IMAGE, {"groups": [1, 2]}, DataError, "a label for each of 30 texts"),
    ],
)
def test_refused_in_one_line(text, image, options, error, said):
    with pytest.raises(error) as told:
        measure_gap(text, image, **options)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (np.nan, "groups: row 3 has none (nan)"),
        (None, "groups: row 3 has none (None)"),
        (np.datetime64("NaT"), "groups: row 3 has none (NaT)"),
        (7, "groups: labels are int and str; give all of them as text"),
    ],
)
def test_labels_that_are_none_are_no_group(label, said):
    labels = np.array([f"image {row // 2}" for row in range(30)], object)
    labels[3] = label
    numbers = np.where(np.arange(30) % 4 == 3, np.nan, np.arange(30) // 2)
    for given, told in ((labels, said), (labels.tolist(), said), (numbers, "row 3 has none (nan) (7 such rows)")):
        calls = [
            lambda groups: measure_gap(TEXT, IMAGE, groups=groups, bootstrap=0),
            lambda groups: recommend(TEXT, groups=groups),
            lambda groups: recommend(TEXT, IMAGE, groups=groups),
            lambda groups: build_adapter("shared", 12).fit(text=TEXT, groups=groups),
            lambda groups: caption_spread(TEXT, groups),
        ]
        for call in calls:
            with pytest.raises(DataError) as error:
                call(given)
            assert told in str(error.value)


@pytest.mark.parametrize("measure", [trace_ratio, dimension_gap, coral, frechet, cone, centroid_gap])
def test_measures_without_pairs_name_the_side_and_refuse_other_widths(measure):
    with pytest.raises(MismatchError, match="text has 12 dimensions and image 8"):
        measure(TEXT, rows(30, 8))
    with pytest.raises(DataError, match=r"image: 1 of 30 rows is NaN or infinite \(row 7\)"):
        measure(TEXT, spoilt(7, np.nan))


@pytest.mark.parametrize("count", [20, 40])
@pytest.mark.parametrize("measure", [caption_spread, group_cosine])
def test_every_text_has_a_label(measure, count):
    with pytest.raises(DataError, match=rf"a label for each of 30 texts, got shape \({count},\)"):
        measure(TEXT, np.arange(count) // 2)


@pytest.mark.parametrize("labels", [[("a", 1)] * 30, [("a", 1), ("b",)] * 15])
def test_a_label_is_no_tuple(labels):
    for call in (lambda: measure_gap(TEXT, IMAGE, groups=labels), lambda: caption_spread(TEXT, labels)):
        with pytest.raises(DataError, match="groups: "):
            call()


def test_what_a_mask_hides_is_not_measured():
    hidden = np.ma.masked_array(TEXT, mask=np.zeros_like(TEXT, bool))
    assert trace_ratio(hidden, IMAGE) == trace_ratio(TEXT, IMAGE)
    hidden[[4, 9]] = np.ma.masked
    for text in (hidden, list(hidden)):
        with pytest.raises(DataError, match=r"text: 2 of 30 rows are masked \(row 4, …\); leave them out"):
            measure_gap(text, IMAGE)


def test_rows_of_several_lengths_are_refused():
    with pytest.raises(DataError, match="text: expected rows of one length, got several"):
        measure_gap([[1.0], [2.0, 3.0]], IMAGE)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: hubness(TEXT, IMAGE, 0), "k is a whole number of at least 1, not 0"),
        (lambda: neighbour_agreement(TEXT, IMAGE, k=0), "k is a whole number"),
        (lambda: constancy(TEXT, IMAGE, size=0), "size is a whole number"),
        (lambda: constancy(np.ones_like(TEXT), IMAGE, size=5), "all rows of one side are the same vector"),
        (lambda: shifted_loss(TEXT, IMAGE, temperature=0), "the temperature is above 0, not 0"),
        (lambda: shifted_loss(TEXT, IMAGE, shifts=[]), "one at least"),
        (
            lambda: measure_gap(TEXT, IMAGE, bootstrap=1),
            r"bootstrap \(0 for none\) is a whole number of at least 20, not 1",
        ),
        (lambda: measure_gap(TEXT, IMAGE, bootstrap=-3), "bootstrap"),
        (lambda: measure_gap(TEXT, IMAGE, sample=0), "sample is a whole number of at least 2, not 0"),
        (lambda: recommend(TEXT, sample=-5), "sample"),
        (lambda: measure_gap(TEXT, IMAGE, bootstrap=0)["rgm"], "unknown measure 'rgm': did you mean 'rmg'?"),
    ],
)
def test_numbers_that_are_none_are_told_in_a_line(call, said):
    with pytest.raises(CloseError, match=said):
        call()


def test_a_memory_map_of_halves_is_fine(tmp_path):
    np.save(tmp_path / "text.npy", TEXT.astype(np.float16))
    mapped = np.load(tmp_path / "text.npy", mmap_mode="r")
    report = measure_gap(mapped, IMAGE, bootstrap=0)
    assert report["centroid_gap"] == pytest.approx(measure_gap(TEXT, IMAGE, bootstrap=0)["centroid_gap"], abs=1e-3)
    assert "30 of 30 rows were not of unit length" in report.notes["text"]


def test_anything_with_an_array_inside():
    class Table:
        def __array__(self, dtype=None, copy=None):
            return TEXT

    assert measure_gap(Table(), IMAGE, bootstrap=0).values == measure_gap(TEXT, IMAGE, bootstrap=0).values


@pytest.mark.parametrize("count", [2, 3, 5, 12, 25])
def test_few_rows_give_a_number_or_a_reason(count):
    report = measure_gap(TEXT[:count], IMAGE[:count], bootstrap=20)
    json.dumps(report.to_dict(), allow_nan=False)
    for name in MEASURES.names:
        assert (report[name] is None) <= (name in report.notes), name
    assert report["centroid_gap"] is not None
    assert verdict(report).headline


def test_unpaired_needs_no_equal_lengths_and_says_what_is_missing():
    report = measure_gap(TEXT, IMAGE[:20], pairs="unpaired", bootstrap=20)
    for name in ("pair_distance", "rmg", "recall.image_to_text.at_1", "noise.std", "cka"):
        assert report[name] is None
        assert "needs pairs" in report.notes[name]
    for name in (
        "centroid_gap",
        "frechet.raw",
        "mmd",
        "cosine.unpaired.mean",
        "separability",
        "hubness.text",
        "uniformity.cross",
    ):
        assert report[name] is not None
    assert not {name for name in report.intervals if report[name] is None}
    assert verdict(report).findings


def test_one_pair_is_not_enough_for_pairs():
    report = measure_gap(TEXT, IMAGE, pairs=[[0, 0]], bootstrap=20)
    assert report["pair_distance"] is None
    assert "at least 2; there are 1" in report.notes["pair_distance"]


def test_groups_without_pairs_give_the_captions_their_place():
    report = measure_gap(TEXT, IMAGE, pairs="unpaired", groups=np.arange(30) // 3, bootstrap=0)
    assert report["cosine.same_image_captions.mean"] is not None
    assert report["caption_spread.std"] is not None


def test_where_every_text_is_paired_with_every_image_there_are_no_strangers():
    report = measure_gap(TEXT[:4], IMAGE[:3], pairs=[[t, v] for t in range(4) for v in range(3)], bootstrap=20)
    for name in ("uniformity.cross", "cosine.unpaired.mean"):
        assert report[name] is None
        assert "every text is paired with every image" in report.notes[name]
    assert report["pair_distance"] > 0


def test_a_text_of_several_images():
    pairs = [[t, v] for t in range(10) for v in (t, t + 10)]
    report = measure_gap(TEXT, IMAGE, pairs=pairs, bootstrap=50)
    assert report["recall.text_to_image.at_10"] is not None


def test_a_pair_that_is_equal_to_the_bit_is_no_gap():
    report = measure_gap(TEXT, TEXT, bootstrap=20)
    assert report["centroid_gap"] == 0
    assert report["residual.participation_ratio"] is None
    assert "exactly one shift" in report.notes["residual.participation_ratio"]
    json.dumps(report.to_dict(), allow_nan=False)


def test_wrongly_paired_rows_are_noticed():
    rng = np.random.default_rng(0)
    content = rng.normal(size=(200, 12))
    text, image = content + 1, content + 0.3 * rng.normal(size=content.shape) - 1
    assert "gap" in verdict(measure_gap(text, image, bootstrap=0)).headline
    shuffled = verdict(measure_gap(text, rng.permutation(image), bootstrap=0))
    assert shuffled.headline.startswith("The pairs do not belong together")


def test_captions_of_one_image_are_not_rows_of_their_own():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(60, 64))
    text = np.repeat(rng.normal(size=(60, 64)), 5, axis=0) + 0.01 * rng.normal(size=(300, 64))
    report = measure_gap(text, image, pairs=np.stack((np.arange(300), np.arange(300) // 5), axis=1), bootstrap=0)
    assert report.notes["cka"] == "reads high: 60 rows are few for 64 dimensions"
    image = rng.normal(size=(300, 64))
    assert "cka" not in measure_gap(rng.normal(size=(300, 64)), image, bootstrap=0).notes


def test_where_all_are_asked_nothing_is_left_out():
    """As many captions of few images are: the other side's size says that all of both may look for neighbours."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(120, 8))
    text = np.repeat(image, 5, axis=0) + rng.normal(size=(600, 8))
    pairs = np.stack((np.arange(600), np.arange(600) // 5), axis=1)
    report = measure_gap(text, image, pairs=pairs, sample=100, bootstrap=0)
    assert report["hubness.text"] == measure_gap(text, image, pairs=pairs, bootstrap=0)["hubness.text"]
    assert "recall.image_to_text.at_1" not in report.notes


def test_a_remark_on_a_value_leaves_that_it_was_of_a_sample():
    rows = np.random.default_rng(0).normal(size=(2, 600, 8))
    for seed in range(6):
        report = measure_gap(*rows, sample=150, bootstrap=0, seed=seed)
        note = report.notes["separability"]
        assert f"on 150 of 600 texts, drawn with seed {seed}" in note
        assert ("below 0.5" in note) == (report["separability"] < 0.5)


def test_what_few_rows_bias_is_no_advice():
    rng = np.random.default_rng(0)
    content, shift = rng.normal(size=(40, 256)), 2 * np.eye(256)[0] * 16
    few = measure_gap(content + shift, content + rng.normal(size=content.shape) - shift, bootstrap=0)
    assert few["residual.effective_rank"] < 128
    assert "directions" not in " ".join(verdict(few).steps)
    unpaired = measure_gap(content[:20] + shift / 3, content[20:] - shift / 3, pairs="unpaired", bootstrap=0)
    assert "reads high" in unpaired.notes["frechet.raw"]
    assert "constant shift" not in verdict(unpaired).headline
    same = measure_gap(content[:3], content[:3] + 0.01 * rng.normal(size=(3, 256)), bootstrap=0)
    assert same["separability"] is None
    assert verdict(same).headline == "No shift between the modalities"


# behind an adapter


@pytest.fixture(scope="module")
def gapped():
    rng = np.random.default_rng(3)
    content = rng.normal(size=(400, 16))
    return Modalities.of(
        content + 0.5 * rng.normal(size=content.shape) + 1, content + 0.5 * rng.normal(size=content.shape) - 1
    )


def test_mean_shift_closes_the_gap_and_leaves_the_images(gapped):
    before, after = (measure_gap(s.text, s.image, bootstrap=0) for s in (gapped, adapt(gapped, "mean_shift")))
    assert before["centroid_gap"] > 1
    assert after["centroid_gap"] < 0.1
    assert np.allclose(adapt(gapped, "none").text, gapped.text, atol=1e-6)
    assert np.allclose(adapt(gapped, "mean_shift").image, gapped.image, atol=1e-6)


def test_noise_is_as_strong_as_asked_and_seeded(gapped):
    noised = adapt(gapped, {"gaussian": {"cosine": 0.6}})
    assert np.allclose(noised.image, gapped.image, atol=1e-6)  # images as in use
    assert np.einsum("ij,ij->i", noised.text, gapped.text).mean() == pytest.approx(0.6, abs=0.05)
    assert np.array_equal(noised.text, adapt(gapped, {"gaussian": {"cosine": 0.6}}).text)
    assert not np.array_equal(noised.text, adapt(gapped, {"gaussian": {"cosine": 0.6}}, seed=1).text)


def test_a_fitted_adapter_is_judged_on_rows_it_did_not_see():
    """In 64 dimensions, a linear map fits 40 unrelated pairs exactly; on unseen ones it does nothing."""
    rng = np.random.default_rng(0)
    sides = Modalities.of(rng.normal(size=(40, 64)), rng.normal(size=(40, 64)))
    after = adapt(sides, "linear")
    assert abs(np.einsum("ij,ij->i", after.text, after.image).mean()) < 0.2


@pytest.mark.parametrize("wrap", [lambda adapter: adapter, lambda adapter: ["none", adapter]])
def test_an_adapter_that_is_given_as_an_object_is_fitted_for_each_half_anew(wrap):
    rng = np.random.default_rng(0)
    sides = Modalities.of(rng.normal(size=(40, 64)), rng.normal(size=(40, 64)))
    own = build_adapter("linear", 64)
    after, named = adapt(sides, wrap(own)), adapt(sides, wrap("linear"))
    assert np.array_equal(after.text, named.text)
    assert np.array_equal(after.image, named.image)
    assert not own.is_fitted
    own.fit(text=sides.text, image=sides.image).eval()
    seen = adapt(sides, wrap(own))
    assert np.einsum("ij,ij->i", seen.text, seen.image).mean() > 0.9  # taken as it is: it knows these rows
    assert not own.training
    with pytest.raises(MismatchError, match=r"64 dimensions, and the embeddings have 12"):
        adapt(Modalities.of(TEXT, IMAGE), own)


def test_what_captions_share_lies_nearer_to_their_images():
    rng = np.random.default_rng(4)
    content = rng.normal(size=(300, 16)) * np.repeat((1.0, 0.2), 8) + 1
    text = np.repeat(content, 4, axis=0) + rng.normal(size=(1200, 16))
    index = np.stack((np.arange(1200), np.arange(1200) // 4), axis=1)
    sides = Modalities.of(text, content, index)
    before, after = (measure_gap(s.text, s.image, pairs=index, bootstrap=0) for s in (sides, adapt(sides, "shared")))
    assert after["cosine.paired.mean"] > before["cosine.paired.mean"] + 0.03
    with pytest.raises(DataError, match="0 groups have two texts or more"):
        adapt(Modalities.of(content, content), "shared")


def test_what_a_recipe_fits_on_its_training_text_is_fitted_here(tmp_path):
    """The lines of the advice: the texts measured stand for those of the training data, half by half."""
    rng = np.random.default_rng(5)
    content = rng.normal(size=(200, 16))
    text = np.repeat(content, 2, axis=0) + rng.normal(size=(400, 16)) + 1
    sides = Modalities.of(text, content - 1, np.stack((np.arange(400), np.arange(400) // 2), axis=1))
    np.save(tmp_path / "V.npy", rng.normal(size=(300, 16)) - 1)
    shift = {"mean_shift": {"fit": {"image": str(tmp_path / "V.npy")}}}
    before, after, shared = (
        measure_modalities(seen, bootstrap=0)
        for seen in (sides, adapt(sides, shift), adapt(sides, ["shared", shift, {"gaussian": {"cosine": 0.9}}]))
    )
    assert before["centroid_gap"] > 1
    assert max(after["centroid_gap"], shared["centroid_gap"]) < 0.3
    seen = Modalities.of(content[:40], content[:40] + 0.01 * rng.normal(size=(40, 16)))
    nearest = measure_modalities(adapt(seen, ["nearest", shift]), bootstrap=0)
    assert nearest["recall.image_to_text.at_1"] is None  # of the other half's texts


def test_an_adapter_that_needs_pairs_says_so():
    with pytest.raises(DataError, match="learns from pairs, and there are none"):
        adapt(Modalities.of(TEXT, IMAGE, "unpaired"), "linear")


@pytest.mark.parametrize("spec", ["nearest", ["none", {"memory": {"temperature": 0.001}}]])
def test_behind_a_memory_of_other_texts_no_recall_is_told(spec):
    rng = np.random.default_rng(0)
    text = rng.normal(size=(60, 16))
    data = Modalities.of(text, text + 0.01 * rng.normal(size=text.shape))
    assert measure_modalities(data, bootstrap=0)["recall.image_to_text.at_1"] == 1
    report = measure_modalities(adapt(data, spec), bootstrap=20)
    assert report["recall.image_to_text.at_1"] is None
    assert "made of texts of other images" in report.notes["recall.image_to_text.at_1"]
    assert verdict(report).findings
    fitted = build_adapter(spec, 16).fit(text=data.text)
    assert measure_modalities(adapt(data, fitted), bootstrap=0)["recall.image_to_text.at_1"] == 1


def test_a_memory_of_named_texts_has_recall_beside_what_learns_from_halves(tmp_path):
    rng = np.random.default_rng(0)
    text = rng.normal(size=(60, 16)).astype(np.float32)
    image = text + 0.01 * rng.normal(size=text.shape).astype(np.float32)
    np.save(tmp_path / "T.npy", text)
    np.save(tmp_path / "V.npy", image)
    data, shift = Modalities.of(text, image), {"mean_shift": {"fit": {"image": str(tmp_path / "V.npy")}}}
    assert not adapt(data, [{"nearest": {"fit": {"text": str(tmp_path / "T.npy")}}}, shift]).remade
    assert adapt(data, ["nearest", shift]).remade


@pytest.mark.parametrize(
    "as_given",
    [
        torch.Tensor.bfloat16,
        torch.Tensor.half,
        lambda rows: rows.clone().requires_grad_(),
        lambda rows: list(rows.bfloat16()),
    ],
    ids=["bf16", "fp16", "with a gradient", "a list of rows"],
)
def test_tensors_are_taken_as_they_come(as_given):
    """From a model: in its precision, with a gradient, and (`.cpu()`) from an accelerator."""
    given = [as_given(torch.from_numpy(side).float()) for side in (TEXT, IMAGE)]
    same = [torch.stack(list(side)).detach().float().numpy() for side in given]
    found = measure_gap(*given, pairs=torch.arange(30)[:, None].repeat(1, 2), bootstrap=0)
    assert found.values == pytest.approx(measure_gap(*same, bootstrap=0).values, nan_ok=True)
