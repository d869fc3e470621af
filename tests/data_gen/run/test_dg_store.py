"""Files that no kill can hurt: whatever a crash left of them, the same rows come out."""

import json
import random

import pytest

from data_gen.errors import OutputError
from data_gen.run.store import Answer, Store

PARAMS = {"verb": "captions", "seed": 1, "text": "é"}


def write(out, answers, since=0):
    """A run in miniature: every answer makes an accepted row, every third a rejected one too."""
    with Store(out, PARAMS) as store:

        def commit(answer):
            store.accepted.add({"id": str(answer.index), "text": answer.text})
            if answer.index % 3 == 0:
                store.rejected.add({"id": str(answer.index), "reason": "third"})

        known = list(store.journal.replay())
        for record in known:
            commit(record)
        store.finish_replay()
        for answer in answers[len(known) :]:
            store.journal.write(vars(answer))
            store.journal.sync()
            commit(answer)
            store.flush()
        return len(known)


ANSWERS = [Answer(i, "now", f"text {i} é\u2028 \ud800 {'x' * (i % 7)}") for i in range(40)]


def contents(out):
    return [
        p.read_bytes() for p in (out, out.with_name(out.name + ".rejected.jsonl"), out.with_name(out.name + ".journal"))
    ]


def test_any_cut_that_a_crash_can_leave_continues_to_the_same_files(tmp_path):
    whole = tmp_path / "whole.jsonl"
    write(whole, ANSWERS)
    accepted, rejected, journal = contents(whole)
    rng = random.Random(0)
    for case in range(80):
        out = tmp_path / f"{case}.jsonl"
        end = rng.randrange(len(journal) + 1)
        lines = max(0, journal[:end].count(b"\n") - 1)
        rows = accepted.split(b"\n")[:lines]
        part = b"\n".join([*rows, b""]) if rows else b""
        dropped = [line for line in rejected.split(b"\n")[:-1] if int(json.loads(line)["id"]) < lines]
        other = b"\n".join([*dropped, b""]) if dropped else b""
        garbage = rng.choice([b"", b"\0\0\0", b'{"half']) if end > 99 else b""
        out.with_name(out.name + ".journal").write_bytes(journal[:end] + garbage)
        out.write_bytes(part[: rng.randrange(len(part) + 1)])
        out.with_name(out.name + ".rejected.jsonl").write_bytes(other[: rng.randrange(len(other) + 1)])
        write(out, ANSWERS)
        assert contents(out) == [accepted, rejected, journal]


def test_every_line_is_json_with_lone_surrogates_and_line_separators(tmp_path):
    write(tmp_path / "a.jsonl", ANSWERS)
    for content in contents(tmp_path / "a.jsonl"):
        rows = [json.loads(line) for line in content.decode("utf-8").split("\n") if line]
        assert rows
    assert json.loads(contents(tmp_path / "a.jsonl")[0].decode().split("\n")[0])["text"] == ANSWERS[0].text


def test_two_runs_on_one_output_refuse_each_other(tmp_path):
    with Store(tmp_path / "a.jsonl", PARAMS), pytest.raises(OutputError, match=r"another process is writing .*a.jsonl"):
        Store(tmp_path / "a.jsonl", PARAMS)
    with Store(tmp_path / "a.jsonl", PARAMS):
        pass


def test_the_output_of_another_run_is_refused_and_the_difference_named(tmp_path):
    out = tmp_path / "a.jsonl"
    write(out, ANSWERS)
    before = contents(out)
    with pytest.raises(OutputError, match=r"another run \(seed: 1 there, 2 now\)"):
        Store(out, {**PARAMS, "seed": 2})
    assert contents(out) == before


def test_a_slip_that_was_corrected_before_any_answer_came_is_no_other_run(tmp_path):
    write(tmp_path / "a.jsonl", [])
    with Store(tmp_path / "a.jsonl", {**PARAMS, "seed": 2}):
        pass
    with Store(tmp_path / "a.jsonl", PARAMS):
        pass
    write(tmp_path / "a.jsonl", ANSWERS)


def test_a_run_that_never_began_leaves_nothing_and_rows_stay_whatever_the_journal_says(tmp_path):
    out = tmp_path / "a.jsonl"
    for _ in range(2):
        with pytest.raises(OutputError, match="refused"), Store(out, PARAMS):
            raise OutputError("refused")
        assert not list(tmp_path.iterdir())
    write(out, ANSWERS)
    journal = out.with_name(out.name + ".journal")
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    rows = out.read_bytes()
    with pytest.raises(OutputError, match="refused"), Store(out, PARAMS):
        raise OutputError("refused")
    assert (out.read_bytes(), journal.exists()) == (rows, True)


def damage(out, what):
    journal = out.with_name(out.name + ".journal")
    if what == "no journal":
        journal.unlink()
    elif what == "foreign journal":
        journal.write_text("something else\n")
    elif what == "edited":
        out.write_bytes(out.read_bytes().replace(b"text 7", b"text 8"))
    elif what == "shorter journal":
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:5]))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no journal", "without a journal"),
        ("foreign journal", "not a journal of data-gen"),
        ("edited", "line 8: not the row"),
        ("shorter journal", "holds more than the"),
    ],
)
def test_damage_is_told_and_nothing_is_overwritten(tmp_path, what, message):
    out = tmp_path / "a.jsonl"
    write(out, ANSWERS)
    damage(out, what)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=message):
        write(out, ANSWERS)
    assert {p: p.read_bytes() for p in before} == before


def test_impossible_places_are_told(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        Store(tmp_path / "no" / "a.jsonl", PARAMS)
    with pytest.raises(OutputError, match="it is a folder"):
        Store(tmp_path, PARAMS)
