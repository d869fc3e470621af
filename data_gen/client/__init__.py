"""Asking an OpenAI-compatible server: one request, against the odds."""

from data_gen.client.client import Client
from data_gen.client.exchange import Account, PausedError, Prompt, Reply, RequestError
from data_gen.client.limits import Limit, retry_after
from data_gen.client.server import check_url, find_server
from data_gen.client.terms import optional

__all__ = [
    "Account",
    "Client",
    "Limit",
    "PausedError",
    "Prompt",
    "Reply",
    "RequestError",
    "check_url",
    "find_server",
    "optional",
    "retry_after",
]
