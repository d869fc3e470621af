"""Runs over HTTP: what they say, in batches; what is refused, and that it harms nobody else."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest
import tiny
from asking import PATIENCE, Asking, Client, form, serving, wait_until
from PIL import Image
from torch.nn import functional as F

import close
from close.errors import RecipeError
from close.serve.limits import Limits
from close.serve.served import Served, Work
from close.serve.server import _listening

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("fastapi"), reason="the serve extra is not installed")

CHUNKS = b"30d40\r\n" + bytes(200_000) + b"\r\n1\r\nx\r\n0\r\n\r\n"
LIMITS = Limits(
    bytes=200_000, queue=6, items=5, batch_size=4, labels=3, candidates=8, characters=200, label_characters=300
)


@pytest.fixture(scope="module")
def server(pair):
    with serving(pair, LIMITS) as found:
        yield found


@pytest.fixture
def ask(server) -> Client:
    return server[0]


@contextmanager
def held(desk):
    """The models wait until the block ends; yields what they were given to do, from then on."""
    work, go, given = desk.batches.work, threading.Event(), []

    def waits(what, items):
        given.append((dict(what.settings).get("n"), len(items)))
        assert go.wait(PATIENCE)
        return work(what, items)

    desk.batches.work = waits
    try:
        yield given
    finally:
        go.set()


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_pictures_as_files_and_as_base64_say_what_the_run_says(ask, pair, files, pictures):
    captioner = close.load(pair[0], device="cpu")
    wanted = captioner([pictures / name for name, _ in files[:3]], n=3)
    sent = ask("/v1/caption", {"n": 3}, files=files[:3]).json
    coded_ones = ask("/v1/caption", {"n": 3, "images": [coded(data) for _, data in files[:3]]}).json
    assert (sent["run"], sent["task"]) == ("one", "caption")
    assert [output["item"] for output in sent["outputs"]] == [name for name, _ in files[:3]]
    assert [output["item"] for output in coded_ones["outputs"]] == ["image 1", "image 2", "image 3"]
    for outputs in (sent["outputs"], coded_ones["outputs"]):
        for output, same in zip(outputs, wanted, strict=True):
            assert output["text"] == same.text
            assert output["score"] == pytest.approx(same.score, abs=1e-4)
            assert [one["text"] for one in output["candidates"]] == [one.text for one in same.candidates]


def test_text_in_passes_the_text_side(ask, pair):
    captioner = close.load(pair[0], device="cpu")
    texts = tiny.sentences(2)
    wanted = captioner.embed_to_text(captioner.encoder.encode_text(texts), modality="text", num_beams=2)
    outputs = ask("/v1/caption", {"texts": texts, "num_beams": 2}).json["outputs"]
    assert [(output["item"], output["text"]) for output in outputs] == [
        (text, same.text) for text, same in zip(texts, wanted, strict=True)
    ]


def test_texts_of_one_item_count_by_their_raw_lengths(ask, pair):
    """As in training, and as pictures of one item do."""
    captioner, texts = close.load(pair[0], device="cpu"), tiny.sentences(3)
    raw = captioner.encoder.text_features(texts)
    by_length, alike = F.normalize(raw.mean(0), dim=0), F.normalize(F.normalize(raw).mean(0), dim=0)
    said, other = (captioner.embed_to_text(one, modality="text", num_beams=2) for one in (by_length, alike))
    (output,) = ask("/v1/caption", {"texts": texts, "together": True, "num_beams": 2}).json["outputs"]
    assert output["score"] == pytest.approx(said.score, abs=1e-6)
    assert abs(said.score - other.score) > 1e-5


def test_texts_of_one_item_that_are_cut_are_told(pair, caplog):
    served = Served("one", close.load(pair[0], device="cpu"))
    served.work(Work.of("one", "text", "caption", {"num_beams": 1}, views=2), [(["a dog " * 200, "a cat"], "")], 8)
    assert "1 of 2 texts is longer than the encoder reads" in caplog.text


def test_tasks_labels_and_probabilities(ask, pair, files):
    captioner = close.load(pair[1], device="cpu").use_task("entailment")
    asked = {"run": "two", "task": "entailment", "context": "a dog?", "decode": "score"}
    (output,) = ask("/v1/caption", asked, files=files[:1]).json["outputs"]
    wanted = captioner(io.BytesIO(files[0][1]), "a dog?", decode="score")
    assert output["text"] == wanted.text
    assert output["probabilities"] == pytest.approx(dict(wanted.probabilities), abs=1e-4)
    labels = ["red", "green"]
    (output,) = ask("/v1/caption", {"labels": labels}, files=files[:1]).json["outputs"]
    assert output["text"] in labels
    listed = ask("/v1/runs").json["runs"]
    assert [run["name"] for run in listed] == ["one", "two"]
    assert [task["name"] for task in listed[1]["tasks"]] == ["caption", "entailment"]
    assert listed[1]["tasks"][1]["labels"] == ["entailment", "neutral", "contradiction"]


def test_vectors_are_the_encoders(ask, pair, files):
    encoder = close.load(pair[0], device="cpu").encoder
    found = ask("/v1/embed", files=files[:2]).json
    wanted = encoder.encode_image([io.BytesIO(data) for _, data in files[:2]])
    assert np.allclose([output["embed"] for output in found["outputs"]], wanted, atol=1e-5)
    assert found["encoder_fingerprint"] == encoder.fingerprint
    texts = tiny.sentences(2)
    found = ask("/v1/embed", {"texts": texts}).json
    assert np.allclose([output["embed"] for output in found["outputs"]], encoder.encode_text(texts), atol=1e-5)


def test_of_several_pictures_a_broken_one_has_an_error_and_the_others_an_answer(ask, files):
    broken = [files[0], ("broken.png", files[1][1][:60]), files[2]]
    outputs = ask("/v1/caption", files=broken).json["outputs"]
    assert [output["error"] is None for output in outputs] == [True, False, True]
    assert "broken.png" in outputs[1]["error"]
    alone = ask("/v1/caption", files=broken[1:2])
    assert alone.status == 422
    assert "broken.png can't be read" in alone.error
    other = ask("/v1/caption", files=[("notes.txt", b"no picture at all")])
    assert (other.status, " at 0x" in other.error) == (
        422,
        False,
    )  # where it lies in this process's memory is nobody's affair


def test_names_of_files_come_back_as_they_were(ask, files):
    data = files[0][1]
    for sent, name in (("später 日.png", "später 日.png"), (r"a \"b\" \\c.png", r'a "b" \c.png'), ("", "image")):
        assert ask("/v1/embed", files=[(sent, data)]).json["outputs"][0]["item"] == name


def _strip() -> bytes:
    out = io.BytesIO()
    Image.new("1", (1, 60_000)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("status", "says", "values"),
    [
        (422, "send images, or texts", {}),
        (422, "send images, or texts", {"texts": ["a"], "images": [coded(b"x")]}),
        (422, "did you mean 'num_beams'", {"texts": ["a"], "num_beam": 2}),
        (422, "n: ", {"texts": ["a"], "n": 0}),
        (422, "n: ", {"texts": ["a"], "n": "many"}),
        (422, "n: ", {"texts": ["a"], "n": True}),
        (422, "9 candidates: this server takes 8", {"texts": ["a"], "n": 9}),
        (422, "4 labels: this server takes 3", {"texts": ["a"], "labels": list("abcd")}),
        (422, "a label is empty", {"texts": ["a"], "labels": [" "]}),
        (
            422,
            "402 characters of labels, each as long as the longest: this server takes 300",
            {"texts": ["a"], "labels": ["a" * 134, "b", "c"]},
        ),
        (422, "6 images and texts: this server takes 5", {"texts": ["a"] * 6}),
        (422, "201 characters", {"texts": ["a" * 201]}),
        (422, "a text is empty", {"texts": ["a", " "]}),
        (422, "half a character", {"texts": ["\ud800"]}),
        (422, "2 contexts for 1 items", {"texts": ["a"], "context": ["a", "b"]}),
        (422, "nothing is fetched", {"images": ["http://127.0.0.1/x.png"]}),
        (422, "nothing is fetched", {"images": ["file:///etc/passwd"]}),
        (422, "no base64", {"images": ["/etc/passwd!"]}),
        (422, "can't be read", {"images": [coded(b"no picture")]}),
        (422, "a strip of 1 × 60000", {"images": [coded(_strip())]}),
        (422, "is base64 text", {"images": [5]}),
        (422, "unknown task", {"texts": ["a"], "task": "vqa"}),
        (422, "closed set", {"texts": ["a"], "decode": "score"}),
        (422, "not calibrated", {"texts": ["a"], "min_confidence": 0.5}),
        (404, "did you mean 'one'", {"texts": ["a"], "run": "on"}),
        (400, "a JSON object", [1]),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_line(ask, status, says, values):
    answer = ask("/v1/caption", values)
    assert answer.status == status
    assert says in answer.error


def test_what_stands_behind_the_address_is_refused(ask):
    for place in ("caption", "embed"):
        answer = ask(f"/v1/{place}?run=two&n=3", {"texts": ["a"]})
        assert (answer.status, "run, n behind the address would do nothing" in answer.error) == (422, True)


def test_bodies_that_are_none(ask, files):
    kind, body = form(files[:1], {})
    for status, says, headers, sent in (
        (400, "no JSON", {}, b"{"),
        (400, "no JSON", {}, b"[" * 100_000),
        (415, "send JSON", {"Content-Type": "text/plain"}, b"hello"),
        (400, "cut off", {"Content-Type": kind}, body[:-30]),
        (400, "boundary", {"Content-Type": "multipart/form-data"}, body),
        (413, "at most 200,000 bytes", {"Content-Type": kind}, body + bytes(200_000)),
        (
            413,
            "at most 200,000 bytes",
            {"Transfer-Encoding": "chunked"},
            b"30d40\r\n" + bytes(200_000) + b"\r\n1\r\nx\r\n0\r\n\r\n",
        ),
    ):
        answer = ask("/v1/caption", body=sent, **headers)
        assert (answer.status, says in answer.error) == (status, True), answer.body
    assert ask("/v1/nothing").status == 404
    assert ask("/v1/nothing").json["error"] == "GET /v1/nothing: Not Found; /openapi.json says what can be asked"
    assert "Method Not Allowed" in ask("/v1/caption").error
    assert ask("/v1/caption", files=files[:1]).status == 200


def test_requests_that_arrive_together_are_one_batch_of_what_is_asked_alike(server, files):
    ask, desk = server
    with held(desk) as given:
        asked = [Asking(lambda: ask("/v1/caption", files=files[:1]))]
        wait_until(lambda: given)
        for n in (2, 3, 2, 2):
            asked.append(Asking(lambda n=n: ask("/v1/caption", {"n": n}, files=files[1:2])))
            ask.holds(len(asked))
    outputs = [each.answer.json["outputs"][0] for each in asked]
    assert sorted(given, key=str) == [(2, 3), (3, 1), (None, 1)]
    assert outputs[1] == outputs[3] == outputs[4]
    assert len(outputs[2]["candidates"]) == 3


def test_what_fails_in_a_batch_is_its_own_requests_alone(server, files):
    """Contexts are whatever strangers send: one that the model can't take must not take others along."""
    ask, desk = server
    work = desk.batches.work

    def fails(what, items):
        if any(context == "bad" for _, context in items):
            raise RuntimeError("no")
        return work(what, items)

    desk.batches.work = fails
    try:
        with held(desk) as given:
            asked = [Asking(lambda: ask("/v1/caption", files=files[:1]))]
            wait_until(lambda: given)
            for context in ("good", "bad", "good"):
                values = {"context": context, "n": 2}
                asked.append(Asking(lambda values=values: ask("/v1/caption", values, files=files[:1])))
                ask.holds(len(asked))
        assert [each.answer.status for each in asked] == [200, 200, 500, 200]
        assert "its log says more" in asked[2].answer.error
    finally:
        desk.batches.work = work


