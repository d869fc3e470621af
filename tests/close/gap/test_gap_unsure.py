"""Advice from texts alone says where their nearest neighbours tell little of images."""

import numpy as np
import pytest

from close.gap import recommend

RNG = np.random.default_rng(0)
SCENES = RNG.normal(size=(60, 16)) + 2
GROUPS = np.repeat(np.arange(60), 3)
TEMPLATES = SCENES[GROUPS] + 0.01 * RNG.normal(size=(180, 16))
"""Each text has others beside it that say almost the same."""


def unsure(text, **given) -> str:
    return " ".join(reason for reason in recommend(text, **given).reasons if reason.startswith("Unsure"))


@pytest.mark.parametrize("image", [None, SCENES])
def test_texts_with_neighbours_that_say_almost_the_same(image):
    said = unsure(TEMPLATES, image=image, pairs=None if image is None else "unpaired")
    assert "the nearest other caption is almost the same (cosine 1.000, strangers 0." in said
    assert unsure(SCENES) == ""


def test_texts_that_the_encoder_does_not_tell_apart():
    assert "180 texts have only 60 different vectors" in unsure(SCENES[GROUPS])


def test_groups_tell_by_themselves():
    assert unsure(TEMPLATES, groups=GROUPS) == ""


def test_what_agreement_is_of():
    def said(*given, **more) -> str:
        return " ".join(recommend(*given, **more).reasons)

    assert "Linear decoder on stand-ins for images, noise alone" in said(SCENES)
    assert "Linear decoder on images, noise alone" in said(SCENES, SCENES - 1)
