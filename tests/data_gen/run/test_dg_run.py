"""Whole runs against real HTTP servers, good and hostile."""

import itertools
import json
import re
import time
from collections import Counter

import pytest
from dg_server import Do, Server, asked_keywords, caption, digest, good, prompt_of
from dg_tools import EXAMPLES, rows, timeless

from data_gen import CaptionOptions, TextOptions
from data_gen.errors import BudgetError, InputError, OutputError, ServerError, StuckError
from data_gen.report.divergence import smoothed_kl
from data_gen.run import generate, merge_shards, preview
from data_gen.text.words import count_words, words
from data_gen.verbs import VERBS


@pytest.fixture
def captions(tmp_path, examples):
    """Run `captions` into a file: (summary, rows without the time, path)."""

    def run(server, name="out.jsonl", count=60, **options):
        out = tmp_path / name
        options = {"examples": examples, "concurrency": 8, "timeout": 60.0, **options}
        summary = generate("captions", CaptionOptions(out=out, count=count, model="m", base_url=server.url, **options))
        return summary, timeless(out), out

    return run


def rejected(out):
    return timeless(out.with_name(out.name + ".rejected.jsonl"))


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_the_projects_and_never_two_alike(captions):
    with Server(lambda body, before: Do(caption(body).split(" with ")[0])) as server:  # 12 different captions
        summary, found, out = captions(server, count=12)
    assert summary.accepted == len(found) == 12
    assert len({row["target"] for row in found}) == len({row["id"] for row in found}) == 12
    assert summary.rejected["duplicate"] == len([r for r in rejected(out) if r["reason"] == "duplicate"]) > 0
    keys = {"prompt", "keywords", "shots", "model", "usage"}
    for row in found:
        assert row["source"] == row["target"]
        assert set(row["meta"]) == keys
        assert len(row["meta"]["keywords"]) == 2
        assert set(row["meta"]["shots"]) == {str(i) for i in range(1, 13)}
        assert row["meta"]["usage"]["completion_tokens"] == 10


def test_prompts_show_shots_and_ask_for_the_rows_keywords(captions):
    with Server(good) as server:
        _, found, _ = captions(server, count=30, shots=3)
        bodies = [json.loads(content) for _, _, content in server.requests]
    asked = {tuple(asked_keywords(body)) for body in bodies}
    assert {tuple(row["meta"]["keywords"]) for row in found} <= asked
    for body in bodies:
        shown = [line.removeprefix("caption: ") for line in prompt_of(body).split("\n") if line.startswith("caption: ")]
        assert len(shown) == 3
        assert set(shown) <= set(EXAMPLES)
    assert len({body["seed"] for body in bodies}) == len(bodies)


def test_the_same_answers_make_the_same_file_whatever_their_order_and_timing(captions):
    def slow(body, before):
        return Do(caption(body), delay=digest(body) % 11 / 200)

    with Server(good) as server:
        _, one, out = captions(server, "one.jsonl", concurrency=1, filter=["near=0.8", "keywords"])
    with Server(slow) as server:
        _, other, out2 = captions(server, "other.jsonl", concurrency=16, filter=["near=0.8", "keywords"])
    assert one == other
    many = min(len(rejected(out)), len(rejected(out2)))
    assert rejected(out)[:many] == rejected(out2)[:many]
    with Server(good) as server:
        _, another, _ = captions(server, "another.jsonl", seed=1)
    assert not {row["target"] for row in one} & {row["target"] for row in another}


def test_a_larger_count_continues_and_a_finished_run_asks_nothing(captions):
    with Server(good) as server:
        _, whole, _ = captions(server, "whole.jsonl", count=70)
        captions(server, count=30)
        _, found, out = captions(server, count=70)
        asked = len(server.requests)
        summary, again, _ = captions(server, count=70)
        assert len(server.requests) == asked
    assert found == again == whole
    assert summary.accepted == 70
    with Server(good) as server, pytest.raises(Exception, match="holds more than the 20 rows"):
        captions(server, count=20)
    assert timeless(out) == whole


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_unigram_blocks_are_deterministic_and_survive_an_interruption(captions, tmp_path, endpoint):
    (tmp_path / "corpus.txt").write_text("\n".join(["a dog sleeps"] * 30 + ["a cat runs"] * 10 + ["a bus waits"] * 5))
    options = {"sampling": "unigram", "corpus": tmp_path / "corpus.txt", "block": 10, "endpoint": endpoint}
    with Server(good) as server:
        _, whole, _ = captions(server, "whole.jsonl", count=60, **options)
        captions(server, count=25, **options)
        _, found, _ = captions(server, count=60, concurrency=3, **options)
    assert found == whole
    asked = Counter(k for row in whole for k in row["meta"]["keywords"])
    assert asked["dog"] > asked["bus"]


