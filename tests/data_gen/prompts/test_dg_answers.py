"""Answers that can't be read never become rows: thoughts, chatter, cut and broken JSON."""

import difflib
import json
import random

import pytest

from data_gen.prompts.answers import parse
from data_gen.text.thoughts import without_thought

DOGS = ["A dog runs.", "A cat sleeps.", "A bus waits."]


def captions(answer):
    return [record["caption"] for record in parse(answer, ["caption"]).records]


THOUGHTS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<Thought>", "</Thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<reasoning>\n", "\n</reasoning>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


@pytest.mark.parametrize(("begin", "end"), THOUGHTS)
def test_everything_up_to_the_last_end_of_a_thought_is_thought(begin, end):
    thought = 'The user wants a caption.\nMaybe: {"caption": "A draft."}\n1. A draft.'
    assert captions(f"{begin}{thought}{end}\n\nA dog runs.") == ["A dog runs."]
    assert captions(f"{thought}{end}\nA dog runs.") == ["A dog runs."]
    assert captions(f"{begin}x{end}{begin}y{end}A dog runs.") == ["A dog runs."]
    assert captions(f"{begin}x{begin}y{end} still {end}A dog runs.") == ["A dog runs."]
    assert captions(f"A draft.\n{begin}{thought}") == []
    assert captions(f"{begin}x{end}A draft. {begin}Wait") == []
    assert captions(f"{begin}{thought}{end}") == []


def test_a_thought_whose_marks_were_taken_out():
    assert captions("analysisWe need a caption.\nShort.assistantfinalA dog runs.") == ["A dog runs."]
    assert captions("analysisWe need a caption.\nShort.") == []


def test_the_marks_of_chat_templates_are_no_text():
    assert without_thought("A dog.<|im_end|>\n") == "A dog.\n"
    assert captions("<answer>A dog runs.</answer></s>") == ["A dog runs."]
    assert captions("A sign says 3 < 4 > 2") == ["A sign says 3 < 4 > 2"]


@pytest.mark.parametrize(
    "answer",
    [
        "Sure, here are three captions\n1. A dog runs.\n2. A cat sleeps.\n3. A bus waits.\nLet me know if you want more!",
        "Sure!\n\nHere are three captions:\n\n- A dog runs.\n- A cat sleeps.\n- A bus waits.",
        "Here you go:\n```\nA dog runs.\nA cat sleeps.\nA bus waits.\n```",
        "```text\nA dog runs.\nA cat sleeps.\nA bus waits.\n```",
        'Certainly! Here are the captions\n```json\n{"items": ["A dog runs.", "A cat sleeps.", "A bus waits."]}\n```\nEnjoy!',
        '{"caption": "A dog runs."}\n{"caption": "A cat sleeps."}\n{"caption": "A bus waits."}',
        '{"Captions": ["A dog runs.", "A cat sleeps.", "A bus waits."], "reasoning": "The user wants three."}',
        '{"thoughts": "Short ones.", "caption_1": "A dog runs.", "caption_2": "A cat sleeps.", "caption_3": "A bus waits."}',
        'As {"items": […]}: {"items": ["A dog runs.", "A cat sleeps.", "A bus waits."]}',
        '[see below] {"items": ["A dog runs.", "A cat sleeps.", "A bus waits."]}',
    ],
)
def test_chatter_fences_and_what_stands_beside_the_records_are_no_rows(answer):
    assert captions(answer) == DOGS


@pytest.mark.parametrize(
    "answer",
    [
        "### Caption\n\nA dog runs.",
        "**Caption**:\n> A dog runs.\n---",
        "Final answer: A dog runs.",
        "\\boxed{A dog runs.}",
        "A dog runs.\n\nkeywords: cat, sofa\ncaption: A cat sleeps.",
        "keywords: dog\ncaption: A dog runs.\n\nkeywords: cat\ncaption: A cat sleeps.",
        "Caption: A dog runs.\nKeywords: cat",
        "----\nA dog runs.",
    ],
)
def test_headings_marks_and_what_a_model_asks_itself_are_no_rows(answer):
    assert parse(answer, ["caption"], "keywords").records[0] == {"caption": "A dog runs."}
    assert "cat" not in str(parse(answer, ["caption"], "keywords").records)


@pytest.mark.parametrize(
    "answer",
    [
        '{"items": [{"caption": "A dog runs."}, {"caption": "A cat sleeps."}, {"caption": "A bus waits."},]}',
        "{'items': [{'caption': 'A dog runs.'}, {'caption': 'A cat sleeps.'}, {'caption': 'A bus waits.'}]}",
        '{items: [{caption: "A dog runs."}, {caption: "A cat sleeps."}, {caption: "A bus waits."}]}',
        '{"items": [{"caption": "A dog runs."} {"caption": "A cat sleeps."} {"caption": "A bus waits."}]}',
        '```json\n["A dog runs.", "A cat sleeps.", "A bus waits.",]\n```\nDone.',
        "{“items”: [“A dog runs.”, “A cat sleeps.”, “A bus waits.”]}",
        '{"items": [{"caption": "A dog runs."}, // the first\n {"caption": "A cat sleeps."}, {"caption": "A bus waits."}]}',
    ],
)
def test_broken_json_is_mended_and_counted(answer):
    reading = parse(answer, ["caption"])
    assert [record["caption"] for record in reading.records] == DOGS
    assert reading.mended


