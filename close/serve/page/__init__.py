"""The page of a server: one file that needs nothing else, and may run nothing else."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

__all__ = ["page"]


def page() -> tuple[str, str]:
    """The page, and its Content-Security-Policy: this script, this style, and requests to this server alone."""
    folder = Path(__file__).parent
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    text = (folder / "page.html").read_text(encoding="utf-8")
    rules = {
        "default-src": "'none'",
        "style-src": f"'{_hash(style)}'",
        "script-src": f"'{_hash(script)}'",
        "img-src": "data: blob:",
        "media-src": "data: blob:",
        "connect-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    whole = text.replace("/* page.css */", style).replace("/* page.js */", script)
    return whole, "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