def test_unigram_matching_converges_where_uniform_does_not(captions, tmp_path):
    """A target of skewed words, and a model that writes what it is asked for, and one word unasked."""
    names = ["dog", "cat", "bus", "train", "boat", "horse", "kite", "lamp", "tree", "bench"]
    shares = dict(zip(names, [40, 20, 12, 8, 6, 5, 4, 2, 2, 1], strict=True))
    pairs = itertools.product(shares, shares)
    texts = [f"a {a} and a {b}" for a, b in pairs for _ in range(shares[a] * shares[b] // 20)]
    (tmp_path / "corpus.txt").write_text("\n".join(texts))
    target = count_words(texts)

    def decide(body, before):
        a, b = (asked_keywords(body) * 2)[:2]
        return Do(f"a {a} and a {b if digest(body) % 3 else 'boat'} number {digest(body)}")

    curves = {}
    with Server(decide) as server:
        for sampling in ("uniform", "unigram"):
            options = {"sampling": sampling, "corpus": tmp_path / "corpus.txt", "block": 20}
            _, found, _ = captions(server, f"{sampling}.jsonl", count=240, **options)
            written = [" ".join(w for w in words(row["target"]) if w.isalpha() and w != "number") for row in found]
            curves[sampling] = [smoothed_kl(target, count_words(written[:n])) for n in (40, 80, 160, 240)]
    matched = curves["unigram"]
    assert matched == sorted(matched, reverse=True)
    assert matched[-1] < 0.25 * curves["uniform"][-1]


def test_several_captions_in_one_request(captions):
    def decide(body, before):
        given = [line.split("keywords: ")[1] for line in prompt_of(body).split("\n") if line[:1].isdigit()]
        texts = [f"A {a.replace(', ', ' and a ')} number {digest(body)}" for a in given]
        return Do(json.dumps({"items": [{"caption": text} for text in texts[: 3 if digest(body) % 5 else 2]]}))

    with Server(decide) as server:
        summary, found, _ = captions(server, count=40, per_request=3)
        assert all("response_format" in json.loads(content) for _, _, content in server.requests)
    assert summary.rejected["unreadable"] > 0
    for row in found:
        assert all(keyword in row["target"] for keyword in row["meta"]["keywords"])
    assert len(found) == 40


# ── the other verbs ──────────────────────────────────────────────────────────────────────────────────────────────


def texts_run(verb, server, tmp_path, name="out.jsonl", **options):
    source = tmp_path / "input.jsonl"
    source.write_text("".join(json.dumps({"id": f"c{i}", "caption": text}) + "\n" for i, text in enumerate(EXAMPLES)))
    out = tmp_path / name
    options = {"count": 20, "concurrency": 8, **options}
    summary = generate(verb, TextOptions(out=out, model="m", base_url=server.url, input=source, **options))
    return summary, rows(out)


def test_rewrite(tmp_path):
    with Server(lambda body, before: Do(f"Warm number {digest(body)}")) as server:
        _, found = texts_run("rewrite", server, tmp_path, style="uplifting")
        assert "warm and hopeful" in prompt_of(json.loads(server.requests[0][2]))
    assert sorted(row["source"] for row in found[:12]) == sorted(EXAMPLES)  # every caption once before any twice
    assert all(row["target"].startswith("Warm") and row["meta"]["input"].startswith("c") for row in found)


def test_vqa_without_structured_output(tmp_path):
    text = "Sure:\nQuestion: What is number {n}?\nAnswer: a dog\nQuestion: Is it red ({n})?\nAnswer: no"
    with Server(lambda body, before: Do(text.format(n=digest(body)))) as server:
        _, found = texts_run("vqa", server, tmp_path)
    assert {row["target"] for row in found} == {"a dog", "no"}
    assert all(row["source"] in EXAMPLES and row["context"].endswith("?") and row["task"] == "vqa" for row in found)


def test_entailment_is_balanced(tmp_path):
    def decide(body, before):
        n = digest(body)
        items = {"entailment": f"Yes {n}", "neutral": f"Maybe {n}" if n % 4 else "", "contradiction": f"No {n}"}
        return Do(json.dumps({"items": [items]}))

    with Server(decide) as server:
        summary, found = texts_run("entailment", server, tmp_path, count=30)
    assert Counter(row["label"] for row in found) == {"entailment": 10, "neutral": 10, "contradiction": 10}
    assert all(row["target"] == row["label"] and row["context"].split()[0] in ("Yes", "Maybe", "No") for row in found)
    assert summary.rejected["incomplete"] == 2 * summary.rejected["empty"] > 0


def test_the_judge_is_asked_of_each_hypothesis_by_its_label(tmp_path):
    labels = ("entailment", "neutral", "contradiction")

    def decide(body, before):
        n = digest(body)
        if asked := re.search(rf"\n({'|'.join(labels)}): (\w+) \d+\n\n.*Answer yes or no\.$", prompt_of(body)):
            return Do("Yes." if asked[1] == asked[2] else "No.")
        told = labels if n % 3 else labels[::-1]
        return Do(json.dumps({"items": [{label: f"{said} {n}" for label, said in zip(labels, told, strict=True)}]}))

    with Server(decide) as server:
        summary, found = texts_run("entailment", server, tmp_path, filter=["judge"], patience=20)
    assert all(row["context"].split()[0] == row["label"] for row in found)
    assert summary.rejected["judge"] > 0


def test_paraphrases_come_in_groups(tmp_path):
    def decide(body, before):
        ways = ("way 1 of {}", "way 2 of {}", "Way 2 of {}!", "way 3 of {}")
        return Do("\n".join(f"paraphrase: {way.format(digest(body))}" for way in ways))

    with Server(decide) as server:
        summary, found = texts_run("paraphrase", server, tmp_path, count=36)
    groups = Counter(row["group"] for row in found)
    assert groups == {f"c{i}": 3 for i in range(12)}
    assert summary.rejected["duplicate"] == 12


def test_near_duplicates_of_one_answer_are_told_apart(tmp_path):
    texts = ["A dog runs over the green grass", "The dog runs over the green grass", "Some animal is outside"]
    with Server(lambda body, before: Do("\n".join(f"paraphrase: {text}" for text in texts))) as server:
        summary, found = texts_run("paraphrase", server, tmp_path, count=2, filter=["near=0.6"], concurrency=1)
    assert [row["target"] for row in found] == [texts[0], texts[2]]
    assert summary.rejected["near"] == 1


def test_the_rows_of_every_verb_can_be_its_examples(tmp_path):
    answers = {
        "vqa": "question: What {n}?\nanswer: dog",
        "entailment": "entailment: E {n}\nneutral: N {n}\ncontradiction: C {n}",
        "paraphrase": "paraphrase: P {n}\nparaphrase: Q {n}",
        "rewrite": "W {n}",
    }
    for verb, answer in answers.items():
        with Server(lambda body, before, answer=answer: Do(answer.format(n=digest(body)))) as server:
            texts_run(verb, server, tmp_path, f"{verb}.jsonl", count=6)
            texts_run(verb, server, tmp_path, f"{verb}2.jsonl", count=6, examples=tmp_path / f"{verb}.jsonl", shots=1)
            assert answer.split(" ")[-2].split(":")[-1].strip() in prompt_of(json.loads(server.requests[-1][2]))


# ── against the odds ─────────────────────────────────────────────────────────────────────────────────────────────

PASSING = [
    Do(status=429, headers={"retry-after": "0.05"}),
    Do(status=429),
    Do(status=500),
    Do(reset=True),
    Do(delay=30),
    Do("x", drip=0.1),
    Do("x", cut=30),
    Do(raw=b'{"choices": [{"mess'),
    Do(raw=b'{"choices": []}'),
    Do(raw=b'{"choices": {"a": 1}}'),
]


def lasting(body):
    """What a request gets for good, by its digest."""
    n = digest(body)
    kinds = {
        0: Do("I'm sorry, but I can't help with that."),
        1: Do(f"Ein Hund \x00\x1b[0m läuft \u2028 {n} 🐕 \u202e\ud83d"),
        2: Do(f"A dog {n} " * 50_000),
        3: Do(""),
        4: Do(status=500, raw=b""),
        5: Do(raw=b'{"choices": [{"message": {"content": ["x"]}}]}'),
        6: Do("A brown dog runs across the grass of a park."),
        7: Do(f'{{"caption": "A cat {n}"'),
    }
    return kinds.get(n % 24, Do(caption(body)))


def hostile(body, before):
    n = digest(body) // 24
    return PASSING[n % 10] if before < (n // 10) % 2 + (n % 3 == 0) else lasting(body)


def test_against_a_hostile_server_every_row_is_good_and_none_is_lost_or_doubled(captions):
    options = {"count": 120, "retries": 4, "concurrency": 32, "filter": ["length=1-60"]}
    with Server(hostile) as server:
        summary, found, out = captions(server, timeout=5.0, **options)  # tries to spare where a busy machine is late
    with Server(lambda body, before: lasting(body)) as server:
        calm, expected, calm_out = captions(server, "calm.jsonl", **options)
    assert found == expected
    assert len(found) == 120 == len({row["target"] for row in found})
    for row in found:
        assert row["target"].isprintable()
        assert row["target"] == " ".join(row["target"].split())
    assert {"refusal", "unreadable", "copied", "length"} <= {r["reason"].split(":")[0] for r in rejected(out)}
    assert summary.failed == calm.failed > 0
    failures = {r["reason"].split(" (")[0] for r in rejected(out) if r["reason"].startswith("failed")}
    assert failures >= {"failed: status 500: no more is told", "failed: the answer holds no text"}
    assert all("raw" in r for r in rejected(out))
    assert [r["id"] for r in rejected(out)] == [r["id"] for r in rejected(calm_out)]


def test_a_server_that_dies_ends_the_run_and_nothing_is_lost(captions):
    count = itertools.count()

    def decide(body, before):
        return Do(caption(body)) if next(count) < 30 else Do(reset=True)

    with Server(decide) as server, pytest.raises(ServerError, match="is it running"):
        captions(server, retries=1)
    with Server(good) as server:
        _, found, _ = captions(server, retries=1)
        assert len(server.requests) <= 60 - 15  # what was on its way is asked for again
    with Server(good) as server:
        _, expected, _ = captions(server, "whole.jsonl")
    assert found == expected


def test_a_server_that_answers_nothing_usable_is_told(captions):
    with (
        Server(lambda body, before: Do(raw=b"[]")) as server,
        pytest.raises(ServerError, match="20 requests in a row failed"),
    ):
        captions(server, retries=0)


def test_a_model_that_repeats_itself_is_told_and_patience_helps(captions):
    with Server(lambda body, before: Do("Always the same")) as server:
        with pytest.raises(StuckError, match=r"in the last 40 requests .*duplicate"):
            captions(server, patience=40)
        with pytest.raises(StuckError, match="in the last 40"):
            captions(server, patience=40)
        asked = len(server.requests)
        with pytest.raises(StuckError, match="in the last 60"):
            captions(server, patience=60)
        assert len(server.requests) > asked


def test_a_run_that_begins_without_a_row_says_why_once(captions, capsys):
    with Server(lambda body, before: Do("###")) as server, pytest.raises(StuckError):
        captions(server, "empty.jsonl", patience=12)
    with Server(lambda body, before: Do("Sorry, I can't help with that.")) as server, pytest.raises(StuckError):
        captions(server, patience=12)
    notes = [line for line in capsys.readouterr().err.split("\n") if "the first 5 requests brought no row" in line]
    assert len(notes) == 2
    assert (
        "unreadable 5; the last: unreadable: empty" in notes[0] or "empty 5; the last: empty, no word in it" in notes[0]
    )
    assert "refusal 5; the last: refusal, a refusal or a phrase of a chat" in notes[1]
    with Server(good) as server:
        captions(server, "good.jsonl")
    assert "brought no row" not in capsys.readouterr().err


STYLE = 'instruction = "Be odd."\n[[shots]]\nkeywords = ["cat"]\ntext = "My cat sits."\n'


def test_a_run_goes_on_with_the_same_files_under_other_names(captions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    contents = {"st.toml": STYLE, "sub/odd.toml": STYLE, "no:w.txt": "kite\n", "v.vec": "Dog 1 0\n"}
    contents |= {"sub/no.txt": "kite\n", "sub/v.vec": "Dog 1 0\n", "sub/v2.vec": "Dog 1 1\n"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    first = {"style": "st.toml", "filter": ["forbidden=no:w.txt", "length=1-90", "cosine=v.vec:-1"], "examples": None}
    other = {"style": str(tmp_path / "sub" / "odd.toml"), "examples": None}
    filters = ["forbidden=sub/no.txt", "length=1-90", f"cosine={tmp_path}/sub/v.vec:-1"]
    with Server(good) as server:
        _, whole, _ = captions(server, "whole.jsonl", count=14, **first)
        captions(server, count=6, **first)
        _, found, out = captions(server, count=14, filter=filters, **other)
        wrong = [["forbidden=sub/no.txt", "length=1-9", "cosine=v.vec:-1"]]
        wrong += [["forbidden=sub/no.txt", "length=1-90", f"cosine={name}"] for name in ("v.vec:0", "sub/v2.vec:-1")]
        for changed in wrong:
            with pytest.raises(OutputError, match="is the output of another run"):
                captions(server, count=14, filter=changed, **other)
        (tmp_path / "no:w.txt").write_text("boat\n")
        with pytest.raises(OutputError, match="is the output of another run"):
            captions(server, count=14, **first)
    assert found == whole == timeless(out)
    assert {shot for row in found for shot in row["meta"]["shots"]} == {"st.toml:1"}


def test_a_file_that_took_patience_is_opened_again_with_less(captions):
    """Patience is for what is asked, and not for what the journal tells of."""
    count = itertools.count()

    def decide(body, before):
        return Do("Always the same" if 3 < next(count) < 40 else caption(body))

    with Server(decide) as server:
        options = {"count": 10, "concurrency": 1}
        with pytest.raises(StuckError, match="in the last 10 requests"):
            captions(server, patience=10, **options)
        captions(server, patience=100, **options)
        asked = len(server.requests)
        assert captions(server, patience=10, **options)[0].accepted == 10
        assert len(server.requests) == asked
        assert captions(server, patience=10, **{**options, "count": 12})[0].accepted == 12


@pytest.mark.parametrize("budget", [{"max_tokens": 4000}, {"max_cost": 0.5, "price_in": 100.0, "price_out": 400.0}])
def test_a_budget_stops_before_it_is_overrun_and_a_larger_one_continues(captions, tmp_path, budget):
    with Server(good) as server:
        _, whole, _ = captions(server, "whole.jsonl")
        with pytest.raises(BudgetError, match="budget is spent"):
            captions(server, **budget)
        journal = [row for row in rows(tmp_path / "out.jsonl.journal") if "text" in row]
        took = [sum(row[f"tokens_{way}"] for row in journal) for way in ("in", "out")]
        spent = took[0] + took[1] if "max_tokens" in budget else (100 * took[0] + 400 * took[1]) / 1e6
        limit = budget.get("max_tokens") or budget["max_cost"]
        assert 0.8 * limit < spent <= limit
        _, found, _ = captions(server, **{k: 100 * v if k.startswith("max") else v for k, v in budget.items()})
    assert found == whole


def test_keywords_that_the_corpus_lacks_are_told(captions, tmp_path, capsys):
    (tmp_path / "k.txt").write_text("Dog\nhot dog stand\nold station\n")
    with Server(good) as server:
        _, found, _ = captions(server, count=8, sampling="unigram", keywords=tmp_path / "k.txt", keyword_count=1)
    assert {keyword for row in found for keyword in row["meta"]["keywords"]} == {"Dog", "old station"}
    told = "note: keywords that the corpus lacks are not asked for (1 of 3): hot dog stand"
    assert told in capsys.readouterr().err.splitlines()


def test_the_judge_has_the_last_word(captions):
    def decide(body, before):
        if prompt_of(body).endswith("Answer yes or no."):
            return Do("Yes." if " dog " in prompt_of(body).split("\ncaption: ")[1] else "No, it is odd.")
        return good(body, before)

    with Server(decide) as server:
        summary, found, _ = captions(server, count=5, filter=["judge"])
    assert all(" dog " in row["target"] for row in found)
    assert summary.rejected["judge"] > 0


def test_names_of_a_style_come_first(captions):
    with Server(good) as server:
        _, found, _ = captions(server, count=10, style="character-based", examples=None)
    assert all(len(row["meta"]["keywords"]) == 3 and row["meta"]["keywords"][0].istitle() for row in found)


# ── shards and batches ───────────────────────────────────────────────────────────────────────────────────────────


def test_shards_merge_without_duplicates(captions, tmp_path):
    with Server(lambda body, before: Do(" ".join(caption(body).split(" ")[:6]))) as server:
        outs = [captions(server, f"{i}.jsonl", count=25, shard=f"{i}/3")[2] for i in (1, 2, 3)]
    kept, dropped = merge_shards(outs, tmp_path / "all.jsonl")
    merged = rows(tmp_path / "all.jsonl")
    texts = [row["target"] for out in outs for row in rows(out)]
    assert [row["target"] for row in merged] == list(dict.fromkeys(texts))
    assert kept + dropped == 75
    assert dropped > 0
    assert len({row["id"] for row in merged}) == kept


def test_merge_calls_a_duplicate_what_the_verb_does(tmp_path, monkeypatch):
    common = {"source": "A dog.", "target": "neutral"}
    found = [{**common, "context": "It runs."}, {"source": "a dog", "context": "it runs", "target": "contradiction"}]
    found += [{"id": f"captions-f00-000000-{n}", "source": f"a {n}", "target": f"a {n}"} for n in range(3)]
    found += [{"source": "A cat.", "context": None, "target": target} for target in ("It sits.", "It runs.")]
    (tmp_path / "shard.jsonl").write_text("".join(map("{}\n".format, map(json.dumps, found))))
    assert merge_shards([tmp_path / "shard.jsonl"], tmp_path / "all.jsonl") == (6, 1)
    monkeypatch.setattr(VERBS["captions"], "key", lambda self, row: row["target"].split()[0])
    assert merge_shards([tmp_path / "shard.jsonl"], tmp_path / "own.jsonl") == (4, 3)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"id": "c-1", "reason": "refusal", "source": "s", "target": "t", "raw": "s"}, r"was rejected \('refusal'\)"),
        ({"id": "request-4", "reason": "failed: 500", "raw": ""}, r"was rejected \('failed: 500'\)"),
        ({"caption": "A dog."}, "not a row that data-gen writes"),
        ({"source": "A dog.", "target": ["dog"]}, "not a row that data-gen writes"),
        ({"id": "c-0", "source": "a cat", "target": "a cat"}, "the id 'c-0' came before with another text"),
    ],
)
def test_what_is_no_accepted_row_is_not_merged(tmp_path, row, told):
    lines = [{"id": "c-0", "source": "a dog", "target": "a dog"}, row]
    (tmp_path / "part.jsonl").write_text("".join(map("{}\n".format, map(json.dumps, lines))))
    with pytest.raises(InputError, match=f"line 2: .*{told}"):
        merge_shards([tmp_path / "part.jsonl"], tmp_path / "all.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["part.jsonl"]


def test_shards_share_the_input_out(tmp_path):
    with Server(lambda body, before: Do(f"Number {digest(body)}")) as server:
        found = [texts_run("rewrite", server, tmp_path, f"{i}.jsonl", count=10, shard=f"{i}/2")[1] for i in (1, 2)]
    sources = [{row["source"] for row in some} for some in found]
    assert len(sources[0]) == len(sources[1]) == 6
    assert not sources[0] & sources[1]


class BatchServer(Server):
    """The Batch API: a batch is done at its second poll. Some lines fail, some are missing at first."""

    def __init__(self, lose_answer=False, refuses=None, thinks=0, fails=0):
        super().__init__(good)
        self.fails = fails
        self.refuses, self.thinks, self.rooms = refuses, thinks, Counter()
        self.files, self.batches, self.lose_answer = {}, {}, lose_answer
        self.routes = {
            "POST /v1/files": self.upload,
            "POST /v1/batches": self.create,
            "GET /v1/batches\\?.*": lambda *_: (200, json.dumps({"data": list(self.batches.values())}).encode()),
            "GET /v1/batches/.*": self.retrieve,
            "GET /v1/files/.*/content": lambda path, *_: (200, self.files[path.split("/")[3]]),
        }

    def upload(self, path, headers, content):
        boundary = headers["content-type"].split("boundary=")[1].encode()
        parts = [
            part.split(b"\r\n\r\n", 1)[1][:-2] for part in content.split(b"--" + boundary)[1:-1] if b"filename=" in part
        ]
        name = f"file{len(self.files)}"
        self.files[name] = parts[0]
        return 200, json.dumps({"id": name, "object": "file"}).encode()

    def create(self, path, headers, content):
        asked = json.loads(content)
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].split(b"\n")]
        results = []
        for number, line in enumerate(lines):
            if number % 10 == 9:
                continue  # expired
            room = line["body"]["max_tokens"]
            self.rooms[room] += 1
            body = json.loads(_response(line["body"]))
            if room < self.thinks:
                body["choices"][0] |= {"finish_reason": "length", "message": {"content": None, "reasoning": "Let me"}}
            response = {"status_code": 400 if number == 3 and not self.thinks else 200, "body": body}
            if self.refuses in line["body"]:
                response = {"status_code": 400, "body": {"error": {"message": f"Unknown parameter: '{self.refuses}'"}}}
            results.append({"custom_id": line["custom_id"], "response": response, "error": None})
        output = f"file{len(self.files)}"
        self.files[output] = "\n".join(map(json.dumps, reversed(results))).encode()
        name = f"batch{len(self.batches)}"
        kept = {
            "id": name,
            "object": "batch",
            "status": "in_progress",
            "metadata": asked["metadata"],
            "output_file_id": output,
        }
        self.batches[name] = kept
        if self.lose_answer:
            self.lose_answer = False
            return 400, b'{"error": {"message": "the line broke"}}'
        return 200, json.dumps(kept).encode()

    def retrieve(self, path, headers, content):
        batch = self.batches[path.split("/")[-1]]
        answer = json.dumps(batch).encode()
        failed = int(batch["id"].removeprefix("batch")) < self.fails
        batch["status"] = "failed" if failed else "completed"
        batch["errors"] = {"data": [{"message": "the line is no JSON"}]} if failed else None
        return 200, answer


