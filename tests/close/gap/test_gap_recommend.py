"""`recommend`: against a decoder that is really trained on noise, and in worlds whose truth is known."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from close.adapters.resolve import check_adapter
from close.errors import CloseError, DataError, MismatchError, RecipeError
from close.gap import recommend
from close.gap.advice.advise import advise, placed, to_yaml
from close.gap.advice.decoder import COSINES, agreement
from close.gap.advice.halves import Rows
from close.gap.advice.pseudo_pairs import pseudo_pairs
from close.runs.recipe import load_recipe
from close.runs.stand_ins import AGAINST_MEAN, TYPICAL_GAP, moved_to_images
from close.vectors.table import EmbeddingTable

COCO = Path(__file__).parents[4] / "shared" / "data" / "coco250_clip_vitb16"


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def world(scenes=160, per=4, dim=24, gap=0.9, detail=0.5, seed=0):
    """Captions that share a scene and add words of their own, images of the scene beyond a gap, their pairs and groups."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(1, 0.1, dim)
    scene = rng.normal(size=(scenes, dim)) * spread
    cone = np.full(dim, 1.5)
    own = np.repeat(np.arange(scenes), per)
    text = unit(cone + scene[own] + detail * rng.normal(size=(len(own), dim)) * spread[::-1])
    shift = gap * unit(rng.normal(size=(1, dim)))
    image = unit(unit(cone + scene + 0.3 * rng.normal(size=(scenes, dim))) + shift)
    return text, image, np.stack((np.arange(len(own)), own), axis=1), own


TEXT, IMAGE, PAIRS, GROUPS = world()


@pytest.mark.parametrize("cosine", [COSINES[9], COSINES[19], COSINES[24]])
def test_agreement_is_that_of_a_decoder_trained_on_noise(cosine):
    rng = np.random.default_rng(1)
    text, image, *_ = world(scenes=300, per=2, dim=64)
    target = text[np.arange(len(text)) ^ 1]  # the other caption of the scene
    truth = target[::2]
    draws = 150
    x = np.repeat(text, draws, axis=0)
    x = unit(x + np.sqrt((cosine**-2 - 1) / 64) * rng.normal(size=x.shape))
    weights, *_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], np.repeat(target, draws, axis=0), rcond=None)
    said = np.c_[image, np.ones(len(image))] @ weights
    middle = target.mean(axis=0)
    slow = (unit(said - middle) * unit(truth - middle)).sum(axis=1).mean()
    fast = agreement(text, target, image, truth)[COSINES.index(cosine)]
    assert fast == pytest.approx(slow, abs=0.02)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"groups": GROUPS},
        {"image": IMAGE, "pairs": "unpaired"},
        {"image": IMAGE, "pairs": "unpaired", "groups": GROUPS},
        {"image": IMAGE, "pairs": PAIRS},
    ],
)
def test_every_kind_of_data_gets_advice_that_it_allows(given):
    advice = recommend(TEXT, **given)
    tried = {str(trial.adapter) for trial in advice.trials}
    expected = {"none"} | ({"shared"} if "groups" in given or given.get("pairs") is PAIRS else set())
    if "image" in given:
        expected |= {"mean_shift", "centring", "realign"} | (
            {"['shared', 'mean_shift']"} if "shared" in expected else set()
        )
    assert tried == expected  # what takes pairs wants more images than that
    data = (
        "pairs"
        if "pairs" in given and given["pairs"] is PAIRS
        else "unpaired"
        if given.get("image") is not None
        else None
    )
    assert advice.data == (data or ("groups" if given else "captions"))
    assert advice.cosine in COSINES
    assert (advice.ceiling is not None) == (data == "pairs")
    best = {str(trial.adapter): trial.agreement for trial in advice.trials}
    assert best[str(advice.adapter or "none")] >= 0.98 * max(best.values())
    assert advice.agreement > advice.without
    json.dumps(advice.to_dict(), allow_nan=False)


def test_single_captioning_wants_more_noise_than_multiple():
    for given in (
        {"groups": GROUPS},
        {"image": IMAGE, "pairs": "unpaired", "groups": GROUPS},
        {"image": IMAGE, "pairs": PAIRS},
    ):
        single, multiple = (recommend(TEXT, captions=captions, **given) for captions in ("single", "multiple"))
        alone = [advice.trials[0].cosine for advice in (single, multiple)]
        assert alone[0] < alone[1], given.keys()
    assert single.calibrations["pair_residual"]["cosine"] > alone[0]


