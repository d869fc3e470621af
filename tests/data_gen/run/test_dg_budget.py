"""What a run takes: told beforehand, and held to, the judge's questions included."""

import itertools
import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from dg_server import Do, Server, prompt_of
from dg_tools import rows

from data_gen import CaptionOptions, TextOptions
from data_gen.errors import BudgetError, InputError, ServerError
from data_gen.run import generate, preview


def served(text, tokens_in, tokens_out):
    """An answer that says what it took."""
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    return Do(raw=json.dumps({"model": "m", "choices": [{"message": {"content": text}}], "usage": usage}).encode())


def questions(number):
    """Answers of three questions, no two alike, and a judge who says yes."""

    def decide(body, before):
        prompt = prompt_of(body)
        if prompt.endswith("Answer yes or no."):
            return served("Yes", len(prompt) // 4, 2)
        n = next(number)
        items = [{"question": f"What is thing {n} number {k} doing near place {n * 7 + k}?", "answer": f"it {n} runs"}
                 for k in range(3)]  # fmt: skip
        return served(json.dumps({"items": items}), len(prompt) // 4, 60)

    return decide


def judged(tmp_path, examples, **options):
    values = {
        "out": tmp_path / "q.jsonl",
        "count": 500,
        "model": "m",
        "input": examples,
        "filter": ["judge"],
        "shots": 0,
    }
    return TextOptions(**{**values, **options})


def spent(path):
    return sum(row["tokens_in"] + row["tokens_out"] for row in rows(f"{path}.journal")[1:])


@pytest.mark.parametrize("budget", [700, 1500, 3000])
def test_a_small_budget_holds_from_the_first_request_on_judge_included(tmp_path, examples, budget):
    with Server(questions(itertools.count())) as server, pytest.raises(BudgetError):
        generate("vqa", judged(tmp_path, examples, base_url=server.url, max_tokens=budget))
    assert 0.4 * budget < spent(tmp_path / "q.jsonl") <= budget


def test_a_small_budget_holds_where_a_character_is_a_token(tmp_path):
    texts = [f"一只黑色的小狗在绿色的草地上追着红色的球跑过来{i}号" for i in range(60)]
    (tmp_path / "shots.txt").write_text("\n".join(texts), encoding="utf-8")
    (tmp_path / "words.txt").write_text("狗\n草地\n球\n", encoding="utf-8")
    number = itertools.count()

    def decide(body, before):
        n = next(number)
        return served(f"一只狗{n}在草地上跑{n * 3}", len(prompt_of(body)), 20)

    options = {"out": tmp_path / "z.jsonl", "count": 500, "model": "m", "max_tokens": 2000}
    options |= {"examples": tmp_path / "shots.txt", "keywords": tmp_path / "words.txt"}
    with Server(decide) as server, pytest.raises(BudgetError):
        generate("captions", CaptionOptions(**options, base_url=server.url))
    assert 1000 < spent(tmp_path / "z.jsonl") <= 2000


@pytest.mark.parametrize("counts", [100, 0, None])
def test_a_budget_holds_back_the_first_request_alone(tmp_path, examples, counts):
    """Whatever a server says of its tokens, and where the first requests fail."""
    number = itertools.count()

    def decide(body, before):
        if (n := next(number)) < 2:
            return Do(status=500, delay=0.05)
        usage = {} if counts is None else {"prompt_tokens": counts}
        choice = {"message": {"content": f"A dog number {n} runs to place {n * 7}."}}
        return Do(raw=json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode(), delay=0.05)

    options = {"out": tmp_path / "c.jsonl", "count": 40, "model": "m", "max_tokens": 100_000, "retries": 1}
    with Server(decide) as server:
        summary = generate("captions", CaptionOptions(**options, examples=examples, base_url=server.url))
    assert (summary.failed, summary.accepted) == (1, 40)
    assert summary.tokens_in >= (counts or 50) * 40
    assert server.most_under_way > 8


def test_requests_that_failed_tell_nothing_of_what_one_takes(tmp_path, examples):
    """A budget is reckoned with what answers take, however many requests failed for nothing."""
    number = itertools.count()

    def decide(body, before):
        if (n := next(number)) < 10:
            return Do(status=500)
        return served(f"A dog number {n} runs to place {n * 7}.", 200, 20) if n > 10 else served("A dog runs.", 200, 20)

    options = {"out": tmp_path / "c.jsonl", "count": 500, "model": "m", "max_tokens": 1500, "retries": 0}
    with Server(decide) as server, pytest.raises(BudgetError, match="the budget is spent"):
        generate("captions", CaptionOptions(**options, concurrency=8, examples=examples, base_url=server.url))
    assert 1000 < spent(tmp_path / "c.jsonl") <= 1500


def wants(tmp_path, examples, **options):
    return CaptionOptions(out=tmp_path / "c.jsonl", count=500, model="m", examples=examples, **options)


@pytest.mark.parametrize("bad", [Do(delay=3.0), Do("x", cut=20), Do(raw=b'{"choices": [{"mess')], ids=str)
def test_tries_without_an_answer_are_counted_apart_and_held_against_the_budget(tmp_path, examples, bad):
    number = itertools.count()

    def decide(body, before):
        if (n := next(number)) % 3 == 1:
            return bad
        return served(f"A dog number {n} runs to place {n * 7}.", len(prompt_of(body)) // 4, 30)

    options = wants(tmp_path, examples, timeout=0.8, max_tokens=6000, price_out=100.0, retries=20)
    with Server(decide) as server:
        with pytest.raises(
            BudgetError, match=r"and about \d+ tokens of \d+ tries that ended without an answer \(cost 0"
        ):
            generate("captions", replace(options, base_url=server.url))
        asked = len(server.requests)
        assert 4500 < spent(tmp_path / "c.jsonl") <= 6000
        options = replace(options, base_url=server.url, count=len(rows(tmp_path / "c.jsonl")))
        summary = generate("captions", options)
        assert len(server.requests) == asked
    lost = [row for row in rows(tmp_path / "c.jsonl.journal") if row.get("lost")]
    assert summary.lost == len(lost) >= asked // 4
    assert summary.lost_in + summary.lost_out == sum(row["tokens_in"] + row["tokens_out"] for row in lost)
    assert summary.lost_out <= 34 * summary.lost  # as the answers took, but for what came before any
    assert summary.requests == sum("index" in row for row in rows(tmp_path / "c.jsonl.journal"))
    assert spent(tmp_path / "c.jsonl") == summary.tokens_in + summary.tokens_out + summary.lost_in + summary.lost_out


def test_a_server_that_is_not_there_takes_nothing(tmp_path, examples):
    with pytest.raises(ServerError, match="no answer from"):
        generate("captions", wants(tmp_path, examples, base_url="http://127.0.0.1:9/v1", max_tokens=9000))
    assert not (tmp_path / "c.jsonl.journal").exists()


@pytest.mark.parametrize("filters", [[], ["judge"]])
def test_a_budget_is_not_passed_by_what_is_tried_again(tmp_path, examples, filters):
    """Nor is it left half unused."""
    took, number = [], itertools.count()

    def decide(body, before):
        tokens = len(prompt_of(body)) // 4
        n = next(number)
        out = 2 if prompt_of(body).endswith("Answer yes or no.") else 5 + n * 7 % 60
        took.append(tokens + out)
        text = "Yes" if out == 2 else f"A dog number {n} runs to place {n * 7}."
        return served(None if n % 5 in (1, 2) else text, tokens, out)

    options = wants(tmp_path, examples, max_tokens=10_000, concurrency=32, filter=filters)
    with Server(decide) as server, pytest.raises(BudgetError, match="the budget is spent"):
        generate("captions", replace(options, base_url=server.url))
    assert 9000 < sum(took) <= 10_000
    assert spent(tmp_path / "c.jsonl") == sum(took)


def test_what_was_answered_behind_a_gap_is_told_and_kept(tmp_path, examples):
    """The second request gets nothing for as long as the budget holds; with a larger one nothing else is asked again."""
    number, gap, bodies = itertools.count(), [True], []

    def decide(body, before):
        bodies.append(prompt_of(body))
        if gap[0] and prompt_of(body) != bodies[0] and prompt_of(body) == bodies[1]:
            return served(None, 250, 30)
        return served(f"A dog number {(n := next(number))} runs to place {n * 7}.", 250, 30)

    options = wants(tmp_path, examples, max_tokens=4000, concurrency=4, retries=40)
    with Server(decide) as server:
        with pytest.raises(BudgetError, match=r": 1 accepted, .* tokens, \d+ more answers kept for later;") as told:
            generate("captions", replace(options, base_url=server.url))
        kept = int(re.search(r"(\d+) more answers", str(told.value))[1])
        gap[0] = False
        summary = generate("captions", replace(options, base_url=server.url, max_tokens=None, count=kept + 2))
    assert summary.accepted == kept + 2
    assert Counter(bodies).most_common(2)[1][1] == 1
    assert kept > 2


def test_room_for_thoughts_is_not_reckoned_as_asked_again(tmp_path, examples):
    """What the judge's questions repeat is what was written, and not what was thought."""
    with_room = preview("vqa", judged(tmp_path, examples, count=60, answer_tokens=2048))
    assert with_room.tokens_in == preview("vqa", judged(tmp_path, examples, count=60)).tokens_in
    options = {"count": 3, "answer_tokens": 2048}
    with Server(questions(itertools.count())) as server:
        told = r"one request may take 6\d\d\d tokens .* raise --max-tokens or --max-cost, or lower --answer-tokens"
        with pytest.raises(BudgetError, match=told):
            generate("vqa", judged(tmp_path, examples, base_url=server.url, max_tokens=5000, **options))
        assert not server.requests
        done = generate("vqa", judged(tmp_path, examples, base_url=server.url, max_tokens=12_000, **options))
    assert done.accepted == 3


@pytest.mark.parametrize(("endpoint", "end"), [("chat", "Answer yes or no."), ("completions", "yes or no.\nanswer:")])
def test_a_preview_counts_the_judges_questions(tmp_path, examples, endpoint, end):
    asked = []

    def decide(body, before):
        asked.append(prompt_of(body))
        if "Answer yes or no." in asked[-1]:
            return served("Yes", len(asked[-1]) // 4, 2)
        n = len(asked)
        records = [(f"What is thing {n} number {k} doing near place {n * 7 + k}?", f"it {n} runs") for k in range(3)]
        text = "\n".join(f"question: {question}\nanswer: {answer}" for question, answer in records)
        return served(text.removeprefix("question:"), len(asked[-1]) // 4, 60)

    with Server(decide) as server:
        options = judged(tmp_path, examples, base_url=server.url, count=60, endpoint=endpoint)
        told = preview("vqa", options)
        summary = generate("vqa", options)
    assert sum(prompt.endswith(end) for prompt in asked) == 60
    assert told.requests == 20 + 60 == len(asked)
    assert 0.6 < told.tokens_in / summary.tokens_in < 1.5
    assert 0.6 < told.tokens_out / summary.tokens_out < 1.5
    alone = preview("vqa", judged(tmp_path, examples, count=60, filter=[]))
    assert alone.requests == 20
    assert 2 * alone.tokens_in < told.tokens_in


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("lenght", "did you mean 'length'"),
        ("forbidden=nowhere.txt", r"can't read nowhere\.txt"),
        ("length=9-3", "expected length=3-20"),
    ],
)
def test_a_preview_looks_at_the_filters(tmp_path, examples, wrong, told):
    with pytest.raises(InputError, match=told):
        preview("vqa", judged(tmp_path, examples, filter=[wrong]))


def test_a_preview_looks_at_the_address_and_needs_no_key(tmp_path, examples, monkeypatch):
    with pytest.raises(InputError, match=r"--base-url '127.0.0.1:8000' is no URL"):
        preview("vqa", judged(tmp_path, examples, base_url="127.0.0.1:8000"))
    assert preview("vqa", judged(tmp_path, examples, base_url="https://api.openai.com/v1")).prompts
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost/v1")
    with pytest.raises(InputError, match="OPENAI_BASE_URL 'localhost/v1' is no URL"):
        preview("vqa", judged(tmp_path, examples))


def test_address_and_key_come_before_what_takes_its_time(tmp_path, examples):
    """Files of word vectors may be of gigabytes."""
    with pytest.raises(InputError, match="no key: set OPENAI_API_KEY"):
        generate("vqa", judged(tmp_path, examples, filter=["cosine=nowhere.vec:0.3"]))


def test_fewer_than_are_accepted_together_are_not_asked_for(tmp_path, examples):
    with pytest.raises(InputError, match=r"--per-request must be at least 2 for paraphrase, .*, got 1"):
        preview("paraphrase", judged(tmp_path, examples, per_request=1))
    for verb, many in (("paraphrase", 2), ("vqa", 1), ("entailment", 1)):
        assert preview(verb, judged(tmp_path, examples, per_request=many, filter=[])).prompts
