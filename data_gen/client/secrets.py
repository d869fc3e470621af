"""The key, and a password in the URL: never shown and never written, however a server spells them."""

from __future__ import annotations

import base64
import codecs
import re
from urllib.parse import unquote, urlsplit

__all__ = ["Secrets"]

_SHORTEST = 8
"""Characters; a shorter key is a local server's dummy, and may be a part of an answer."""
_LONGEST = 19
"""So is a word: letters alone, and no more of them than people's words have."""


class Secrets:
    """Takes secrets out of texts.

    Found are: the secret itself in any case, with any of its characters as an escape of JSON, Python, URLs or HTML, and
    with blanks between them; the same from behind, and in rot13; its base64 and hexadecimal forms, alone or within other data.

    Args:
        key: sent to the server.
        url: of the server, perhaps with a user and a password.
    """

    def __init__(self, key: str, url: str) -> None:
        parts = urlsplit(url)
        password, user = unquote(parts.password or ""), unquote(parts.username or "")
        pair = [f"{user}:{password}"] if password else []
        secrets = [secret for secret in dict.fromkeys((key, password, parts.password or "")) if secret]
        packed = [form for secret in (*secrets, *pair) if len(secret) > 3 for form in _packed(secret)]
        long = [secret for secret in secrets if len(secret) >= _SHORTEST]
        sure = [secret for secret in long if len(secret) > _LONGEST or not secret.isalpha()]
        self._everywhere = packed + _all_spelt(sure)
        whole = [re.compile(re.escape(secret), re.IGNORECASE) for secret in secrets]
        self._told = packed + _all_spelt(long) + whole

    def hide(self, text: str) -> str:
        """An answer without the secrets; what may be a word of it stays, or training text would lack that word."""
        return _without(self._everywhere, text)

    def hide_all(self, text: str) -> str:
        """A message without the secrets, short ones and words too."""
        return _without(self._told, text)


def _without(patterns: list[re.Pattern[str]], text: str) -> str:
    for pattern in patterns:
        text = pattern.sub("***", text)
    return text


def _all_spelt(secrets: list[str]) -> list[re.Pattern[str]]:
    return [_spelt(form) for secret in secrets for form in (secret, secret[::-1], codecs.encode(secret, "rot13"))]


def _spelt(secret: str) -> re.Pattern[str]:
    """A pattern for a secret whose characters may each be an escape, with blanks between them."""
    first = re.escape(secret[0].lower() + secret[0].upper() + _wide(secret[0]) + "\\%&")
    blanks = r"[\s\u00ad\u200b-\u200f\u2060\ufeff]{0,2}"
    return re.compile(f"(?=[{first}])" + blanks.join(map(_character, secret)), re.IGNORECASE)


def _wide(c: str) -> str:
    return chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c


def _character(c: str) -> str:
    code = ord(c)
    forms = [
        re.escape(c),
        rf"\\{{1,8}}[uU]\{{?0{{0,6}}{code:x}\}}?",
        rf"\\{{1,8}}x{code:02x}",
        rf"\\{{1,8}}0?{code:o}",
        rf"%(?:25){{0,4}}{code:02x}",
        rf"&(?:amp;)?#(?:x0{{0,6}}{code:x}|0{{0,6}}{code});?",
        re.escape(_wide(c)),
    ]
    if not c.isalnum():
        forms.append(rf"\\{{1,8}}{re.escape(c)}")
    return f"(?:{'|'.join(dict.fromkeys(forms))})"


def _packed(secret: str) -> list[re.Pattern[str]]:
    """Patterns for a secret's base64, wherever it begins within three bytes, and its hexadecimal form."""
    raw = secret.encode("utf-8", "surrogateescape")
    forms = ["[ :,]?".join(f"(?:0x)?{byte:02x}" for byte in data) for data in (raw, raw[::-1])]
    found = [re.compile(form, re.IGNORECASE) for form in forms]
    cores: dict[str, None] = {}
    for data in (raw, raw[::-1]):
        for before in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                whole = encode(b"\0" * before + data).decode().rstrip("=")
                core = whole[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
                cores |= {core: None} if len(core) > 3 else {}
    return found + [re.compile(re.escape(core) + r"[A-Za-z0-9+/_=-]{0,4}") for core in cores]
