"""The drift report against closed forms, on texts whose drift is known."""

import json
import math
import random
import re
from collections import Counter

import pytest

from data_gen.errors import InputError
from data_gen.report import drift, write_report
from data_gen.report.divergence import jensen_shannon, smoothed_kl, word_use


def test_smoothed_kl_by_hand():
    target, written = {"a": 3, "b": 1}, {"a": 1, "c": 2}
    q, p = [4 / 7, 2 / 7, 1 / 7], [2 / 6, 1 / 6, 3 / 6]
    assert smoothed_kl(target, written) == pytest.approx(sum(x * math.log(x / y) for x, y in zip(q, p, strict=True)))
    assert smoothed_kl(target, target) == 0


def test_jensen_shannon_by_hand():
    assert jensen_shannon({"a": 5}, {"b": 9}) == pytest.approx(1)
    assert jensen_shannon({"a": 5, "b": 5}, {"a": 1, "b": 1}) == pytest.approx(0)
    expected = 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25) + math.log2(1 / 0.75))
    assert jensen_shannon({"a": 1, "b": 1}, {"a": 1}) == pytest.approx(expected)


def test_word_use_finds_the_word_that_is_written_23_times_too_often():
    rng = random.Random(0)
    common = [f"w{chr(97 + i)}" for i in range(20)]
    target = Counter(rng.choices([*common, "opens"], [1.0] * 20 + [0.02], k=50_000))
    written = Counter(rng.choices([*common, "opens"], [1.0] * 20 + [0.46], k=50_000))
    written["rare"] = 1
    used = word_use(target, written)
    assert used[0].word == "opens"
    assert 15 < used[0].ratio < 35
    assert used[0].z > 10
    assert all(abs(use.z) < 4.5 for use in used[1:])
    assert {use.word: use for use in used}["rare"].z < 2


def test_word_use_is_antisymmetric():
    one, other = Counter(a=50, b=20, c=3), Counter(a=40, b=60)
    forth, back = ({use.word: use.z for use in word_use(*pair)} for pair in ((one, other), (other, one)))
    assert forth == pytest.approx({word: -z for word, z in back.items()})


TARGET = ["a dog runs in the park", "a cat sleeps on the sofa", "two birds sit on a roof"]


def test_figures_by_hand():
    written = ["a dog opens the door", "a dog opens the door", "a cat sleeps on the sofa", "a bus"]
    figures = drift(written, TARGET)
    assert figures["length"]["written"]["mean"] == (5 + 5 + 6 + 2) / 4
    assert figures["duplicates"] == {"exact": 0.25, "near": 0, "copied_from_target": 0.25}
    assert figures["vocabulary"]["written"] == 10
    assert figures["vocabulary"]["written_words_unknown_to_target"] == pytest.approx(5 / 18)
    assert figures["frequent_phrases"][0] == {"phrase": "a dog opens the", "written": 500.0, "target": 0.0}
    assert figures["kl_over_the_run"][-1] == (4, figures["unigram"]["kl"])
    assert figures["diversity"]["written"]["distinct_1"] == 10 / 18
    assert drift(TARGET, TARGET)["unigram"] == {"kl": 0, "js": pytest.approx(0)}


@pytest.mark.parametrize(
    ("written", "target"), [("dog\ncat\n", "a dog runs\n"), ("a dog runs\n", "dog\ncat\n"), ("dog\ndog\n", "dog\n")]
)
def test_a_report_of_single_words_is_json(tmp_path, written, target):
    (tmp_path / "w.txt").write_text(written)
    (tmp_path / "t.txt").write_text(target)
    write_report(tmp_path / "w.txt", tmp_path / "t.txt", tmp_path / "r.html")

    def refuse(name):
        raise ValueError(name)

    figures = json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)
    assert figures["bigram"]["js"] == (0 if target == "dog\n" else 1)
    assert not re.search(r"-0\.0\b", (tmp_path / "r.json").read_text())


def test_the_report_shows_what_it_counts_and_escapes_what_it_shows(tmp_path):
    written = tmp_path / "w.jsonl"
    texts = ["a dog opens <script>alert(1)</script> the door", "a cat & a dog"]
    written.write_text(
        "".join(json.dumps({"target": t, "context": None, "meta": {"keywords": ["dog"]}}) + "\n" for t in texts)
    )
    (tmp_path / "t.txt").write_text("\n".join(TARGET))
    (tmp_path / "w.jsonl.journal").write_text(
        '{"data_gen": 1}\n{"index": 0, "tokens_in": 7, "tokens_out": 3}\n{"index": 1, "tokens_in": 5, "tokens_out": 2}\n'
        '{"lost": 1, "tokens_in": 6, "tokens_out": 4}\n{"lost": 0, "tokens_in": 1, "tokens_out": 1}\n'
    )
    (tmp_path / "w.jsonl.rejected.jsonl").write_text('{"reason": "failed: status 500"}\n{"reason": "empty"}\n')
    out = tmp_path / "r.html"
    returned = write_report(written, tmp_path / "t.txt", out)
    html, figures = out.read_text(), json.loads((tmp_path / "r.json").read_text())
    assert json.loads(json.dumps(returned)) == figures
    spent = {"requests": 2, "tokens_in": 13, "tokens_out": 6, "lost": 1, "lost_in": 6, "lost_out": 4, "mended_rows": 0}
    assert figures["cost"] == {**spent, "rejected": {"failed": 1, "empty": 1}}
    assert "<script>" not in html
    assert "None" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<svg") == 5
    assert "opens" in html
    assert "about 10 of tries that ended without an answer (1);" in html


def test_questions_are_reported_and_not_their_answers(tmp_path):
    rows = [{"source": "A dog.", "context": "What animal is it?", "target": "dog"}]
    (tmp_path / "w.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_report(tmp_path / "w.jsonl", tmp_path / "w.jsonl", tmp_path / "r.html")
    assert json.loads((tmp_path / "r.json").read_text())["length"]["written"]["mean"] == 4


@pytest.mark.parametrize("out", ["w.jsonl", "ref.html", "link.html", "w.jsonl.journal", "w.jsonl.rejected.html"])
def test_the_report_replaces_nothing_that_it_reads(tmp_path, out):
    inputs = {
        "w.jsonl": '{"target": "a dog"}\n',
        "ref.json": '{"annotations": [{"id": 1, "caption": "a cat"}]}',
        "w.jsonl.journal": "{}\n",
        "w.jsonl.rejected.jsonl": "{}\n",
    }
    for name, content in inputs.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "link.json").symlink_to(tmp_path / "ref.json")
    if out == "w.jsonl.rejected.html":  # its figures lie beside the rejected rows, not in their place
        write_report(tmp_path / "w.jsonl", tmp_path / "ref.json", tmp_path / out)
    else:
        with pytest.raises(InputError, match=r"the report reads .*, and would replace it; give another --out"):
            write_report(tmp_path / "w.jsonl", tmp_path / "ref.json", tmp_path / out)
    assert {name: (tmp_path / name).read_text() for name in inputs} == inputs