def test_past_the_queue_the_answer_is_503_and_when_to_come_again(server, files):
    ask, desk = server
    with held(desk):
        waiting = [Asking(lambda: ask("/v1/caption", files=files[:3])) for _ in range(2)]
        ask.holds(6)
        refused = ask("/v1/caption", files=files[:1])
        assert refused.status == 503
        assert "busy" in refused.error
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert ask("/v1/runs").status == 200
    assert [each.answer.status for each in waiting] == [200, 200]
    ask.holds(0)
    assert ask("/v1/caption", files=files[:1]).status == 200


def raw(ask, *, length: int, sent: bytes) -> socket.socket:
    place = urlsplit(ask.url)
    connection = socket.create_connection((place.hostname, place.port), timeout=PATIENCE)
    head = f"POST /v1/caption HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + sent)
    return connection


def test_a_connection_that_is_cut_gives_its_place_to_others(server, files):
    ask, desk = server
    body = json.dumps({"images": [coded(data) for _, data in files[:5]]}).encode()
    with held(desk) as given:
        first = Asking(lambda: ask("/v1/caption", files=files[:1]))
        wait_until(lambda: given)
        connection = raw(ask, length=len(body), sent=body)
        ask.holds(6)
        connection.close()
        ask.holds(1)
        raw(ask, length=len(body), sent=body[:100]).close()  # while it is sent, too
        others = [Asking(lambda: ask("/v1/caption", files=files[:1])) for _ in range(5)]
        ask.holds(6)
    assert [each.answer.status for each in (first, *others)] == [200] * 6
    assert sum(count for _, count in given) == 6  # what nobody waits for is not done