def _response(body):
    choice = {"index": 0, "message": {"role": "assistant", "content": caption(body)}}
    return json.dumps({"model": "served", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 10}})


def test_batches(captions, tmp_path):
    with BatchServer() as server:
        summary, found, _ = captions(server, count=45, batch=True)
        sent = len(server.batches)
        captions(server, count=45, batch=True)
        assert len(server.batches) == sent
    with Server(good) as server:
        _, live, _ = captions(server, "live.jsonl", count=45)
    texts = [row["target"] for row in found]
    assert len(texts) == len(set(texts)) == 45
    assert summary.failed == sent
    assert set(texts[:30]) <= {row["target"] for row in live}


def test_a_batch_whose_parameter_is_refused_is_sent_again_without_it(captions, capsys):
    with BatchServer(refuses="temperature") as server:
        summary, found, _ = captions(server, count=9, batch=True, temperature=0.5)
    assert len(found) == 9
    assert summary.failed <= 1
    assert capsys.readouterr().err.count("does not take temperature") == 1


def test_answers_of_a_batch_that_were_cut_off_are_asked_for_again_with_more_room(captions, tmp_path):
    with BatchServer(thinks=500) as server:
        summary, found, _ = captions(server, count=6, batch=True)
    assert len(found) == 6
    assert sorted(server.rooms) == [64, 256, 1024]
    assert found[0]["meta"]["usage"] == {"prompt_tokens": 15, "completion_tokens": 30}  # of all three tries
    assert summary.rejected["cut"] == 0
    journal = rows(tmp_path / "out.jsonl.journal")
    assert sum(row["tokens_out"] for row in journal if "text" in row) == summary.tokens_out
    with BatchServer(thinks=10**6) as server, pytest.raises(StuckError, match="no row accepted in the last 4 requests"):
        captions(server, "never.jsonl", count=4, batch=True, patience=4)
    assert sorted(server.rooms) == [64, 256, 1024, 4096]
    assert {row["reason"].split(":")[0] for row in rejected(tmp_path / "never.jsonl")} <= {"cut", "failed"}


