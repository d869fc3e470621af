"""What stands in for images, against the formula in plain words; and scores that are kept while all they rest on is the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from close.data.rows import Row
from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import DataError
from close.evaluation.images import select_rows
from close.io.record import outdated, stamp
from close.runs.recipe import Recipe
from close.runs.stand_ins import STAND_INS, _worded, stand_ins
from close.study.selection import saved_selection, selection_score
from close.tasks import get_task
from close.training.train import train


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def texts_of(counts, seed=0):
    return [unit(np.random.default_rng((seed, i)).normal(size=(count, 8))) for i, count in enumerate(counts)]


def worded(texts, seed=0):
    return _worded(np.concatenate(texts), np.array([len(rows) for rows in texts]), seed)


def others_wording(counts, seed=0):
    """What was added to each image's mean, and every (image, share) that it can be of another image's captions."""
    texts = texts_of(counts)
    added = worded(texts, seed) - np.stack([rows.mean(axis=0) for rows in texts])
    able = {
        (i, d): rows[d] - np.delete(rows, d, axis=0).mean(axis=0)
        for i, rows in enumerate(texts)
        for d in range(len(rows))
        if len(rows) > 1
    }
    return added, able


@pytest.mark.parametrize("counts", [[2] * 6, [6] * 6, [1, 3, 1, 1, 2, 7, 1], [1, 2, 2]])
@pytest.mark.parametrize("seed", range(5))
def test_five_sixths_of_another_images_wording_are_added_however_many_captions_it_has(counts, seed):
    added, able = others_wording(counts, seed)
    for image, more in enumerate(added):
        found = [i for (i, _), wording in able.items() if np.allclose(more, 5 / 6 * wording, atol=1e-6)]
        assert len(found) == 1
        assert found[0] != image


def test_with_six_captions_of_each_it_is_what_it_was_tried_as():
    texts = texts_of([6] * 9)
    rng, means = np.random.default_rng(3), np.add.reduceat(np.concatenate(texts), np.arange(0, 54, 6), axis=0) / 6
    order = rng.permutation(9)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    one = np.stack([texts[i][d] for i, d in zip(other, rng.integers([6] * 9), strict=True)])
    assert np.allclose(worded(texts, 3), means + (one - means[other]), atol=1e-7, rtol=0)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Six rows of a source and two references."""
    texts = tiny.sentences(18, seed=5)
    return tiny.write_jsonl(
        tmp_path_factory.mktemp("rows") / "eval.jsonl",
        [{"id": f"e{i}", "source": texts[3 * i], "references": texts[3 * i + 1 : 3 * i + 3]} for i in range(6)],
    )


def test_a_record_with_selections_is_of_todays_code(run, rows, tmp_path, monkeypatch):
    np.save(tmp_path / "V.npy", unit(np.random.default_rng(0).normal(size=(30, 16))))
    own = saved_selection(run, rows, image=tmp_path / "V.npy")
    assert outdated(stamp(run)) == []
    monkeypatch.chdir(tmp_path)
    place = run / "evaluations" / "eval-unpaired-selection" / "scores.json"
    made = place.stat().st_mtime_ns
    assert saved_selection(run, rows, image=Path("V.npy")) == own  # the same table by another path
    assert place.stat().st_mtime_ns == made
    place.write_text(json.dumps({key: value for key, value in own.items() if key != "code"}))
    assert outdated(stamp(run)) == ["scoring"]  # an older one does not say it
    place.unlink()


