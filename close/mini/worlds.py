"""The mini worlds that there are: each made from a seeded grammar, with captions, exact truth and an encoder of its own.

Another world is one more `World`: training of its encoder, files, scores, demo, page and record all go by it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.mini import language, scene, vocabulary
from close.mini.draw import draw, pixels
from close.mini.grammar import Grammar, cell_of
from close.mini.sound import language as sound_language
from close.mini.sound import scene as sound_scene
from close.mini.sound.mel import mel
from close.mini.sound.synthesis import samples, wav

__all__ = ["WORLDS", "World", "world_of"]


@dataclass(frozen=True)
class World:
    """One mini world.

    Attributes:
        name: on the command line. encoder: its reference, and the one of its language model.
        folder: where `encoder`, `language_model` and `world.json` lie.
        item, items: what a scene becomes, in words. files: the folder of those in an export, and what a ceiling is trained on.
        suffix: how such files end. key: of rows that name one.
        grammar: the words of its captions, and which of its claims are true.
        styles: of captions. words: all that its two tokenizers know.
        scenes: (split, count, seed) to scenes. captions: (scene, n, rng, style=) to texts.
        facts: of a scene, what can be told, ready for JSON; those of all worlds but the drawn one name their `world`.
        file: of a scene, its recording or picture as bytes.
        view: of a scene, what the encoder's other tower sees: (64, 64, 3) numbers of 8 bits.
    """

    name: str
    encoder: str
    folder: Path
    item: str
    items: str
    files: str
    suffix: str
    key: str
    grammar: Grammar
    styles: Sequence[str]
    words: Callable[[], list[str]]
    scenes: Callable[..., Iterator[Any]]
    captions: Callable[..., list[str]]
    facts: Callable[[Any], Any]
    file: Callable[[Any], bytes]
    view: Callable[[Any], NDArray[np.uint8]]
    cells: Sequence[Any]

    def labels(self, scene: Any) -> list[float]:
        """1 for each tellable fact of a scene that holds, else 0: the grounds, and of each thing that it is there, its attributes
        and its cell.
        """
        grammar, facts = self.grammar, self.facts(scene)
        found = {facts[grammar.ground]}
        for thing in facts["things"]:
            told = ("there", *(thing[kind] for kind in grammar.attributes), cell_of(thing))
            found |= {f"{thing[grammar.name]} {fact}" for fact in told}
        values = [value for values in grammar.attributes.values() for value in values]
        possible = [f"{thing} {fact}" for thing in grammar.things for fact in ("there", *values, *self.cells)]
        return [float(fact in found) for fact in (*dict.fromkeys(grammar.grounds.values()), *possible)]


def _png(drawn: scene.Scene) -> bytes:
    file = io.BytesIO()
    draw(drawn).save(file, "PNG")
    return file.getvalue()


def _mel(recorded: sound_scene.SoundScene) -> NDArray[np.uint8]:
    return np.repeat(mel(samples(recorded))[..., None], 3, axis=2)


_HERE = Path(__file__).parent
WORLDS = {
    "drawn": World(
        name="drawn",
        encoder="mini",
        folder=_HERE,
        item="picture",
        items="pictures",
        files="images",
        suffix=".png",
        key="image",
        grammar=language.GRAMMAR,
        styles=language.STYLES,
        words=vocabulary.words,
        scenes=scene.scenes,
        captions=language.captions,
        facts=scene.facts,
        file=_png,
        view=pixels,
        cells=scene.CELLS,
    ),
    "sound": World(
        name="sound",
        encoder="mini-sound",
        folder=_HERE / "sound",
        item="sound",
        items="sounds",
        files="sounds",
        suffix=".wav",
        key="audio",
        grammar=sound_language.GRAMMAR,
        styles=sound_language.STYLES,
        words=vocabulary.sound_words,
        scenes=sound_scene.scenes,
        captions=sound_language.captions,
        facts=sound_scene.facts,
        file=wav,
        view=_mel,
        cells=range(sound_scene.SLOTS),
    ),
}
"""By name."""


def world_of(facts: Any) -> World:
    """The world that a scene's facts are of."""
    return WORLDS[facts.get("world", "drawn")]
