"""How much a run tells: the penalty with which its texts are as long as those that it learnt from."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import tiny

import close
from close.data.rows import RowFile
from close.errors import DataError, MismatchError, RecipeError
from close.io.plain import read_plain
from close.mini import export
from close.runs.evaluate import evaluated
from close.runs.length import LENGTH_FILE, _found, match_length, matched_alike, mean_length, outcome, search
from close.runs.outputs import Answer
from close.runs.pipeline import CloseCaptioner
from close.runs.recipe import Recipe
from close.tasks import get_task
from close.training.train import train

NEWS = {"id": "a", "source": "a ring", "context": "an article", "target": "a ring"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    export(root / "train", "train", 60)
    export(root / "val", "val", 12)
    return root


@pytest.fixture(scope="module")
def trained(world: Path) -> Path:
    """A run that says short captions of different lengths."""
    values = {
        "data": {"train": str(world / "train" / "captions.jsonl")},
        "training": {"max_steps": 60, "batch_size": 32, "learning_rate": 4e-3, "save_strategy": "no"},
    }
    return train(Recipe.model_validate(values), world / "run")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def characters(captioner, photos: Path, **generation) -> float:
    said = [output.text for output in captioner(photos, **generation)]
    return sum(map(len, said)) / len(said)


class TestSearch:
    @pytest.mark.parametrize("wanted", [21.0, 30.0, 40.0, 44.5])
    def test_it_comes_near_what_is_wanted(self, wanted):
        asked = []

        def length(penalty: float) -> float:
            asked.append(penalty)
            return 20 + 30 / (1 + math.exp(-3 * (penalty - 0.8)))

        tried = search(length, wanted)
        assert sorted(tried) == sorted(asked)
        assert len(asked) <= 8
        assert min(abs(found - wanted) for found in tried.values()) <= 0.02 * wanted or wanted == 21.0

    @pytest.mark.parametrize(("wanted", "tried"), [(9.0, [0.0, 1.0]), (80.0, [1.0, 3.0])])
    def test_what_no_penalty_makes_is_given_up_at_the_end(self, wanted, tried):
        assert sorted(search(lambda penalty: 10 + 5 * penalty, wanted)) == tried

    def test_a_start_that_is_right_is_kept(self):
        assert search(lambda penalty: 50.0, 50.4) == {1.0: 50.0}


def test_mean_length_is_of_the_targets(world):
    rows = RowFile(world / "train" / "captions.jsonl")
    texts = [row.target[0] for row in rows]
    assert mean_length(rows, get_task("caption"), 10**6) == pytest.approx(sum(map(len, texts)) / len(texts))
    assert mean_length(rows, get_task("caption"), 100) == pytest.approx(sum(map(len, texts[::3])) / 100)


def test_texts_are_made_as_long_and_the_run_says_so_from_then_on(cli, world, run):
    photos = world / "val" / "images"
    captioner = close.load(run)
    ends = [characters(captioner, photos, length_penalty=penalty) for penalty in (0.0, 3.0)]
    assert ends[0] < ends[1]
    like = tiny.write_jsonl(run.parent / "like.jsonl", [{"id": "a", "source": "x" * round(sum(ends) / 2)}])
    done = cli("match-length", str(run), str(photos), "--like", str(like), "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["wanted"] == round(sum(ends) / 2)
    assert 0 < found["length_penalty"] < 3
    lengths = [one["characters"] for one in found["tried"]]
    assert found["found"] in lengths
    assert abs(found["found"] - found["wanted"]) == min(abs(one - found["wanted"]) for one in lengths)
    again = close.load(run)
    assert again.model.generation_config.length_penalty == found["length_penalty"]
    assert characters(again, photos) == pytest.approx(found["found"])
    assert characters(again, photos, length_penalty=1.0) == pytest.approx(characters(captioner, photos))
    about = json.loads(cli("info", str(run), "--json").out)
    assert about["length"]["length_penalty"] == found["length_penalty"]
    assert {key: json.loads((run / LENGTH_FILE).read_text())[key] for key in found} == found


def test_the_lengths_of_training_are_kept_with_the_run(world, run, trained):
    wanted = mean_length(RowFile(world / "train" / "captions.jsonl"), get_task("caption"))
    info = json.loads((run / "run.json").read_text())
    assert info["train"][0]["length"] == pytest.approx(wanted, abs=0.01)
    found = match_length(close.load(run), world / "val" / "eval.jsonl", save=False)
    assert found["wanted"] == pytest.approx(wanted, abs=0.01)
    assert not (run / LENGTH_FILE).exists()
    assert "length_penalty" not in json.loads((run / "generation_config.json").read_text())
    del info["train"][0]["length"]
    (run / "run.json").write_text(json.dumps(info | {"train": [info["train"][0] | {"characters": 70.0}]}))
    assert match_length(run, world / "val" / "images", save=False)["wanted"] == 70  # of 0.3.0
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(MismatchError, match="give --like"):  # it was copied elsewhere, and names its data from there
        match_length(run, world / "val" / "images")
    info = json.loads((trained / "run.json").read_text())
    old = dict(info) | {"train": [{k: v for k, v in info["train"][0].items() if k != "length"}]}
    (trained / "run.json").write_text(json.dumps(old))
    assert match_length(trained, world / "val" / "images", save=False)["wanted"] == pytest.approx(wanted)
    (trained / "run.json").write_text(json.dumps(info))


def test_a_few_long_texts_decide_nothing(tmp_path):
    texts = ["x" * count for count in (20, 30, 40) for _ in range(10)]
    rows = [{"id": str(place), "source": text} for place, text in enumerate(texts)]
    few = tiny.write_jsonl(tmp_path / "few.jsonl", rows)
    more = tiny.write_jsonl(tmp_path / "more.jsonl", [*rows, {"id": "report", "source": "x" * 3000}])
    plain, skewed = (mean_length(RowFile(file), get_task("caption")) for file in (few, more))
    assert plain == 30
    assert skewed == pytest.approx((900 + 80) / 31)


def test_a_penalty_that_sends_texts_to_their_end_is_not_taken(world, run, monkeypatch):
    """It makes them as long as is wanted, of which half are loops."""
    photos, long = world / "val" / "images", 40

    def answer(self, sets, contexts, *, length_penalty, **_):
        loops = round(len(contexts) * max(length_penalty - 1, 0) / 2)
        return [Answer("x" * 30 if place >= loops else "a ring " * 60, 0.0) for place in range(len(contexts))]

    monkeypatch.setattr(CloseCaptioner, "answer", answer)
    like = tiny.write_jsonl(run.parent / "like.jsonl", [{"id": "a", "source": "x" * long}])
    said = list[str]()
    found = match_length(run, photos, like=like, tell=said.append)
    assert (found["length_penalty"], found["reached"], found["found"]) == (1.0, False, 30)
    assert any(one["cut"] for one in found["tried"])
    assert any("12 of 12 go on to max_new_tokens, 32" in line for line in said)
    assert "with a higher penalty texts go on to max_new_tokens, 32" in outcome(found)
    assert read_plain(run / "generation_config.json")["length_penalty"] == 1.0


def test_a_match_is_of_its_photos_and_of_what_was_asked(world, run, tmp_path):
    recipe = Recipe.model_validate({"data": {"train": str(world / "train" / "captions.jsonl")}})
    photos = Path(shutil.copytree(world / "val" / "images", tmp_path / "photos"))
    known = match_length(run, photos, save=False)
    moved = Path(shutil.copytree(photos, tmp_path / "moved", copy_function=shutil.copy))
    assert matched_alike(known, recipe, moved)
    some = sorted(moved.iterdir())
    for file in some:  # others, of the same names
        file.write_bytes(some[0].read_bytes() + b" ")
    assert not matched_alike(known, recipe, moved)
    older = {
        key: value for key, value in known.items() if key not in ("sizes", "sample", "precision", "like", "memory")
    }
    assert matched_alike(older, recipe, moved)
    assert not matched_alike(older | {"of": "0"}, recipe, moved)
    like = world / "val" / "captions.jsonl"
    for otherwise in ({"like": like}, {"sample": 3}, {"precision": "fp32"}):
        assert not matched_alike(match_length(run, photos, save=False, **otherwise), recipe, photos), otherwise
    assert not matched_alike(known | {"memory": "0"}, recipe, photos)
    assert not matched_alike(known | {"task": "news"}, recipe, photos)


def test_a_match_is_of_what_was_asked_of_the_photos(world, tmp_path):
    data = {"data": {"train": str(world / "train" / "captions.jsonl")}, "task": "news", "encoder": "mini"}
    recipe, known = Recipe.model_validate(data), dict[str, object]()
    shutil.copytree(world / "val" / "images", tmp_path / "images")
    for asked in ("an article", "another"):
        rows = [{"id": "a", "image": "images/val-0001.jpg", "context": asked, "target": "a ring"}]
        tiny.write_jsonl(tmp_path / "rows.jsonl", rows)
        assert matched_alike(known, recipe, tmp_path / "rows.jsonl") is (not known)
        known = known or dict(_found(recipe, tmp_path / "rows.jsonl"))
    assert matched_alike({key: known[key] for key in ("of", "sizes")}, recipe, tmp_path / "rows.jsonl")  # of before


def test_scores_of_before_are_not_taken_for_those_of_now(world, run):
    rows = world / "val" / "eval.jsonl"
    before = evaluated(run, rows)
    assert evaluated(run, rows) == before
    config = json.loads((run / "generation_config.json").read_text())
    (run / "generation_config.json").write_text(json.dumps(config | {"length_penalty": 3.0}))
    assert evaluated(run, rows) != before


def test_a_photo_that_cannot_be_read_is_left_out(world, run, tmp_path):
    shutil.copytree(world / "val" / "images", tmp_path / "photos")
    (tmp_path / "photos" / "broken.png").write_bytes(b"none")
    assert match_length(run, tmp_path / "photos", save=False)["photos"] == 12
    assert (
        match_length(run, tmp_path / "photos", save=False, sample=10)["photos"] == 9
    )  # the broken one is among the ten
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"no photo could be read, the first: .*broken\.png"):
        match_length(run, tmp_path / "photos")


def test_text_among_photos_is_left_out(world, run, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(world / "val" / "images", photos)
    (photos / "notes.txt").write_text("buy film\n")
    (photos / "cameras.csv").write_text("camera,lens\na,b\n")
    assert match_length(run, photos, save=False)["photos"] == 12


def test_a_penalty_that_is_kept_is_no_news(cli, world, run):
    like = tiny.write_jsonl(run.parent / "like.jsonl", [{"id": "a", "source": "x" * 900}])
    photos = str(world / "val" / "images")
    assert "(it was 1); evaluate and calibrate again" in cli("match-length", str(run), photos, "--like", str(like)).out
    assert "nothing is changed" in cli("match-length", str(run), photos, "--like", str(like)).out


def test_a_score_is_the_mean_log_probability_whatever_the_penalty(world, run):
    """As the likelihood of the text itself, given as a label, has it."""
    captioner, photo = close.load(run), world / "val" / "images" / "val-0-000000.png"
    for penalty in (0.0, 0.7, 1.0, 2.0):
        for output in captioner(photo, n=3, length_penalty=penalty).candidates:
            said = captioner(photo, labels=[output.text, "a ring"], decode="score", normalise=True, n=2)
            wanted = next(one.score for one in said.candidates if one.text == output.text)
            assert output.score == pytest.approx(wanted, abs=1e-4), (penalty, output.text)
    first = captioner(photo, length_penalty=0.0)
    assert first.text == captioner(photo, n=3, length_penalty=0.0).candidates[0].text


def test_a_confidence_of_before_is_not_taken_for_another_length(cli, world, run, caplog):
    export(world / "more", "val", 40)
    done = cli("calibrate", str(run), str(world / "more" / "eval.jsonl"), "--metric", "cider", "--at-least", "10")
    assert done.code == 0, done.err
    photo = world / "val" / "images" / "val-0-000000.png"
    assert close.load(run)(photo).confidence is not None
    config = json.loads((run / "generation_config.json").read_text())
    (run / "generation_config.json").write_text(json.dumps(config | {"length_penalty": 2.0}))
    captioner = close.load(run)
    assert captioner(photo).confidence is None
    assert captioner(photo, length_penalty=1.0).confidence is not None


def test_what_came_of_it_is_told():
    tried = [{"length_penalty": 0.5, "characters": 40.0}, {"length_penalty": 1.0, "characters": 55.0}]
    found = {"length_penalty": 0.5, "found": 40.0, "photos": 9, "wanted": 45.0, "reached": False, "tried": tried}
    assert "jumps from 40.0 (at 0.5) to 55.0 (at 1)" in outcome(found)
    assert "no penalty makes them as short" in outcome(found | {"wanted": 30.0})
    assert "no penalty makes them as long" in outcome(found | {"wanted": 70.0})
    assert "\n" not in outcome(found | {"reached": True})


def test_what_has_no_length_is_refused(world, run, tmp_path):
    with pytest.raises(RecipeError, match="closed set"):
        match_length(run, world / "val" / "images", task="entailment")
    with pytest.raises(RecipeError, match="not trained on 'news'"):
        match_length(run, world / "val" / "images", task="news")
    with pytest.raises(RecipeError, match="'news' asks something of each photo: give rows with images and contexts"):
        match_length(run, world / "val" / "images", task="news", like=tiny.write_jsonl(tmp_path / "n.jsonl", [NEWS]))
    config = json.loads((run / "generation_config.json").read_text())
    (run / "generation_config.json").write_text(json.dumps(config | {"num_beams": 1}))
    with pytest.raises(RecipeError, match="without beams"):
        match_length(run, world / "val" / "images")


class TestTrainAndMatch:
    RECIPE = (
        "data: {train: CAPTIONS}\ntraining: {max_steps: 20, batch_size: 32, learning_rate: 4e-3, save_strategy: 'no'}\n"
    )

    @pytest.fixture
    def recipe(self, world, tmp_path):
        file = tmp_path / "recipe.yaml"
        file.write_text(self.RECIPE.replace("CAPTIONS", str(world / "train" / "captions.jsonl")))
        return file

    def test_the_run_comes_out_matched_and_is_not_matched_again(self, cli, world, recipe, tmp_path):
        run, photos = tmp_path / "run", world / "val" / "images"
        wanted = ("train", str(recipe), "--out", str(run), "--match-length")
        done = cli(*wanted, str(photos))
        assert done.code == 0, done.err
        saved = json.loads((run / LENGTH_FILE).read_text())
        assert {key: saved[key] for key in ("length_penalty", "tried")} == {
            key: match_length(run, photos, save=False)[key] for key in ("length_penalty", "tried")
        }
        before = (run / LENGTH_FILE).stat().st_mtime_ns
        assert cli(*wanted, str(photos), "--resume").code == 0
        assert (run / LENGTH_FILE).stat().st_mtime_ns == before
        assert "matched before, and kept" in cli(*wanted, str(photos), "--resume").err
        (run / LENGTH_FILE).unlink()  # as if stopped between the two
        assert cli(*wanted, str(photos), "--resume").code == 0
        assert json.loads((run / LENGTH_FILE).read_text())["tried"] == saved["tried"]

    @pytest.mark.parametrize(
        ("photos", "task", "said"),
        [
            ("nowhere", "caption", "no such file or folder"),
            ("text.jsonl", "caption", "no photo is there, and no row has an image"),
            ("val/images", "entailment", "closed set"),
            ("val/images", "vqa", "asks something of each photo"),
        ],
    )
    def test_what_cannot_be_is_told_before_it_trains(self, cli, world, recipe, tmp_path, photos, task, said):
        tiny.write_jsonl(world / "text.jsonl", [{"id": "a", "source": "a ring"}])
        out = tmp_path / "run"
        done = cli("train", str(recipe), f"task={task}", "--out", str(out), "--match-length", str(world / photos))
        assert (done.code, said in done.err) == (1, True), done.err
        assert not out.exists()
