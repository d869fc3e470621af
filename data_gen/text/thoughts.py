"""What a model thinks before it answers, and the words of a chat around the answer: neither is what was asked for."""

from __future__ import annotations

import re

__all__ = ["is_chat", "without_thought"]

_NAME = r"(?:\w+:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)"
_END = re.compile(
    rf"[<\[◁]\s*/\s*{_NAME}\s*[>\]▷]"  # DeepSeek, Qwen, Magistral, Kimi, Seed
    r"|<\|(?:end_of_thought|end_thinking|end_think)\|>"  # Cohere and others
    r"|<\|channel\|>\s*final\s*<\|message\|>|assistantfinal"  # gpt-oss, and the same where its marks were taken out
    r"|<unused95>|<channel\|>",  # Gemma
    re.IGNORECASE,
)
_BEGIN = re.compile(
    rf"[<\[◁]\s*{_NAME}\s*[>\]▷]"
    r"|<\|(?:begin_of_thought|start_thinking|begin_think)\|>"
    r"|<\|channel\|>\s*(?:analysis|commentary)\b|\A\s*(?-i:analysis(?=[A-Z]))"
    r"|<unused94>|<\|channel>",
    re.IGNORECASE,
)
_MARK = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?[A-Za-z_][\w-]{0,30}>")

_CHAT = re.compile(
    r"""^(sure|certainly|of\ course|absolutely|okay|ok|no\ problem|gladly)\s*[,!.:—–-]*\s*
     (here\b|below\b|i'll\b|i\ can\b|let\ me\b|$)
    |^here('s|\ is|\ are)\ (\w+\ ){0,4}
     (captions?|questions?|sentences?|descriptions?|rewrit(e|ten)|paraphrased?|paraphrases|variations?|versions?)\b
    |^here\ (you\ go|it\ is|they\ are)\b
    |\b(i|i'm|i\ am)\ (can't|cannot|can\ not|won't|(not\ |un)able\ to)
     \ (help|assist|provide|create|write|generate|fulfill|comply)\b
    |^(i'm|i\ am)\ (sorry|afraid),?\ (but|as)\b
    |\bas\ (an\ ai|an?\ (ai\ |large\ )?language\ model|an\ artificial\ intelligence)\b
    |\b(hope\ (this|that|it)\ helps|let\ me\ know\ if)\b
    |^(caption|keywords|premise|instruction)s?\s*:
    |\bthe\ (given|provided)\ (keywords|caption)\b
    |^(es\ tut\ mir\ leid,|hier\ (ist|sind)\ (\w+\ ){1,3}bildunterschrift(en)?\b|als\ ki\b)
    |^(je\ suis\ désolée?,|voici\ (\w+\ ){1,3}légendes?\b|en\ tant\ qu'ia\b)
    |^(lo\ siento,|aquí\ (está|están|tienes)\ (\w+\ ){1,3}(leyendas?|descripci[óo]n(es)?)\b|como\ modelo\ de\ lenguaje)""",
    re.IGNORECASE | re.VERBOSE,
)


def without_thought(answer: str) -> str | None:
    """What follows a model's thoughts, without the marks of chat templates; None where a thought was never closed.

    Everything up to the last end of a thought is thought: templates often open it in the prompt, so that only its end is
    in the answer.
    """
    ends = list(_END.finditer(answer))
    rest = answer[ends[-1].end() :] if ends else answer
    return None if _BEGIN.search(rest) else _MARK.sub("", rest)


def is_chat(line: str) -> bool:
    """Whether a line is a refusal or a phrase of a chat ("Sure, here is …")."""
    return _CHAT.search(line.strip().replace("’", "'")) is not None
