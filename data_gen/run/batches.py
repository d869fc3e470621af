"""Bulk work through the Batch API: upload, poll, collect, and continue after a kill without paying twice.

The journal keeps a key of our own before a batch is sent, then the server's id, then that it is done. The key is in the
batch's metadata, so that a batch that was sent right before a kill is found again. Answers that were cut off are asked for again
in the next batch, with four times their room; what they took is kept with the batch.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from data_gen.client import Client, RequestError, optional
from data_gen.errors import ServerError, written
from data_gen.run.live import MOST_ROOM
from data_gen.run.plan import Request
from data_gen.run.store import Answer, now
from data_gen.run.synthesis import Synthesis

if TYPE_CHECKING:
    from openai.types import Batch

__all__ = ["run_batches"]

_MOST_REQUESTS = 20_000
_MOST_BYTES = 150_000_000
_OPEN = ("validating", "in_progress", "finalizing", "cancelling")


async def run_batches(synthesis: Synthesis, client: Client, early: dict[int, Answer]) -> None:
    """Send batches until the file has all its rows.

    Raises:
        BudgetError: the next request does not fit the budget.
        ServerError: the server refuses, has no Batch API, or a batch fails or brings nothing.
    """
    last: dict[str, Any] = synthesis.batches[-1] if synthesis.batches else {"done": True}
    cut = {int(index): _Cut(*kept) for index, kept in last.get("cut", {}).items()}
    while True:
        synthesis.spending.unkept = Counter(
            {"in": sum(c.tokens_in for c in cut.values()), "out": sum(c.tokens_out for c in cut.values())}
        )
        _commit(synthesis, early)
        if synthesis.done:
            return
        batch = None if last.get("done") else await _find(client, last)
        if batch is None:
            requests = _next_requests(synthesis, early, cut)
            if not requests:
                raise synthesis.unaffordable()
            if last.get("done"):
                last = {"batch": uuid.uuid4().hex, "cut": cut}
                _record(synthesis, last)
            batch = await _send(client, last["batch"], requests)
        last = {**last, "id": batch.id}
        _record(synthesis, last)
        before = client.dropped, dict(cut)
        batch = await _wait(client, batch.id)
        if batch.status == "failed":
            _record(synthesis, {**last, "done": True})
            errors = "; ".join(str(error.message) for error in (batch.errors.data if batch.errors else None) or [])
            raise ServerError(f"batch {batch.id} failed: {client.quote(errors)}; the same command sends another")
        answers = await _collect(synthesis, client, batch, cut)
        for answer in answers:
            if answer.index not in early and answer.index >= synthesis.committed:
                synthesis.keep(answer)
                early[answer.index] = answer
        last = {**last, "done": True, "cut": cut}
        _record(synthesis, last)
        if not answers and before == (client.dropped, cut):
            raise ServerError(f"batch {batch.id} brought no answer; the same command sends another")


class _Cut(NamedTuple):
    """An answer that was cut off: the room that it is asked for again with, what its tries took, and why it is not whole."""

    room: int
    tokens_in: int
    tokens_out: int
    why: str


def _request(synthesis: Synthesis, index: int, cut: Mapping[int, _Cut]) -> Request:
    request = synthesis.request(index)
    if index not in cut:
        return request
    return replace(request, prompt=replace(request.prompt, max_tokens=cut[index].room))


def _record(synthesis: Synthesis, record: dict[str, Any]) -> None:
    synthesis.store.journal.write(record)
    synthesis.store.journal.sync()


def _commit(synthesis: Synthesis, early: dict[int, Answer]) -> None:
    try:
        while not synthesis.done and synthesis.committed in early:
            synthesis.commit(synthesis.request(synthesis.committed), early.pop(synthesis.committed))
    finally:
        synthesis.store.flush()


def _next_requests(synthesis: Synthesis, early: dict[int, Answer], cut: Mapping[int, _Cut]) -> list[Request]:
    """The requests that the missing rows need, as many as one batch and the budget hold."""
    requests: list[Request] = []
    size, index = 0, synthesis.committed
    end = index + min(synthesis.useful(), _MOST_REQUESTS)
    while index < end and synthesis.may_plan(index) and size < _MOST_BYTES:
        if index not in early:
            request = _request(synthesis, index, cut)
            if not synthesis.affordable(request, len(requests), request.prompt.max_tokens if index in cut else None):
                break
            requests.append(request)
            size += 4 * len(request.prompt.text)
        index += 1
    return requests


async def _find(client: Client, record: dict[str, Any]) -> Batch | None:
    """The batch that the journal has a record of, if it was sent."""
    with client.explained() as api:
        if "id" in record:
            return await api.batches.retrieve(record["id"])
        page = await api.batches.list(limit=100)
        return next((b for b in page.data if (b.metadata or {}).get("data_gen") == record["batch"]), None)


async def _send(client: Client, key: str, requests: list[Request]) -> Batch:
    url = "/v1" + client.path
    common = {"method": "POST", "url": url}
    lines = [json.dumps({"custom_id": str(r.index), **common, "body": client.body(r.prompt)}) for r in requests]
    with client.explained() as api:
        file = await api.files.create(file=("data-gen.jsonl", "\n".join(lines).encode()), purpose="batch")
        return await api.batches.create(
            input_file_id=file.id,
            endpoint=url,  # type: ignore[arg-type]
            completion_window="24h",
            metadata={"data_gen": key},
        )


async def _wait(client: Client, batch_id: str) -> Batch:
    pause = 1.0
    while True:
        with client.explained() as api:
            batch = await api.batches.retrieve(batch_id)
        if batch.status not in _OPEN:
            return batch
        print(written(f"batch {batch_id}: {batch.status}, {_counts(batch)}"), file=sys.stderr)
        await asyncio.sleep(pause)
        pause = min(60.0, 1.5 * pause)


def _counts(batch: Batch) -> str:
    counts = batch.request_counts
    return f"{counts.completed} of {counts.total} answered" if counts else "no counts"


async def _collect(synthesis: Synthesis, client: Client, batch: Batch, cut: dict[int, _Cut]) -> list[Answer]:
    """The answers of a batch; what was not answered, and may be another time, is left out, or among the `cut`."""
    answers = []
    sent = optional(client.body(synthesis.request(synthesis.committed).prompt))
    for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
        with client.explained() as api:
            content = await api.files.content(file_id)
        read = (_read(synthesis, client, line, sent, cut) for line in content.text.split("\n") if line.strip())
        answers += [answer for answer in read if answer is not None]
    return answers


def _read(synthesis: Synthesis, client: Client, line: str, sent: frozenset[str], cut: dict[int, _Cut]) -> Answer | None:
    try:
        result = json.loads(line)
        index, response = int(result["custom_id"]), result["response"]
        status, body = response["status_code"], json.dumps(response["body"])
    except (ValueError, KeyError, TypeError):
        return None
    prompt = _request(synthesis, index, cut).prompt
    before = cut.get(index, _Cut(0, 0, 0, ""))
    if status == 200:
        try:
            reply = client.read(body, prompt)
        except RequestError as error:
            cut.pop(index, None)
            took = before.tokens_in + error.took["in"], before.tokens_out + error.took["out"]
            return Answer(index, now(), error.raw, "", *took, error=error.reason)
        took = before.tokens_in + reply.tokens_in, before.tokens_out + reply.tokens_out
        if reply.cut and prompt.max_tokens < MOST_ROOM:
            cut[index] = _Cut(min(4 * prompt.max_tokens, MOST_ROOM), *took, reply.cut)
            return None
        cut.pop(index, None)
        return Answer(index, now(), reply.text, reply.model, *took, cut=reply.cut)
    if client.learn_refusal(sent, status, response["body"]):
        return None
    if 400 <= status < 500 and status not in (408, 409, 429):
        if cut.pop(index, None):  # most likely more room than there is
            return Answer(index, now(), "", "", before.tokens_in, before.tokens_out, cut=before.why)
        return Answer(index, now(), text=client.quote(body), error=f"status {status}")
    return None
