"""What lies in a run's folder beside the weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from close.errors import DataError, MissingError
from close.io.files import read_json
from close.plugins import check_plugins
from close.registry import Registry

__all__ = ["CARD", "CHECKPOINTS", "RECIPE_FILE", "RUN_FILE", "open_run", "plugins_of"]

RUN_FILE, RECIPE_FILE, CHECKPOINTS = "run.json", "recipe.yaml", "checkpoints"

CARD = """---
library_name: close-toolkit
tags: [text-only-transfer, cross-modal, {task}]
---

# {task}: {language_model} behind {encoder}

Trained on {train_on} embeddings of the contrastive encoder `{encoder}` with CLOSE toolkit; at test time the encoder's image
tower takes the text tower's place. The encoder's own weights are not in this folder.

```python
import close

model = close.load("this/folder")
print(model("photo.jpg"))
```

Trained with this recipe:

```yaml
{recipe}```
"""


def plugins_of(*used: tuple[Registry[Any], Iterable[str]]) -> list[str]:
    """The plug-ins that brought what a run uses: names in their registries."""
    return sorted({registry.origins[name] for registry, names in used for name in names if name in registry.origins})


def open_run(folder: str | Path) -> dict[str, Any]:
    """What `run.json` says of a finished run.

    Raises:
        MissingError: no run there, or an unfinished one; or it was made with plug-ins that are not loaded.
        DataError: the run is damaged.
    """
    place = Path(folder)
    if not (place / RUN_FILE).is_file():
        started = (place / RECIPE_FILE).is_file()
        raise MissingError(
            f"{place}: the run there is not finished; continue it with `close train … --resume`"
            if started
            else f"{place}: no run there (expected a folder that `close train` made)"
        )
    info: dict[str, Any] = read_json(place / RUN_FILE)
    check_plugins(info.get("plugins", []), f"{place}")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        if not (place / name).is_file():
            raise DataError(f"{place}: the run is damaged, {name} is missing")
        read_json(place / name)  # transformers takes its own defaults where it can't read these
    return info
