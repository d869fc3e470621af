"""Publishing: what goes, what it says, and that it comes back as the same run, from a hub that speaks the hub's own protocol."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import tiny
from hub_server import hub
from huggingface_hub import ModelCard
from PIL import Image

import close
from close import plugins
from close.errors import DataError, MismatchError, RecipeError
from close.evaluation.metrics import METRICS, Metric, Score
from close.evaluation.page import evaluation_page
from close.io.hub import RUN_FILES
from close.runs.card import Shown, _inline, model_card
from close.runs.evaluate import evaluate
from close.runs.publish import check_name, pack
from close.training.train import train


@pytest.fixture(scope="module")
def evaluated(run: Path, pictures: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an evaluation, beside all that is not to be published."""
    folder = shutil.copytree(run, tmp_path_factory.mktemp("published") / "new" / "run")
    rows = [
        {"id": path.stem, "image": str(path), "source": text, "references": [text, "a <b>|dog"]}
        for path, text in zip(sorted(pictures.glob("*.png")), tiny.sentences(12), strict=True)
    ]
    data = tiny.write_jsonl(folder.parent / "test set.jsonl", rows)
    evaluate(folder, data, encoder=str(tiny_encoder))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "started.json").write_text("{}")
    (folder / "modeling.py").write_text("1/0")
    return folder


def _texts(parcel: Any) -> dict[str, str]:
    read = {name: what if isinstance(what, bytes) else what.read_bytes() for name, what in parcel.files.items()}
    return {n: data.decode() for n, data in read.items() if not n.endswith((".safetensors", ".jpg", ".npy", ".bin"))}


def test_what_goes_is_what_is_needed_and_says_nothing_of_this_machine(evaluated, tmp_path_factory):
    parcel = pack(evaluated, Shown("me/birds"), examples=2)
    own = {path.name for path in evaluated.iterdir() if path.is_file()} - {"log.jsonl", "modeling.py"}
    assert parcel.files.keys() == own | {"examples/1.jpg", "examples/2.jpg"}
    for name, text in _texts(parcel).items():
        assert str(tmp_path_factory.getbasetemp()) not in text, name
        assert ".." not in text.replace("...", ""), name
    config = json.loads(_texts(parcel)["config.json"])
    assert config["encoder"] == "open_clip_dir"
    assert [note.split(" is ")[0] for note in parcel.notes] == ["the encoder 'open_clip_dir'"]
    assert sum(parcel.sizes.values()) < 200_000


def test_the_card_is_what_the_hub_reads(evaluated):
    gap = {"n_text": 48, "n_image": 12, "dim": 16, "centroid_gap": 0.9, "intervals": {"centroid_gap": [0.8, 1.0]}}
    file = evaluated.parent / "gap.json"
    file.write_text(json.dumps(gap))
    shown = Shown("me/birds", language=["en"], license="mit", datasets=["me/captions"])
    parcel = pack(evaluated, shown, gap=file, examples=1)
    card = ModelCard(parcel.card)
    data = card.data
    assert (data.pipeline_tag, data.library_name, data.license) == ("image-to-text", "close-toolkit", "mit")
    assert (data.language, data.datasets) == (["en"], ["me/captions"])
    scores = json.loads((evaluated / "evaluations" / "test set-image" / "scores.json").read_text())["scores"]
    found = {result.metric_type: result for result in data.eval_results}
    assert data.metrics == list(found)
    assert found["cider"].metric_value == round(scores["cider"], 2)
    assert found["cider"].metric_args["interval_95"] == [round(end, 2) for end in scores["ci"]["cider"]]
    assert (found["cider"].dataset_name, found["cider"].metric_args["rows"]) == ("test set", 12)
    for part in (
        'close.load("me/birds")',
        "close caption me/birds photo.jpg",
        "AutoModel.from_pretrained",
        "48 rows of",
    ):
        assert part in card.text
    assert "| centroid_gap | 0.900 | 0.800 to 1.000 |".replace("_", r"\_") in card.text
    assert "(examples/1.jpg)" in card.text
    assert r"a \<b\>\|dog" in card.text
    file.write_text(json.dumps(gap | {"dim": 17}))
    with pytest.raises(MismatchError, match="width 17"):
        pack(evaluated, shown, gap=file)
    assert [note for note in parcel.notes if "does not say of which encoder" in note]
    about = json.loads((evaluated / "run.json").read_text())
    file.write_text(json.dumps(gap | {"encoder": "same", "fingerprint": about["fingerprint"]}))
    assert not [note for note in pack(evaluated, shown, gap=file).notes if "does not say" in note]
    file.write_text(json.dumps(gap | {"encoder": "as wide", "fingerprint": "f" * 16}))
    with pytest.raises(MismatchError, match="comes from encoder 'as wide'"):
        pack(evaluated, shown, gap=file)
    file.write_text("{}")
    with pytest.raises(DataError, match="expected what `close gap"):
        pack(evaluated, shown, gap=file)


