"""A run's model card."""

from __future__ import annotations

import yaml

from close.runs.recipe import Recipe

__all__ = ["model_card"]


def model_card(recipe: Recipe) -> str:
    """Markdown of what the run is and how it is used."""
    return _CARD.format(
        task=recipe.task,
        encoder=recipe.encoder,
        train_on=recipe.train_on,
        language_model=recipe.language_model,
        recipe=yaml.safe_dump(recipe.dump(), sort_keys=False),
    )


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