def test_without_details_and_gap_no_noise_is_wanted():
    text, image, pairs, _ = world(gap=0.0, detail=0.0)
    advice = recommend(text, image, pairs=pairs)
    assert advice.adapter is None
    assert advice.cosine > 0.9
    assert recommend(TEXT, IMAGE, pairs=PAIRS).trials[0].cosine < advice.trials[0].cosine


def test_images_that_have_nothing_to_do_with_their_captions_are_advised_on():
    """Then the best agreement may lie below zero, and what is within 2 % of it lies below it too."""
    found = [recommend(*np.random.default_rng(seed).normal(size=(2, 60, 16))) for seed in range(6)]
    best = [max(trial.agreement for trial in advice.trials) for advice in found]
    assert min(best) < 0 < max(best)
    for advice, most in zip(found, best, strict=True):
        agreements = {str(trial.adapter): trial.agreement for trial in advice.trials}
        assert agreements[str(advice.adapter or "none")] >= most - 0.02 * abs(most)
        assert advice.agreement <= most


def test_rotation_changes_nothing():
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(24, 24)))[0]
    here, there = (recommend(TEXT @ by, IMAGE @ by, pairs=PAIRS) for by in (np.eye(24), turn))
    assert [t.cosine for t in here.trials] == [t.cosine for t in there.trials]
    for before, after in zip(here.trials, there.trials, strict=True):
        if before.adapter != "covariance":  # its noise is drawn
            assert after.agreement == pytest.approx(before.agreement, abs=1e-5)


def test_the_same_seed_gives_the_same_advice_and_a_sample_is_enough():
    assert recommend(TEXT, groups=GROUPS, seed=4) == recommend(TEXT, groups=GROUPS, seed=4)
    few = recommend(TEXT, groups=GROUPS, sample=300)
    assert few.agreement == pytest.approx(recommend(TEXT, groups=GROUPS).agreement, abs=0.1)


@pytest.mark.parametrize("task", ["vqa", "vqa_e", "entailment", "nlvr2"])
def test_answers_and_labels_count_as_multiple(task):
    advice, multiple = recommend(TEXT, groups=GROUPS, task=task), recommend(TEXT, groups=GROUPS, captions="multiple")
    assert (advice.cosine, advice.adapter, advice.captions) == (multiple.cosine, multiple.adapter, "single")
    said = " ".join(advice.reasons)
    assert "The target is not the source" in said
    assert "stand in for the target here" in said
    assert f"judged on models that caption (experiments/gap), and on none that do {task}" in said
    assert "captions: single" not in said
    head = to_yaml(advice, Path("T")).splitlines()[0]
    assert head == f"# what is advised for {task}, where the target is not the source, from groups:"
    with pytest.raises(DataError, match="give groups or pairs, or ask for task: caption"):
        recommend(TEXT, task=task)


def test_news_captions_are_their_own_targets():
    advice, single = recommend(TEXT, groups=GROUPS, task="news"), recommend(TEXT, groups=GROUPS)
    assert advice.cosine == single.cosine
    assert "The source is its own target" in " ".join(advice.reasons)
    assert "none that do news" in " ".join(advice.reasons)
    assert "news, where the target is the source" in to_yaml(advice, Path("T"))
    assert "none that do" not in " ".join(single.reasons)
    for captions in ("single", "multiple"):
        found = to_yaml(recommend(TEXT, groups=GROUPS, captions=captions), Path("T"))
        assert found.startswith(f"# what is advised for {captions} captioning, from groups:")


@pytest.mark.parametrize(
    ("text", "given", "error", "said"),
    [
        (TEXT, {"captions": "many"}, RecipeError, "'single' or 'multiple'"),
        (TEXT, {"captions": "multiple"}, DataError, "share a group"),
        (TEXT, {"task": "captions"}, CloseError, "caption"),
        (TEXT, {"task": "vqa", "captions": "multiple", "groups": GROUPS}, RecipeError, "asks something of each"),
        (TEXT, {"groups": GROUPS[:5]}, DataError, "a label for each of 640"),
        (TEXT, {"image": IMAGE[:, :3], "pairs": "unpaired"}, MismatchError, "24 dimensions and image 3"),
        (TEXT, {"image": IMAGE}, MismatchError, "can't be paired by row"),
        (TEXT[:6], {}, DataError, "at least 8"),
        (np.where(np.arange(640)[:, None] == 3, np.nan, TEXT), {}, DataError, "(row 3)"),
    ],
)
def test_refused_in_one_line(text, given, error, said):
    with pytest.raises(error) as told:
        recommend(text, **given)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.skipif(not COCO.is_dir(), reason=f"{COCO} is not there")
