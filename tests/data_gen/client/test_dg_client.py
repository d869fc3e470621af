"""One request against a server that misbehaves, over real HTTP."""

import asyncio
import email.utils
import json
import socket
import time
from types import SimpleNamespace

import pytest
from dg_server import Do, Server

from data_gen.client import Client, Limit, Prompt, Reply, RequestError, retry_after
from data_gen.errors import InputError, ServerError

PROMPT = Prompt("keywords: a, b\ncaption:", 16, 7, None, ("\n",))


def ask(server, prompt=PROMPT, times=1, **options):
    async def main():
        async with Client(model="m", base_url=server.url, **{"timeout": 60.0, **options}) as client:
            return await asyncio.gather(*(client.complete(prompt) for _ in range(times)), return_exceptions=True)

    return asyncio.run(main())


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_both_endpoints(endpoint):
    with Server(lambda body, before: Do("A dog.")) as server:
        (reply,) = ask(server, endpoint=endpoint, sampling={"temperature": 0.5})
    assert reply == Reply("A dog.", "served", len(PROMPT.text) // 4, 10)
    path, _, content = server.requests[0]
    body = json.loads(content)
    assert path == ("POST /v1/chat/completions" if endpoint == "chat" else "POST /v1/completions")
    assert (body["seed"], body["temperature"], body["max_tokens"]) == (7, 0.5, 16)
    assert body.get("stop") == (None if endpoint == "chat" else ["\n"])


@pytest.mark.parametrize(
    "bad",
    [
        Do(status=429),
        Do(status=500),
        Do(status=503, raw=b"<html>"),
        Do(reset=True),
        Do("x", cut=20),
        Do(delay=30),
        Do("x", drip=0.1),
        Do(raw=b'{"choices": [{"mess'),
        Do(raw=b"<html>"),
        Do(raw=b""),
        Do(raw=b"\xff\xfe"),
        Do(raw=b'{"choices": []}'),
        Do(raw=b'{"choices": "x"}'),
        Do(raw=b'{"choices": [{"message": null}]}'),
        Do(raw=b'{"choices": [{"message": {"content": 7}}]}'),
        Do(raw=b"[" * 100_000),
        Do(raw=b"null"),
    ],
    ids=lambda do: str(do)[:60],
)
def test_what_a_server_must_not_do_is_tried_again(bad):
    slow = bool(bad.delay or bad.drip)
    with Server(lambda body, before: bad if before < 2 else Do("A dog.")) as server:
        (reply,) = ask(server, timeout=1.0 if slow else 60.0, retries=30)
    assert reply.text == "A dog."
    assert len(server.requests) == 3 or (slow and len(server.requests) > 3)  # a busy machine is slow too


def test_what_never_gets_better_fails_with_its_raw_text():
    with Server(lambda body, before: Do(raw=b"<html>")) as server:
        (error,) = ask(server, retries=1)
    assert isinstance(error, RequestError)
    assert (error.reason, error.raw) == ("the answer is not JSON (2 tries)", "<html>")


def test_retry_after_is_obeyed_by_every_request():
    times = []

    def decide(body, before):
        times.append(time.monotonic())
        return Do(status=429, headers={"retry-after": "1"}) if len(times) == 1 else Do("A dog.")

    with Server(decide) as server:
        ask(server)
        assert times[1] - times[0] >= 1.0


@pytest.mark.parametrize("past", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_wait_that_is_over_tells_nothing(past):
    times = []

    def decide(body, before):
        times.append(time.monotonic())
        return Do(status=503, headers={"retry-after": past}) if len(times) < 3 else Do("A dog.")

    with Server(decide) as server:
        ask(server)
        assert times[1] - times[0] >= 0.25
        assert times[2] - times[1] >= 0.5


def test_a_server_that_wants_a_day_is_told_and_not_waited_for():
    with Server(lambda body, before: Do(status=429, headers={"retry-after": "86400"})) as server:
        (error,) = ask(server)
    assert isinstance(error, ServerError)
    assert "asks to wait for 86400 s (429)" in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_header(headers, seconds):
    found = retry_after(headers)
    assert found == seconds


def test_retry_after_date():
    assert retry_after({"retry-after": email.utils.formatdate(time.time() + 1000)}) == pytest.approx(1000, abs=30)
    assert retry_after({"retry-after": email.utils.formatdate(time.time() - 1000)}) == 0


def test_a_limit_is_learnt_and_never_overrun():
    """A server with a window of 10 requests per 0.5 s, stated in its headers, hardly ever has to refuse."""
    window, refused = {"start": 0.0, "used": 0}, []

    def decide(body, before):
        now = time.monotonic()
        if now - window["start"] >= 0.5:
            window.update(start=now, used=0)
        window["used"] += 1
        left = 10 - window["used"]
        reset = f"{1000 * (window['start'] + 0.5 - now):.0f}ms"
        headers = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": str(max(left, 0))}
        headers["x-ratelimit-reset-requests"] = reset
        if left < 0:
            refused.append(now)
            return Do(status=429, headers=headers)
        return Do("A dog.", headers=headers)

    with Server(decide) as server:
        replies = ask(server, times=60, concurrency=10, retries=30)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert len(refused) <= 20  # answers may overtake each other; without learning it is twice as many and more


def test_limit_counts_and_waits():
    now = [100.0]
    limit = Limit("tokens", lambda: now[0])
    assert limit.delay(1e9) == 0
    headers = {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "30",
        "x-ratelimit-reset-tokens": "1m2.5s",
    }
    limit.learn(headers, 5)
    assert limit.delay(20) == 0
    assert limit.delay(20) == 62.5
    now[0] += 62.5
    assert limit.delay(60) == 0
    assert limit.delay(60) == 0  # the window is over, and nothing newer was learnt
    limit.learn({"x-ratelimit-limit-tokens": "many"}, 0)
    assert limit.delay(1000) == 0


@pytest.mark.parametrize("name", ["seed", "max_tokens"])
def test_a_parameter_that_the_server_does_not_know_is_dropped_for_good(name):
    def decide(body, before):
        message = {"error": {"message": f"Unsupported parameter: '{name}'. Use 'max_completion_tokens'", "code": "x"}}
        if name != "max_tokens":
            message = {"detail": f"Unexpected fields in the request: {{'{name}'}}"}
        return Do(status=400, raw=json.dumps(message).encode()) if name in body else Do("A dog.")

    with Server(decide) as server:
        prompt = Prompt("x", 16, 7, {"type": "object"})
        replies = ask(server, prompt, times=1) + ask(server, prompt, times=1)
    assert [r.text for r in replies] == ["A dog."] * 2
    bodies = [json.loads(content) for _, _, content in server.requests]
    assert [name in body for body in bodies] == [True, False, True, False]
    assert all(body.get("max_completion_tokens", 16) == 16 for body in bodies)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"error": {"message": "Incorrect API key: sk-secret"}}, "refuses the key .*Incorrect API key: \\*\\*\\*"),
        (403, {"error": {"message": "no"}}, "refuses the key"),
        (404, {"error": {"message": "The model 'm' does not exist"}}, "does not know the model 'm'.*does not exist"),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "no quota left: pay"),
        (400, {"error": {"message": "Server is pinned to 'x'; requested 'm'."}}, "does not know the model 'm'"),
    ],
)
def test_what_no_request_can_change_ends_the_run(status, body, message, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Server(lambda b, before: Do(status=status, raw=json.dumps(body).encode())) as server:
        (error,) = ask(server)
        assert len(server.requests) == 1
        assert server.requests[0][1]["authorization"] == "Bearer sk-secret"
    assert isinstance(error, ServerError)
    with pytest.raises(ServerError, match=message):
        raise error
    assert "sk-secret" not in str(error)


def test_nobody_there_is_told_soon():
    with socket.socket() as held:  # nobody else gets the port, and nobody listens
        held.bind(("127.0.0.1", 0))
        start = time.monotonic()
        (error,) = ask(SimpleNamespace(url=f"http://127.0.0.1:{held.getsockname()[1]}/v1"), retries=12)
    assert isinstance(error, ServerError)
    assert "is it running?" in str(error)
    assert time.monotonic() - start < 120  # all tries would take four minutes


def test_a_request_that_breaks_the_connection_does_not_end_a_run_whose_others_are_answered():
    def decide(body, before):
        return Do(reset=True) if body["seed"] == 1 else Do("A dog.", delay=0.02)

    async def main(server):
        async with Client(model="m", base_url=server.url, retries=2) as client:
            prompts = [Prompt("x", 16, seed) for seed in range(30)]
            return await asyncio.gather(*(client.complete(p) for p in prompts), return_exceptions=True)

    with Server(decide) as server:
        server.routes["GET /v1/models"] = lambda *_: (404, b"")
        replies = asyncio.run(main(server))
    assert isinstance(replies[1], RequestError)
    assert sum(isinstance(reply, Reply) for reply in replies) == 29


def test_concurrency_is_bounded():
    with Server(lambda body, before: Do("x", delay=0.25)) as server:
        ask(server, times=12, concurrency=3)
        assert server.most_under_way == 3


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        (None, "", "no key: set OPENAI_API_KEY"),
        ("localhost:8000/v1", "", "is no URL"),
        ("http://", "", "is no URL"),
        ("http://[::1", "", "is no URL"),
        ("http://127.0.0.1:99999/v1", "", "is no URL"),
        ("http://127.0.0.1:1/v1", "sk-ключ", "characters that no key has"),
        ("http://127.0.0.1:1/v1", "sk-two\nlines", "characters that no key has"),
    ],
)
def test_impossible_servers_are_told(url, key, message, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)

    async def main():
        Client(model="m", base_url=url)

    with pytest.raises(InputError, match=message):
        asyncio.run(main())