def test_base_models_are_those_that_the_hub_has(run):
    from close.runs.card import _base_models
    from close.runs.recipe import Recipe

    given = {"data": {"train": "c.txt"}, "language_model": "google-t5/t5-base"}
    for encoder, base in {
        "hf:openai/clip-vit-base-patch32": "openai/clip-vit-base-patch32",
        "open_clip:hf-hub:a/b": "a/b",
        "open_clip:ViT-L-14/openai": "timm/vit_large_patch14_clip_224.openai",
        "open_clip:ViT-L-14@w.pt": None,
        "mini": None,
    }.items():
        recipe = Recipe.model_validate(given | {"encoder": encoder})
        assert list(_base_models(recipe)) == ["google-t5/t5-base", *([base] if base else [])]


@pytest.mark.parametrize(
    ("changes", "about", "says", "not_so"),
    [
        (
            {},
            {"steps": 9},
            ["- text-only-transfer", "takes the text tower's place", "learnt from text alone", "9 steps\n"],
            [],
        ),
        (
            {"train_on": "image", "adapter": "none"},
            {},
            ["across the gap: `none`", "learnt from images"],
            ["text-only-transfer", "tower's place"],
        ),
        (
            {"init_from": "/runs/first"},
            {"init_from": {"run": "../first"}},
            ["begun from the run `first`", "and from what the run that it began from had learnt"],
            ["text-only-transfer", "text alone"],
        ),
        (
            {},
            {"steps": 9, "best": {"step": 3, "metric": "cider"}},
            ["9 steps, of which it holds step 3, the best by cider"],
            [],
        ),
    ],
)
def test_the_card_says_what_the_run_is(recipe, changes, about, says, not_so):
    card = model_card(recipe(**changes), Path("/"), about)
    assert [part for part in says if part not in card] == []
    assert [part for part in not_so if part in card] == []


def test_scores_are_of_what_the_run_says_by_itself(evaluated, tmp_path):
    """Others are left out, and that is told; two files of one name are two."""
    own = shutil.copytree(evaluated, tmp_path / "own")
    known = json.loads((own / "evaluations" / "test set-image" / "scores.json").read_text())
    otherwise = [
        {"generation": known["generation"] | {"num_beams": 1}},
        {"memory": "f" * 64},
        {"decoding": known["decoding"] | {"how": "score"}},
        {"unreadable": [{"id": "1", "reason": "cut off"}]},
        {"precision": "bf16"},
        {"limit": 3},
    ]
    for number, one in enumerate([*otherwise, {"data": "/x/test set.txt", "data_sha256": "f" * 64, "task": "vqa"}]):
        (own / "evaluations" / f"{number}").mkdir()
        (own / "evaluations" / f"{number}" / "scores.json").write_text(json.dumps(known | one))
    parcel = pack(own, Shown("me/birds"))
    for why in ("0 (num_beams 1, now 5)", "3 (without pictures", "4 (precision bf16)", "… and 1 more"):
        assert why in parcel.notes[-1]
    names = {f"test set-caption-{known['data_sha256'][:8]}", "test set-vqa-ffffffff"}
    assert {result.dataset_name for result in ModelCard(parcel.card).data.eval_results} == names
    assert all(f"| {name} (12, image) |" in parcel.card for name in names)


