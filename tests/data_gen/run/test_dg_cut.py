"""Answers that do not end: asked for again with more room, within the budget, and never taken in part."""

import json

import pytest
from dg_server import Do, Server, caption
from dg_tools import rows

from data_gen import CaptionOptions
from data_gen.errors import BudgetError, StuckError
from data_gen.run import generate


@pytest.fixture
def run(tmp_path, examples):
    def start(server, count=6, **options):
        out = tmp_path / "out.jsonl"
        options = {"out": out, "count": count, "model": "m", "base_url": server.url, "examples": examples, **options}
        return generate("captions", CaptionOptions(**{"concurrency": 2, "timeout": 30.0, **options})), rows(out)

    return start


def limits(server):
    return [json.loads(content)["max_tokens"] for _, _, content in server.requests]


def thinking(enough):
    """A model that thinks for `enough` tokens before it answers."""

    def decide(body, before):
        if body["max_tokens"] < enough:
            return Do(message={"content": None, "reasoning_content": "Let me think"}, finish="length")
        return Do(caption({**body, "max_tokens": 0}), message={"reasoning_content": "Let me think"})

    return decide


def test_more_room_is_given_until_the_answer_ends(run, capsys):
    with Server(thinking(500)) as server:
        summary, found = run(server)
    assert len(found) == 6
    assert sorted(set(limits(server))) == [64, 256, 1024]
    assert found[0]["meta"]["usage"]["completion_tokens"] == 30  # of all three tries
    assert summary.tokens_out == 10 * len(server.requests)
    told = capsys.readouterr().err
    assert told.count("only reasoning came before the limit of 64 tokens: asked again with more; --answer-tokens") == 1


def test_answer_tokens_is_the_room_of_an_answer(run):
    with Server(thinking(500)) as server:
        run(server, answer_tokens=500)
    assert set(limits(server)) == {500}


@pytest.mark.parametrize(
    ("do", "cause"),
    [
        (Do(message={"content": None, "reasoning_content": "Hm"}, finish="length"), "only reasoning .* 4096 tokens"),
        (
            Do("<think>\nThe user gives", finish="length"),
            "only reasoning .* 4096 tokens; the same command with --answer-tokens",
        ),
        (Do("A dog stands near the", finish="length"), "the answer did not end before the limit of 4096 tokens"),
        (Do("<think>\nThe user gives"), "a thought that was not closed"),
        (Do(""), "the last: empty$"),
        (Do("```\n```"), "the last: empty$"),
        (Do('{"items": []}'), "the last: empty$"),
        (Do("…"), "the last: empty$"),
    ],
    ids=str,
)
def test_twenty_answers_that_hold_nothing_end_the_run_with_their_cause(run, tmp_path, do, cause):
    with Server(lambda body, before: do) as server, pytest.raises(StuckError, match=f"20 answers in a row .*{cause}"):
        run(server)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    rejected = rows(tmp_path / "out.jsonl.rejected.jsonl")
    assert len(rejected) == 20
    assert {row["reason"].split(":")[0] for row in rejected} <= {"cut", "unreadable", "empty"}


def test_a_run_that_ended_for_want_of_room_goes_on_with_more(run, tmp_path):
    with Server(thinking(6000)) as server:
        with pytest.raises(StuckError, match=r"only reasoning .* 4096 tokens"):
            run(server)
        asked = len(server.requests)
        kept = sum(
            "index" in row for row in rows(tmp_path / "out.jsonl.journal")
        )  # the twentieth, and what came beside it
        summary, found = run(server, answer_tokens=6000)
    assert (len(found), summary.rejected["cut"]) == (6, kept)
    assert kept >= 20
    assert set(limits(server)[asked:]) == {6000}


def test_a_budget_leaves_no_room_for_another_try(run, tmp_path):
    with Server(thinking(4000)) as server, pytest.raises(BudgetError):
        run(server, max_tokens=3000)
    assert max(limits(server)) <= 1024
    journal = rows(tmp_path / "out.jsonl.journal")[1:]
    assert sum(row["tokens_in"] + row["tokens_out"] for row in journal) <= 3000


def test_a_server_that_has_no_more_room_is_no_failure(run, tmp_path):
    def decide(body, before):
        if body["max_tokens"] > 64:
            return Do(status=400, raw=b'{"error": {"message": "max_tokens is too large: the context holds 128"}}')
        return Do("A dog stands near the", finish="length") if body["seed"] % 2 else Do(caption(body))

    with Server(decide) as server:
        summary, found = run(server, count=10)
    assert len(found) == 10
    assert summary.failed == 0 < summary.rejected["cut"]


def test_the_judge_may_think_and_need_not_end(run):
    def decide(body, before):
        if body["messages"][0]["content"].endswith("Answer yes or no."):
            if body["max_tokens"] < 64:
                return Do("<think>Is it", finish="length")
            return Do("<think>Is it? No, yes.</think>Yes, because it", finish="length")
        return Do(caption(body))

    with Server(decide) as server:
        summary, found = run(server, filter=["judge"])
    assert (len(found), summary.rejected["judge"]) == (6, 0)


def test_mended_answers_are_counted_and_marked(run):
    def decide(body, before):
        return Do(f'{{"caption": "{caption(body)}",}}' if body["seed"] % 2 else caption(body))

    with Server(decide) as server:
        summary, found = run(server, count=12)
    marked = sum("mended" in row["meta"] for row in found)
    assert 0 < marked <= summary.mended < 12
    assert f"{summary.mended} mended" in str(summary)
    assert all(row["target"].startswith("A ") for row in found)
