"""The drawn world: seeds, laws, pictures, captions and what they claim."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from close.mini import Claim, attribute_accuracy, captions, claims, draw, facts, sample_scene, scenes
from close.mini.draw import RGB, pixels
from close.mini.language import is_true
from close.mini.scene import MAX_THINGS, MIN_THINGS, PLACES, SIDE, SIZES, Facts, Scene, Thing
from close.mini.splits import SPLITS


def test_the_same_seed_gives_the_same_scenes_pictures_and_captions() -> None:
    first, second = list(scenes("train", 5, seed=3)), list(scenes("train", 8, seed=3))
    assert first == second[:5]
    for one, other in zip(first, second, strict=False):
        assert draw(one).tobytes() == draw(other).tobytes()
        assert captions(one) == captions(other)


def test_splits_and_seeds_share_no_scene() -> None:
    sets = [set(scenes(split, 300, seed)) for split in SPLITS for seed in (0, 1)]
    nameless = [{(scene.things, scene.ground, scene.texture) for scene in group} for group in sets]
    assert all(a.isdisjoint(b) for a, b in combinations(nameless, 2))


def test_an_unknown_split_is_told() -> None:
    with pytest.raises(ValueError, match="'dev': expected one of train, val, test, encoder"):
        list(scenes("dev", 1))


def test_scenes_obey_the_laws() -> None:
    for scene in scenes("train", 500):
        assert MIN_THINGS <= len(scene.things) <= MAX_THINGS
        assert len({thing.shape for thing in scene.things}) == len(scene.things)
        assert len({thing.cell for thing in scene.things}) == len(scene.things)
        for thing in scene.things:
            assert all(thing.radius - 2 <= axis <= SIDE - thing.radius + 2 for axis in thing.centre)


def test_pictures_show_the_colours_where_the_things_are() -> None:
    names, table = list(RGB), np.array(list(RGB.values()), float)
    seen = right = 0
    for scene in scenes("test", 300, seed=5):
        picture = pixels(scene).astype(float)
        ramp = np.linspace(-1, 1, SIDE)
        for thing in scene.things:
            if thing.shape in ("ring", "moon"):  # hollow in the middle
                continue
            x, y = (round(axis) for axis in thing.centre)
            light = scene.light * (1 + scene.slope[0] * ramp[x] + scene.slope[1] * ramp[y]) * np.array(scene.tint)
            colour = np.median(picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3), 0) / light
            seen += 1
            right += names[int(((table - colour) ** 2).sum(1).argmin())] == thing.colour
    assert seen > 500
    assert right / seen > 0.97


def test_a_thing_covers_its_own_cell_and_larger_ones_more() -> None:
    def covered(size: str, cell: tuple[int, int]) -> np.ndarray:
        centre = (11.5 + 20.5 * cell[1], 11.5 + 20.5 * cell[0])
        radius = SIZES[size]
        thing = Thing("square", "red", size, cell, centre, radius, 0.0, "plain")
        bare = Scene("", (), "sand", 1.0, (0.0, 0.0), (1.0, 1.0, 1.0), 7)
        full = Scene("", (thing,), "sand", 1.0, (0.0, 0.0), (1.0, 1.0, 1.0), 7)
        return (pixels(bare) != pixels(full)).any(-1)

    for row in range(3):
        for column in range(3):
            ys, xs = np.nonzero(covered("medium", (row, column)))
            assert (round(ys.mean()) // 22, round(xs.mean()) // 22) == (row, column)
    areas = [covered(size, (1, 1)).sum() for size in ("small", "medium", "large")]
    assert areas[0] < 0.7 * areas[1] < 0.7**2 * areas[2] * 1.1


def test_captions_claim_only_what_is_true_and_only_a_part() -> None:
    made: dict[str, int] = {}
    texts = 0
    tells_all = 0
    for scene in scenes("val", 600):
        truth = facts(scene)
        for text in captions(scene):
            said = claims(text)
            assert said, text
            assert all(is_true(claim, truth) for claim in said), text
            texts += 1
            for claim in said:
                made[claim.kind] = made.get(claim.kind, 0) + 1
            tells_all += len(said) >= 1 + 4 * len(scene.things)
    things = made["thing"]
    assert made["colour"] / things == pytest.approx(0.80, abs=0.03)
    assert made["place"] / things == pytest.approx(0.30, abs=0.03)
    assert made["ground"] / texts == pytest.approx(0.40, abs=0.03)
    assert 0.25 < made["size"] / things < 0.45
    assert tells_all / texts < 0.01


def test_a_report_is_another_domain_that_claims_only_what_is_true() -> None:
    """Rates that are those of the grammar also show that no claim is read where none was written, and none is missed."""
    made: Counter[str] = Counter()
    pool = list(scenes("val", 600))
    for scene in pool:
        truth = facts(scene)
        for text in captions(scene, style="report"):
            said = claims(text)
            assert said, text
            assert all(is_true(claim, truth) for claim in said), text
            made.update(claim.kind for claim in said)
            for sentence in text.split(". "):
                (shape,) = {claim.shape for claim in claims(sentence)}  # a sentence is about one thing, or the ground
                assert claims(sentence) == {claim for claim in said if claim.shape == shape}
    texts = 5 * len(pool)
    assert made["ground"] / texts == pytest.approx(0.70, abs=0.03)
    assert made["place"] / made["thing"] == pytest.approx(0.80, abs=0.03)
    assert made["size"] / made["thing"] == pytest.approx(0.50, abs=0.03)
    assert made["colour"] / made["thing"] == pytest.approx(0.30, abs=0.03)
    plain = {text for scene in pool for text in captions(scene)}
    assert len(plain & {text for scene in pool for text in captions(scene, style="report")}) < 0.01 * len(plain)


def test_an_unknown_style_is_told() -> None:
    (scene,) = scenes("val", 1)
    with pytest.raises(ValueError, match="'poem': expected one of plain, report"):
        captions(scene, style="poem")  # type: ignore[arg-type]


def test_large_and_central_things_are_told_more_often() -> None:
    told: dict[str, list[bool]] = {"small": [], "large": []}
    for scene in scenes("val", 400):
        text = claims(captions(scene, 1)[0])
        for thing in scene.things:
            if thing.size in told:
                told[thing.size].append(Claim("thing", "present", thing.shape) in text)
    assert np.mean(told["large"]) > np.mean(told["small"]) + 0.2


def say(text: str) -> set[tuple[str, str, str]]:
    return {(claim.kind, claim.value, claim.shape) for claim in claims(text)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a star", {("thing", "present", "star")}),
        (
            "a tiny red disc in the top left corner, a hoop at the bottom with a big plus on a wooden floor",
            {
                ("thing", "present", "circle"),
                ("size", "small", "circle"),
                ("colour", "red", "circle"),
                ("place", "top left", "circle"),
                ("thing", "present", "ring"),
                ("place", "bottom", "ring"),
                ("thing", "present", "cross"),
                ("size", "large", "cross"),
                ("ground", "wood", ""),
            },
        ),
        (
            "in the snow, an orange arrow",
            {("ground", "snow", ""), ("thing", "present", "arrow"), ("colour", "orange", "arrow")},
        ),
        ("the moon is blue", {("thing", "present", "moon"), ("colour", "blue", "moon")}),
        ("there is a blue moon", {("thing", "present", "moon"), ("colour", "blue", "moon")}),
        ("there is no heart", {("thing", "absent", "heart")}),
        ("the box is heavy", {("thing", "present", "square"), ("unseen", "heavy", "square")}),
        ("the ground is sand", {("ground", "sand", "")}),
        # what a model may write
        ("", set()),
        ("red red red", set()),
        ("on the left", set()),
        ("a red and a star", {("thing", "present", "star")}),
        ("a red blue star star", {("thing", "present", "star"), ("colour", "red", "star"), ("colour", "blue", "star")}),
        ("A Red, STAR.", {("thing", "present", "star"), ("colour", "red", "star")}),
        (
            "a star on the left on the right",
            {("thing", "present", "star"), ("place", "left", "star"), ("place", "right", "star")},
        ),
        ("a zebra on a lawn", {("ground", "grass", "")}),
    ],
)
def test_claims_of_a_text(text: str, expected: set[tuple[str, str, str]]) -> None:
    assert say(text) == expected


@pytest.mark.parametrize("place", PLACES)
def test_a_place_is_true_in_its_cells_alone(place: str) -> None:
    (claim,) = {c for c in claims(f"the star is on the {place}") if c.kind == "place"}
    for row in range(3):
        for column in range(3):
            truth: Facts = {
                "ground": "sand",
                "things": [{"shape": "star", "colour": "red", "size": "small", "cell": [row, column]}],
            }
            words = [["top", "", "bottom"][row], ["left", "", "right"][column]]
            expected = (row, column) == (1, 1) if place == "middle" else set(place.split()) <= set(words)
            assert is_true(claim, truth) == expected


def test_attribute_accuracy_counts_claims() -> None:
    truth: Facts = {
        "ground": "sand",
        "things": [
            {"shape": "star", "colour": "red", "size": "large", "cell": [0, 0]},
            {"shape": "ring", "colour": "blue", "size": "medium", "cell": [1, 1]},
        ],
    }
    score = attribute_accuracy(["a red star on the left and a green moon on the grass", ""], [truth, truth])
    # claims: star, red, left true; moon, green, grass false
    assert score.accuracy == pytest.approx(50)
    assert score.hallucination == pytest.approx(50)
    assert score.claims == 3
    assert score.recall == pytest.approx(100 * 3 / (2 * (1 + 4 + 3)))
    assert score.by_kind == {"thing": 50, "colour": 50, "place": 100, "ground": 0}
    whole = "a large red star in the top left corner and a medium blue ring in the middle of the sand"
    assert attribute_accuracy([whole], [truth]).recall == 100  # a medium size is no tellable one
    assert attribute_accuracy([""], [truth]).accuracy == 0
    with pytest.raises(ValueError, match="1 captions for 2 scenes"):
        attribute_accuracy(["a star"], [truth, truth])


def test_a_caption_of_another_scene_scores_low() -> None:
    own, other = list(scenes("test", 200, seed=1)), list(scenes("test", 200, seed=2))
    texts = [captions(scene, 1)[0] for scene in own]
    assert attribute_accuracy(texts, [facts(scene) for scene in own]).accuracy == 100
    assert attribute_accuracy(texts, [facts(scene) for scene in other]).accuracy < 30


def test_sample_scene_follows_its_generator() -> None:
    assert sample_scene(random.Random(1)) == sample_scene(random.Random(1)) != sample_scene(random.Random(2))
