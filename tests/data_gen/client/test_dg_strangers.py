"""A server that means harm, or knows no better: endless answers, echoes of the key, impossible headers; and proxies."""

import asyncio
import base64
import codecs
import gzip
import html
import json
import socket
import subprocess
import threading
import time
import zlib
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from dg_server import Do, Server, digest
from dg_tools import command, environment

from data_gen.client import Client, Limit, Prompt, Reply, RequestError, retry_after
from data_gen.client.bounds import MOST_BYTES
from data_gen.client.secrets import Secrets
from data_gen.client.server import without_password
from data_gen.errors import InputError

KEY = "sk-Very+secret/0123456789"
PROMPT = Prompt("keywords: a, b\ncaption:", 16, 7, None, ("\n",))


def ask(url, **options):
    async def main():
        async with Client(model="m", base_url=url, **{"timeout": 60.0, "retries": 1, **options}) as client:
            return (await asyncio.gather(client.complete(PROMPT), return_exceptions=True))[0]

    return asyncio.run(main())


@contextmanager
def raw_server(head, chunk, times):
    """Sends a head and then a chunk again and again, and counts what was taken."""
    taken = [0]
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(60)

    def serve():
        try:
            connection, _ = listening.accept()
            connection.settimeout(60)
            connection.recv(1 << 16)
            connection.sendall(head)
            for _ in range(times):
                connection.sendall(chunk)
                taken[0] += len(chunk)
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1", taken
    listening.close()
    thread.join(60)


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def test_an_endless_answer_is_not_read_on():
    with raw_server(OK + b"\r\n", b" " * 65536, 4096) as (url, taken):
        error = ask(url)
    assert isinstance(error, RequestError)
    assert error.reason == "the answer has more than 8 MB"
    assert taken[0] < 4 * MOST_BYTES


@pytest.mark.parametrize("status", [b"200 OK", b"500 X"])
@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_an_answer_that_is_small_only_on_the_way_is_not_unpacked(kind, status):
    packed = gzip.compress(b" " * (200 << 20), 9) if kind == "gzip" else zlib.compress(b" " * (200 << 20), 9)
    head = b"HTTP/1.1 " + status + b"\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n"
    with raw_server(head % (kind.encode(), len(packed)), packed, 1) as (url, _):
        error = ask(url)
    assert isinstance(error, RequestError)
    assert "more than 8 MB" in error.reason


def test_an_answer_that_was_packed_unasked_is_read():
    body = json.dumps({"choices": [{"message": {"content": "A dog."}}]}).encode()
    with Server(lambda b, before: Do(raw=gzip.compress(body), headers={"content-encoding": "gzip"})) as server:
        assert ask(server.url).text == "A dog."
        assert server.requests[0][1]["accept-encoding"] == "identity"
    with Server(lambda b, before: Do(raw=body, headers={"content-encoding": "gzip"})) as server:
        assert ask(server.url).reason == "the answer is packed, and broken"
    with Server(lambda b, before: Do(raw=body, headers={"content-encoding": "br"})) as server:
        assert ask(server.url).reason == "the answer comes as 'br', which was not asked for"


@pytest.mark.parametrize("charset", ["base64", "nonsense", "utf-7", "\xff"])
def test_whatever_encoding_a_server_claims_json_is_utf_8(charset):
    body = json.dumps({"choices": [{"message": {"content": "Ein Hund läuft."}}]}, ensure_ascii=False).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=" + charset.encode("latin-1")
    head += b"\r\ncontent-length: %d\r\n\r\n" % len(body)
    with raw_server(head, body, 1) as (url, _):
        reply = ask(url)
    assert isinstance(reply, Reply)
    assert reply.text == "Ein Hund läuft."


@pytest.mark.parametrize(
    "value",
    [
        "nan",
        "inf",
        "-inf",
        "1e999",
        "Mon, 99 Xyz 99999 99:99:99 GMT",
        "Mon, 01 Jan 999999999 00:00:00 GMT",
        "",
        "9" * 400,
        "é",
    ],
)
def test_impossible_times_are_passed_over(value):
    assert retry_after({"retry-after": value}) in (None, 0.0) or value == "9" * 400
    assert retry_after({"retry-after-ms": value}) in (None, 0.0) or value == "9" * 400
    limit = Limit("tokens", lambda: 100.0)
    for limit_value, remaining in ((value, "0"), ("100", value), ("-5", "0"), ("0", "0")):
        limit.learn({"x-ratelimit-limit-tokens": limit_value, "x-ratelimit-remaining-tokens": remaining}, 0)
        assert 0 <= limit.delay(10) <= 3600
    limit.learn(
        {"x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9" * 400}, 0
    )
    assert limit.delay(5) <= 3600


