"""A run's model card."""

from __future__ import annotations

from pathlib import Path

import yaml

from close.runs.recipe import Recipe
from close.runs.recipe_file import portable

__all__ = ["model_card"]


def model_card(recipe: Recipe, folder: Path) -> str:
    """Markdown of what the run in `folder` is and how it is used; nothing in it says where on a machine it was made."""
    values = portable(recipe.dump(), folder)
    return _CARD.format(
        task=", ".join(part.task for part in recipe.parts()),
        encoder=_short(values["encoder"]),
        train_on=recipe.train_on,
        language_model=_short(values["language_model"]),
        recipe=yaml.safe_dump(values, sort_keys=False),
    )


def _short(reference: str) -> str:
    """A directory by its name."""
    return Path(reference).name if reference.startswith("..") else reference


_CARD = """---
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
