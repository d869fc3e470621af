"""Results that are written row by row: whole or not at all, and continued."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny
from killing import killed
from pyarrow import parquet

from close.errors import OutputExistsError, RecipeError
from close.io.results import ResultFile
from close.vectors.table import EmbeddingTable


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_goes_on_after_the_last_whole_unit(tmp_path):
    path = tmp_path / "out.jsonl"

    def stopped():
        with ResultFile(path, {"run": "a"}, unit=2)() as results:
            for number in range(5):
                results.write({"number": number, "error": "broken" if number == 1 else None})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not path.exists()
    with (tmp_path / "out.jsonl.partial").open("a") as file:
        file.write('{"number": 5')  # torn
    with pytest.raises(OutputExistsError, match="another job"), ResultFile(path, {"run": "b"}, unit=2)():
        pass
    kept: list[Any] = []
    with ResultFile(path, {"run": "a"}, unit=2, kept=kept.append)() as results:
        assert (results.done, [row["number"] for row in kept]) == (4, [0, 1, 2, 3])
        results.write({"number": 4, "error": None})
    assert [row["number"] for row in lines(path)] == [0, 1, 2, 3, 4]
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]
    with pytest.raises(OutputExistsError, match="exists"):
        ResultFile(path, {"run": "a"})


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_ends_well_after_a_kill_at_its_end(tmp_path, monkeypatch, name):
    """Killed before each file that is moved or removed once all rows are there."""
    number, ended = 0, False
    while not ended:
        number += 1
        path = tmp_path / str(number) / name

        def work(path: Path = path) -> int:
            with ResultFile(path, {"run": "a"}, unit=2)() as results:
                for row in range(results.done, 5):
                    results.write({"row": row})
                results.finish()
            return results.done

        with monkeypatch.context() as patch:
            ended = killed(patch, number, work)
        if not ended:
            work()
        found = lines(path) if name.endswith("jsonl") else parquet.read_table(path).to_pylist()
        assert [row["row"] for row in found] == [0, 1, 2, 3, 4]
        assert [file.name for file in path.parent.iterdir()] == [name]
        with pytest.raises(OutputExistsError, match="exists"):
            work()
    assert number > 6


def test_goes_on_before_what_has_changed(tmp_path):
    def stopped(keys: list[int]) -> int:
        results = ResultFile(tmp_path / "out.jsonl", {"run": "a"}, unit=2, keys=keys)
        with suppress(KeyboardInterrupt), results():
            for number in range(results.done, 6):
                results.write({"number": number})
            raise KeyboardInterrupt
        return results.done

    assert [stopped(keys) for keys in ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 9, 5, 6, 7], [1, 2, 3, 9, 5, 6, 7])] == [
        0,
        2,
        6,
    ]


def test_other_names_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"\.jsonl or \.parquet"):
        ResultFile(tmp_path / "out.csv", {})
    table = EmbeddingTable.from_numpy([[1.0, 0.0], [0.0, 1.0]], tmp_path / "table")
    with pytest.raises(RecipeError, match=r"\.npy or \.parquet"):
        table.export(tmp_path / "out.txt")


def test_texts_that_look_like_dates_stay_texts(tmp_path):
    said = {"text": "2024-01-02", "score": -1.0, "item": "2024-01-03 11:00:00", "error": None}
    found = [said, {**said, "confidence": 0.5, "candidates": [{"text": "2024-01-02", "score": -1.0, "cosine": None}]}]
    for name, rows in (("plain", [said]), ("more", found)):
        with ResultFile(tmp_path / f"{name}.parquet", {})() as results:
            for row in rows:
                results.write(row)
    plain, more = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("plain", "more"))
    assert plain.to_pylist() == [said]
    assert more.to_pylist() == [{**found[1], "confidence": None, "candidates": None, **said}, found[1]]
    assert plain.schema == more.select(plain.column_names).schema  # parts of one job join


def test_rows_longer_than_a_block_of_arrow_are_read(tmp_path):
    rows = [{"text": "a" * length} for length in (3, 3 << 20, 5, 2 << 20)]
    with ResultFile(tmp_path / "out.parquet", {})() as results:
        for row in rows:
            results.write(row)
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == rows


def test_vectors_as_parquet(tmp_path):
    table = EmbeddingTable.from_numpy([[1.0, 0.0], [0.6, 0.8]], tmp_path / "table", ids=["a", "b"])
    table.export(tmp_path / "out.parquet")
    rows = parquet.read_table(tmp_path / "out.parquet")
    assert rows["id"].to_pylist() == ["a", "b"]
    assert rows["vector"].to_numpy()[1] == pytest.approx([0.6, 0.8])


def test_captions_to_a_file(cli, run, pictures, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    items = [pictures, tmp_path / "broken.png"]
    told = cli("caption", run, *items, "--json", "--batch-size", 4)
    for name in ("out.jsonl", "out.parquet"):
        ran = cli("caption", run, *items, "--out", tmp_path / name, "--batch-size", 4)
        assert ran.code == 1
        assert "1 of" in ran.messages[-1]
    expected = [json.loads(line) for line in told.out.splitlines()]
    assert lines(tmp_path / "out.jsonl") == expected
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == expected


def test_samples_go_on_as_they_would_have(cli, run, pictures, tmp_path, monkeypatch):
    """In one piece, and stopped in its third batch; a picture that was replaced meanwhile is captioned again."""
    from close.runs.pipeline import CloseCaptioner

    many = shutil.copytree(pictures, tmp_path / "pictures")
    again = many / "p00.png"  # which is in the folder too
    command = ("caption", run, many, again, "--batch-size", 4, "--sample", "--n", 3, "--seed", 3, "--out")
    assert cli(*command, tmp_path / "whole.jsonl").code == 0
    answer, calls = CloseCaptioner.answer, []

    def stopped(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(*args, **kwargs)

    monkeypatch.setattr(CloseCaptioner, "answer", stopped)
    assert cli(*command, tmp_path / "cut.jsonl").code == 130
    assert len(lines(tmp_path / "cut.jsonl.partial")) == 8
    assert cli(*command, tmp_path / "cut.jsonl").code == 0
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    calls.clear()
    assert cli(*command, tmp_path / "new.jsonl").code == 130
    tiny.picture(many / "p05.png", seed=99)
    assert cli(*command, tmp_path / "new.jsonl").code == 0
    assert cli(*command, tmp_path / "fresh.jsonl").code == 0
    assert (tmp_path / "new.jsonl").read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()
    found = lines(tmp_path / "whole.jsonl")
    assert len({row["text"] for row in found}) > 3
    assert (found[0]["item"], found[0]["candidates"] == found[-1]["candidates"]) == (found[-1]["item"], False)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (("--n", 2, "--num-beams", 2, "--rerank", "clip"), (), "num_beams, n, rerank"),
        (("--precision", "bf16"), ("--precision", "fp32"), "precision"),
        ((), "search", "generation_config.json"),
    ],
)
def test_a_file_holds_what_is_made_alike(cli, run, tiny_encoder, pictures, tmp_path, monkeypatch, before, now, told):
    """An option that is dropped, another precision, another search that the run was given: none goes on with the file."""
    place = shutil.copytree(run, tmp_path / "run")
    command = (
        "caption",
        place,
        pictures,
        "--encoder",
        tiny_encoder,
        "--batch-size",
        4,
        "--out",
        tmp_path / "out.jsonl",
    )
    write = ResultFile.write

    def stopped(results: ResultFile, row: dict[str, Any]) -> None:
        write(results, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultFile, "write", stopped)
        assert cli(*command, *before).code == 130
    if now == "search":
        search = place / "generation_config.json"
        search.write_text(json.dumps(json.loads(search.read_text()) | {"length_penalty": 1.5}))
        now = ()
    ran = cli(*command, *now)
    assert (ran.code, len(ran.messages)) == (1, 1)
    listed = ran.messages[0].partition("(other ")[2].partition(")")[0]
    assert sorted(listed.split(", ")) == sorted(told.split(", "))
