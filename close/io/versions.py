"""Versions of what decides numbers, to be kept with them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["own_version", "versions"]


def own_version() -> str:
    """Of this toolkit."""
    return versions()["close-toolkit"]


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    found = {}
    for package in ("close-toolkit", "torch", "transformers", "open_clip_torch", "peft", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