def test_on_real_clip_the_noise_is_what_the_papers_tuned():
    """Noise alone: .29 to .41 in CLOSE, CapDec and C3 (single captions), though the pair residual says .78."""
    text, image = np.load(COCO / "text.npy"), np.load(COCO / "image.npy")
    advice = recommend(text, image)
    assert 0.17 <= advice.trials[0].cosine <= 0.41
    assert advice.calibrations["pair_residual"]["cosine"] == pytest.approx(0.78, abs=0.02)
    assert advice.adapter == "centring"  # as C3 found: both beat noise alone


def test_pseudo_pairs():
    assert pseudo_pairs(TEXT[:5], [7, 8, 7, 9, 7]).tolist() == [[0, 2], [2, 4], [4, 0]]
    rows = unit(np.array([[1, 0.0], [1, 0.1], [0, 1], [0.1, 1]]))
    assert dict(pseudo_pairs(rows)) == {0: 1, 1: 0, 2: 3, 3: 2}
    with pytest.raises(DataError, match="share a group"):
        pseudo_pairs(TEXT[:3], [0, 1, 2])


def test_pseudo_images_lie_where_images_do():
    rng = np.random.default_rng(0)
    small = 0.05 * rng.normal(size=(4000, 6)) @ np.diag([4, 3, 2, 1, 1, 1])  # so small that the sphere is flat
    text, image = unit(small + 1), unit(small[::-1] @ np.diag([1, 1, 2, 3, 1, 1]) + [1, -1, 1, 1, 1, 1])
    moved = moved_to_images(text, text, image)
    assert np.abs(moved.mean(axis=0) - image.mean(axis=0)).max() < 0.01
    assert np.abs(np.cov(moved.T) - np.cov(image.T)).max() < 0.15 * np.abs(np.cov(image.T)).max()
    # without images: unit(x + g·(√(1 − h²)·u − h·μ)) with u ⊥ μ, and here x ≈ μ
    text = unit(0.02 * small + 1)
    along = (moved_to_images(text, text) * unit(text.mean(axis=0, keepdims=True))).sum(axis=1)
    expected = (1 - TYPICAL_GAP * AGAINST_MEAN) / np.sqrt(1 + TYPICAL_GAP**2 - 2 * TYPICAL_GAP * AGAINST_MEAN)
    assert along.mean() == pytest.approx(expected, abs=0.02)


@pytest.fixture
def tables(tmp_path):
    np.save(tmp_path / "text.npy", TEXT.astype(np.float32))
    np.save(tmp_path / "image.npy", IMAGE.astype(np.float32))
    np.save(tmp_path / "one.npy", TEXT[::4].astype(np.float32))
    (tmp_path / "pairs.jsonl").write_text("".join(f'{{"text": {t}, "image": {v}}}\n' for t, v in PAIRS))
    rows = [{"id": f"r{i}", "source": f"caption {i}", "group": f"g{g}"} for i, g in enumerate(GROUPS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "adapter"),
    [
        (("--text", "text.npy", "--groups", "rows.jsonl", "--captions", "multiple"), None),
        (("--text", "text.npy", "--image", "image.npy", "--unpaired"), {"image": "image.npy"}),
        (("--text", "one.npy", "--image", "image.npy"), {"image": "image.npy"}),
    ],
)
def test_the_lines_are_a_recipe(cli, tables, monkeypatch, arguments, adapter):
    monkeypatch.chdir(tables)
    ran = cli("recommend", *arguments)
    assert ran.code == 0, ran.err
    lines = yaml.safe_load(ran.out)
    assert list(lines) == ["adapter", "train_on", "captions"]
    (tables / "captions.txt").write_text("a\nb\n")
    (tables / "r.yaml").write_text(ran.out + "data: {train: captions.txt}\n")
    recipe = load_recipe(tables / "r.yaml")
    assert recipe.captions == ("multiple" if "multiple" in arguments else "single")
    said = json.loads(cli("recommend", *arguments, "--json").out)
    noise = [stage["gaussian"]["cosine"] for stage in lines["adapter"] if "gaussian" in stage]
    assert noise == ([said["cosine"]] if said["cosine"] < 1 else [])
    fitted = [options["fit"] for stage in lines["adapter"] for options in stage.values() if "fit" in options]
    assert fitted == ([adapter] if said["adapter"] else [])
    assert {key: said["recipe"][key] for key in lines} == lines
    check_adapter(said["recipe"]["adapter"], trains_on="text")
    assert "# " in ran.out
    assert max(map(len, ran.out.splitlines())) < 120


