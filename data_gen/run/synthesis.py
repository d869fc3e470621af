"""The run: requests go out, answers come back in any order, and are judged in the order of the requests."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from typing import Any

from data_gen.client.client import Client, Reply, RequestError, find_server
from data_gen.errors import BudgetError, DataGenError, OutputError, ServerError, StuckError
from data_gen.filters.plain import Filter
from data_gen.run.batches import run_batches
from data_gen.run.plan import Plan, Request, Unit
from data_gen.run.progress import Progress, Summary
from data_gen.run.store import Answer, Store, now
from data_gen.verbs.options import Options

__all__ = ["Synthesis", "generate", "preview"]

_FAILURES_IN_A_ROW = 20
_SYNC_SECONDS = 0.05  # answers that come within it share one sync to the disk


class Synthesis:
    """One run: its plan, its files, and what was accepted so far.

    What is accepted depends on the answers alone, taken in the order of the requests: not on when they came, nor on how
    often the run was interrupted. A run that continues goes through the journal first, as if the answers came again.
    """

    def __init__(self, plan: Plan, filters: list[Filter], options: Options, store: Store) -> None:
        self.plan, self.options, self.store = plan, options, store
        self.summary = Summary()
        self._filters = filters
        self._asks_judge = "judge" in (options.filter or ())
        self._budgeted = options.max_tokens is not None or options.max_cost is not None
        self._words: Counter[str] = Counter()
        self.committed = 0
        self._last_accepted = 0
        self._failures = 0
        self._fixed_block = -1
        self.batches: list[dict[str, Any]] = []  # what the journal tells of the Batch API

    @property
    def done(self) -> bool:
        """Whether the file has all its rows."""
        return self.summary.accepted >= self.options.count

    # ── what an answer means ─────────────────────────────────────────────────────────────────────────────────────

    def commit(self, request: Request, answer: Answer) -> None:
        """Take the next answer: add its rows to the files."""
        self.committed += 1
        if answer.error:
            self.summary.failed += 1
            self._reject({"id": f"request-{request.index}"}, f"failed: {answer.error}", answer)
        else:
            units = self.plan.units(request, answer.text, answer.verdicts)
            if not units:
                self.summary.rejected["unreadable"] += 1
                self._reject({"id": f"request-{request.index}"}, "unreadable", answer)
            for unit in units:
                self._judge(request, unit, answer)
        if self.committed - self._last_accepted >= self.options.patience and not self.done:
            reasons = ", ".join(name for name, _ in self.summary.rejected.most_common(3)) or "failures"
            raise StuckError(
                f"no row accepted in the last {self.options.patience} requests (most often: {reasons}); "
                f"{self.summary.accepted} are in {self.options.out}; --patience makes the run wait longer"
            )

    def _judge(self, request: Request, unit: Unit, answer: Answer) -> None:
        passed, keys = [], set()
        for row, candidate in zip(unit.rows, unit.candidates, strict=True):
            if self.done:
                return
            reason = next((f.name for f in self._filters if f.rejects(candidate)), None)
            if reason is None and candidate.key in keys:
                reason = "duplicate"
            if reason is None:
                keys.add(candidate.key)
                passed.append((row, candidate))
            else:
                self.summary.rejected[reason] += 1
                self._reject(row, reason, answer)
        if len(passed) < unit.least:
            for row, _ in passed:
                self.summary.rejected["incomplete"] += 1
                self._reject(row, "incomplete", answer)
            return
        meta = {**self.plan.meta(request, unit), "model": answer.model}
        meta |= {
            "usage": {"prompt_tokens": answer.tokens_in, "completion_tokens": answer.tokens_out},
            "time": answer.time,
        }
        for row, candidate in passed:
            if self.done:
                return
            for filter_ in self._filters:
                filter_.add(candidate)
            if self.plan.adaptive:
                self._words.update(candidate.words)
            self.store.accepted.add({"id": row["id"], **row, "meta": meta})
            self.summary.accepted += 1
            self._last_accepted = self.committed

    def _reject(self, row: dict[str, Any], reason: str, answer: Answer) -> None:
        raw = {"model": answer.model, "time": answer.time, "raw": answer.text}
        self.store.rejected.add({"id": row["id"], "reason": reason, **row, **raw})

    # ── what is asked next ───────────────────────────────────────────────────────────────────────────────────────

    def request(self, index: int) -> Request:
        """Request number `index`. An adaptive plan is fixed when its block begins, with everything before committed."""
        block = index // self.options.block
        if self.plan.adaptive and block != self._fixed_block:
            per_request = self._words.total() / self.committed if self.committed else 12.0
            self.plan.refresh(self._words, per_request * self.options.block)
            self._fixed_block = block
        return self.plan.request(index)

    def may_plan(self, index: int) -> bool:
        """Whether request `index` can be planned: its block's state is known."""
        return not self.plan.adaptive or index % self.options.block != 0 or index == self.committed

    def useful(self) -> int:
        """Requests that should be under way: as many as the missing rows need at the rate of acceptance so far."""
        rate = max(self.summary.accepted / self.committed if self.committed else 1.0, 0.05)
        return max(
            1,
            round(
                (self.options.count - self.summary.accepted) / (rate if self.committed else self.plan.rows_per_request)
            ),
        )

    def _count(self, answer: Answer) -> None:
        summary, options = self.summary, self.options
        summary.requests += 1
        summary.tokens_in += answer.tokens_in
        summary.tokens_out += answer.tokens_out
        summary.cost = (summary.tokens_in * options.price_in + summary.tokens_out * options.price_out) / 1e6

    def affordable(self, prompt_chars: int, max_tokens: int, under_way: int) -> bool:
        """Whether another request still fits the budgets, beside those under way."""
        summary, options = self.summary, self.options
        answered = summary.requests
        tokens_in = summary.tokens_in / answered if answered else prompt_chars / 4
        tokens_out = summary.tokens_out / answered if answered else max_tokens
        more = under_way + 1
        tokens = summary.tokens_in + summary.tokens_out + more * (tokens_in + tokens_out)
        cost = summary.cost + more * (tokens_in * options.price_in + tokens_out * options.price_out) / 1e6
        return tokens <= (options.max_tokens or tokens) and cost <= (options.max_cost or cost)

    # ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────

    def replay(self) -> dict[int, Answer]:
        """Commit what the journal holds; what it holds beyond a gap is returned, by number of request."""
        early: dict[int, Answer] = {}
        for record in self.store.journal.replay():
            if "batch" in record:
                self.batches.append(record)
                continue
            answer = Answer(**{**record, "verdicts": tuple(record["verdicts"])})
            self._count(answer)
            early[answer.index] = answer
            while not self.done and self.committed in early:
                self.commit(self.request(self.committed), early.pop(self.committed))
        self.store.finish_replay()
        return early

    async def run(self, client: Client, early: dict[int, Answer]) -> None:
        """Ask until the file has all its rows.

        Raises:
            BudgetError: a budget is spent.
            ServerError: the server refuses or is gone.
            StuckError: nothing is accepted any more.
        """
        progress = Progress(self.summary, self.options.count)
        pending: deque[tuple[Request, asyncio.Task[Answer]]] = deque()
        try:
            while not self.done:
                spent = self._fill(client, pending, early)
                if not pending:
                    assert spent
                    raise BudgetError(
                        f"the budget is spent: {self.summary}; the same command with a larger one continues"
                    )
                await asyncio.wait([pending[0][1]])
                await asyncio.sleep(_SYNC_SECONDS)
                self._take(pending)
                progress.show()
        finally:
            progress.close()
            for _, task in pending:
                task.cancel()
            await asyncio.gather(*(task for _, task in pending), return_exceptions=True)

    def _fill(
        self, client: Client, pending: deque[tuple[Request, asyncio.Task[Answer]]], early: dict[int, Answer]
    ) -> bool:
        """Start requests; True where a budget forbids more."""
        window = min(self.useful(), 8 * self.options.concurrency)
        while len(pending) < window and self.may_plan(index := self.committed + len(pending)):
            request = self.request(index)
            if index not in early and self._budgeted:
                waiting = sum(not task.done() for _, task in pending)
                if not self.affordable(len(request.prompt.text), request.prompt.max_tokens, waiting):
                    return True
            pending.append((request, asyncio.create_task(self._answer(client, request, early.pop(index, None)))))
        return False

    def _take(self, pending: deque[tuple[Request, asyncio.Task[Answer]]]) -> None:
        """Commit the answers at the head of the line."""
        self.store.journal.sync()
        try:
            while pending and pending[0][1].done() and not self.done:
                request, answer = pending[0][0], pending[0][1].result()
                pending.popleft()
                self.commit(request, answer)
                self._watch_failures(answer)
        finally:
            self.store.flush()

    def _watch_failures(self, answer: Answer) -> None:
        self._failures = self._failures + 1 if answer.error else 0
        if self._failures >= _FAILURES_IN_A_ROW:
            raise ServerError(
                f"{self._failures} requests in a row failed, the last with: {answer.error}; the same command continues"
            )

    async def _answer(self, client: Client, request: Request, known: Answer | None) -> Answer:
        if known is not None:
            return known
        try:
            reply = await client.complete(request.prompt)
            verdicts = await self._verdicts(client, request, reply) if self._asks_judge else []
        except RequestError as error:
            answer = Answer(request.index, now(), text=error.raw, error=error.reason)
        else:
            answer = Answer(
                request.index,
                now(),
                reply.text,
                reply.model,
                reply.tokens_in + sum(v.tokens_in for v in verdicts),
                reply.tokens_out + sum(v.tokens_out for v in verdicts),
                tuple(v.text for v in verdicts),
            )
        self.keep(answer)
        return answer

    def keep(self, answer: Answer) -> None:
        """Count an answer and put it into the journal."""
        self._count(answer)
        self.store.journal.write(vars(answer))

    async def _verdicts(self, client: Client, request: Request, reply: Reply) -> list[Reply]:
        candidates = [c for unit in self.plan.units(request, reply.text) for c in unit.candidates]
        return list(await asyncio.gather(*(client.complete(self.plan.judge(request, c)) for c in candidates)))