SPELLINGS = {
    "plain": KEY,
    "upper": KEY.upper(),
    "json": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "json upper": "".join(f"\\u{ord(c):04X}" for c in KEY),
    "one letter": KEY.replace("V", "\\u0056"),
    "twice escaped": "".join(f"\\\\u{ord(c):04x}" for c in KEY),
    "python": "".join(f"\\x{ord(c):02x}" for c in KEY),
    "octal": "".join(f"\\{ord(c):o}" for c in KEY),
    "slashes": KEY.replace("/", "\\/"),
    "url": quote(KEY, safe=""),
    "url whole": "".join(f"%{ord(c):02X}" for c in KEY),
    "url twice": quote(quote(KEY, safe=""), safe=""),
    "html": "".join(f"&#{ord(c)};" for c in KEY),
    "html hex": "".join(f"&#x{ord(c):x};" for c in KEY),
    "html entities": html.escape(KEY),
    "reversed": KEY[::-1],
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 url": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "base64 within": base64.b64encode(b"Bearer " + KEY.encode() + b" x").decode(),
    "base64 within 1": base64.b64encode(b"key: " + KEY.encode()).decode(),
    "hex": KEY.encode().hex(),
    "hex dump": " ".join(f"{byte:02X}" for byte in KEY.encode()),
    "spaced": " ".join(KEY),
    "zero width": "\u200b".join(KEY),
    "full-width": "".join(chr(ord(c) + 0xFEE0) for c in KEY),
    "rot13": codecs.encode(KEY, "rot13"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_however_the_key_is_spelt_it_is_hidden(spelling):
    spelt = SPELLINGS[spelling]
    secrets = Secrets(KEY, "http://127.0.0.1/v1")
    for hide in (secrets.hide, secrets.hide_all):
        hidden = hide(f"The key is {spelt}, they say.")
        assert "***" in hidden
        for part in (spelt[4:-8], KEY[3:-3]):
            assert part not in hidden
        assert hidden.startswith("The key is ")
        assert hidden.endswith(", they say.")


@pytest.mark.parametrize(
    "password", ["пароль-секрет", "%D0%BF%D0%B0%D1%80%D0%BE%D0%BB%D1%8C", "\udcff\udcfe-secret", "😀" * 9]
)
def test_passwords_of_any_letters(password):
    secrets = Secrets("", f"http://me:{password}@127.0.0.1/v1")
    assert secrets.hide(f"It is {password}!") == "It is ***!"


def test_what_is_no_secret_stays():
    secrets = Secrets(KEY, "http://me:pass@127.0.0.1/v1")
    text = 'A dog passes \\u0041 %41 &#65; {"a": "b"} c2stVmVy skier'
    assert secrets.hide(text) == text
    assert Secrets("none", "http://127.0.0.1/v1").hide("There is none.") == "There is none."
    said = "A person types a password on a street without anything else."
    for word in ("password", "anything", "Anything"):
        secrets = Secrets(word, f"http://me:{word}@127.0.0.1/v1")
        assert secrets.hide(said) == said
        assert word.lower() not in secrets.hide_all(said).lower()
    for key in ("password1", "pass#word", "a" * 20, "sk-very-secret"):
        assert Secrets(key, "http://127.0.0.1/v1").hide(f"It is {key}!") == "It is ***!"
    assert Secrets("", "http://127.0.0.1/v1").hide_all(text) == text


def test_hiding_is_quick_in_long_texts():
    secrets = Secrets(KEY, "http://someone:a-password@127.0.0.1/v1")
    for text in ("a" * 400_000, "\\" * 400_000, "%25" * 100_000, "s k - " * 60_000, "sk-" * 100_000):
        start = time.process_time()
        assert secrets.hide(text) == text
        assert time.process_time() - start < 20


def test_the_password_of_the_url_and_the_key_get_into_no_file_and_on_no_screen(tmp_path, examples):
    basic = base64.b64encode(b"someone:p@ss/w0rd").decode()

    def decide(body, before):
        number = digest(body)
        spelt = list(SPELLINGS.values())[number % len(SPELLINGS)]
        return [
            Do(status=500, raw=json.dumps({"error": {"message": f"bad header Basic {basic}"}}).encode()),
            Do(raw=f'{{"choices": [{{"message": {{"content": "A dog with {SPELLINGS["json"]} runs"}}}}]}}'.encode()),
            Do(f"A dog with {spelt} number {number}"),
            Do(raw=f"<html>authorization: Basic {basic}, p%40ss%2Fw0rd, p@ss/w0rd {spelt}</html>".encode()),
            Do(status=400, raw=json.dumps({"error": {"message": f"seed {spelt} {basic}"}}).encode()),
            Do(f"A dog named {basic}, number {number}"),
        ][number // 100 % 6]

    with Server(decide) as server:
        server.routes["GET /v1/models"] = lambda *_: (200, b"{}")
        url = server.url.replace("http://", "http://someone:p%40ss%2Fw0rd@")
        line = ["captions", "--out", tmp_path / "o.jsonl", "--count", 30, "--model", "m", "--examples", examples]
        arguments = command(*line, "--base-url", url, "--retries", 0, "--patience", 40)
        env = environment({"OPENAI_API_KEY": KEY})
        done = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=300)
    everything = done.stdout + done.stderr + "".join(path.read_text() for path in tmp_path.iterdir())
    assert "***" in everything
    for secret in (KEY, "p@ss/w0rd", "p%40ss", basic, *(spelt[4:-8] for spelt in SPELLINGS.values())):
        assert secret not in everything, secret


def test_urls_are_shown_without_what_is_nobodys_business():
    assert without_password("http://me:p@ss@host/v1") == "http://host/v1"
    assert without_password("http://me:p/ss@host/v1?key=sk") == "http://host/v1"
    assert without_password("https://host/accounts/7/@cf/v1") == "https://host/accounts/7/@cf/v1"
    assert without_password("http://me:pw@[::1/v1") == "http://[::1/v1"


# ── proxies and certificates ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://me:pass-word@127.0.0.1:9"),
        ("HTTP_PROXY", "ftp://me:pass-word@x:1"),
        ("HTTP_PROXY", "http://[::1"),
        ("HTTP_PROXY", "http://\x01"),
        ("SSL_CERT_FILE", "/no/such/file"),
    ],
)
def test_a_proxy_or_certificates_that_can_not_be_used_are_one_line(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"can't ask http://127.0.0.1:9/v1: .*see .*{name}") as told:
        ask("http://127.0.0.1:9/v1")
    assert "pass-word" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_proxy_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:pass-word@127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    told = str(ask("http://example.invalid/v1"))
    assert "through the proxy http://127.0.0.1:9 (see " in told
    assert "pass-word" not in told
