"""What vectors are known by: the encoder that made them, how it reads, and the code that it came with."""

from __future__ import annotations

import hashlib
from typing import Any

from close.data.rows import Modality
from close.encoders import ENCODERS, ContrastiveEncoder
from close.plugins import plugins_said, short_name

__all__ = ["about_vectors", "plugins_behind", "vectors_key"]


def plugins_behind(encoder: ContrastiveEncoder) -> dict[str, list[str]]:
    """What is kept of the plug-ins that an encoder came with (`plugins_said`), files by their names alone; nothing of our own.

    They are those that registered its class, one that this is derived from, or the one whose `load` made it.
    """
    kinds = {kind for one in (type(encoder), encoder.family) if one for kind in one.__mro__}
    origins = sorted({origin for word, origin in ENCODERS.origins.items() if ENCODERS[word] in kinds})
    if not origins:
        return {}
    said = plugins_said(origins)
    return said | {"plugins": [short_name(name) for name in said["plugins"]]}


def about_vectors(encoder: ContrastiveEncoder, modality: Modality, batch_size: int) -> dict[str, Any]:
    """What a table keeps of its encoder: where any of it is another, it is another table."""
    reading = {"reading": hashlib.sha256(encoder.reading.encode()).hexdigest()} if encoder.reading else {}
    return {
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "modality": modality,
        "dim": encoder.embed_dim,
        "precision": encoder.precision,
        "batch_size": batch_size,
        **reading,
        **plugins_behind(encoder),
    }


def vectors_key(encoder: ContrastiveEncoder, modality: str) -> str:
    """What vectors that are kept are found by, beside what was embedded."""
    code = "".join(plugins_behind(encoder).get("plugin_sums", []))
    return f"{encoder.name} {encoder.fingerprint} {encoder.precision} {modality} {encoder.reading}{code}"
