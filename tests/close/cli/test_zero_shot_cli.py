"""close classify and close retrieve on the mini world's files, as on one's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from close.encoders import load_encoder
from close.errors import DataError, RecipeError
from close.evaluation.classification import classify
from close.evaluation.retrieval import first_hits, pictures_for
from close.mini import draw, export, scenes


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero") / "world"
    export(folder, "val", 12)
    return folder


@pytest.fixture(scope="module")
def shapes(world: Path) -> Path:
    """A folder per class: each picture by its first thing, some folders in capitals."""
    folder = world.parent / "shapes"
    rows = [json.loads(line) for line in (world / "eval.jsonl").read_text().splitlines()]
    for row in rows:
        inside = [thing["shape"] for thing in row["meta"]["facts"]["things"]]
        label = inside[0].upper() if inside[0] != "star" else "star"
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(world / row["image"], folder / label / Path(row["image"]).name)
    return folder


def said(ran: Any) -> Any:
    assert ran.code == 0, ran
    return json.loads(ran.out)


class TestClassify:
    def test_any_pictures_give_probabilities(self, cli: Callable[..., Any], world: Path) -> None:
        found = said(
            cli(
                "classify",
                world / "images",
                "--label",
                "Sand",
                "--label",
                "snow",
                "--template",
                "a star on {}",
                "--json",
            )
        )
        assert found["scores"] is None
        assert found["classes"] == ["Sand", "snow"]
        assert len(found["items"]) == 12
        encoder = load_encoder("mini")
        texts = encoder.encode_text(["a star on sand", "a star on snow"]).numpy().astype(float)
        for item in found["items"]:
            image = encoder.encode_image(world / "images" / item["item"]).numpy()[0].astype(float)
            powers = np.exp(100 * texts @ image)
            shares = powers / powers.sum()
            assert list(item["probabilities"].values()) == pytest.approx(shares, abs=1e-3)
            assert item["label"] == found["classes"][int(shares.argmax())]
            assert item["probability"] == max(item["probabilities"].values())

    def test_a_folder_per_class_gives_accuracy(self, cli: Callable[..., Any], shapes: Path, tmp_path: Path) -> None:
        (tmp_path / "prompts.txt").write_text("a {}\na picture with a {}\n")
        command = ("classify", shapes, "--templates", tmp_path / "prompts.txt")
        found = said(cli(*command, "--json"))
        classes = sorted((folder.name for folder in shapes.iterdir()), key=str.lower)
        assert found["classes"] == classes
        assert {*found["scores"]["confusion"], *found["scores"]["per_label"]} == {*classes}
        right = sum(item["label"] == item["truth"] == Path(item["item"]).parts[0] for item in found["items"])
        assert found["scores"]["accuracy"] == pytest.approx(100 * right / 12)
        assert sum(sum(row.values()) for row in found["scores"]["confusion"].values()) == 12
        encoder = load_encoder("mini")
        first = found["items"][0]
        image = encoder.encode_image(shapes / first["item"]).numpy()[0]
        means = [encoder.encode_text([f"a {c}", f"a picture with a {c}"]).numpy().mean(0) for c in classes]
        logits = [100 * float(m @ image) / float(np.linalg.norm(m)) for m in means]
        assert first["label"] == classes[int(np.argmax(logits))]
        plain = cli(*command).out
        assert f"accuracy {100 * right / 12:.2f} [" in plain
        assert len(plain.splitlines()) == 13 + len(found["scores"]["confusion"])

    def test_names_stay_as_they_are_written(self, shapes: Path, tmp_path: Path) -> None:
        rows = [{"image": str(file), "label": "ct"} for file in sorted(shapes.rglob("*.png"))[:2]]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = classify(tmp_path / "rows.jsonl", load_encoder("mini"), ["MRT Schädel", "CT"])
        assert found.classes == ["MRT Schädel", "CT"]
        assert {item["truth"] for item in found.items} == {"CT"}
        assert found.scores is not None
        assert [*found.scores["confusion"]] == ["CT"]
        with pytest.raises(RecipeError, match="named twice"):
            classify(shapes, load_encoder("mini"), ["CT", "ct"])

    def test_rows_with_labels(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        rows = []
        for index, scene in enumerate([s for s in scenes("val", 40) if s.ground in ("sand", "snow")][:8]):
            draw(scene).save(tmp_path / f"{index}.png")
            rows.append({"id": str(index), "image": f"{index}.png", "label": scene.ground})
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = said(cli("classify", tmp_path / "rows.jsonl", "--template", "a picture on {}", "--json"))
        assert found["classes"] == ["sand", "snow"]
        assert found["scores"]["accuracy"] == 100
        (tmp_path / "classes.txt").write_text("sand\ngrass\n")
        ran = cli("classify", tmp_path / "rows.jsonl", "--labels", tmp_path / "classes.txt")
        assert ran.code == 1
        assert "'snow', which is none of sand, grass" in ran.err

    def test_rows_of_one_picture_are_drawn_together(self, tmp_path: Path) -> None:
        shown = [(n, scene) for n, scene in enumerate(scenes("val", 60)) if scene.ground in ("sand", "snow")][:16]
        for n, scene in shown:
            draw(scene).save(tmp_path / f"{n}.png")
        found = []
        for times in (1, 5):
            rows = [
                {"id": f"{n}-{time}", "image": f"{n}.png", "label": "sand" if n % 3 else "snow"}
                for n, _ in shown
                for time in range(times)
            ]
            (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            found.append(classify(tmp_path / "rows.jsonl", load_encoder("mini")).scores)
        assert 0 < found[0]["accuracy"] < 100
        assert found[0]["ci"] == found[1]["ci"]

    def test_unreadable_pictures_are_named_and_the_others_done(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        draw(next(scenes("val", 1))).save(tmp_path / "good.png")
        (tmp_path / "bad.png").write_bytes(b"no picture")
        ran = cli("classify", tmp_path, "--label", "a", "--label", "b")
        assert ran.code == 1
        assert f"{tmp_path / 'good.png'}\t" in ran.out
        assert "picture, probability of its class among 2, class (encoder mini)" in ran.err
        assert "1 pictures could not be read" in ran.err
        assert "bad.png" in ran.err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--label", "star"), "at least two classes"),
            (("--label", "star", "--label", "Star "), "'star' is named twice"),
            (("--label", "a", "--label", "b", "--template", "a photo"), "expected one {}"),
            ((), "at least two classes"),
            (("--labels", "gone.txt"), "gone.txt: no such file"),
            (("--label", "a", "--label", "b", "--encoder", "hf:no/such"), "'no/such'"),
        ],
    )
    def test_what_is_wrong_is_told(
        self, told: Callable[..., str], world: Path, arguments: tuple[str, ...], words: str
    ) -> None:
        assert words in told("classify", world / "images", *arguments)

    def test_no_pictures(self, told: Callable[..., str], tmp_path: Path) -> None:
        assert "no image in it" in told("classify", tmp_path, "--label", "a", "--label", "b")
        assert "no such file" in told("classify", tmp_path / "gone", "--label", "a", "--label", "b")

    def test_from_python(self, world: Path) -> None:
        encoder = load_encoder("mini")
        found = classify(
            world / "images" / sorted(p.name for p in (world / "images").iterdir())[0], encoder, ["a", "b"]
        )
        assert sum(found.items[0]["probabilities"].values()) == pytest.approx(1)
        with pytest.raises(RecipeError):
            classify(world / "images", encoder, ["", "x"])


class TestRetrieve:
    def test_both_ways(self, cli: Callable[..., Any], world: Path) -> None:
        found = said(cli("retrieve", world / "captions.jsonl", "--json"))
        assert (found["texts"], found["images"]) == (60, 12)
        rows = [json.loads(line) for line in (world / "captions.jsonl").read_text().splitlines()]
        encoder = load_encoder("mini")
        files = list(dict.fromkeys(row["image"] for row in rows))
        texts = encoder.encode_text([row["source"] for row in rows]).numpy()
        images = encoder.encode_image([world / file for file in files]).numpy()
        table = texts @ images.T
        for k in (1, 5, 10):
            hits = [
                files.index(row["image"]) in sorted(range(12), key=lambda j: -table[i, j])[:k]
                for i, row in enumerate(rows)
            ]
            assert found["text_to_image"][f"r@{k}"] == pytest.approx(100 * np.mean(hits))
        low, high = found["text_to_image"]["ci"]["r@1"]
        assert low <= found["text_to_image"]["r@1"] <= high
        plain = cli("retrieve", world / "captions.jsonl")
        assert "60 texts, 12 images, encoder mini" in plain.out
        assert f"R@1 {found['image_to_text']['r@1']:.2f} [" in plain.out

    def test_pictures_for_a_text(self, cli: Callable[..., Any], world: Path) -> None:
        text = json.loads((world / "captions.jsonl").read_text().splitlines()[0])["source"]
        encoder = load_encoder("mini")
        files = sorted(path.name for path in (world / "images").iterdir())
        vectors = encoder.encode_image([world / "images" / name for name in files]).numpy()
        wanted = [files[i] for i in np.argsort(-(vectors @ encoder.encode_text(text).numpy()[0]), kind="stable")]
        found = said(cli("retrieve", world / "images", "--query", text, "--query", "sand", "-k", 4, "--json"))[
            "results"
        ]
        assert [one["query"] for one in found] == [text, "sand"]
        assert [one["item"] for one in found[0]["found"]] == wanted[:4]
        of_rows = said(cli("retrieve", world / "captions.jsonl", "--query", text, "--json"))["results"][0]["found"]
        assert len(of_rows) == 10
        assert len({one["item"].rpartition("-")[0] for one in of_rows}) == 10  # each picture once

    def test_unreadable_pictures_are_named_and_the_others_found(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        draw(next(scenes("val", 1))).save(tmp_path / "good.png")
        (tmp_path / "bad.png").write_bytes(b"no picture")
        (tmp_path / "rows.jsonl").write_text('{"id": "7", "image": "good.png"}\n')
        for data in (tmp_path, tmp_path / "rows.jsonl"):  # what is found can be opened
            ran = cli("retrieve", data, "--query", "a star")
            assert f"\t{tmp_path / 'good.png'}\n" in ran.out + "\n"
            assert "cosine and picture, best first (encoder mini)" in ran.err
        for more in ((), ("--json",)):
            ran = cli("retrieve", tmp_path, "--query", "a star", *more)
            assert ran.code == 1
            assert "good.png" in ran.out
            assert "1 pictures could not be read" in ran.err
            assert "bad.png" in ran.err

    def test_texts_for_a_picture(self, cli: Callable[..., Any], world: Path, tmp_path: Path) -> None:
        (tmp_path / "texts.txt").write_text("a star\na red ring on sand\nsnow\na star\n")
        picture = sorted((world / "images").iterdir())[0]
        found = said(cli("retrieve", tmp_path / "texts.txt", "--image", picture, "--json"))["results"][0]["found"]
        assert sorted(one["text"] for one in found) == ["a red ring on sand", "a star", "snow"]
        cosines = [one["cosine"] for one in found]
        assert cosines == sorted(cosines, reverse=True)

    def test_any_encoder(self, cli: Callable[..., Any], tiny_encoder: Path, pictures: Path) -> None:
        found = said(cli("retrieve", pictures, "--query", "a dog", "--encoder", tiny_encoder, "--json"))
        assert found["encoder"] == str(tiny_encoder.resolve()) or found["encoder"] == str(tiny_encoder)
        assert len(found["results"][0]["found"]) == 10

    def test_what_is_wrong_is_told(self, told: Callable[..., str], world: Path, tmp_path: Path) -> None:
        (tmp_path / "t.txt").write_text("a star\n")
        assert "needs one 'image' and a 'source'" in told("retrieve", tmp_path / "t.txt")
        assert "not for both" in told("retrieve", world / "images", "--query", "a", "--image", "b.png")
        assert "b.png" in told("retrieve", tmp_path / "t.txt", "--image", "b.png")
        assert "no such file" in told("retrieve", tmp_path / "gone")


def test_first_hits_against_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("close.evaluation.retrieval._BLOCK", 7)
    rng = np.random.default_rng(0)
    queries, gallery = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (40, 25))  # many equal cosines
    of_query, of_gallery = rng.integers(0, 5, 40), rng.integers(0, 5, 25)
    for query, owner, rank in zip(queries, of_query, first_hits(queries, gallery, of_query, of_gallery), strict=True):
        order = sorted(range(25), key=lambda j: (-float(query @ gallery[j]), j))
        assert rank == 1 + next(place for place, j in enumerate(order) if of_gallery[j] == owner)


def test_pictures_that_could_not_be_looked_through_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw(next(scenes("val", 1))).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    encoder, failed = load_encoder("mini"), list[str]()
    for _ in range(2):  # also where the vectors are there already
        caplog.clear()
        (found,) = pictures_for(["a star"], tmp_path, encoder)
        assert [one["item"] for one in found["found"]] == ["good.png"]
        (told,) = [line for line in caplog.messages if "could not be read" in line]
        assert told.startswith("1 pictures could not be read and are left out: ")
        assert "bad.png" in told
    caplog.clear()
    assert pictures_for(["a star"], tmp_path, encoder, failed=failed) == [found]
    assert len(failed) == 1
    assert "bad.png" in failed[0]
    assert not caplog.messages


def test_folders_that_are_no_class_are_told(shapes: Path) -> None:
    with pytest.raises(DataError, match="which is none of"):
        classify(shapes, load_encoder("mini"), ["star", "zebra"])


def test_classes_named_as_their_folders_are(shapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, name in enumerate(("red_square", "blue heart")):
        (tmp_path / name).mkdir()
        shutil.copy(sorted(shapes.rglob("*.png"))[number], tmp_path / name / "0.png")
    own = classify(tmp_path, load_encoder("mini"))
    given = classify(tmp_path, load_encoder("mini"), ("blue_heart", "Red square"))
    assert own.scores is not None
    assert given.scores is not None
    assert own.scores["accuracy"] == given.scores["accuracy"]
    assert given.classes == ["blue heart", "Red square"]
    assert classify(tmp_path, load_encoder("mini"), ("sand", "snow")).scores is None
    assert "blue heart, red square are none of the classes, so that nothing is known to be right" in caplog.text
