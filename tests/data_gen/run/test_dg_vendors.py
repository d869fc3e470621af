"""Whole runs against servers that answer and refuse in the words of those that people use."""

import itertools
import json

import pytest
from dg_server import Do, Server, digest
from dg_tools import rows

from data_gen import TextOptions
from data_gen.errors import ServerError
from data_gen.run import generate

CAPTIONS = [f"A dog with the number {n} {'rides' if n % 5 else 'hides'}." for n in range(60)]


def items(body):
    n = digest(body)
    return json.dumps({"items": [{"question": f"What is number {n} {i}?", "answer": "a dog"} for i in range(3)]})


def good(body, **message):
    return Do(items(body), message=message)


def refuse(status, body):
    return Do(status=status, raw=json.dumps(body).encode())


def openai(body, before):
    """gpt-5: no temperature, no max_tokens."""
    error = {"type": "invalid_request_error", "code": "unsupported_value"}
    if body.get("temperature", 1) != 1:
        message = "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) is."
        return refuse(400, {"error": {**error, "message": message, "param": "temperature"}})
    if "max_tokens" in body:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return refuse(400, {"error": {**error, "message": message, "param": "max_tokens"}})
    return good(body, refusal=None)


def vllm(body, before):
    """A schema that its grammar does not know, and a parser of thoughts."""
    if body.get("response_format", {}).get("type") == "json_schema":
        message = "The provided JSON schema contains features not supported by xgrammar."
        return refuse(
            400, {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
        )
    return good(body, reasoning_content="The user wants three questions.")


def ollama(body, before):
    """Thoughts in the text; what it does not know it does not mind."""
    return Do(f"<think>\nThree questions about a photo.\n</think>\n\n```json\n{items(body)}\n```")


LOADING = itertools.count()


def llama_cpp(body, before):
    """Loads its model at first; a grammar that it can't make is an error of its own."""
    if next(LOADING) < 2:
        return refuse(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
    if "response_format" in body:
        return refuse(500, {"error": {"code": 500, "message": "failed to parse grammar", "type": "server_error"}})
    return good(body)


def deepseek(body, before):
    """No schema, but JSON."""
    if body.get("response_format", {"type": "json_object"})["type"] != "json_object":
        message = "This response_format type is unavailable now"
        return refuse(400, {"error": {"message": message, "type": "invalid_request_error", "param": None}})
    return good(body)


def mistral(body, before):
    """Calls the seed random_seed; content in parts."""
    if "seed" in body:
        detail = [
            {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 1}
        ]
        return refuse(422, {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"})
    thought = {
        "type": "thinking",
        "thinking": [{"type": "text", "text": '{"items": [{"question": "Draft?", "answer": "x"}]}'}],
    }
    return good(body, content=[thought, {"type": "text", "text": items(body)}])


def together(body, before):
    """Its own form of a schema."""
    if body.get("response_format", {}).get("json_schema"):
        return refuse(400, {"error": {"message": "Invalid request: response_format.schema is required", "param": None}})
    return good(body)


def openrouter(body, before):
    """Neither names what it does not take nor says it with a status of its own kind."""
    if "seed" in body:
        return refuse(
            404, {"error": {"message": "No endpoints found that can handle the requested parameters.", "code": 404}}
        )
    if before == 0 and digest(body) % 3 == 0:
        return refuse(200, {"error": {"message": "Provider returned error", "code": 502}, "user_id": "u"})
    return good(body, reasoning=None)


def silent_gateway(body, before):
    """Says nothing at all of what it minds."""
    return refuse(422, {"detail": "Unprocessable Entity"}) if "temperature" in body or "seed" in body else good(body)


def error_in_200(body, before):
    """Refuses with status 200."""
    if "top_p" in body:
        return refuse(
            200, {"error": {"message": "top_p is not supported by this model", "type": "invalid_request_error"}}
        )
    return good(body)


def reasoning(body, before):
    """Thinks for 500 tokens first."""
    if body["max_tokens"] < 500:
        return Do(message={"content": None, "reasoning_content": "Let me think"}, finish="length")
    return good(body, reasoning_content="Let me think")


VENDORS = {
    openai: {"temperature", "max_tokens"},
    vllm: {"json_schema"},
    ollama: set(),
    llama_cpp: {"json_schema", "response_format"},
    deepseek: {"json_schema"},
    mistral: {"seed"},
    together: {"json_schema"},
    openrouter: {"seed"},
    silent_gateway: {"json_schema", "response_format", "seed", "temperature", "top_p"},
    error_in_200: {"top_p"},
    reasoning: set(),
}


def run(server, tmp_path, **options):
    (tmp_path / "input.txt").write_text("\n".join(CAPTIONS))
    out = tmp_path / "out.jsonl"
    options = {"count": 60, "concurrency": 6, "timeout": 30.0, "temperature": 0.7, "top_p": 0.9, **options}
    options |= {"out": out, "model": "m", "base_url": server.url, "input": tmp_path / "input.txt"}
    return generate("vqa", TextOptions(**options)), rows(out)


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.__name__)
def test_a_run(vendor, tmp_path, capsys):
    with Server(vendor) as server:
        summary, found = run(server, tmp_path)
    assert len(found) == 60
    assert summary.failed == 0 == summary.rejected.total()
    assert {row["target"] for row in found} == {"a dog"}
    assert len({row["context"] for row in found}) == 60
    told = capsys.readouterr().err
    for name in VENDORS[vendor] - {"max_tokens"}:
        what = "does not take a JSON schema" if name == "json_schema" else f"does not take {name}:"
        assert told.count(what) == 1, told
    assert told.count("does not take") == len(VENDORS[vendor] - {"max_tokens"})
    last = json.loads(server.requests[-1][2])
    left = {"temperature", "top_p", "seed", "response_format"} - VENDORS[vendor]
    assert left <= set(last)
    assert not (VENDORS[vendor] - {"json_schema"}) & set(last)
    if vendor in (vllm, deepseek, together):
        assert last["response_format"] == {"type": "json_object"}
    if vendor is openai:
        assert last["max_completion_tokens"] > 0


def test_each_parameter_is_told_with_what_the_server_said_of_it(tmp_path, capsys):
    def decide(body, before):
        for name in ("temperature", "max_tokens", "response_format", "seed"):
            if name in body:
                other = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                return refuse(400, {"error": {"message": f"Unsupported parameter: '{name}'.{other}", "param": name}})
        return good(body)

    with Server(decide) as server:
        run(server, tmp_path)
    notes = [line for line in capsys.readouterr().err.splitlines() if "does not take" in line]
    assert sorted(notes) == [
        "note: the server does not take a JSON schema: JSON is asked for without one "
        "(Unsupported parameter: 'response_format'.)",
        "note: the server does not take response_format: it is left out (Unsupported parameter: 'response_format'.)",
        "note: the server does not take seed: it is left out (Unsupported parameter: 'seed'.)",
        "note: the server does not take temperature: it is left out (Unsupported parameter: 'temperature'.)",
    ]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, {"message": "Invalid model: m", "code": "1500"}, "does not know the model 'm'"),
        (404, {"error": {"message": "model 'm' not found, try pulling it first"}}, "does not know the model 'm'"),
        (402, {"error": {"message": "Insufficient Balance"}}, "no quota left: Insufficient Balance"),
        (200, {"error": {"message": "No auth credentials found", "code": 401}}, "refuses the key"),
        (
            200,
            {"error": {"message": "model is overloaded, add your own key"}},
            "20 requests in a row .*add your own key",
        ),
        (
            400,
            {"error": {"message": "The prompt has 99999 tokens"}},
            "20 requests in a row failed.*The prompt has 99999",
        ),
        (400, {"error": {"message": "temperature: no"}}, "20 requests in a row failed.*temperature: no"),
    ],
)
def test_what_leaving_out_does_not_mend_is_told(status, body, message, tmp_path, capsys):
    with Server(lambda b, before: refuse(status, body)) as server, pytest.raises(ServerError, match=message):
        run(server, tmp_path, retries=0)
    assert "does not take" not in capsys.readouterr().err


def test_a_prompt_that_is_refused_for_itself_costs_no_parameter(tmp_path, capsys):
    def decide(body, before):
        if "hides" in body["messages"][0]["content"].rsplit("caption:", 1)[1]:
            message = "The response was filtered: temperature of the seed; content management policy"
            return refuse(400, {"error": {"message": message, "code": "content_filter"}})
        return good(body)

    with Server(decide) as server:
        summary, found = run(server, tmp_path)
    assert len(found) == 60
    assert summary.failed > 0
    assert "does not take" not in capsys.readouterr().err
