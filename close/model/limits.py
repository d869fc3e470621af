"""What a run's files may ask for, looked at before memory is taken: they may come from a stranger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from close.errors import WeightsError
from close.io.plain import read_plain

__all__ = ["NOT_CHOSEN", "SETTINGS", "check_config", "check_generation"]

NOT_CHOSEN = -1.0e6
"""Below it lies what a search was not allowed to choose, and has for want of anything else."""

SETTINGS = {"max_new_tokens": 4096, "max_length": 4096, "min_length": 4096, "min_new_tokens": 4096, "num_beams": 100}
"""The largest value of settings that cost time or memory."""
COUNT = 100_000
"""The largest number of heads, labels, buckets …"""


def check_generation(folder: Path) -> None:
    """Look at a run's `generation_config.json`.

    Raises:
        WeightsError: a setting is no plain one, or would take more time or memory than any text is worth.
    """
    file = folder / "generation_config.json"
    for key, value in (read_plain(file) if file.is_file() else {}).items():
        if key == "transformers_version" or value is None:
            continue
        numbers = value if isinstance(value, list) else [value]
        if not all(isinstance(number, (int, float)) for number in numbers) or len(numbers) > 1000:
            raise WeightsError(f"{file}: {key} is {value!r}, expected a number")
        limit = SETTINGS.get(key)
        for number in numbers:
            if limit is not None and not (type(number) is int and 0 <= number <= limit):
                raise WeightsError(f"{file}: {key} is {value!r}, expected a whole number of at most {limit}")
            if not abs(number) < 2**31:
                raise WeightsError(f"{file}: {key} is {value!r}, which is no setting")


def check_config(config: Mapping[str, Any], tensors: int, where: str) -> None:
    """Look at a run's configuration before anything is built of it.

    Args:
        config: of the model, with that of its language model inside. tensors: how many are stored.
    Raises:
        WeightsError: it counts more layers than there are tensors, or more of anything than `COUNT`: building that would never
            end; it is quantised, which no run is, or wants attention from somewhere else.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            check_config(value, tensors, where)
        elif isinstance(value, int) and "layer" in key and not key.startswith("max_") and value > tensors:
            raise WeightsError(f"{where}: {key} is {value}, and there are {tensors} tensors")
        elif isinstance(value, int) and key.startswith(("num_", "n_")) and value > COUNT:
            raise WeightsError(f"{where}: {key} is {value}, expected {COUNT} at most")
        if key == "quantization_config" or (key.endswith("attn_implementation") and "/" in str(value)):
            raise WeightsError(f"{where}: {key} is {value!r}, which no run of this toolkit has")
