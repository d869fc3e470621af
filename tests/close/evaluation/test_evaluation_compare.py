"""Comparisons of several seeds a side: what is pooled, which examples differ, what the page says."""

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from scipy import stats
from tiny import put
from typer.testing import CliRunner

from close.cli import score as score_verbs
from close.data.rows import RowFile
from close.errors import DataError, MismatchError, MissingError, RecipeError, UnknownNameError
from close.evaluation.bootstrap import mean_score, pooled
from close.evaluation.compare import compare
from close.evaluation.metrics import METRICS, Metric, Score, caption_scores
from close.evaluation.page import comparison_page, index_page
from close.evaluation.scores import score_files
from close.evaluation.seeds import over_seeds
from close.evaluation.side_by_side import side_by_side
from close.io.files import write_json

ODD = "zzz\x1b[2J\n\u2028zzz"
EVIL = "</style><script>alert(1)</script>\x1b[2J\n\u2028"
WORDS = ["dog", "cat", "bus", "man", "hat", "cow", "car", "cup"] * 2

app = typer.Typer()
score_verbs.register(app)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    rows = [
        {"id": f"r{n}", "image": f"{n}.jpg", "references": [f"A {w} sits here.", f"one {w} on it {n}"]}
        for n, w in enumerate(WORDS)
    ]
    rows[0] |= {"image": "red.png", "references": [EVIL, "a dog sits here"]}
    return put(tmp_path / "val.jsonl", rows)


def evaluated(run: Path, data: Path, texts: list[str], task: str = "caption") -> Path:
    """A run with one evaluation, as `close evaluate` leaves it."""
    rows = RowFile(data)
    place = run / "evaluations" / f"{data.stem}-image"
    put(place / "predictions.jsonl", [{"id": row.id, "text": text} for row, text in zip(rows, texts, strict=False)])
    write_json(place / "scores.json", {"task": task, "data": str(data), "data_sha256": rows.sha256, "scores": {}})
    return run


@pytest.fixture
def runs(tmp_path: Path, data: Path) -> dict[str, Path]:
    """A is right on the first k, B on all but the first, whatever the seed."""
    right = [f"a {w} sits here" for w in WORDS]
    wrong = [f"red thing number {n}" for n in range(len(WORDS))]
    made = {f"a{k}": evaluated(tmp_path / "a" / f"seed-{k}", data, right[:k] + wrong[k:]) for k in (3, 5, 7)}
    made["b"] = evaluated(tmp_path / "b", data, [ODD, *right[1:]])
    made["b2"] = evaluated(tmp_path / "b2", data, [*wrong[:2], *right[2:]])
    return made


SETTINGS: dict[str, Any] = {"tokenizer": "python", "samples": 200}