def test_time_is_limited(pair, files):
    with serving(pair[:1], replace(LIMITS, seconds=0.3, upload=0.5)) as (ask, desk):
        with held(desk):
            late = ask("/v1/caption", files=files[:1])
            assert (late.status, "0.3 s" in late.error) == (504, True)
        slow = raw(ask, length=1000, sent=b"{")
        silent = socket.create_connection(urlsplit(ask.url).netloc.split(":"), timeout=PATIENCE)
        half = socket.create_connection(urlsplit(ask.url).netloc.split(":"), timeout=PATIENCE)
        half.sendall(b"POST /v1/cap")
        assert b" 408 " in slow.recv(1000)
        assert silent.recv(1000) == half.recv(1000) == b""
        for each in (slow, silent, half):
            each.close()


def test_a_key_and_hosts(pair):
    with serving(pair[:1], LIMITS, key="s3cret", hosts=["127.0.0.1", "[::1]"]) as (ask, _):
        assert ask("/healthz").status == 200
        for given in (
            {},
            {"Authorization": "Bearer s3cre"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer é"},
        ):
            answer = ask("/v1/runs", **given)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "s3cret" not in answer.error
        assert ask("/v1/caption", {"texts": ["a dog"]}).status == 401
        assert ask("/v1/runs", Authorization="Bearer s3cret").status == 200
        assert ask("/healthz", Host="[::1]:80").status == 200
        assert ask("/healthz", Host="evil.example").status == 421


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (403, {"Sec_Fetch_Site": "cross-site"}),
        (403, {"Sec_Fetch_Site": "same-site", "Origin": "http://127.0.0.1:1"}),
        (403, {"Origin": "http://evil.example"}),
        (403, {"Origin": "null"}),
        (200, {"Sec_Fetch_Site": "same-origin", "Origin": "https://behind.a.proxy"}),
    ],
    ids=str,
)
def test_a_page_of_another_site_can_not_ask(ask, status, headers):
    """What a browser sends for such a page; a program, and this server's own page, can."""
    assert ask("/v1/caption", {"texts": ["a dog"]}, **headers).status == status
    assert ask("/", **headers).status == 200  # a link there may be followed
    assert ask("/v1/caption", {"texts": ["a dog"]}, Origin=ask.url).status == 200