def test_a_command_in_the_lines_can_be_copied(cli, tmp_path, monkeypatch):
    """Paths with hyphens and spaces, on one line; the JSON says what the lines say."""
    folder = tmp_path / "my long project-name" / "of-the-coco-2014-karpathy-split-and-of-others-too"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    content = rng.normal(size=(700, 6)) @ rng.normal(size=(6, 24))
    turned = np.roll(content, 5, axis=1)  # only pairs tell
    np.save(folder / "T.npy", content + 0.8 * rng.normal(size=content.shape) + 5 * np.eye(24)[0])
    np.save(folder / "V.npy", turned + 0.8 * rng.normal(size=content.shape) - 5 * np.eye(24)[0])
    (folder / "P.jsonl").write_text("".join(f'{{"text": {i}, "image": {i}}}\n' for i in range(700)))
    advice, lines = advise(folder / "T.npy", folder / "V.npy", pairs=folder / "P.jsonl")
    assert advice.recipe == yaml.safe_load(lines)
    (command,) = (line[1:] for line in lines.splitlines() if "close adapter fit" in line)
    monkeypatch.chdir(tmp_path)
    ran = cli(*shlex.split(command)[1:])
    assert ran.code == 0, ran.err
    check_adapter(advice.recipe["adapter"], trains_on="text")