def test_images_of_another_content_are_scored_anew(run, rows, tmp_path):
    images = tmp_path / "V.npy"
    place = run / "evaluations" / "eval-unpaired-selection" / "scores.json"
    np.save(images, unit(np.random.default_rng(0).normal(size=(30, 16))))
    own = saved_selection(run, rows, image=images)
    assert own["stand_in"] == STAND_INS["unpaired"]
    made = place.stat().st_mtime_ns
    assert saved_selection(run, rows, image=images) == own
    assert place.stat().st_mtime_ns == made
    np.save(images, unit(np.random.default_rng(1).normal(size=(40, 16)) + 1))
    other = saved_selection(run, rows, image=images)
    assert other["image"] == own["image"]
    assert other["image_key"] != own["image_key"]
    assert place.stat().st_mtime_ns > made
    place.write_text(json.dumps({key: value for key, value in other.items() if key != "image_key"}))
    assert saved_selection(run, rows, image=images) == other  # a record of before says nothing of what the table held


def test_without_several_captions_of_an_image_no_wording_is_claimed(tiny_encoder, tiny_t5, tmp_path):
    texts = tiny.sentences(8, seed=6)
    questions = [
        {"id": f"q{i}", "source": text, "context": "what colour ?", "answers": ["red", "blue"], "target": "red"}
        for i, text in enumerate(texts)
    ]
    data = tiny.write_jsonl(tmp_path / "vqa.jsonl", questions)
    models = {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}
    values = {"task": "vqa", "data": {"train": str(data)}, **models, "training": {"max_steps": 1, "batch_size": 4}}
    run = train(Recipe.model_validate(values), tmp_path / "run")
    np.save(tmp_path / "V.npy", unit(np.random.default_rng(0).normal(size=(30, 16))))
    found = saved_selection(run, data, image=tmp_path / "V.npy")
    assert found["stand_in"] == STAND_INS["text"]
    assert found["image"] == str(tmp_path / "V.npy")
    place = run / "evaluations" / "vqa-unpaired-selection" / "scores.json"
    made = place.stat().st_mtime_ns
    assert saved_selection(run, data, image=tmp_path / "V.npy") == found
    assert place.stat().st_mtime_ns == made
    assert selection_score(run, data)["stand_in"] == STAND_INS["text"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_source_that_is_listed_among_the_references_counts_once(count, tiny_encoder):
    """As `close convert` writes folders: the first caption, and all of them."""
    encoder, task = load_encoder(str(tiny_encoder)), get_task("caption")
    texts = np.array(tiny.sentences(6 * count, seed=6)).reshape(6, count).tolist()
    listed = [Row(str(i), source=(own[0],), references=tuple(own)) for i, own in enumerate(texts)]
    others = [Row(str(i), source=(own[0],), references=tuple(own[1:])) for i, own in enumerate(texts)]
    images = unit(np.random.default_rng(0).normal(size=(30, 16)))
    found, same = (stand_ins(rows, task, encoder, images) for rows in (listed, others))
    assert found.made_of == same.made_of == STAND_INS["unpaired" if count > 1 else "text"]
    np.testing.assert_array_equal(found.vectors, same.vectors)


def test_rows_of_one_image_are_one(tmp_path):
    """As TextCaps has them: a row a caption, and beside each all captions of the picture."""
    texts = np.array(tiny.sentences(6, seed=7)).reshape(2, 3).tolist()
    rows = [
        {"id": f"{i}-{n}", "source": text, "references": own, "image": f"{i}.jpg"}
        for i, own in enumerate(texts)
        for n, text in enumerate(own)
    ]
    told = select_rows(open_rows(tiny.write_jsonl(tmp_path / "rows.jsonl", rows)), get_task("caption"))
    assert [(row.id, row.source, list(row.references)) for row in told] == [
        (f"{i}-0", (own[0],), own) for i, own in enumerate(texts)
    ]


def test_rows_without_a_source_select_nothing(run, tmp_path):
    """As `close convert --per image` writes them: an image and its references."""
    told = [{"image": f"{i}.jpg", "references": tiny.sentences(2, seed=i)} for i in range(3)]
    with pytest.raises(DataError, match="rows need a 'source' beside their references; no row has both"):
        selection_score(run, tiny.write_jsonl(tmp_path / "rows.jsonl", told))
