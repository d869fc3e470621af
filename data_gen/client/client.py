"""Asking an OpenAI-compatible server, with everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data_gen.client.bounds import MOST_BYTES, TooLargeError, bound
from data_gen.client.exchange import (
    Account,
    PausedError,
    Prompt,
    Reply,
    RequestError,
    RetryError,
    dumped,
    error_message,
)
from data_gen.client.limits import LONGEST, Limit, retry_after
from data_gen.client.reading import read_reply
from data_gen.client.secrets import Secrets
from data_gen.client.server import environment, find_server, reachable, without_password
from data_gen.client.terms import RefusedError, Terms, Trial, named, optional, parameter
from data_gen.errors import InputError, ServerError
from data_gen.text.words import clean, count_tokens

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Client"]

_MOST_OF_A_FILE = 512 << 20
_RETRIED = {408, 409, 425, 429}
_NO_MODEL = re.compile(
    r"not (be )?found|not exist|(invalid|unknown|unsupported|no such) model|not a valid model|pinned to", re.IGNORECASE
)
_UNSENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "LocalProtocolError"}
"""Errors of the HTTP library after which a server has nothing to work on."""
_PER_REQUEST = re.compile(r"flagged|content.?(filter|policy|management)|moderation", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"support|unknown|unrecogni|unexpected|invalid|parse|not (permitted|allowed|implemented)", re.IGNORECASE
)


class Client:
    """Asks a server, at most `concurrency` requests at a time.

    The key is read from OPENAI_API_KEY; only the default URL needs one.

    Args:
        model: the server's name of the model.
        base_url: ends in `/v1` with most servers; None: OPENAI_BASE_URL or OpenAI.
        endpoint: `chat` or `completions`.
        sampling: temperature, top_p, …, passed on.
        concurrency: most requests under way.
        timeout: seconds for one try, from start to last byte.
        retries: how often a request is tried again.
        note: is given a line for whatever the user should know.
        account: is told what tries take, and asked before one that took something is repeated.

    Raises:
        InputError: see `find_server`; or the environment names a proxy or certificates that can't be used.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        endpoint: str = "chat",
        sampling: Mapping[str, float] | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        retries: int = 6,
        note: Callable[[str], None] = lambda text: None,
        account: Account | None = None,
    ) -> None:
        import openai

        self._url, key = find_server(base_url)
        self._secrets = Secrets(key, self._url)
        self._name = without_password(self._url)
        self.model = model
        self._chat = endpoint == "chat"
        self._sampling = dict(sampling or {})
        self._timeout, self._retries = timeout, retries
        self._terms = Terms(lambda text: note(self.quote(text)))
        self._slots = asyncio.Semaphore(concurrency)
        self._requests, self._tokens = Limit("requests"), Limit("tokens")
        self._not_before = 0.0
        self._account = account or Account()
        self._under_way = 0
        self._answers = 0
        try:
            self.api = openai.AsyncOpenAI(
                api_key=key or "none",
                base_url=self._url,
                max_retries=0,
                timeout=timeout,
                default_headers={"Accept-Encoding": "identity"},
                http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, event_hooks={"response": [self._learn]}),
            )
        except Exception as error:  # of the HTTP library: proxies and certificates of the environment
            raise InputError(self.quote(f"can't ask {self._name}: {error}; {environment()}")) from None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.close()

    def body(self, prompt: Prompt, left_out: frozenset[str] = frozenset()) -> dict[str, Any]:
        """The JSON body of a request, without the parameters that the server does not take, and without `left_out`."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": prompt.max_tokens,
            "seed": prompt.seed,
            **self._sampling,
        }
        if self._chat:
            body["messages"] = [{"role": "user", "content": prompt.text}]
            if prompt.schema:
                json_schema = {"name": "items", "strict": True, "schema": prompt.schema}
                body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
        else:
            body["prompt"] = prompt.text
            body["stop"] = list(prompt.stop)
        return self._terms.body(body, left_out)

    @property
    def dropped(self) -> frozenset[str]:
        """The parameters that the server does not take."""
        return self._terms.dropped

    @property
    def path(self) -> str:
        """Of the endpoint, below the base URL."""
        return "/chat/completions" if self._chat else "/completions"

    async def complete(self, prompt: Prompt) -> Reply:
        """The model's answer, with what all tries took; so an error of `RequestError`.

        Raises:
            RequestError: no usable answer to this request after all tries; `PausedError` where the account allows no more now.
            ServerError: the server refuses everyone, does not know the model, or is not there.
        """
        async with self._slots:
            tries, trial, spent = 0, Trial(), Counter[str]()
            while True:
                await self._wait(count_tokens(prompt.text) + prompt.max_tokens)
                terms, body = self._terms.dropped, self.body(prompt, trial.left_out)
                try:
                    reply = await self._try(prompt, body)
                except RefusedError as refusal:
                    if terms != self._terms.dropped:  # learnt meanwhile, by another request
                        trial = Trial()
                        continue
                    if trial.next(refusal, optional(body), self._terms.accepted):
                        continue
                    error = refusal.error
                except (RequestError, RetryError) as failed:
                    error = failed
                else:
                    self._terms.learn(optional(body), trial.left_out, trial.whys)
                    self._account.took(prompt, reply.took)
                    spent.update(reply.took)
                    return replace(reply, tokens_in=spent["in"], tokens_out=spent["out"])
                if isinstance(error, RequestError | RetryError):
                    self._tell(prompt, error)
                    spent.update(error.took)
                    error.took = spent
                if not isinstance(error, RetryError):
                    raise error
                tries += 1
                if tries > self._patience(error):
                    raise await self._given_up(error, tries)
                if (error.lost or spent.total()) and not self._account.may_try():
                    raise PausedError(error.reason, error.raw, took=spent)
                await asyncio.sleep(error.delay or self._backoff(tries))  # a delay of 0 tells nothing

    def _tell(self, prompt: Prompt, error: RequestError | RetryError) -> None:
        if error.lost:
            self._account.lost(prompt)
        elif error.took:
            self._account.took(prompt, error.took)

    async def _given_up(self, error: RetryError, tries: int) -> Exception:
        if error.unreachable and not await self._alive():
            return ServerError(self.quote(f"no answer from {self._name}: {error.reason}; {reachable(self._url)}"))
        return RequestError(f"{error.reason} ({tries} tries)", error.raw, took=error.took)

    def _patience(self, again: RetryError) -> int:
        if again.unreachable and not self._answers:  # most likely a wrong address: tell soon
            return min(2, self._retries)
        return 5 * self._retries if again.limited else self._retries

    async def _alive(self) -> bool:
        """Whether the server answers anything at all, so that a broken connection is this request's own fault."""
        import openai

        try:
            await self.api.get("/models", cast_to=str)
        except openai.APIStatusError:
            return True
        except openai.APIError:
            return False
        return True

    @staticmethod
    def _backoff(tries: int) -> float:
        return random.uniform(0.5, 1.0) * min(60.0, 0.25 * 2.0 ** min(tries, 10)) if tries else 0.0

    async def _wait(self, tokens: float) -> None:
        while (
            delay := max(self._not_before - time.monotonic(), 0.0)
            or self._requests.delay(1)
            or self._tokens.delay(tokens)
        ):
            await asyncio.sleep(delay)

    async def _learn(self, response: Any) -> None:
        bound(response, MOST_BYTES if response.url.path.endswith(self.path) else _MOST_OF_A_FILE)
        self._requests.learn(response.headers, self._under_way - 1)
        self._tokens.learn(response.headers, 0.0)

    async def _try(self, prompt: Prompt, body: dict[str, Any]) -> Reply:
        import openai

        self._under_way += 1
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self.api.post(self.path, cast_to=str, body=body)
            reply = self.read(answer, prompt)
            self._answers += 1
            return reply
        except RequestError as error:
            if error.final:
                raise
            if error.status:
                raise self._status(error.status, error.body, {}) from None
            raise RetryError(self.quote(error.reason), raw=error.raw, took=error.took, lost=error.lost) from None
        except asyncio.CancelledError:
            if self._answers:  # else it might have been refused, as that one was which ends the run
                self._account.lost(prompt)
            raise
        except (TimeoutError, openai.APITimeoutError) as error:
            raise RetryError(f"no answer within {self._timeout:g} s", lost=_is_sent(error.__cause__)) from None
        except openai.APIStatusError as error:
            raise self._status(error.status_code, error.body, error.response.headers) from None
        except (openai.APIError, TooLargeError) as error:
            cause = error.__cause__ or error
            if isinstance(cause, TooLargeError):
                raise RequestError(str(cause), final=True, lost=True) from None
            raise RetryError(self.quote(str(cause)), unreachable=True, lost=_is_sent(cause)) from None
        finally:
            self._under_way -= 1

    def read(self, answer: str, prompt: Prompt) -> Reply:
        """The reply in a response body.

        Raises:
            RequestError: there is none.
        """
        reply = read_reply(self.hide(answer), prompt, self.model)
        return replace(reply, text=self.hide(reply.text), model=self.hide(reply.model))

    @contextmanager
    def explained(self) -> Iterator[AsyncOpenAI]:
        """The server's other parts (files, batches), whose errors become one line.

        Raises:
            ServerError: in place of any error of the server.
        """
        import openai

        try:
            yield self.api.with_options(max_retries=self._retries)
        except openai.APIStatusError as error:
            raise ServerError(
                f"{self._name}, status {error.status_code}: {self.quote(error_message(error.body))}"
            ) from None
        except (openai.OpenAIError, TooLargeError) as error:
            raise ServerError(f"no answer from {self._name}: {self.quote(str(error.__cause__ or error))}") from None

    def _status(self, status: int, body: object, headers: Mapping[str, str]) -> Exception:
        """What an error means for the request: try again, leave something out, fail, or stop the run."""
        message = self.quote(error_message(body))
        if _PER_REQUEST.search(message) and status in (400, 403):
            return RequestError(f"status {status}: {message}", message, final=True)
        if status in (401, 403):
            return ServerError(f"{self._name} refuses the key in OPENAI_API_KEY ({status}): {message}")
        if status == 402 or (status == 429 and "insufficient_quota" in dumped(body)):
            return ServerError(f"the account at {self._name} has no quota left: {message}")
        if status in _RETRIED or status >= 500:
            delay = retry_after(headers)
            if delay is not None and delay > LONGEST:
                return ServerError(
                    f"{self._name} asks to wait for {delay:.0f} s ({status}): {message}; the same command continues"
                )
            if delay is not None:
                self._not_before = max(self._not_before, time.monotonic() + delay)
            again = RetryError(f"status {status}: {message}", raw=message, delay=delay, limited=status == 429)
            named = status not in _RETRIED and _UNSUPPORTED.search(message)
            return RefusedError(message, parameter(body), again, asked=status == 501) if named else again
        if self._unknown_model(status, message):
            return ServerError(
                f"{self._name} does not know the model {self.model!r} or the path {self.path} ({status}): {message}"
            )
        return RefusedError(message, parameter(body), RequestError(f"status {status}: {message}", message), asked=True)

    def learn_refusal(self, sent: frozenset[str], status: int, body: object) -> bool:
        """Whether an answer that came in bulk refuses a parameter of those sent, which is left out from then on."""
        error = self._status(status, body, {})
        name = named(error, sent) if isinstance(error, RefusedError) else None
        if name:
            self._terms.learn(frozenset(), frozenset({name}), {name: self.quote(error_message(body))[:120]})
        return name is not None

    def _unknown_model(self, status: int, message: str) -> bool:
        named = f"{self.model}".casefold() in message.casefold() and _NO_MODEL.search(message)
        return bool(named) or (status == 404 and not re.search(r"parameter|\bsupport", message, re.IGNORECASE))

    def quote(self, text: str) -> str:
        """What the server says, on one line and without secrets."""
        return self._secrets.hide_all(clean(self._secrets.hide_all(text)))[:300] or "no more is told"

    def hide(self, text: str) -> str:
        """An answer without secrets, which a gateway may echo."""
        return self._secrets.hide(text)


def _is_sent(cause: BaseException | None) -> bool:
    """Whether a server may have had a request that ended so; where nothing better is known it had."""
    return type(cause).__name__ not in _UNSENT