def test_scores_of_pictures_that_it_has_met_say_so(evaluated, tmp_path):
    own = shutil.copytree(evaluated, tmp_path / "own")
    place = own / "evaluations" / "test set-image" / "scores.json"
    known = json.loads(place.read_text())
    assert "too good" not in pack(own, Shown("me/birds")).card
    place.write_text(json.dumps(known | {"met": [{"place": "w/pairs.jsonl", "pictures": 7}]}))
    parcel = pack(own, Shown("me/birds"))
    assert "of test set, or was chosen by them (7 in pairs.jsonl): these scores are too good" in parcel.card
    assert "| test set (12, image) |" in parcel.card
    assert ModelCard(parcel.card).data.eval_results is None
    assert any("has met pictures of test set.jsonl (7 in pairs.jsonl)" in note for note in parcel.notes)
    page = evaluation_page(json.loads(place.read_text()))
    assert "7 of its pictures are in w/pairs.jsonl" in page
    assert "place&#39;" not in page


def test_scores_of_older_versions_stay(evaluated, tmp_path):
    """They did not say precision and decoding."""
    own = shutil.copytree(evaluated, tmp_path / "own")
    place = own / "evaluations" / "test set-image" / "scores.json"
    known = json.loads(place.read_text())
    place.write_text(json.dumps({key: value for key, value in known.items() if key not in ("precision", "decoding")}))
    assert "test set (12, image)" in pack(own, Shown("me/birds")).card


def test_scores_say_of_which_words_they_are(evaluated, tmp_path, monkeypatch):
    own = shutil.copytree(evaluated, tmp_path / "own")
    place = own / "evaluations" / "test set-image" / "scores.json"
    known = json.loads(place.read_text())
    assert "(Unicode words)" not in pack(own, Shown("me/birds")).card
    more = {"tokenizer": "unicode", "clip_score": 70.0, "spaces": 5.0}
    place.write_text(json.dumps(known | {"scores": known["scores"] | more}))
    monkeypatch.setattr(METRICS, "_order", [*METRICS._order])
    monkeypatch.setattr(METRICS, "_metrics", copy.deepcopy(METRICS._metrics))
    METRICS.register(Metric("spaces", "caption", (Score("spaces", "Parts"),)))(lambda inputs: {})
    card = pack(own, Shown("me/birds")).card
    found = {result.metric_type: result for result in ModelCard(card).data.eval_results}
    assert (found["cider"].metric_name, found["clip_score"].metric_name) == ("CIDEr (Unicode words)", "CLIPScore")
    assert found["cider"].metric_args["tokenizer"] == "unicode"
    assert found["spaces"].metric_name == "Parts"
    assert "| CIDEr (Unicode words) |" in card


@pytest.mark.parametrize("text", ["[a] dog | <b>x</b>", "{a} | _b_"])
def test_texts_are_no_markup_whatever_they_begin_with(text):
    assert not re.search(r"(?<!\\)[|<>_\[\]]", _inline(text))


def test_an_adapter_is_code_as_it_is_written(recipe):
    card = model_card(recipe(adapter=[{"random_shift": {"norm": 0.5}}, {"gaussian": {"cosine": 0.5}}]), Path("/"), {})
    assert "- across the gap: `[{random_shift: {norm: 0.5}}, {gaussian: {cosine: 0.5}}]`" in card


def test_a_box_and_two_pictures_are_examples_too(evaluated, tmp_path, pictures):
    own = shutil.copytree(evaluated, tmp_path / "own")
    place = own / "evaluations" / "test set-image" / "scores.json"
    known, both = json.loads(place.read_text()), [str(pictures / f"p0{n}.png") for n in range(2)]
    (one, *_) = known["examples"]["random"]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    absent = [f"/{'a' * 300}.png", str(tmp_path), str(tmp_path / "broken.png")]  # none of these can be shown
    drawn = [one | {"image": name} for name in absent] + [one | {"image": both[0], "images": [both[0], absent[0]]}]
    drawn += [one | {"image": both[0] + "#xywh=0,0,8,4"}, one | {"image": both[0], "images": both}]
    place.write_text(json.dumps(known | {"examples": known["examples"] | {"random": drawn}}))
    files = pack(own, Shown("me/birds"), examples=2).files
    sizes = [Image.open(BytesIO(files[f"examples/{n}.jpg"])).size for n in (1, 2)]
    assert sizes == [(8, 4), (2 * tiny.PIXELS + 6, tiny.PIXELS)]


