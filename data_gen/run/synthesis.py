"""The state of a run: answers are judged in the order of the requests, and rows follow from them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from data_gen.errors import BudgetError, StuckError
from data_gen.filters import Candidate, Filter
from data_gen.prompts.answers import EMPTY, OPEN_THOUGHT, Reading
from data_gen.run.plan import Plan, Request, Unit
from data_gen.run.progress import Summary, note
from data_gen.run.spending import Most, Spending
from data_gen.run.store import Answer, Store
from data_gen.verbs import Options, Row

__all__ = ["Synthesis"]

_CHANCE = 3
"""Standard deviations that a batch's answers may take together beyond their mean; one's is taken for the mean."""
_TOLD_AT = 5
"""Requests without any row after which it is told why: a run ends by itself only where its patience does."""


class Synthesis:
    """One run: its plan, its files, and what was accepted so far.

    What is accepted depends on the answers alone, taken in the order of the requests: not on when they came, nor on how
    often the run was interrupted. A run that continues goes through the journal first, as if the answers came again.
    """

    def __init__(self, plan: Plan, filters: list[Filter], options: Options, store: Store) -> None:
        self.plan, self.options, self.store = plan, options, store
        self.summary = Summary()
        self.spending = Spending(options, self.summary, store.journal.write)
        self._filters = filters
        self._words: Counter[str] = Counter()
        self.committed = 0
        self._last_accepted = 0
        self._why = ""  # the last that was rejected
        self._fixed_block = -1
        self.barren = ""  # why there was nothing in the last answer, if there was not
        self.batches: list[dict[str, Any]] = []  # the journal's records of the Batch API

    @property
    def done(self) -> bool:
        """Whether the file has all its rows."""
        return self.summary.accepted >= self.options.count

    # ── what an answer means ─────────────────────────────────────────────────────────────────────────────────────

    def commit(self, request: Request, answer: Answer) -> None:
        """Take the next answer: add its rows to the files.

        Raises:
            StuckError: none was accepted of the last `patience` answers.
        """
        self._take(request, answer)
        if self.committed == _TOLD_AT and not self.summary.accepted:
            reasons = ", ".join(f"{name} {count}" for name, count in self.summary.rejected.most_common(3)) or "failures"
            note(
                f"the first {_TOLD_AT} requests brought no row ({reasons}; the last: {self._why}); the answers are in "
                f"{self.options.out}.rejected.jsonl"
            )
        self._check_patience()

    def _take(self, request: Request, answer: Answer) -> None:
        self.committed += 1
        reading = Reading([]) if answer.error or answer.cut else self.plan.read(answer.text)
        if answer.error:
            self.summary.failed += 1
            self._reject({"id": f"request-{request.index}"}, f"failed: {answer.error}", answer)
        elif not reading.records:
            kind, why = ("cut", answer.cut) if answer.cut else ("unreadable", reading.why)
            self.summary.rejected[kind] += 1
            self._reject({"id": f"request-{request.index}"}, f"{kind}: {why}", answer)
        self.summary.mended += reading.mended
        units = self.plan.units(request, reading.records, answer.verdicts)
        for unit in units:
            self._judge(request, unit, answer, {"mended": True} if reading.mended else {})
        self.barren = answer.cut or (reading.why if reading.why in (EMPTY, OPEN_THOUGHT) else "")
        if units and not any(candidate.words for unit in units for candidate in unit.candidates):
            self.barren = EMPTY

    def _check_patience(self) -> None:
        if self.committed - self._last_accepted >= self.options.patience and not self.done:
            reasons = ", ".join(name for name, _ in self.summary.rejected.most_common(3)) or "failures"
            raise StuckError(
                f"no row accepted in the last {self.options.patience} requests (most often: {reasons}); "
                f"{self.summary.accepted} are in {self.options.out}; --patience makes the run wait longer"
            )

    def _judge(self, request: Request, unit: Unit, answer: Answer, notes: dict[str, Any]) -> None:
        passed: list[tuple[Row, Candidate]] = []
        for row, candidate in zip(unit.rows, unit.candidates, strict=True):
            if self.done:
                return
            reason = self._reason(candidate, [other for _, other in passed])
            if reason is None:
                passed.append((row, candidate))
            else:
                self.summary.rejected[reason] += 1
                self._reject(row, reason, answer)
        if len(passed) < unit.least:
            for row, _ in passed:
                self.summary.rejected["incomplete"] += 1
                self._reject(row, "incomplete", answer)
            return
        meta = {**self.plan.meta(request, unit), "model": answer.model, **notes}
        meta |= {
            "usage": {"prompt_tokens": answer.tokens_in, "completion_tokens": answer.tokens_out},
            "time": answer.time,
        }
        for row, candidate in passed:
            if self.done:
                return
            for filter_ in self._filters:
                filter_.add(candidate)
            self._words.update(self.plan.sampler.counted(candidate.words))
            self.store.accepted.add({"id": row["id"], **row, "meta": meta})
            self.summary.accepted += 1
            self._last_accepted = self.committed

    def _reason(self, candidate: Candidate, passed: list[Candidate]) -> str | None:
        """Why a candidate is rejected; `passed` are those of its unit before it, which no filter was told of yet."""
        for filter_ in self._filters:
            if filter_.rejects(candidate) or any(filter_.alike(candidate, other) for other in passed):
                return filter_.name
        return None

    def _reject(self, row: Row, reason: str, answer: Answer) -> None:
        about = next((type(one).__doc__ or "" for one in self._filters if one.name == reason), "").split(".")[0]
        self._why = f"{reason}, {about[:1].lower()}{about[1:]}" if about else reason
        raw = {"model": answer.model, "time": answer.time, "raw": answer.text}
        self.store.rejected.add({"id": row["id"], "reason": reason, **row, **raw})

    # ── what is asked next ───────────────────────────────────────────────────────────────────────────────────────

    def request(self, index: int) -> Request:
        """Request number `index`. An adaptive plan is fixed when its block begins, with everything before committed."""
        block = index // self.options.block
        if self.plan.sampler.adaptive and block != self._fixed_block:
            per_request = self._words.total() / self.committed if self.committed else 12.0
            self.plan.sampler.refresh(self._words, per_request * self.options.block)
            self._fixed_block = block
        return self.plan.request(index)

    def may_plan(self, index: int) -> bool:
        """Whether request `index` can be planned: its block's state is known."""
        return not self.plan.sampler.adaptive or index % self.options.block != 0 or index == self.committed

    def useful(self) -> int:
        """Requests that should be under way: as many as the missing rows need at the rate of acceptance so far."""
        rate = max(self.summary.accepted / self.committed if self.committed else 1.0, 0.05)
        return max(
            1,
            round(
                (self.options.count - self.summary.accepted) / (rate if self.committed else self.plan.rows_per_request)
            ),
        )

    def most(self, request: Request) -> Most:
        """What a request takes at most, the judge's questions included."""
        return self.spending.most_of(*self.plan.takes(request))

    def affordable(self, request: Request, beside: int, room: int | None = None) -> bool:
        """Whether a request still fits the budgets in one batch with others, by what answers took so far, or all they may.

        Args:
            request: that request.
            beside: how many others there are.
            room: tokens that its answer takes at most, to reckon with these.
        """
        average = self.spending.average()
        one_in, one_out = average or self.most(request)
        chance = _CHANCE * beside**0.5 * one_out if average else 0.0
        others = beside * one_in, beside * one_out + chance
        return self.spending.fits(others, (one_in, one_out if room is None else room))

    def unaffordable(self, kept: int = 0) -> BudgetError:
        """The error where the next request does not fit the budgets; `kept` answers came that wait for that of one before."""
        tokens = sum(self.most(self.request(self.committed)))
        if self.spending.unkept.total() + self.summary.tokens_in + self.summary.lost:
            kept_more = f", {kept} more answers kept for later" if kept else ""
            return BudgetError(
                f"the budget is spent, as another request may take {tokens:.0f} tokens: {self.summary}{kept_more}; the same "
                "command with a larger one continues"
            )
        return BudgetError(
            f"one request may take {tokens:.0f} tokens (its prompt, and all the room that answers have), more than the budget "
            "holds; raise --max-tokens or --max-cost, or lower --answer-tokens"
        )

    # ── what the journal holds ───────────────────────────────────────────────────────────────────────────────────────

    def replay(self) -> dict[int, Answer]:
        """Commit what the journal holds; what it holds beyond a gap is returned, by number of request.

        Raises:
            StuckError: at its end none was accepted of the last `patience` answers; what came in between was waited for.
        """
        early: dict[int, Answer] = {}
        for answer in self.store.journal.replay():
            if not isinstance(answer, Answer) and "batch" in answer:
                self.batches.append(answer)
                continue
            self.spending.count(answer)
            if not isinstance(answer, Answer):
                continue
            early[answer.index] = answer
            while not self.done and self.committed in early:
                self._take(self.request(self.committed), early.pop(self.committed))
        self.store.finish_replay()
        self._check_patience()
        return early

    def keep(self, answer: Answer) -> None:
        """Count an answer and put it into the journal."""
        self.spending.count(answer)
        self.store.journal.write(vars(answer))