def test_compare_two_runs(tmp_path: Path) -> None:
    words = ["dog", "cat", "bus", "man", "hat", "cow", "car", "cup"] * 3
    rows = [{"id": f"r{n}", "image": f"{n}.jpg", "references": [f"A {w} sits here."]} for n, w in enumerate(words)]
    data = put(tmp_path / "val.jsonl", rows)
    good = evaluated(tmp_path / "good", data, [f"a {w} sits here" for w in words])
    bad = evaluated(tmp_path / "bad", data, ["a dog runs"] * 20 + [f"a {w} sits here" for w in words[20:]])
    out = tmp_path / "out.json"
    done = CliRunner().invoke(app, ["compare", *map(str, (bad, good)), "--tokenizer", "python", "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert result["n"] == 24
    cider = result["measures"]["cider"]
    assert cider["difference"] == pytest.approx(cider["b"] - cider["a"])
    assert 0 < cider["ci"][0] < cider["difference"] < cider["ci"][1]
    assert cider["p"] < 0.01
    same = compare(good, good, tokenizer="python", samples=100)["measures"]["cider"]
    assert (same["difference"], same["p"]) == (0, 1)
    loaded = SimpleNamespace(folder=good)  # a run that is loaded says where it lies
    assert compare(loaded, [loaded], tokenizer="python", samples=100)["a"] == [str(good)]
    with pytest.raises(RecipeError, match="by their folders, and predictions by their files, not None"):
        compare(good, None)


def test_compare_refuses_what_is_not_alike(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "image": f"{n}.jpg", "references": ["A dog."]} for n in range(4)]
    one, two = put(tmp_path / "one.jsonl", rows), put(tmp_path / "two.jsonl", rows[:3])
    a, b = evaluated(tmp_path / "a", one, ["a dog"] * 4), evaluated(tmp_path / "b", two, ["a dog"] * 3)
    with pytest.raises(MissingError, match="no evaluation in common"):
        compare(a, b)
    with pytest.raises(MismatchError, match="different data"):
        compare(a / "evaluations" / "one-image", b / "evaluations" / "two-image")
    part = evaluated(tmp_path / "c", one, ["a dog"] * 3)
    with pytest.raises(MismatchError, match=r"4 and 3, 1 in one only \(first: 'r3'\)"):
        compare(a, part, tokenizer="python")
    assert compare(part, evaluated(tmp_path / "e", one, ["a cat"] * 3), tokenizer="python", samples=100)["n"] == 3
    with pytest.raises(MismatchError, match="different task"):
        compare(a, evaluated(tmp_path / "d", one, ["x"] * 4, task="vqa"))
    evaluated(a, two, ["a dog"] * 3)
    with pytest.raises(RecipeError, match="choose one: one-image, two-image"):
        compare(a, a)
    assert compare(a, a, name="two-image", tokenizer="python", samples=100)["n"] == 3
    put(one, rows[::-1])
    with pytest.raises(MismatchError, match="has changed"):
        compare(a, part, name="one-image")
    one.unlink()
    with pytest.raises(MissingError, match="say where it is"):
        compare(a, part, name="one-image")


def test_seeds_of_a_side_count_together(runs: dict[str, Path]) -> None:
    a, b = [runs[f"a{k}"] for k in (3, 5, 7)], [runs["b"], runs["b2"]]
    found = compare(a, b, **SETTINGS)
    singles = {name: compare(path, path, **SETTINGS)["measures"] for name, path in runs.items()}
    for name, row in found["measures"].items():
        assert row["runs_a"] == [singles[f"a{k}"][name]["a"] for k in (3, 5, 7)]
        assert row["runs_b"] == [singles[key][name]["a"] for key in ("b", "b2")]
        over = stats.ttest_ind(row["runs_b"], row["runs_a"], equal_var=False).confidence_interval(0.95)
        assert row["over_seeds"]["ci"] == pytest.approx([over.low, over.high])
        if not name.startswith("bleu"):
            assert row["a"] == pytest.approx(np.mean(row["runs_a"]))
            assert row["difference"] == pytest.approx(np.mean(row["runs_b"]) - np.mean(row["runs_a"]))
        assert row["ci"][0] <= row["difference"] <= row["ci"][1]
    assert found["measures"]["cider"]["p"] < 0.05
    assert "runs_a" not in singles["b"]["cider"]
    assert "over_seeds" not in singles["b"]["cider"]
    assert compare(runs["a3"].parent, b, **SETTINGS) == found  # a folder of runs


def test_corpus_scores_are_those_of_the_outputs_put_together(data: Path) -> None:
    truth = {row.id: list(row.references) for row in RowFile(data)}
    said = [{key: refs[n % 2][: 30 - 9 * n] for key, refs in truth.items()} for n in range(3)]
    settings: dict[str, Any] = {"tokenizer": "python", "metrics": ["bleu"], "samples": 0}
    runs = [caption_scores(one, truth, **settings) for one in said]
    together = caption_scores(
        {f"{n}{key}": text for n, one in enumerate(said) for key, text in one.items()},
        {f"{n}{key}": refs for n in range(3) for key, refs in truth.items()},
        **settings,
    )
    for name in ("bleu_1", "bleu_4"):
        assert pooled([run.metrics[name] for run in runs]).value == pytest.approx(together[name], abs=1e-6)
    with pytest.raises(MismatchError, match="2 and 3 examples"):
        pooled([mean_score([1, 2, 3]), mean_score([1, 2])])


def test_the_examples_that_differ_most(runs: dict[str, Path]) -> None:
    found = compare([runs["a3"], runs["a5"]], runs["b"], examples=4, **SETTINGS)["examples"]
    assert found["better"] == {"a": 1, "b": 13, "same": 2}
    assert [one["id"] for one in found["a_better"]] == ["r0"]
    assert len(found["b_better"]) == 4
    first = found["b_better"][0]
    assert first["score_b"] > first["score_a"]
    assert (len(first["a"]), len(first["b"])) == (2, 1)
    assert first["references"][0].startswith("A ")


def test_what_the_interval_is_over_and_that_seeds_lie_further_apart_is_told(
    runs: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    good, poor = (evaluated(tmp_path / name, data, [f"a {w} {name}" for w in WORDS]) for name in ("sits here", "x"))
    files = {name: tmp_path / f"page.{name}" for name in ("html", "json")}
    arguments = ["compare", good, runs["b"], "--tokenizer=python"]
    arguments += [f"--html={files['html']}", f"--out={files['json']}"]
    more = ["--a", poor, "--b", runs["b2"]]
    done = CliRunner().invoke(app, [*map(str, [*arguments, *more])])
    found = json.loads(files["json"].read_text())
    assert found["over"].startswith("Interval and p are over the 16 examples, with these runs as they are")
    assert found["warning"].startswith("Runs of A lie further apart than the interval is wide: cider ")
    assert "`close sweep --seeds`" in found["warning"]
    page = Text(files["html"].read_text(encoding="utf-8")).text
    over = found["measures"]["cider"]["over_seeds"]
    for said in (found["over"], found["warning"], f"{over['ci'][0]:+.1f}"):
        assert said in page
    for said in (found["over"], f"warning: {found['warning']}"):
        assert said in done.stdout
    assert f"{over['difference']:+.2f} [{over['ci'][0]:+.2f}, {over['ci'][1]:+.2f}]" in done.stdout
    one = CliRunner().invoke(app, [*map(str, arguments)])
    assert found["over"] in one.stdout
    assert "warning" not in json.loads(files["json"].read_text())
    assert "over seeds" not in one.stdout


def test_runs_that_lie_close_give_no_warning_and_single_ones_no_interval(runs: dict[str, Path]) -> None:
    steady = compare([runs["a5"], runs["a5"]], [runs["b"], runs["b"]], **SETTINGS)
    assert "warning" not in steady
    assert steady["measures"]["cider"]["over_seeds"]["ci"] is None  # copies say nothing of chance
    assert compare([runs["a3"], runs["a5"]], runs["b"], **SETTINGS)["measures"]["cider"]["over_seeds"]["ci"] is None


def test_a_score_that_is_none_gives_no_interval_over_seeds() -> None:
    assert over_seeds([float("nan"), 1.0], [1.0, 2.0])["ci"] is None


def test_an_interval_over_seeds_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for sizes, spread in (((2, 2), 1.0), ((2, 5), 1.0), ((3, 3), 4.0)):
        drawn = (over_seeds(rng.normal(size=sizes[0]), 1 + spread * rng.normal(size=sizes[1])) for _ in range(2000))
        assert np.mean([one["ci"][0] <= 1 <= one["ci"][1] for one in drawn]) > 0.93


def test_a_task_of_a_plugin_that_is_not_loaded_is_told_with_what_to_add(tmp_path: Path) -> None:
    data = put(tmp_path / "val.jsonl", [{"id": "a", "image": "a.png", "references": ["a star"]}])
    run = evaluated(tmp_path / "a", data, ["a star"], task="headline")
    with pytest.raises(UnknownNameError, match="unknown task 'headline'"):
        compare(run, run, **SETTINGS)
    file = run / "evaluations" / "val-image" / "scores.json"
    write_json(file, json.loads(file.read_text()) | {"plugins": ["my_parts.py"], "plugin_sums": ["0"]})
    with pytest.raises(MissingError, match=r"with parts of my_parts.py, which is not loaded: add --plugin my_parts.py"):
        compare(run, run, **SETTINGS)


def test_scores_that_rows_give_are_compared_and_the_others_named(tmp_path: Path) -> None:
    thing = {"shape": "star", "size": "medium", "cell": [0, 0]}
    rows = [
        {
            "id": f"s{n}",
            "image": f"{n}.png",
            "references": [f"a {colour} star", "a star"],
            "meta": {"facts": {"ground": "snow", "things": [thing | {"colour": colour}]}},
        }
        for n, colour in enumerate(["red", "green", "blue"] * 5)
    ]
    data = put(tmp_path / "val.jsonl", rows)
    a = evaluated(tmp_path / "a", data, ["a red star"] * 15)
    b = evaluated(tmp_path / "b", data, [row["references"][0] for row in rows])
    kept = {"cider": 1.0, "attribute_accuracy": 1.0, "attribute_recall": 1.0, "words": 3.0, "claims": 2.0, "n": 15}
    for run in (a, b):
        file = run / "evaluations" / "val-image" / "scores.json"
        asked = {"clip_score": 7.0} if run == a else {}
        scores = kept | asked | {"ci": {"words": [3.0, 3.0], "cider": [1.0, 1.0]}}
        write_json(file, json.loads(file.read_text()) | {"scores": scores})
    found = compare(a, b, **SETTINGS)
    row = found["measures"]["attribute_accuracy"]
    assert (row["a"], row["b"]) == (pytest.approx(200 / 3), 100)  # the star is there each time, and red in one of three
    assert row["ci"][0] < row["difference"] < row["ci"][1]
    assert row["p"] < 0.05
    left = found["not_compared"]
    assert list(left) == ["clip_score", "attribute_recall", "words"]
    assert "--plugin" in left["words"]
    assert "the encoder" in left["clip_score"]
    done = CliRunner().invoke(app, ["compare", str(a), str(b), "--tokenizer=python", "--examples=0"])
    assert "note: not compared: words: no metric that is loaded makes it: name its plug-in (--plugin)" in done.output
    assert "Not compared: CLIPScore (it needs" in Text(comparison_page(found)).text
    page = side_by_side({"a": a, "b": b}, **SETTINGS)
    assert page["groups"][0]["scores"]["attribute_accuracy"] == row["a"]
    assert page["not_compared"] == left
    assert "Not compared: CLIPScore (it needs" in Text(index_page(page)).text


def test_a_metric_that_was_asked_for_is_compared_too(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def letters(inputs: Any) -> Any:
        return {"letters": mean_score([float(len(inputs.predictions[key])) for key in inputs.ids])}

    monkeypatch.setattr(METRICS, "_order", [*METRICS._order])
    monkeypatch.setattr(METRICS, "_metrics", copy.deepcopy(METRICS._metrics))
    METRICS.register(Metric("letters", "caption", (Score("letters", "Letters"),)))(letters)
    assert "letters" not in compare(runs["a3"], runs["b"], **SETTINGS)["measures"]
    for run in ("a3", "b"):
        file = runs[run] / "evaluations" / "val-image" / "scores.json"
        write_json(file, json.loads(file.read_text()) | {"scores": {"letters": 9.0}})
        told = compare(runs["a3"], runs["b"], **SETTINGS)
        assert ("letters" in told["measures"]) == (run == "b")
        assert told.get("not_compared", {}).get("letters", "").startswith("not all" if run == "a3" else "")


class Text(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_verb_shows_pages_and_writes(runs: dict[str, Path], tmp_path: Path) -> None:
    page, out = tmp_path / "deep" / "page.html", tmp_path / "out.json"
    arguments = ["compare", runs["a3"], runs["b"], "--a", runs["a5"], "--a", runs["a7"], "--tokenizer", "python"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--html", str(page), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "3 runs of A and 1 of B counted together" in done.stdout
    assert "B better on" in done.stdout
    assert "\x1b" not in done.stdout
    assert r"zzz\u001b[2J\n\u2028zzz" in done.stdout
    result = json.loads(out.read_text())
    assert [len(result[side]) for side in "ab"] == [3, 1]
    parsed = Text(page.read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert parsed.text.count("alert(1)") == 1
    assert [attributes["alt"] for tag, attributes in parsed.tags if tag == "img"] == [f"Picture of r0: {EVIL}"]
    for said in ("A is better", "B is better", "CIDEr", "A 3", "1.jpg: not found"):
        assert said in parsed.text, said
    assert comparison_page(compare(runs["b"], runs["b"], **SETTINGS)).count("<article") == 0


def test_an_evaluation_from_before_its_run_was_changed_is_told(runs: dict[str, Path], caplog: Any) -> None:
    place = runs["b"] / "evaluations" / "val-image"
    write_json(
        place / "scores.json", json.loads((place / "scores.json").read_text()) | {"generation": {"num_beams": 5}}
    )
    settings = {"num_beams": 5, "length_penalty": 1.0, "transformers_version": "0"}
    write_json(runs["b"] / "generation_config.json", settings)
    compare(runs["a3"], runs["b"], **SETTINGS)
    assert not caplog.messages
    write_json(runs["b"] / "generation_config.json", settings | {"length_penalty": 1.156})
    compare(runs["a3"], runs["b"], **SETTINGS)
    (told,) = caplog.messages
    assert told.startswith(
        f"{place}: evaluated with length_penalty 1.0, now 1.156: another search was asked for, or the run was changed since"
    )
    caplog.clear()
    write_json(runs["b"] / "generation_config.json", settings | {"do_sample": True, "top_p": 0.9})
    compare(runs["a3"], runs["b"], **SETTINGS)
    assert "do_sample False, now True, top_p 1.0, now 0.9" in caplog.messages[0]


OWN, OTHER = {"how": "free", "normalise": False}, {"how": "tree", "normalise": False}
TREE = OTHER | {"labels_sha256": "0", "answers": None}


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ({"images_key": "0"}, {"images_key": "1"}, "perhaps other pictures"),
        ({"precision": "auto"}, {"precision": "int8"}, "another precision"),
        ({"decoding": OWN}, {"decoding": OTHER}, "another decoding"),
        ({"decoding": TREE}, {"decoding": TREE | {"labels_sha256": "1", "answers": "a.txt"}}, "other answers"),
        ({"decoding": TREE}, {"decoding": TREE | {"labels_sha256": "1"}}, ""),  # each learnt its own
        ({"images_key": "0"}, {"images_key": "1", "vectors": {"table": "t", "sum": "1"}}, "other vectors"),
        ({"memory": "a"}, {"memory": "1"}, "another memory"),
        ({"memory": "a"}, {"memory": "b"}, ""),  # each its own
        ({"memory": "a"}, {"memory": "a"}, ""),
        (
            {"images_key": "0", "precision": "auto", "decoding": OWN, "memory": "a"},
            {},
            "",
        ),  # of a version that said less
    ],
)
def test_what_tells_evaluations_apart_beside_their_runs_is_told(
    runs: dict[str, Path], caplog: Any, one: dict[str, Any], other: dict[str, Any], what: str
) -> None:
    for name, more in (("a3", one), ("b", other)):
        write_json(runs[name] / "config.json", {"retrieve": {"memory": {"sha256": name[0]}}})
        place = runs[name] / "evaluations" / "val-image" / "scores.json"
        write_json(place, json.loads(place.read_text()) | more)
    compare(runs["a3"], runs["b"], **SETTINGS)
    assert [message.split("evaluated with ")[1].split(" (")[0] for message in caplog.messages] == (
        [what] if what else []
    )


@pytest.mark.parametrize("wrong", [[], {"task": 1}, {"task": "caption", "data": "x", "data_sha256": None}])
def test_a_folder_that_is_no_evaluation(runs: dict[str, Path], tmp_path: Path, wrong: Any) -> None:
    write_json(runs["b"] / "evaluations" / "val-image" / "scores.json", wrong)
    with pytest.raises(DataError, match="not an evaluation"):
        compare(runs["a3"], runs["b"], **SETTINGS)
    with pytest.raises(MissingError, match="gone"):
        compare(runs["a3"], tmp_path / "gone", **SETTINGS)


@pytest.mark.parametrize("name", ["x" * 3000, "\0", "gone.jsonl"])
def test_a_data_file_that_can_not_be(runs: dict[str, Path], name: str) -> None:
    for run in ("a3", "b"):
        file = runs[run] / "evaluations" / "val-image" / "scores.json"
        write_json(file, json.loads(file.read_text()) | {"data": name})
    with pytest.raises(MissingError, match="say where it is") as told:
        compare(runs["a3"], runs["b"], **SETTINGS)
    assert len(str(told.value)) < 1000


def test_runs_are_counted_by_one_tokenizer(tmp_path: Path) -> None:
    """Emoji of one run would have had it counted as words of any script, and the other as Penn Treebank tokens."""
    said = "a black-and-white dog on a half-pipe"
    truth = [{"id": str(n), "image": f"{n}.jpg", "references": [said]} for n in range(40)]
    data = put(tmp_path / "refs.jsonl", truth)
    files = [
        put(tmp_path / f"{name}.jsonl", [{"id": str(n), "text": text} for n in range(40)])
        for name, text in (("a", said), ("b", f"{said} 🐶🐶🐶"))
    ]
    found = compare(*files, references=data, task="caption")["measures"]["bleu_4"]
    swapped = compare(*files[::-1], references=data, task="caption")["measures"]["bleu_4"]
    assert (found["a"], found["b"]) == (swapped["b"], swapped["a"])
    assert found["a"] == pytest.approx(100)  # of words, where Penn Treebank tokens part them too, but not the emoji


@pytest.mark.parametrize("form", ["rows", "vqa", "entailment"])
def test_questions_about_one_picture_are_one_draw(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    about = {"context": "what?", "answers": ["yes"]} if form == "rows" else {"label": "yes"}
    rows = [{"id": f"{image}-{n}", "image": f"{image}.jpg", **about} for image in range(30) for n in range(6)]
    official = [{"question_id": row["id"], "image_id": row["image"], "answers": [{"answer": "yes"}]} for row in rows]
    data, task = put(tmp_path / "data.jsonl", rows), "entailment" if form == "entailment" else "vqa"
    if form == "vqa":
        write_json(data := tmp_path / "vqa.json", {"annotations": official})
    right = [np.repeat(rng.random(30) < 0.5, 6) for _ in "ab"]
    files = [
        put(
            tmp_path / f"{name}.jsonl",
            [{"id": row["id"], "text": "yes" if one else "no"} for row, one in zip(rows, side, strict=True)],
        )
        for name, side in zip("ab", right, strict=True)
    ]
    low, high = compare(*files, references=data, task=task)["measures"]["accuracy"]["ci"]
    apart = 100 * (right[1].astype(float) - right[0])[::6]
    assert high - low == pytest.approx(2 * 1.96 * apart.std() / np.sqrt(30), rel=0.2)
    low, high = score_files(files[0], data, task)["ci"]["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * 100 * right[0].std() / np.sqrt(30), rel=0.2)


def test_of_one_picture_no_interval_and_no_test_is_told(tmp_path: Path) -> None:
    rows = [{"id": f"{n}", "image": "one.jpg", "context": "what?", "answers": ["yes"]} for n in range(30)]
    data = put(tmp_path / "vqa.jsonl", rows)
    files = [put(tmp_path / f"{s}.jsonl", [{"id": row["id"], "text": s} for row in rows]) for s in ("yes", "no")]
    found = compare(*files, references=data, task="vqa")
    assert found["measures"]["accuracy"] == {"a": 100, "b": 0, "difference": -100, "ci": None, "p": None}
    page = tmp_path / "page.html"
    done = CliRunner().invoke(
        app, ["compare", *map(str, files), f"--references={data}", "--task=vqa", f"--html={page}"]
    )
    assert done.exit_code == 0, done.output
    assert "-100.00\n" in done.stdout.replace(" ", "")
    assert '<td class="n score">-100.0</td>\n<td class="n"></td><td class="n"></td>' in page.read_text(encoding="utf-8")


def test_facts_of_another_world_than_the_mini_ones_are_no_attributes(tmp_path: Path) -> None:
    facts = ["a dog", {"year": 1999}]
    rows = [{"id": f"{n}", "image": "a", "references": ["a dog"], "meta": {"facts": facts[n % 2]}} for n in range(12)]
    data = put(tmp_path / "rows.jsonl", rows)
    said = put(tmp_path / "said.jsonl", [{"id": row["id"], "text": "a cat"} for row in rows])
    assert "attribute_accuracy" not in compare(said, said, references=data, task="caption", **SETTINGS)["measures"]
