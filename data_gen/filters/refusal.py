"""What a model says in place of the text that it was asked for."""

from __future__ import annotations

import re

from data_gen.filters.base import Candidate, Filter

__all__ = ["Refusal"]

_CHAT = re.compile(
    r"""^(sure|certainly|of\ course|absolutely|okay|ok|no\ problem|gladly)\s*[,!.:]*\s*(here\b|below\b|i'll\b|i\ can\b|$)
    |^here('s|\ is|\ are)\ (\w+\ ){0,4}(captions?|rewrit(e|ten)|paraphrased?|paraphrases)\b
    |\b(i|i'm|i\ am)\ (can't|cannot|can\ not|won't|(not\ |un)able\ to)
     \ (help|assist|provide|create|write|generate|fulfill|comply)\b
    |^(i'm|i\ am)\ (sorry|afraid),?\ (but|as)\b
    |\bas\ (an\ ai|an?\ (ai\ |large\ )?language\ model|an\ artificial\ intelligence)\b
    |\b(hope\ (this|that|it)\ helps|let\ me\ know\ if)\b
    |^(caption|keywords|premise|instruction)s?\s*:
    |\bthe\ (given|provided)\ (keywords|caption)\b
    |^(es\ tut\ mir\ leid,|hier\ ist\ (eine|die)\ bildunterschrift|als\ ki\b)
    |^(je\ suis\ désolée?,|voici\ (une|la)\ légende|en\ tant\ qu'ia\b)
    |^(lo\ siento,|aquí\ (está|tienes)\ (una|la)\ (leyenda|descripción)|como\ modelo\ de\ lenguaje)""",
    re.IGNORECASE | re.VERBOSE,
)


class Refusal(Filter):
    """A refusal or a phrase of a chat ("Sure, here is …") in place of the text."""

    name = "refusal"

    def rejects(self, candidate: Candidate) -> bool:
        return _CHAT.search(candidate.text.replace("’", "'")) is not None
