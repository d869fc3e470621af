"""Whatever lies in a file that data-gen reads, or in what a server sends: it is read, or refused in one line."""

import asyncio
import json
import math
import random
from contextlib import suppress

import pytest
from dg_tools import EXAMPLES
from fuzzing import INPUTS, ODD, damaged, reshaped

from data_gen import CaptionOptions, TextOptions
from data_gen.client import Client, Limit, Prompt, RequestError, retry_after
from data_gen.client.reading import read_reply
from data_gen.errors import DataGenError
from data_gen.filters import Setting, make_filter
from data_gen.prompts.answers import parse
from data_gen.prompts.shots import read_shots, style_shots
from data_gen.prompts.style import STYLES, Style, load_style
from data_gen.report import write_report
from data_gen.run import generate, merge_shards, preview
from data_gen.run.plan import Plan
from data_gen.run.store import Answer, Store
from data_gen.text.files import read_texts
from data_gen.text.language import LANGUAGES, load_language
from data_gen.verbs import VERBS

NOWHERE = "http://127.0.0.1:9/v1"
ENGLISH = load_language("en")


def dumped(value):
    """JSON, where ODD values allow it; lone surrogates and numbers without end as Python writes them."""
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 50_000


def toml(value):
    """A value as TOML, in one line."""
    if isinstance(value, bool) or value is None:
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        try:
            return "[" + ", ".join(map(toml, value)) + "]"
        except RecursionError:
            return "[" * 50_000
    if isinstance(value, float):
        return "nan" if math.isnan(value) else "inf" if math.isinf(value) else repr(value)
    return json.dumps(value).replace("\\ud800", "\\u0001") if isinstance(value, str) else str(value)


def tables(document):
    """Versions of a TOML file: its values in other places and of other kinds."""
    for changed in reshaped(document):
        if isinstance(changed, dict):
            yield "\n".join(f"{json.dumps(str(name))} = {toml(value)}" for name, value in changed.items()).encode()


STYLE = {
    "instruction": "Be warm.",
    "shots": [
        {
            "keywords": ["dog", "park"],
            "plain": "A dog.",
            "text": "A dog runs.",
            "given": "A dog.",
            "records": [{"question": "What?"}],
        }
    ],
    "names": ["Ann"],
    "limits": {"max_tokens": 64, "min_words": 3, "max_words": 40},
    "sampling": {"temperature": 0.7, "top_k": 5},
}


def use_style(path):
    style = load_style(str(path))
    for name in VERBS:
        with suppress(DataGenError):
            style_shots(VERBS[name](), style, "s")
    json.dumps(style.sampling, allow_nan=False)
    options = {"out": path.with_name("o"), "count": 1, "model": "m", "style": str(path)}
    return preview("captions", CaptionOptions(**options))


@pytest.mark.parametrize("kind", ["damaged", "reshaped"])
def test_fuzz_styles(tmp_path, tried, kind):
    path = tmp_path / "s.toml"
    contents = damaged((STYLES / "uplifting.toml").read_bytes()) if kind == "damaged" else tables(STYLE)
    for content in contents:
        path.write_bytes(content)
        tried(lambda: use_style(path), DataGenError)


@pytest.mark.parametrize("kind", ["damaged", "reshaped"])
def test_fuzz_languages(tmp_path, tried, kind):
    path = tmp_path / "l.toml"
    whole = {
        "name": "X",
        "script": "LATIN",
        "function": "a the",
        "modifiers": "red",
        "adverb_endings": ["ly"],
        "inflections": ["s"],
    }
    contents = damaged((LANGUAGES / "en.toml").read_bytes()[:900]) if kind == "damaged" else tables(whole)

    def use():
        language = load_language(str(path))
        language.speaks("A dog runs over there.")
        language.uses("dog", frozenset(["dogs"]))
        return language.is_keyword("dog")

    for content in contents:
        path.write_bytes(content)
        tried(use, DataGenError)


ROWS = [
    {"id": str(n), "source": text, "target": [text, "x"], "meta": {"keywords": ["dog"]}}
    for n, text in enumerate(EXAMPLES)
]
COCO = {"annotations": [{"id": n, "image_id": n, "caption": text} for n, text in enumerate(EXAMPLES)]}


def changed_rows(rows):
    for changed in reshaped(rows):
        lines = changed if isinstance(changed, list) else [changed]
        yield "\n".join(map(dumped, lines)).encode()


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("a.txt", lambda: damaged("\n".join(EXAMPLES).encode())),
        ("a.jsonl", lambda: damaged("\n".join(map(json.dumps, ROWS)).encode())),
        ("b.jsonl", lambda: changed_rows(ROWS)),
        ("a.json", lambda: damaged(json.dumps(COCO).encode())),
        ("b.json", lambda: (dumped(changed).encode() for changed in reshaped(COCO))),
    ],
    ids=["txt", "jsonl", "jsonl values", "coco", "coco values"],
)
def test_fuzz_texts(tmp_path, tried, name, contents):
    path = tmp_path / name
    for content in contents():
        path.write_bytes(content)
        texts = tried(lambda: read_texts(path), DataGenError)
        assert isinstance(texts, DataGenError) or all(text.text == " ".join(text.text.split()) for text in texts)


