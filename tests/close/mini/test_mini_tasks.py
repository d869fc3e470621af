"""Questions and entailment: their truth, checked by counting and by completing worlds at random."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import product

import pytest

from close.mini import (
    Claim,
    Scene,
    Statement,
    claims,
    entailment,
    facts,
    judge,
    pairs,
    partners,
    questions,
    scenes,
)
from close.mini.language import GROUND_PHRASES, is_true
from close.mini.pairs import KINDS, truth
from close.mini.scene import CELLS, COLOURS, GROUNDS, MAX_THINGS, MIN_THINGS, PLACES, SHAPES, SIZES, Facts


def answer_by_hand(text: str, truth: Facts) -> str | None:
    """The answer read off the facts; None where the question has another form."""
    words = text.rstrip("?").split()
    things = {thing["shape"]: thing for thing in truth["things"]}
    if text.startswith("what color"):
        return things[words[-1]]["colour"]
    if text.startswith("how big"):
        return things[words[-1]]["size"]
    if text == "what is the ground?":
        return truth["ground"]
    if text == "how many shapes are there?":
        return str(len(things))
    if text.startswith("how many"):
        return str(Counter(thing["colour"] for thing in things.values())[words[2]])
    if text.startswith("is there"):
        return "yes" if words[-1] in things else "no"
    if text.startswith("is the"):
        return "yes" if things[words[2]]["colour"] == words[3] else "no"
    return None


def test_answers_are_true_and_most_annotators_agree() -> None:
    kinds: Counter[str] = Counter()
    for scene in scenes("val", 400):
        truth = facts(scene)
        for question in questions(scene, 4):
            kinds[question.question_type] += 1
            by_hand = answer_by_hand(question.text, truth)
            if question.question_type == "place":
                assert is_true(Claim("place", question.answer, question.text.rstrip("?").split()[-1]), truth)
            elif question.question_type == "shape":
                assert is_true(Claim("thing", "present", question.answer), truth)
            else:
                assert question.answer == by_hand
            assert len(question.answers) == 10
            assert question.answers.count(question.answer) >= 7
            assert (question.answer_type == "yes/no") == (question.answer in ("yes", "no"))
            assert (question.answer_type == "number") == question.answer.isdigit()
    assert len(kinds) == 8
    assert min(kinds.values()) > 40


def completions(premise: frozenset[Claim], wish: frozenset[Claim], tries: int, rng: random.Random) -> list[Facts]:
    """Worlds drawn at random, bent towards `premise` and `wish`, and kept where they obey the laws and the premise."""
    kept = []
    for _ in range(tries):
        said = [*wish, *premise]
        shapes = {claim.shape for claim in said if claim.shape and claim.value != "absent"}
        extra = rng.randint(0, max(0, MAX_THINGS - len(shapes)))
        banned = {claim.shape for claim in said if claim.value == "absent"}
        shapes |= set(rng.sample([shape for shape in SHAPES if shape not in shapes | banned], extra))
        cells = rng.sample(CELLS, len(shapes)) if len(shapes) <= len(CELLS) else []
        things = {
            shape: {"shape": shape, "colour": rng.choice(COLOURS), "size": rng.choice(list(SIZES)), "cell": list(cell)}
            for shape, cell in zip(sorted(shapes), cells, strict=True)
        }
        ground = rng.choice(GROUNDS)
        for claim in said:
            if claim.kind == "ground":
                ground = claim.value
            elif claim.kind in ("colour", "size"):
                things[claim.shape][claim.kind] = claim.value
            elif claim.kind == "place":
                taken = [thing["cell"] for shape, thing in things.items() if shape != claim.shape]
                allowed = [list(cell) for cell in PLACES[claim.value] if list(cell) not in taken]
                if allowed and tuple(things[claim.shape]["cell"]) not in PLACES[claim.value]:
                    things[claim.shape]["cell"] = rng.choice(allowed)
        world: Facts = {"ground": ground, "things": list(things.values())}  # type: ignore[typeddict-item]
        if MIN_THINGS <= len(things) <= MAX_THINGS and all(is_true(claim, world) for claim in premise):
            kept.append(world)
    return kept


def test_labels_agree_with_worlds_completed_at_random() -> None:
    rng = random.Random(0)
    labels: Counter[str] = Counter()
    for scene in scenes("val", 90):
        for triple in entailment(scene, 3):
            labels[triple.label] += 1
            given, said = claims(triple.premise), claims(triple.hypothesis)
            assert all(is_true(claim, facts(scene)) for claim in given)
            if any(claim.kind == "unseen" for claim in said):
                assert triple.label == triple.picture_label == "neutral"
                continue
            worlds = completions(given, frozenset(), 60, rng) + completions(given, said, 60, rng)
            assert len(worlds) > 20, triple
            true = sum(all(is_true(claim, world) for claim in said) for world in worlds)
            found = "contradiction" if true == 0 else "entailment" if true == len(worlds) else "neutral"
            assert triple.label == found, triple
            holds = all(is_true(claim, facts(scene)) for claim in said)
            assert triple.picture_label == ("entailment" if holds else "contradiction")
    assert labels == {"entailment": 90, "neutral": 90, "contradiction": 90}


@pytest.mark.parametrize(
    ("premise", "hypothesis", "label"),
    [
        ("a red star", "the star is red", "entailment"),
        ("a red star", "the star is blue", "contradiction"),
        ("a star", "the star is blue", "neutral"),
        ("a star in the top left corner", "the star is on the left", "entailment"),
        ("a star on the left", "the star is in the top left corner", "neutral"),
        ("a star on the left", "the star is in the middle", "contradiction"),
        ("a star in the middle and a ring", "the ring is in the middle", "contradiction"),  # a cell holds one thing
        ("a star and a ring on sand", "the ground is snow", "contradiction"),
        ("a star and a ring", "there is no moon", "neutral"),
        ("a star and a ring", "there is no ring", "contradiction"),
        ("a star, a ring, a moon and a heart", "there is no square", "entailment"),  # four things at most
        ("a star, a ring and a moon", "there is no square", "neutral"),
        ("a small star", "the star is heavy", "neutral"),
        ("a small star", "the star is large", "contradiction"),
        ("a star", "a red star and a red ring", "neutral"),
    ],
)
def test_judge(premise: str, hypothesis: str, label: str) -> None:
    assert judge(premise, hypothesis) == label


class TestPairs:
    """Statements about two scenes."""

    def test_truth_is_of_the_scenes_and_what_captions_decide_is_true(self) -> None:
        """An independent reading: by hand for each kind, from the facts."""
        pool = list(scenes("val", 120, 7))
        for left, right in zip(pool, partners(pool), strict=True):
            assert left.id != right.id
            for statement in pairs(left, right):
                assert truth(statement.text, left, right) is statement.truth, statement
                assert by_hand(statement, left, right) is statement.truth, statement

    def test_labels_are_balanced_in_number_and_captions_decide_most(self) -> None:
        pool = list(scenes("val", 300, 7))
        found = [one for pair in zip(pool, partners(pool), strict=True) for one in pairs(*pair)]
        assert sum(one.truth for one in found) == 300
        assert 0.6 < sum(one.told for one in found) / 600 < 0.85
        assert {one.kind for one in found} == set(KINDS)
        for kind in KINDS:
            share = [one.truth for one in found if one.kind == kind]
            assert 0.15 < sum(share) / len(share) < 0.85, kind

    def test_what_captions_decide_holds_in_every_world_that_they_allow(self) -> None:
        """Of many other scenes, those of which both captions are true have the statement's truth."""
        pool = list(scenes("val", 60, 7))
        told = [one for pair in zip(pool, partners(pool), strict=True) for one in pairs(*pair) if one.told]
        others = list(scenes("encoder", 1500, 3))
        checked = 0
        for one in told[:40]:
            fits = [
                [s for s in others if all(is_true(claim, facts(s)) for claim in claims(text))][:6]
                for text in one.captions
            ]
            for left, right in product(*fits):
                assert truth(one.text, left, right) is one.truth, (one, left, right)
                checked += 1
        assert checked > 100

    def test_the_same_every_time_and_other_texts_are_none(self) -> None:
        left, right = scenes("val", 2, 7)
        assert pairs(left, right) == pairs(left, right)
        assert pairs(left, right, 1) == pairs(left, right, 2)[:1]
        with pytest.raises(ValueError, match="no statement about two pictures"):
            truth("the star is red", left, right)
        with pytest.raises(ValueError, match="at least 2"):
            partners([left])