def test_what_is_sent_at_once_is_limited(pair):
    with serving(pair[:1], replace(LIMITS, held=1000)) as (ask, _):
        answer = ask("/v1/caption", body=b" " * 2000)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert ask("/v1/caption", {"texts": ["a dog"]}).status == 200


def test_the_openapi_page_names_every_way_in(ask):
    about = ask("/openapi.json").json
    assert set(about["paths"]) == {"/", "/healthz", "/v1/runs", "/v1/samples", "/v1/caption", "/v1/embed"}
    for kind in about["paths"]["/v1/caption"]["post"]["requestBody"]["content"].values():
        assert {"images", "texts", "n", "num_beams", "labels"} <= set(kind["schema"]["properties"])


# as a process


@contextmanager
def process(*arguments, **environment):
    """`close serve …` on any port, and a client of it."""
    command = [sys.executable, "-m", "close", "serve", *map(str, arguments), "--port", "0", "--device", "cpu"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        line = running.stdout.readline()
        assert line.startswith("listens at http://127.0.0.1:"), line + running.stderr.read()
        assert f"  {arguments[0].name}: caption" in running.stdout.readline()
        assert "MB and" in running.stdout.readline()
        yield running, Client(line.split()[-1])
    finally:
        running.kill()
        running.wait(PATIENCE)


def test_stopped_while_it_works_it_finishes_what_it_began(pair, files):
    with process(pair[0], CLOSE_SERVE_KEY="k") as (running, ask):
        assert ask("/v1/runs").status == 401
        asked = [Asking(lambda: ask("/v1/caption", {"n": 5}, files=files, Authorization="Bearer k")) for _ in range(3)]
        wait_until(lambda: ask("/healthz").json["held"] == 36 or not any(each.is_alive() for each in asked))
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=PATIENCE)
        assert [each.answer.status for each in asked] == [200] * 3
        assert (running.returncode, out, err) == (0, "", "")


