"""Which server is asked, and with which key."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from data_gen.errors import InputError

__all__ = ["check_url", "environment", "find_server", "reachable", "without_password"]

_NAMES = {"http_proxy", "https_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir"}
_DEFAULT_URL = "https://api.openai.com/v1"


def without_password(url: str) -> str:
    """A URL as it may be shown: without user, password and query."""
    shown = url.partition("?")[0]
    try:
        _ = urlsplit(shown).port
    except ValueError:  # an @ behind the first slash: a password with a slash, for all we know
        return re.sub(r"//.*@", "//", shown)
    return re.sub(r"//[^/]*@", "//", shown)


def environment() -> str:
    """What of the environment has a say in connections."""
    names = sorted({name for name in os.environ if name.lower() in _NAMES}) or ["the settings of the system"]
    return f"see {', '.join(names)}"


def reachable(url: str) -> str:
    """Why a server may be out of reach."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return "is it running?"
    return f"it is asked through the proxy {without_password(proxy)} ({environment()}); is that right?"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0 and " " not in text
    except ValueError:  # no number, above 65535, or an open bracket
        return False


def check_url(base_url: str | None) -> str:
    """The URL to ask, from the option and the environment.

    Raises:
        InputError: it is none.
    """
    url = base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL
    if not _is_url(url):
        name = "--base-url" if base_url else "OPENAI_BASE_URL"
        raise InputError(
            f"{name} {without_password(url)!r} is no URL; expected something like http://127.0.0.1:8000/v1"
        )
    return url


def find_server(base_url: str | None) -> tuple[str, str]:
    """The URL to ask and the key to send, from the option and the environment.

    Raises:
        InputError: no key for the default URL, or an impossible URL or key.
    """
    url = check_url(base_url)
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and url == _DEFAULT_URL:
        raise InputError("no key: set OPENAI_API_KEY, or give --base-url for a server that needs none")
    if not (key.isascii() and key.isprintable()):
        raise InputError("OPENAI_API_KEY holds characters that no key has")
    return url, key
