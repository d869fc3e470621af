"""A run's words in an instruction-tuned model's chat.

One turn of the user and one of the model, by the tokenizer's own chat template:

    [head of the user's turn ; PREFIX ; context ; end of the turn, head of the model's turn] target [end of the turn]

The prefix is where the user's message begins, as a picture is in LLaVA (Liu et al., 2023, arXiv 2304.08485); the context
follows it.
"""

from __future__ import annotations

from typing import Any

from close.errors import WeightsError, reason

__all__ = ["chat_around"]

_ASKED, _ANSWERED = "What-the-user-says", "What-the-model-says"
_SETTINGS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""What templates ask: no thoughts before the answer (Qwen 3), and the day, which is Llama 3's own where none is given."""


def chat_around(tokenizer: Any, where: str) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Token ids before the user's message, those between it and the model's, and the one that ends the model's.

    Raises:
        WeightsError: the template can't be used.
    """
    user, model = {"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED}
    try:
        asked = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True, **_SETTINGS)
        whole = tokenizer.apply_chat_template([user, model], tokenize=False, **_SETTINGS)
        before, after = asked.split(_ASKED)
        ending = whole.split(_ANSWERED)[1]
    except Exception as error:  # of Jinja, or of whatever the template says
        raise WeightsError(
            f"{where}: its chat template can't be used ({reason(error, whole=False)}); without `chat_template` "
            "(chat_template.jinja) among the tokenizer's files, texts are written plainly"
        ) from None
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after, ending)]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    end = next((token for token in ids[2] if token in special), tokenizer.eos_token_id)
    return tuple(ids[0]), tuple(ids[1]), end
