"""Which server is asked, and with which key."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from data_gen.errors import InputError

__all__ = ["find_server", "without_password"]

_DEFAULT_URL = "https://api.openai.com/v1"


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    return re.sub(r"//[^/@]*@", "//", url)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0 and " " not in text
    except ValueError:  # no number, above 65535, or an open bracket
        return False


def find_server(base_url: str | None) -> tuple[str, str]:
    """The URL to ask and the key to send, from the option and the environment.

    Raises:
        InputError: no key for the default URL, or an impossible URL or key.
    """
    url = base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and url == _DEFAULT_URL:
        raise InputError("no key: set OPENAI_API_KEY, or give --base-url for a server that needs none")
    if not (key.isascii() and key.isprintable()):
        raise InputError("OPENAI_API_KEY holds characters that no key has")
    if not _is_url(url):
        raise InputError(
            f"--base-url {without_password(url)!r} is no URL; expected something like http://127.0.0.1:8000/v1"
        )
    return url, key
