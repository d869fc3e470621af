"""Requests go out at once, many together; answers come back in any order, and are taken in the order of the requests."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

from data_gen.client import Client, PausedError, Prompt, Reply, RequestError
from data_gen.errors import BudgetError, ServerError, StuckError
from data_gen.filters.plain import VERDICT
from data_gen.prompts.answers import EMPTY
from data_gen.run.plan import Request
from data_gen.run.progress import Progress, note
from data_gen.run.spending import Key
from data_gen.run.store import Answer, now
from data_gen.run.synthesis import Synthesis

__all__ = ["MOST_ROOM", "run_live"]

_FAILURES_IN_A_ROW = 20
MOST_ROOM = 4096
"""Tokens; an answer that was cut off gets four times its room until it ends, or has this."""
_SYNC_SECONDS = 0.05  # answers that come within it share one sync to the disk


async def run_live(synthesis: Synthesis, client: Client, early: dict[int, Answer]) -> None:
    """Ask until the file has all its rows.

    Args:
        early: answers that the journal holds beyond a gap, by number of request; each is taken out when its turn comes.

    Raises:
        BudgetError: a budget is spent.
        ServerError: the server refuses or is gone.
        StuckError: nothing is accepted any more.
    """
    await _Live(synthesis, client, early).run()


class _Live:
    """Requests under way."""

    def __init__(self, synthesis: Synthesis, client: Client, early: dict[int, Answer]) -> None:
        self.synthesis, self.client, self.early = synthesis, client, early
        options = synthesis.options
        self.pending: deque[tuple[Request, asyncio.Task[Answer]]] = deque()
        self.asks_judge = "judge" in (options.filter or ())
        self.spending = synthesis.spending
        self.failures = 0
        self.told = False
        self.unwritten: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Has the error of an answer that can't be kept, since then none can."""

    async def run(self) -> None:
        """Ask and take, until the file has all its rows."""
        synthesis, pending = self.synthesis, self.pending
        progress = Progress(synthesis.summary, synthesis.options.count)
        try:
            while not synthesis.done:
                spent = self.fill()
                if not pending:
                    assert spent
                    raise synthesis.unaffordable()
                either: list[asyncio.Future[Any]] = [pending[0][1], self.unwritten]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self.unwritten.done():
                    self.unwritten.result()
                await asyncio.sleep(_SYNC_SECONDS)
                try:
                    self.take()
                except BudgetError:
                    await self.finish()
                    kept = sum(not task.exception() for _, task in self.pending)
                    raise synthesis.unaffordable(kept) from None
                progress.show()
        finally:
            progress.close()
            left: list[asyncio.Future[Any]] = [self.unwritten, *(task for _, task in pending)]
            for future in left:
                future.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            with suppress(OSError):  # then there is an error already, or the next call has it
                self.spending.give_up()

    async def finish(self) -> None:
        """Let requests end that are under way: they are paid for."""
        await asyncio.wait([task for _, task in self.pending])
        if self.unwritten.done():
            self.unwritten.result()
        self.spending.give_up()
        self.synthesis.store.journal.sync()

    def fill(self) -> bool:
        """Start requests; True where a budget forbids more."""
        synthesis, pending, spending = self.synthesis, self.pending, self.spending
        window = min(synthesis.useful(), 8 * synthesis.options.concurrency)
        while len(pending) < window and synthesis.may_plan(index := synthesis.committed + len(pending)):
            request = synthesis.request(index)
            if index not in self.early and spending.budgeted:
                most = synthesis.most(request)
                unknown = spending.held and not spending.tried  # the first shows what one takes
                if unknown or spending.waiting or not spending.fits(most):
                    return True
                spending.held[index,] = most
            pending.append((request, asyncio.create_task(self.answer(request, self.early.pop(index, None)))))
        return False

    def take(self) -> None:
        """Commit the answers at the head of the line."""
        synthesis, pending = self.synthesis, self.pending
        synthesis.store.journal.sync()
        try:
            while pending and pending[0][1].done() and not synthesis.done:
                request, answer = pending[0][0], pending[0][1].result()
                pending.popleft()
                synthesis.commit(request, answer)
                self.watch(answer)
        finally:
            synthesis.store.flush()

    def watch(self, answer: Answer) -> None:
        """End a run that gets no answer any more, or only answers that hold nothing."""
        barren = self.synthesis.barren
        self.failures = self.failures + 1 if answer.error or barren else 0
        if self.failures < _FAILURES_IN_A_ROW:
            return
        if answer.error:
            raise ServerError(
                f"{self.failures} requests in a row failed, the last with: {answer.error}; the same command continues"
            )
        hint = "" if barren == EMPTY else "; the same command with --answer-tokens gives answers more room"
        raise StuckError(f"{self.failures} answers in a row held nothing, the last: {barren}{hint}")

    async def answer(self, request: Request, known: Answer | None) -> Answer:
        """The answer to a request, from the journal where it is there already."""
        if known is not None:
            return known
        try:
            reply = await self.ask((request.index,), request.prompt)
            verdicts = await self.verdicts(request, reply) if self.asks_judge else []
        except BudgetError:
            raise
        except RequestError as error:
            took = error.took["in"], error.took["out"]
            answer = Answer(request.index, now(), error.raw, "", *took, error=error.reason)
        else:
            answer = Answer(
                request.index,
                now(),
                reply.text,
                reply.model,
                reply.tokens_in + sum(v.tokens_in for v in verdicts),
                reply.tokens_out + sum(v.tokens_out for v in verdicts),
                tuple(v.text for v in verdicts),
                cut=reply.cut,
            )
        finally:
            self.spending.held.pop((request.index,), None)
        try:
            self.synthesis.keep(answer)
            self.spending.kept(answer)
        except OSError as error:
            if not self.unwritten.done():
                self.unwritten.set_exception(error)
            raise
        return answer

    async def ask(self, key: Key, prompt: Prompt, enough: re.Pattern[str] | None = None) -> Reply:
        """The model's reply; where it was cut off it is asked for again with more room, as far as the budget goes.

        Args:
            key: of the request, or the judge's question.
            prompt: its prompt.
            enough: what a reply that was cut off may hold, so that its end does not matter.
        """
        reply = await self.complete(key, prompt)
        spent = reply.took
        while reply.cut and prompt.max_tokens < MOST_ROOM and not (enough and enough.match(reply.text)):
            less, prompt = prompt, replace(prompt, max_tokens=min(4 * prompt.max_tokens, MOST_ROOM))
            try:
                await self.room(key, prompt.max_tokens - less.max_tokens)
                self.tell_room(reply)
                more = await self.complete(key, prompt)
            except BudgetError:
                break
            except RequestError as error:  # most likely more room than there is
                spent.update(error.took)
                break
            spent.update(more.took)
            reply = more
        return replace(reply, tokens_in=spent["in"], tokens_out=spent["out"])

    async def complete(self, key: Key, prompt: Prompt) -> Reply:
        """The client's, whose tries go on when the budget has room for them.

        Raises:
            BudgetError: it never will.
        """
        spent = Counter[str]()
        while True:
            try:
                reply = await self.client.complete(prompt)
            except RequestError as error:
                spent.update(error.took)
                if not isinstance(error, PausedError):
                    error.took = spent
                    raise
                await self.room(key)
            else:
                spent.update(reply.took)
                return replace(reply, tokens_in=spent["in"], tokens_out=spent["out"])

    async def room(self, key: Key, more: int = 0) -> None:
        """Wait until what a request held, and so many tokens more of its answer, fit the budget beside the others.

        Raises:
            BudgetError: they do not by themselves.
        """
        spending = self.spending
        tokens_in, tokens_out = spending.held.pop(key, (0.0, 0.0))
        most = tokens_in, tokens_out + more
        spending.waiting.add(key)
        try:
            while key != min(spending.waiting) or not spending.fits(most):
                if not spending.fits(most, held=False):
                    raise BudgetError("the budget has no room for another try")
                await asyncio.sleep(_SYNC_SECONDS)
        finally:
            spending.waiting.remove(key)
        spending.held[key] = most

    def tell_room(self, reply: Reply) -> None:
        """Say once that answers take more than one try."""
        if not self.told:
            self.told = True
            note(f"{reply.cut}: asked again with more; --answer-tokens sets it")

    async def verdicts(self, request: Request, reply: Reply) -> list[Reply]:
        """What the judge says of each row in a reply.

        Raises:
            RequestError: of one it says nothing; with what the reply and all of them took.
        """
        plan = self.synthesis.plan
        records = [] if reply.cut else plan.read(reply.text).records
        asked = {(request.index, number): prompt for number, prompt in enumerate(plan.judge(request, records))}
        if self.spending.held.pop((request.index,), None):
            self.spending.held.update({key: self.spending.most(prompt) for key, prompt in asked.items()})
        found = await asyncio.gather(*(self.verdict(*one) for one in asked.items()))
        for failed in found:
            if isinstance(failed, BudgetError):
                raise failed
        for failed in found:
            if isinstance(failed, RequestError):
                failed.took = sum((one.took for one in (reply, *found) if not isinstance(one, BudgetError)), Counter())
                raise failed
        return [one for one in found if isinstance(one, Reply)]

    async def verdict(self, key: Key, prompt: Prompt) -> Reply | RequestError | BudgetError:
        """What the judge says, or why it says nothing."""
        try:
            return await self.ask(key, prompt, VERDICT)
        except (RequestError, BudgetError) as error:
            return error
        finally:
            self.spending.held.pop(key, None)