def test_of_two_that_begin_at_once_the_second_is_refused(pair, told):
    """The first has its door from before it loads its runs, and not only when they are loaded."""
    with _listening("127.0.0.1", 0) as first:
        assert "in use; give another --host or --port" in told("serve", pair[0], "--port", first.getsockname()[1])


def test_what_it_can_not_begin_is_told_in_a_line(told, pair, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "in use" in told("serve", pair[0], "--port", taken.getsockname()[1])
    assert "no run there" in told("serve", tmp_path, "--port", 0)
    assert "can't listen at" in told("serve", pair[0], "--host", "256.0.0.1", "--port", 0)
    assert "two runs are called 'one'" in told("serve", pair[0], pair[0], "--port", 0)
    hide = (
        "import sys; sys.modules['fastapi'] = None; from close.cli import main; sys.argv[1:] = ['serve', 'x']; main()"
    )
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr == "error: close serve needs fastapi: pip install 'close-toolkit[serve]'\n"


@pytest.mark.parametrize("option", ["--max-mb", "--timeout"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_limits_are_finite(refused, option, value):
    assert f"Invalid value for '{option}': Input should be" in refused("serve", "run", option, value)


def test_limits_of_ones_own_are_finite():
    with pytest.raises(RecipeError, match="a server's seconds is a finite number above 0, not inf"):
        Limits(seconds=float("inf"))


@pytest.mark.parametrize(("megabytes", "together"), [(32, 512 * 2**20), (600, 1_200_000_000)])
def test_there_is_room_for_two_of_the_largest_requests(cli, monkeypatch, megabytes, together):
    given = []
    monkeypatch.setattr("close.serve.serve", lambda runs, limits, **settings: given.append(limits))
    assert cli("serve", "run", "--max-mb", megabytes).code == 0
    assert [(limits.bytes, limits.held) for limits in given] == [(megabytes * 1_000_000, together)]