def test_data_files_are_embedded(cli, told, captions, tiny_encoder, tmp_path):
    ran = cli("recommend", "--text", captions, "--encoder", tiny_encoder, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["data"] == "groups"
    assert json.loads(ran.out)["encoder"] == str(tiny_encoder)
    ran = cli("recommend", "--text", captions)
    assert "for encoder mini, which knows coloured shapes alone (--encoder names another)" in " ".join(
        ran.out.split("\n# ")
    )
    assert yaml.safe_load(ran.out)["encoder"] == "mini"
    assert "give --text and --image" in told("recommend", "--text", captions, "--pairs", captions)
    assert "exclude" in told("recommend", "--text", captions, "--image", captions, "--pairs", captions, "--unpaired")
    assert "no such" in told("recommend", "--text", "gone.npy")
    assert "--unpaired says that no text belongs to an image" in told("recommend", "--text", captions, "--unpaired")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").touch()
    (photos / "notes.txt").write_text("buy film\n")  # text among photos makes no rows of them
    assert f"`close embed images {photos} " in told("recommend", "--text", captions, "--image", photos, "--unpaired")
    np.save(tmp_path / "T.npy", np.eye(8))
    tables = ("--text", tmp_path / "T.npy", "--image", tmp_path / "T.npy")
    assert "--encoder embeds data files" in told("recommend", *tables, "--encoder", "mini")


def test_an_adapter_of_ones_own_has_the_place_that_it_declares(monkeypatch):
    from close.adapters import ADAPTERS, Advised, MeanShift

    class OwnShift(MeanShift):
        """The mean shift under another name."""

        name = "own_shift"
        advice = (Advised(single=1), Advised(multiple=1, options={"scale": 1.0}, then="shared"))

    monkeypatch.setattr(ADAPTERS, "_items", {**ADAPTERS._items, "own_shift": OwnShift})
    given = {"image": IMAGE, "pairs": "unpaired"}
    advice = recommend(TEXT, **given)
    usual = {str(trial.adapter): trial for trial in advice.trials}
    assert usual["own_shift"].agreement == pytest.approx(usual["mean_shift"].agreement)
    assert advice.adapter == "own_shift"
    assert advice.stages({"image": "V"})[0] == {"own_shift": {"fit": {"image": "V"}}}
    with_groups = recommend(TEXT, groups=GROUPS, **given)
    assert [{"own_shift": {"scale": 1.0}}, "shared"] in [trial.adapter for trial in with_groups.trials]


def test_rows_whose_ids_differ_are_told(tmp_path, caplog):
    names = [f"r{i}" for i in range(len(IMAGE))]
    EmbeddingTable.from_numpy(TEXT[::4], tmp_path / "T", ids=names)
    EmbeddingTable.from_numpy(IMAGE, tmp_path / "V", modality="image", ids=names[::-1])
    advise(tmp_path / "T", tmp_path / "V", unpaired=True)
    assert "ids differ" not in caplog.text
    advise(tmp_path / "T", tmp_path / "V")
    assert "paired by row, though ids differ: row 0 is 'r0' and 'r159'" in caplog.text


def test_lines_go_by_the_tables_that_are_given_last():
    text, image, pairs, _ = world(scenes=320, per=2)
    advice = replace(recommend(text, image, pairs=pairs), adapter={"linear": {"method": "ridge"}})
    loaded = placed(advice, Path("T"), Path("V"), Path("P"))
    assert "--pairs P" in to_yaml(advice, Path("T"), Path("V"), Path("P"))
    assert "load" not in to_yaml(loaded, Path("T"), Path("V"))
    fitted = placed(loaded, Path("T"), Path("V"))
    assert fitted == placed(advice, Path("T"), Path("V"))
    assert placed(fitted, Path("T"), Path("V"), Path("P")) == loaded


def test_what_would_learn_from_too_few_images_is_left_out():
    advice = recommend(TEXT, IMAGE[:4], pairs="unpaired", groups=GROUPS)
    assert {str(trial.adapter) for trial in advice.trials} == {"none", "shared"}
    (said,) = [reason for reason in advice.reasons if reason.startswith("Left out")]
    assert "shared and mean_shift (trusted from 30 images on, and there are 4)" in said
    captions = recommend(TEXT, IMAGE, pairs=PAIRS)  # 640 pairs, which are no more images than 160
    (said,) = [reason for reason in captions.reasons if reason.startswith("Left out")]
    assert "covariance (trusted from 300 paired images on, and there are 160)" in said
    text, image, pairs, _ = world(scenes=320, per=2)
    enough = recommend(text, image, pairs=pairs)
    assert {"covariance", "{'linear': {'method': 'ridge'}}"} <= {str(trial.adapter) for trial in enough.trials}
    assert not any("Left out" in reason for reason in enough.reasons)


@pytest.mark.parametrize("several", [1, 6, 60])
def test_groups_are_judged_by_where_there_are_enough_of_them(several):
    """A few duplicates do not take the place of all other captions; none is left out."""
    text, image, *_ = world(scenes=400, per=2)
    owners = np.concatenate((np.arange(400), np.arange(several)))
    text = np.concatenate((text[::2], text[1 : 2 * several : 2]))
    alone = recommend(text[:400])
    for given in ({}, {"image": image, "pairs": "unpaired"}, {"image": image[owners]}):
        advice = recommend(text, groups=owners, **given)
        assert advice.data == {0: "captions"}.get(len(given), "pairs" if "pairs" not in given else "unpaired")
        told = " ".join(advice.reasons)
        assert (f"Only {several} images have several captions" in told) == (advice.data != "pairs")
        tried = {str(trial.adapter) for trial in advice.trials}
        assert ("shared" in tried) == (several > 10)
        if several == 60:
            continue
        assert f"shared (trusted from 10 images with several captions on, and there are {several})" in told
        if not given:
            assert advice.agreement == pytest.approx(alone.agreement, abs=0.02)
    if several < 8:
        with pytest.raises(DataError, match=f"{several} images have two, of 8 that are needed: give captions of more"):
            recommend(text, groups=owners, captions="multiple")


@pytest.mark.parametrize("several", [60, 120])
def test_a_sample_has_what_groups_there_are(several):
    text, *_ = world(scenes=1300, per=2)
    owners = np.concatenate((np.arange(1300), np.arange(several)))
    text = np.concatenate((text[::2], text[1 : 2 * several : 2]))
    for sample in (20_000, 600):  # where few would be drawn by chance
        advice = recommend(text, groups=owners, sample=sample)
        assert advice.data == ("groups" if several == 120 else "captions")
        assert ("Only 60 images have several captions" in " ".join(advice.reasons)) == (several == 60)
    assert Rows.of(text, None, None, owners, 600, 0, "multiple").several >= 8
    assert Rows.of(text, None, None, owners, 60, 0, "multiple").several >= 8


def test_what_stands_in_for_an_image_is_not_made_of_what_was_learnt_from():
    """Without groups: neither the caption nor the one that its stand-in is made of lies in the half that is learnt from."""
    rows = Rows.of(TEXT, None, None, None, 20_000, 0)
    for half in rows.halves("single", 0):
        learnt = {row.tobytes() for row in half.fit["text"]}
        partners = dict(pseudo_pairs(rows.text))
        truth = [int(np.abs(rows.text - row).sum(axis=1).argmin()) for row in half.truth]
        assert len(truth) > 50
        assert not {rows.text[row].tobytes() for row in truth} & learnt
        assert not {rows.text[partners[row]].tobytes() for row in truth} & learnt