def test_a_batch_that_failed_is_sent_again_by_the_same_command(captions):
    with BatchServer(fails=1) as server:
        told = "batch batch0 failed: the line is no JSON; the same command sends another"
        with pytest.raises(ServerError, match=told):
            captions(server, count=3, batch=True)
        _, found, _ = captions(server, count=3, batch=True)
        assert (len(found), len(server.batches)) == (3, 2)


def test_answers_without_text_count_for_what_they_took(captions, tmp_path):
    """Each try: one that is given up, and those before one that brings a text."""

    def decide(body, before):
        if digest(body) % 2 or before < 2:
            return Do(message={"content": None, "reasoning_content": "Hm"})
        return good(body, before)

    with Server(decide) as server:
        summary, found, _ = captions(server, count=2, retries=2)
    assert summary.failed > 0
    journal = rows(tmp_path / "out.jsonl.journal")[1:]
    assert {row["tokens_out"] for row in journal if "index" in row} == {30}  # of three tries
    assert summary.tokens_out == sum(row["tokens_out"] for row in journal) >= 30 * summary.requests  # given up ones too
    assert found[0]["meta"]["usage"]["completion_tokens"] == 30


def test_a_judge_that_fails_loses_no_count(captions, tmp_path):
    def decide(body, before):
        if prompt_of(body).endswith("Answer yes or no.") and digest(body) % 2:
            return Do(status=400, raw=b'{"error": {"message": "flagged by moderation"}}')
        return Do("Yes.") if prompt_of(body).endswith("Answer yes or no.") else good(body, before)

    with Server(decide) as server:
        captions(server, count=4, filter=["judge"], concurrency=1)
    journal = rows(tmp_path / "out.jsonl.journal")[1:]
    assert {row["tokens_out"] for row in journal if row.get("error")} == {10}  # of the caption