def test_pictures_say_nothing_besides_and_are_those_of_the_rows(evaluated, tmp_path, monkeypatch):
    own = shutil.copytree(evaluated, tmp_path / "own")
    file = own / "evaluations" / "test set-image" / "scores.json"
    known = json.loads(file.read_text())
    (one, *_) = known["examples"]["random"]
    examples = known["examples"] | {"random": [one | {"image": "photo.jpg"}]}
    file.write_text(json.dumps(known | {"data": "rows.jsonl", "examples": examples}))
    for name, rows in (("there", Path(known["data"]).read_text()), ("elsewhere", '{"source": "a dog"}\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text(rows)
        Image.new("RGB", (40, 30)).save(tmp_path / name / "photo.jpg", comment=b"patient 4711")
    monkeypatch.chdir(tmp_path / "there")
    made = pack(own, Shown("me/birds"), examples=1).files["examples/1.jpg"]
    assert isinstance(made, bytes)
    assert b"patient" not in made
    monkeypatch.chdir(tmp_path / "elsewhere")
    parcel = pack(own, Shown("me/birds"), examples=1)
    assert "examples/1.jpg" not in parcel.files
    assert "publish it from the folder that `close evaluate` ran in" in parcel.notes[-1]


def test_a_calibration_goes_on_belonging_to_its_run(evaluated, tmp_path, monkeypatch):
    """A run of before said where encoder and plug-ins lay: that goes, and the sum that ties a calibration to it is made anew."""
    monkeypatch.setitem(plugins._loaded, "/elsewhere/own.py", None)
    old = shutil.copytree(evaluated, tmp_path / "old")
    where = {"encoder": "/home/me/clip", "plugins": ["/home/me/own.py"]}
    about = json.loads((old / "run.json").read_text()) | where
    (old / "run.json").write_text(json.dumps(about))
    (old / "calibration").mkdir()
    tied = hashlib.sha256((old / "run.json").read_bytes()).hexdigest()
    (old / "calibration" / "caption.json").write_text(json.dumps({"data": "/home/me/val.jsonl", "run_sha256": tied}))
    parcel = pack(old, Shown("me/birds"))
    texts = _texts(parcel)
    assert "close.load_plugins(['own.py'])\nmodel = close.load(\"me/birds\")" in parcel.card
    assert "close caption me/birds photo.jpg --plugin own.py\n" in parcel.card
    assert any("parts of own.py are not in it" in note for note in parcel.notes)
    assert "load_plugins" not in pack(evaluated, Shown("me/birds")).card
    assert {key: json.loads(texts["run.json"])[key] for key in where} == {"encoder": "clip", "plugins": ["own.py"]}
    calibrated = json.loads(texts["calibration/caption.json"])
    assert calibrated == {"data": "val.jsonl", "run_sha256": hashlib.sha256(texts["run.json"].encode()).hexdigest()}


def test_a_memory_goes_or_is_named_and_that_is_told(recipe, zoo, tmp_path):
    """What lies in the run becomes public; of what lies elsewhere the name alone goes, and others need one."""
    memory = tiny.write_jsonl(tmp_path / "texts of mine.jsonl", tiny.caption_rows(20))
    for embed, says in ((False, "the memory 'texts of mine.jsonl' is on this machine"), (True, "become public")):
        search = {"memory": str(memory), "k": 2, "encoder": str(zoo("hf_clip_dir"))}
        run = train(recipe({"epochs": 1}, retrieve=search), tmp_path / "new" / f"run{embed}", embed_memory=embed)
        parcel = pack(run, Shown("me/birds"))
        retrieve = json.loads(_texts(parcel)["config.json"])["retrieve"]
        assert retrieve["memory"]["reference"] == ("memory" if embed else memory.name)
        assert retrieve["encoder"] == "hf_clip_dir"
        assert {name for name in parcel.files if name.endswith("rows.jsonl")} == (
            {"memory/rows.jsonl"} if embed else set()
        )
        for name, text in _texts(parcel).items():
            assert str(tmp_path) not in text, name
            assert "../" not in text, name
        notes = "\n".join(parcel.notes)
        assert says in notes
        assert "the encoder that its memory is searched in 'hf_clip_dir' is a folder of this machine" in notes


def test_pictures_that_are_asked_for_and_not_there_are_told(run):
    assert "no evaluation on images is saved" in pack(run, Shown("me/birds"), examples=4).notes[-1]
    assert not [note for note in pack(run, Shown("me/birds")).notes if "evaluation" in note]


def test_what_names_this_machine_after_all_is_refused(evaluated, tmp_path):
    own = shutil.copytree(evaluated, tmp_path / "own")
    (own / "tokenizer_config.json").write_text(json.dumps({"name_or_path": str(own / "models")}))
    with pytest.raises(DataError, match=r"tokenizer_config\.json: names '.*', a place of this machine"):
        pack(own, Shown("me/birds"))


@pytest.mark.parametrize("name", ["birds", "me/a/b", "me/--", "me/birds@v1", "", "me/.."])
def test_names_that_the_hub_does_not_take(name):
    with pytest.raises(RecipeError):
        check_name(name)


_TWICE = """
import sys
from close.cli import main
from close.io.hub import run_folder
from close.errors import CloseError
run, more = sys.argv[1], sys.argv[2:]
def close(*words):
    sys.argv = ["close", *words]
    try: main()
    except SystemExit as stop: assert not stop.code, stop.code
close("publish", run, "me/birds", "--private", "--examples", "2")
close("publish", run, "me/birds", "--revision", "small")
print("FOLDER", run_folder("me/birds"))
print("FOLDER", run_folder("me/birds@small"))
for name in ("me/gone", "me/birds@gone", "me/model"):
    try: run_folder(name)
    except CloseError as error: print("TOLD", error)
from close.runs.card import Shown
from close.runs.publish import pack, publish
for name, private in (("me/model", False), ("me/open", True)):
    try: publish(run, name, pack(run, Shown(name)), private=private, revision="small")
    except CloseError as error: print("REFUSED", error)
"""


def test_there_and_back(evaluated, tmp_path, cli, pictures, tiny_encoder):
    dry = cli("publish", evaluated, "me/birds", "--dry-run")
    assert "model.safetensors" in dry.out
    assert "pipeline_tag: image-to-text" in dry.out
    assert "examples/" not in dry.out  # pictures become public where that is asked for
    with hub() as server:
        server.repositories["me/model"] = type(server).new({"config.json": b"{}"})
        server.repositories["me/open"] = type(server).new({"README.md": b"to come"})
        place = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
        ran = subprocess.run(
            [sys.executable, "-c", _TWICE, str(evaluated)],
            env=os.environ | place | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert ran.returncode == 0, ran.stderr
    assert server.repositories["me/birds"].private
    first, small = (Path(line.split(" ", 1)[1]) for line in ran.stdout.splitlines() if line.startswith("FOLDER"))
    assert f"published: me/birds@{first.name}" in ran.stdout
    assert {path.name for path in small.iterdir()} == {path.name for path in first.iterdir()}
    there = server.repositories["me/birds"]
    assert "examples/2.jpg" in there.states[there.branches["main"]]
    assert there.states[there.branches["small"]].keys() == there.states[there.branches["main"]].keys() - {
        "examples/1.jpg",
        "examples/2.jpg",
    }
    another, public = (line for line in ran.stdout.splitlines() if line.startswith("REFUSED"))
    assert "me/model holds config.json and is no run" in another
    assert "me/open is public there" in public
    for name in ("me/model", "me/open"):
        assert server.repositories[name].branches == {"main": "1" * 40}
    gone, revision, model = (line for line in ran.stdout.splitlines() if line.startswith("TOLD"))
    assert "no model of that name" in gone
    assert "no revision 'gone'" in revision
    assert "is no run of `close train`" in model
    picture = pictures / "p00.png"
    before, after = (close.load(folder, encoder=str(tiny_encoder)) for folder in (evaluated, first))
    assert (after(picture).text, after(picture).score) == (before(picture).text, before(picture).score)


def test_a_hub_that_is_not_there_is_told(evaluated, told):
    message = told("publish", evaluated, "me/birds")
    assert "the hub did not take" in message
    assert "--dry-run" in message


def test_only_what_a_run_needs_is_named():
    assert not any(pattern.endswith((".py", "*")) for pattern in RUN_FILES)