@pytest.mark.parametrize(
    "answer",
    [
        '{"items": [{"caption": "A dog',
        '"caption": "A dog ru',
        '{"items": [{"caption": "A dog "uns."}]',
        '{"items": [{"caption": "A dog runs."}, {"capt',
        '{"items": [\n{"caption": "A dog runs."},\n{"caption": ',
        "{broken json",
        "[Write the caption here]",
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"caption": 5, "items": [',
        "{}",
        '{"caption": null}',
        '{"title": "A dog runs."}',
        "```json\n```",
        "Here are three captions:",
        "",
        " \n ",
    ],
    ids=lambda answer: answer[:30],
)
def test_where_json_was_begun_lines_are_not_read_and_what_was_cut_is_not_taken(answer):
    reading = parse(answer, ["caption"])
    assert reading.records == []
    assert reading.why
    assert not reading.mended


LONG = "Nora runs along the beach until her kite forgets the wind."


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        (LONG.replace("kite ", "kite\n"), [LONG]),
        (f"caption: {LONG}".replace(" ", "\n").replace("caption:\n", "caption: "), [LONG]),
        (f'"{LONG}"'.replace("kite ", "kite\n"), [LONG]),
        ("A dog runs.\nit is happy", ["A dog runs.", "it is happy"]),
        ("a dog runs\na cat sleeps", ["a dog runs", "a cat sleeps"]),
        ("A dog runs\nA cat sleeps", ["A dog runs", "A cat sleeps"]),
        ("A dog runs\nkeywords used: dog", ["A dog runs", "keywords used: dog"]),
        ("A dog runs\nlet me know if you want more", ["A dog runs", "let me know if you want more"]),
    ],
)
def test_a_text_over_several_lines_is_one_where_one_was_asked_for(answer, texts):
    assert [record["caption"] for record in parse(answer, ["caption"], one=True).records] == texts


def test_items_over_several_lines_are_whole():
    assert captions("- A dog\n  runs.\n- A cat sleeps.\n- A bus\n  waits.") == DOGS
    assert captions("caption: A dog\nruns.\ncaption: A cat sleeps.\ncaption: A bus waits.") == DOGS
    asked = "question: How many of the dogs\nsit?\nanswer: "
    for answer, text in (
        ("A dog that is\nin a park\nbeside another", "A dog that is in a park beside another"),
        ("Two\nbecause both of them sit", "Two"),
    ):
        (record,) = parse(asked + answer, ["question", "answer"]).records
        assert record == {"question": "How many of the dogs sit?", "answer": text}
    assert captions("A dog runs\nquickly") == ["A dog runs", "quickly"]


def test_json_that_lost_its_brace():
    assert captions('"caption": "A dog runs."') == ["A dog runs."]
    assert captions('"caption": "A dog runs.",\n}') == ["A dog runs."]


def test_brackets_in_a_caption_are_no_json():
    assert captions("A sign [in a park] is red") == ["A sign [in a park] is red"]
    assert captions('{"caption": "A sign says [stop] {now}"}') == ["A sign says [stop] {now}"]


def test_labels_on_lines_of_their_own():
    records = parse(
        "**Question:**\nWhat is it?\n**Answer:**\n- a dog\nQuestion:\nIs it red?\nAnswer: no", ["question", "answer"]
    )
    assert [list(record.values()) for record in records.records] == [["What is it?", "a dog"], ["Is it red?", "no"]]


def test_values_that_are_no_strings():
    fields = ["question", "answer"]
    answer = '[{"question": "How many?", "answer": 2}, {"Question": "Is it red?", "Answer": true}, {"question": "?"}]'
    assert [record["answer"] for record in parse(answer, fields).records] == ["2", "yes"]


def test_no_damage_brings_json_into_a_record():
    """An answer of three items, cut and changed at random places: what comes out are whole captions, or nothing."""
    good = json.dumps({"items": [{"caption": text} for text in DOGS]}, indent=1)
    rng = random.Random(0)
    for _ in range(600):
        answer = good
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(answer))
            answer = answer[:place] + rng.choice(["", ",", '"', "}", "]", "\n", "{", "\\"]) + answer[place + 1 :]
        answer = answer[: rng.randrange(len(answer))] if rng.random() < 0.3 else answer
        for text in captions(answer):
            assert difflib.get_close_matches(text, DOGS, cutoff=0.6), answer
