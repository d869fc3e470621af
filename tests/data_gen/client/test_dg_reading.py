"""What a response body holds, as servers write it."""

import json

import pytest

from data_gen.client import Prompt, RequestError
from data_gen.client.reading import read_reply

PROMPT = Prompt("x", 64, 0)


def read(message=None, finish="stop", usage=None, prompt=PROMPT, **more):
    choice = {"message": message, "finish_reason": finish} if isinstance(message, dict) else {"finish_reason": finish}
    choice |= {"text": message} if isinstance(message, str) else {}
    return read_reply(json.dumps({"choices": [choice], "usage": usage or {}, **more}), prompt, "m")


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
def test_a_cut_answer_says_so_and_names_the_limit(finish):
    assert read({"content": "A dog on the"}, finish).cut == "the answer did not end before the limit of 64 tokens"
    only = "only reasoning came before the limit of 64 tokens"
    assert read({"content": None, "reasoning_content": "Let me"}, finish).cut == only
    assert read({"content": "", "reasoning": "Let me"}, finish).cut == only
    assert read({"content": "<think>Let me"}, finish).cut == only
    assert read({"content": ""}, finish, {"completion_tokens_details": {"reasoning_tokens": 64}}).cut == only
    assert read({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}]}, finish).cut == only
    assert read({"content": "A dog."}, "stop").cut == read({"content": "A dog."}, None).cut == ""


def test_where_a_server_knows_no_stop_strings_its_text_ends_at_the_first():
    prompt = Prompt("x", 64, 0, None, ("\n",))
    reply = read(" A dog.\n\nkeywords: cat", "length", prompt=prompt)
    assert (reply.text, reply.cut) == (" A dog.", "")
    assert read(" A dog on the", "length", prompt=prompt).cut


def test_parts_are_joined_and_thoughts_left_out():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "The user wants"}]},
        {"type": "text", "text": "A dog"},
        {"type": "reference", "reference_ids": [1]},
        {"type": "text", "text": " runs."},
    ]
    assert read({"content": parts}).text == "A dog runs."


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "7"}])
def test_where_a_server_counts_no_tokens_four_bytes_are_one(usage):
    reply = read({"content": "一只黑色的小狗" * 4}, usage=usage, prompt=Prompt("A dog runs. " * 10, 64, 0))
    assert (reply.tokens_in, reply.tokens_out) == (30, 21)
    assert read({"content": ""}, usage={"prompt_tokens": 9, "completion_tokens": 0}).took == {"in": 9, "out": 0}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<html>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 10_000, "not JSON"),
        ("[]", "no text$"),
        ('{"choices": {"a": 1}}', "no text$"),
        ('{"choices": [7]}', "no text$"),
        ('{"choices": [{"message": {"content": ["x"]}}]}', "no text$"),
        (
            '{"choices": [{"message": {"content": null, "tool_calls": []}, "finish_reason": "tool_calls"}]}',
            "'tool_calls'",
        ),
        ('{"choices": [{"message": {"content": null, "reasoning": "Hm"}, "finish_reason": "stop"}]}', "only reasoning"),
        (
            '{"choices": [{"message": {"content": "A d"}, "finish_reason": "content_filter"}]}',
            "withholds .*content_filter",
        ),
        ('{"error": {"message": "Provider returned error", "code": 502}}', "an error: Provider returned error"),
        ('{"error": "model is loading"}', "an error: model is loading"),
        ('{"choices": [{"error": {"message": "overloaded"}, "message": {"content": "A"}}]}', "an error: overloaded"),
    ],
    ids=lambda text: text[:40],
)
def test_the_cause_is_told_where_there_is_no_text(body, reason):
    with pytest.raises(RequestError, match=reason):
        read_reply(body, PROMPT, "m")
