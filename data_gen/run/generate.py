"""A whole run, and what it would ask."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from data_gen.client import Client, check_url, find_server
from data_gen.errors import DataGenError, OutputError
from data_gen.run.batches import run_batches
from data_gen.run.live import run_live
from data_gen.run.plan import Plan
from data_gen.run.progress import Summary, note
from data_gen.run.store import Answer, Store, begun
from data_gen.run.synthesis import Synthesis
from data_gen.verbs import Options

__all__ = ["Preview", "generate", "preview"]


def generate(verb: str, options: Options) -> Summary:
    """Write training rows until the file has `options.count` of them; continues where an earlier call ended.

    Args:
        verb: a name in `data_gen.verbs.VERBS`: captions, rewrite, vqa, entailment, paraphrase, or one's own.
        options: of the verb's `options_class`.

    Raises:
        DataGenError: what went wrong, in one line; see `data_gen.errors`.
    """
    start = time.monotonic()
    plan = Plan(verb, options, begun(options.out))
    find_server(options.base_url)  # before files of word vectors, which take their time
    filters = plan.filters()
    try:
        with Store(options.out, plan.params, plan.names) as store:
            synthesis = Synthesis(plan, filters, options, store)
            early = synthesis.replay()
            if not synthesis.done:
                asyncio.run(_ask(synthesis, early))
    except DataGenError:
        raise
    except OSError as error:
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
        note=note,
        account=synthesis.spending,
    ) as client:
        await (run_batches if options.batch else run_live)(synthesis, client, early)


@dataclass(frozen=True)
class Preview:
    """What a run would ask, and about what it takes.

    Attributes:
        prompts: the first three, whole.
        requests, tokens_in, tokens_out: of the whole run, the judge's questions included, where nothing is rejected; four
            bytes of text count for a token, and an answer is half as long as it may be.
        cost: in the currency of the prices.
    """

    prompts: list[str]
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float

    def __str__(self) -> str:
        shown = [f"── prompt {index} ──\n{prompt}\n" for index, prompt in enumerate(self.prompts)]
        estimate = f"about {self.requests} requests, {self.tokens_in} prompt tokens, {self.tokens_out} answer tokens"
        return "\n".join([*shown, estimate + (f", cost {self.cost:.2f}" if self.cost else "")])


def preview(verb: str, options: Options) -> Preview:
    """Three whole prompts, and an estimate of what the run takes; nothing is asked and no file is touched.

    Raises:
        InputError: an option or a file is wrong.
    """
    plan = Plan(verb, options)
    check_url(options.base_url)  # an estimate needs no key
    plan.filters()
    requests = [plan.request(index) for index in range(3)]
    number = -(-options.count // plan.rows_per_request)
    asked, ones_in, ones_out = zip(*(plan.takes(request, share=0.5) for request in requests), strict=True)
    tokens_in, tokens_out = int(number * sum(ones_in) / 3), int(number * ones_out[0])
    cost = (tokens_in * options.price_in + tokens_out * options.price_out) / 1e6
    return Preview([request.prompt.text for request in requests], number * asked[0], tokens_in, tokens_out, cost)