def generate(verb: str, options: Options) -> Summary:
    """Write training rows until the file has `options.count` of them; continues where an earlier call ended.

    Args:
        verb: captions, rewrite, vqa, entailment or paraphrase.
        options: `CaptionOptions` for captions, `TextOptions` for the others.

    Raises:
        DataGenError: what went wrong, in one line; see `data_gen.errors`.
    """
    start = time.monotonic()
    plan = Plan(verb, options)
    filters = plan.filters()
    find_server(options.base_url)
    with Store(options.out, plan.params) as store:
        synthesis = Synthesis(plan, filters, options, store)
        try:
            early = synthesis.replay()
            if not synthesis.done:
                asyncio.run(_ask(synthesis, early))
        except OSError as error:
            if isinstance(error, DataGenError):
                raise
            raise OutputError(f"can't write {options.out}: {error.strerror}; the same command continues") from None
        synthesis.summary.seconds = time.monotonic() - start
        return synthesis.summary


async def _ask(synthesis: Synthesis, early: dict[int, Answer]) -> None:
    options = synthesis.options
    async with Client(
        model=options.model,
        base_url=options.base_url,
        endpoint=options.endpoint,
        sampling=synthesis.plan.sampling(),
        concurrency=options.concurrency,
        timeout=options.timeout,
        retries=options.retries,
    ) as client:
        await (run_batches if options.batch else Synthesis.run)(synthesis, client, early)


def preview(verb: str, options: Options) -> str:
    """Three whole prompts, and an estimate of what the run takes; nothing is asked and no file is touched.

    The estimate takes four characters for a token, and half of the longest answer; nothing is rejected in it.

    Raises:
        InputError: an option or a file is wrong.
    """
    plan = Plan(verb, options)
    requests = [plan.request(index) for index in range(3)]
    number = -(-options.count // plan.rows_per_request)
    tokens_in = number * sum(len(request.prompt.text) for request in requests) // 12
    tokens_out = number * requests[0].prompt.max_tokens // 2
    cost = (tokens_in * options.price_in + tokens_out * options.price_out) / 1e6
    shown = [f"── prompt {request.index} ──\n{request.prompt.text}\n" for request in requests]
    estimate = f"about {number} requests, {tokens_in} prompt tokens, {tokens_out} answer tokens"
    return "\n".join([*shown, estimate + (f", cost {cost:.2f}" if cost else "")])
