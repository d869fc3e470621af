"""Where a run says that things lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from close.encoders import encoder_name
from close.io.places import last_part, moved_reference, place_of, reference_from, seen_from


def test_what_lies_together_is_relative_and_what_does_not_is_not(tmp_path):
    assert seen_from("/data/a/model", "/data/runs/mine") == "../../a/model"
    assert seen_from("/data/a/model", "/home/runs/mine") is None
    assert seen_from("/data/a/model", "/home/runs/mine", shared=1) == "../../../data/a/model"
    assert last_part("/data/a/model/") == "model"
    run, model = tmp_path / "runs" / "mine", tmp_path / "model"
    model.mkdir()
    assert reference_from(str(model), run) == "../../model"
    assert reference_from(f"hf:{model}", run) == "hf:../../model"
    run.mkdir(parents=True)
    assert Path(place_of("hf:../../model", run).removeprefix("hf:")).resolve() == model.resolve()
    assert place_of("hf:openai/clip", run) == "hf:openai/clip"


def test_links_are_followed_as_the_system_follows_them(tmp_path):
    """`runs/..` is where the folder behind a link lies, and not where the link does."""
    model, disk = tmp_path / "home" / "model", tmp_path / "disk" / "deep" / "runs"
    model.mkdir(parents=True)
    disk.mkdir(parents=True)
    (tmp_path / "home" / "runs").symlink_to(disk)
    run = tmp_path / "home" / "runs" / "mine"
    run.mkdir()
    (model / "here").touch()
    found = seen_from(model, run)
    assert found is not None
    assert (run / found / "here").is_file()
    linked = tmp_path / "home" / "linked"
    linked.symlink_to(model)
    (tmp_path / "home" / "plain").mkdir()
    assert seen_from(linked, tmp_path / "home" / "plain") == "../linked"  # a link keeps its name


@pytest.mark.parametrize(
    ("reference", "moved"),
    [
        ("model", "<model>"),
        ("hf:model", "hf:<model>"),
        ("open_clip:model", "open_clip:<model>"),
        ("open_clip:ViT-B-32@w@1.pt", "open_clip:ViT-B-32@<w@1.pt>"),
        ("open_clip:a@b", "open_clip:<a@b>"),
        ("own:w@1.pt", "own:<w@1.pt>"),
        ("/gone/model", "</gone/model>"),
        ("open_clip:ViT-B-32@/gone/w.pt", "open_clip:ViT-B-32@</gone/w.pt>"),
        ("mini", "mini"),
        ("", ""),
        ("hf:", "hf:"),
        ("openai/clip", "openai/clip"),
        ("hf:openai/clip", "hf:openai/clip"),
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32/openai"),
        ("open_clip:hf-hub:a/b", "open_clip:hf-hub:a/b"),
        ("open_clip:ViT-B-32@gone.pt", "open_clip:ViT-B-32@gone.pt"),
        ("x" * 5000, "x" * 5000),
    ],
)
def test_what_a_reference_names(tmp_path, monkeypatch, reference, moved):
    for name in ("model", "a@b", "mini"):
        (tmp_path / name).mkdir()
    (tmp_path / "w@1.pt").touch()
    assert moved_reference(reference, lambda place: f"<{place}>", tmp_path) == moved
    monkeypatch.chdir(tmp_path)
    assert encoder_name(reference) == moved.replace("</", "/").replace("<", f"{tmp_path.resolve()}/").replace(">", "")