@pytest.mark.parametrize("verb", list(VERBS))
def test_fuzz_examples_of_a_verb(tmp_path, tried, verb):
    path, rng = tmp_path / "rows.jsonl", random.Random(verb)
    rows = [{**row, "context": "What?", "label": "neutral", "target": rng.choice(["neutral", "dog"])} for row in ROWS]
    rows += [{**row, "group": "g", "meta": {"given": "A dog."}} for row in rows]
    for number, content in enumerate(changed_rows(rows)):
        path.write_bytes(content if number % 2 else content[: rng.randrange(len(content) + 1)])
        tried(lambda: read_shots(VERBS[verb](), path, ENGLISH, 2, 0), DataGenError)


@pytest.mark.parametrize("name", ["cosine=FILE:0.3", "forbidden=FILE"])
def test_fuzz_files_of_filters(tmp_path, tried, name):
    path, setting = tmp_path / "f.txt", Setting(Style(), ENGLISH, 0)
    for content in damaged(b"a 0.1 0.2 -0.3\ncat 0.2 0.1 nan\nbus 1e5 2 3\n"):
        path.write_bytes(content)
        tried(lambda: make_filter(name.replace("FILE", str(path)), setting), DataGenError)


# ── what a run wrote ─────────────────────────────────────────────────────────────────────────────────────────────


def a_run(folder):
    """A finished run, written by hand: its files by name."""
    (folder / "shots.txt").write_text("\n".join(EXAMPLES))
    options = CaptionOptions(
        out=folder / "o.jsonl",
        count=6,
        model="m",
        base_url=NOWHERE,
        examples=folder / "shots.txt",
        retries=0,
        patience=5,
    )
    with Store(options.out, Plan("captions", options).params):
        pass
    journal = folder / "o.jsonl.journal"
    head = journal.read_bytes().split(b"\n")[0]
    texts = [*(f"A dog number {n} runs." for n in range(7)), "", "[broken"]
    answers = [vars(Answer(n, "2026-01-01T00:00:00+00:00", text, "m", 5, 6)) for n, text in enumerate(texts)]
    answers[3] |= {"error": "status 500", "text": "x"}
    for path in folder.glob("o.jsonl*"):
        path.unlink()
    journal.write_bytes(b"\n".join([head, *(json.dumps(answer).encode() for answer in answers), b""]))
    generate("captions", options)
    return options, {path.name: path.read_bytes() for path in folder.glob("o.jsonl*")}, answers


def restore(folder, files):
    for path in folder.glob("o.jsonl*"):
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.journal", "o.jsonl.rejected.jsonl"])
def test_fuzz_files_of_a_run(tmp_path, tried, name):
    options, files, _ = a_run(tmp_path)
    assert len(files) == 3
    for content in damaged(files[name]):
        restore(tmp_path, {**files, name: content})
        tried(lambda: generate("captions", options), DataGenError)


def test_fuzz_records_of_a_journal(tmp_path, tried):
    options, files, answers = a_run(tmp_path)
    head = json.loads(files["o.jsonl.journal"].split(b"\n")[0])
    for changed in reshaped([head, *answers, {"batch": "k", "id": "b"}, {"batch": "k", "done": True}]):
        lines = changed if isinstance(changed, list) else [changed]
        journal = "".join(dumped(line) + "\n" for line in lines).encode()
        restore(tmp_path, {**files, "o.jsonl.journal": journal})
        tried(lambda: generate("captions", options), DataGenError)


def test_fuzz_reports_and_merges(tmp_path, tried):
    _, files, answers = a_run(tmp_path)
    rows = [json.loads(line) for line in files["o.jsonl"].splitlines()]
    rejected = [json.loads(line) for line in files["o.jsonl.rejected.jsonl"].splitlines()]
    for number, changed in enumerate(reshaped({"rows": rows, "journal": answers, "rejected": rejected})):
        parts = changed if isinstance(changed, dict) else {}
        for part, name in (("rows", "o.jsonl"), ("journal", "o.jsonl.journal"), ("rejected", "o.jsonl.rejected.jsonl")):
            lines = parts.get(part) if isinstance(parts.get(part), list) else [parts.get(part)]
            (tmp_path / name).write_text("".join(dumped(line) + "\n" for line in lines))
        if number % 4 == 0:  # drawing takes most of the time
            tried(lambda: write_report(tmp_path / "o.jsonl", tmp_path / "shots.txt", tmp_path / "r.html"), DataGenError)
        (tmp_path / "m.jsonl").unlink(missing_ok=True)
        tried(lambda: merge_shards([tmp_path / "o.jsonl"], tmp_path / "m.jsonl"), DataGenError)


# ── what a server sends ──────────────────────────────────────────────────────────────────────────────────────────