def test_a_batch_sent_right_before_a_kill_is_found_again(captions):
    with BatchServer(lose_answer=True) as server:
        with pytest.raises(ServerError, match="the line broke"):
            captions(server, count=9, batch=True)
        assert len(server.batches) == 1
        captions(server, count=8, batch=True)
        assert len(server.batches) == 1


# ── before anything is asked ─────────────────────────────────────────────────────────────────────────────────────


def test_preview_shows_three_prompts_and_asks_nothing(tmp_path, examples):
    options = CaptionOptions(
        out=tmp_path / "o.jsonl", count=1000, model="m", examples=examples, price_in=1.0, price_out=2.0
    )
    text = str(preview("captions", options))
    assert text.count("Write a caption") == 3
    assert "about 1000 requests" in text
    assert "cost" in text
    assert list(tmp_path.iterdir()) == [examples]


@pytest.mark.parametrize(
    ("verb", "per_request", "requests"),
    [("rewrite", 4, 300), ("vqa", 4, 300), ("vqa", None, 400), ("paraphrase", None, 300), ("entailment", None, 400),
     ("entailment", 4, 100)],
)  # fmt: skip
def test_a_preview_counts_all_the_rows_of_a_request(examples, verb, per_request, requests):
    options = TextOptions(out="o.jsonl", count=1200, model="m", input=examples, per_request=per_request)
    assert preview(verb, options).requests == requests