def by_hand(statement: Statement, left: Scene, right: Scene) -> bool:
    """A statement's truth, read with patterns of this test's own."""
    number = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4}
    if statement.kind == "count":
        counts = re.findall(r"are (\w+) shapes in the left picture and (\w+) in", statement.text)[0]
        return [number[word] for word in counts] == [len(left.things), len(right.things)]
    if statement.kind == "ground":
        phrases = re.findall(r"it is (.*) in the left picture and (.*) in the right", statement.text)[0]
        return all(text in GROUND_PHRASES[s.ground] for text, s in zip(phrases, (left, right), strict=True))
    if statement.kind == "sides":
        first, second = re.findall(r"there is (.*) in the left picture and (.*) in the right picture", statement.text)[
            0
        ]
        return shows(left, first) and shows(right, second)
    if statement.kind == "side":
        thing, side = re.findall(r"there is (.*) in the (left|right) picture$", statement.text)[0]
        return shows(left if side == "left" else right, thing)
    endings = {"both": " in both", "one": " in one picture, not in both", "none": " in any picture"}
    thing = statement.text.removeprefix("there is ").removesuffix(endings[statement.kind])
    count = shows(left, thing) + shows(right, thing)
    return count == {"both": 2, "one": 1, "none": 0}[statement.kind]


def shows(scene: Scene, phrase: str) -> bool:
    """Whether a scene has "a large red star in the top left corner"."""
    noun, _, place = re.sub(r" (in the|on the|at the) ", "|", phrase, count=1).partition("|")
    words, cells = noun.split()[1:], PLACES.get(place.removesuffix(" corner")) if place else None
    return any(
        thing.shape == words[-1]
        and all(word in (thing.colour, thing.size) for word in words[:-1])
        and (cells is None or thing.cell in cells)
        for thing in scene.things
    )