BODY = {
    "id": "x",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "length",
            "message": {"content": [{"type": "text", "text": "A dog."}], "reasoning": "x"},
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 3}},
    "error": {"message": "no", "code": 400, "param": "seed", "type": "invalid"},
}


def test_fuzz_answers_of_a_server(tried):
    prompt = Prompt("x", 16, 0, None, ("\n",))
    bodies = [dumped(changed) for changed in reshaped(BODY)]
    bodies += [dumped(changed) for changed in reshaped({**BODY, "error": None}, seed=1)]
    bodies += [content.decode("utf-8", "replace") for content in damaged(json.dumps(BODY).encode())]
    for body in bodies:
        reply = tried(lambda body=body: read_reply(body, prompt, "m"), RequestError)
        if not isinstance(reply, RequestError):
            assert isinstance(reply.text, str)
            json.dumps(vars(reply), allow_nan=False)


def test_fuzz_errors_of_a_server(tried):
    async def use():
        client = Client(model="m", base_url=NOWHERE)
        detail = [{"loc": ["body", "seed"], "msg": "no"}]
        for changed in reshaped({"error": BODY["error"], "detail": detail}, INPUTS):
            for status in (400, 404, 422, 429, 500):
                error = client._status(status, changed, {"retry-after": "1"})
                assert str(error).strip()
                tried(lambda error=error: raises(error), type(error))

    asyncio.run(use())


def raises(error):
    raise error


def test_fuzz_headers(tried):
    rng = random.Random(0)
    values = [value for value in map(str, (v for v in ODD if not isinstance(v, list))) if value.isascii()]
    values += [
        "Mon, 01 Jan 99999 00:00:00 GMT",
        "1m",
        "9" * 400 + "h",
        "-1",
        "1e400",
        "Thu, 32 Foo 2026 25:61:61 +9999999",
    ]
    for _ in range(INPUTS):
        names = ("limit", "remaining", "reset")
        headers = {f"x-ratelimit-{name}-requests": rng.choice([*values, "5"]) for name in names}
        limit = Limit("requests", lambda: 0.0)
        tried(lambda headers=headers, limit=limit: limit.learn(headers, 0), ZeroDivisionError)
        assert 0 <= limit.delay(1) <= 3600
        assert (retry_after({"retry-after": rng.choice(values)}) or 0.0) >= 0


def test_fuzz_texts_of_a_model(tried):
    """No answer, however broken, is an error; and what is read is one printable line a field."""
    good = [
        json.dumps({"items": [{"question": f"What is {n}?", "answer": "a dog"} for n in range(4)]}, indent=1),
        "<think>Let me see.</think>\nQuestion: What is it?\nAnswer: a dog\n\n1. Is it red?\nAnswer: no",
        "```json\n[{'question': 'What?', 'answer': 2,},]\n```",
    ]
    for number, content in enumerate(damaged("\n".join(good).encode(), 3 * INPUTS)):
        text = (content if number % 3 == 0 else next(damaged(good[number % 3].encode(), 1, number))).decode(
            "utf-8", "replace"
        )
        for fields in (("question", "answer"), ("caption",)):
            reading = tried(lambda text=text, fields=fields: parse(text, fields))
            assert bool(reading.records) != bool(reading.why)
            for record in reading.records:
                assert set(record) == set(fields)
                assert all("\n" not in value and "\x1b" not in value for value in record.values())


def test_fuzz_options(tmp_path, tried):
    (tmp_path / "shots.txt").write_text("\n".join(EXAMPLES))
    rng = random.Random(0)
    kinds = {"captions": CaptionOptions, "vqa": TextOptions}
    for _ in range(INPUTS):
        verb = rng.choice(list(kinds))
        options = {"out": tmp_path / "o", "count": 3, "model": "m", "examples": tmp_path / "shots.txt"}
        options |= {} if verb == "captions" else {"input": tmp_path / "shots.txt", "examples": None}
        numbers = [
            "count",
            "shots",
            "per_request",
            "answer_tokens",
            "block",
            "concurrency",
            "retries",
            "patience",
            "seed",
        ]
        numbers += ["temperature", "top_p", "timeout", "price_in", "price_out", "max_cost", "max_tokens"]
        odd = [0, -1, 1, 7, 10**30, 1e308, 0.5, math.nan, math.inf, None]
        for name in rng.sample(numbers, 2):
            value = rng.choice(odd)
            whole = name not in ("temperature", "top_p", "timeout", "price_in", "price_out", "max_cost")
            options[name] = int(value) if whole and isinstance(value, float) and math.isfinite(value) else value
        options["filter"] = [
            rng.choice(
                ["length=0-9999999999999999999", "ngrams=0/1", "near=nan", "length=x", "cosine=:1", "ngrams=1/0"]
            )
        ]
        wanted = {name: value for name, value in options.items() if value is not None or name == "count"}
        wanted["count"] = wanted["count"] or 3
        if any(isinstance(value, float) and name in numbers[:9] for name, value in wanted.items()):
            continue  # the command line gives whole numbers there
        tried(lambda verb=verb, wanted=wanted: preview(verb, kinds[verb](**wanted)), DataGenError)