def test_english_examples_for_another_language_are_told(examples, capsys):
    options = {"out": "o.jsonl", "count": 5, "model": "m", "input": examples, "language": "de"}
    preview("vqa", TextOptions(**options))
    told = (
        "note: the examples of the style 'vqa' are English; --examples takes others in German, --shots 0 shows none\n"
    )
    assert capsys.readouterr().err == told
    preview("vqa", TextOptions(**options, shots=0))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "--count must be at least 1"),
        ({"per_request": 10**9}, "--per-request must be at most 1000"),
        ({"concurrency": 10**6}, "--concurrency must be at most 10000"),
        ({"retries": 2000}, "--retries must be at most 1000"),
        ({"timeout": 1e300}, "--timeout must be at most 1000000"),
        ({"keyword_count": 10**12}, "--keyword-count must be from 1 to 100"),
        ({"shard": "3/2"}, "--shard must be i/n"),
        ({"sampling": "best"}, "uniform or unigram"),
        ({"endpoint": "tea"}, "chat or completions"),
        ({"max_cost": 3.0}, "needs --price-in"),
        ({"batch": True, "filter": ["judge"]}, "leave one of them out"),
        ({"timeout": 0.0}, "above 0 seconds"),
        ({"temperature": float("nan")}, "--temperature must be a number from 0, got nan"),
        ({"max_cost": float("inf"), "price_in": 1.0}, "--max-cost must be a number from 0, got inf"),
        ({"per_request": 2, "endpoint": "completions"}, "needs --endpoint chat"),
        ({"examples": None}, "give --examples"),
        ({"style": "vqa", "examples": None}, "missing or wrong for captions"),
        ({"style": "short", "examples": None, "language": "de"}, "are English, and so are keywords from them"),
        ({"min_count": -5}, "--min-count must be at least 1"),
        ({"min_count": 50}, "--min-count chooses keywords from --corpus"),
        ({"min_count": 50, "corpus": "c.txt", "keywords": "k.txt"}, "without --keywords; leave it out"),
    ],
)
def test_impossible_options_are_told(tmp_path, examples, options, message):
    values = {
        "out": tmp_path / "o.jsonl",
        "count": 5,
        "model": "m",
        "examples": examples,
        "base_url": "http://127.0.0.1:1/v1",
    }
    with pytest.raises(InputError, match=message):
        generate("captions", CaptionOptions(**{**values, **options}))
    assert not (tmp_path / "o.jsonl").exists()


def test_keywords_are_wanted_of_captions_alone(examples):
    with pytest.raises(InputError, match="--filter keywords needs keywords, and this verb is given texts"):
        TextOptions(out="o.jsonl", count=5, model="m", input=examples, filter=["keywords"])


def test_a_run_of_many_requests_keeps_its_rate(captions):
    """No figure to hold on a shared machine; a quadratic path or a stall per request would take minutes."""
    with Server(lambda body, before: Do(caption(body))) as server:
        start = time.monotonic()
        captions(server, count=400, concurrency=32)
        assert time.monotonic() - start < 300
