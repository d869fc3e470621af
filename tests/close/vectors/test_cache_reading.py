"""Vectors that were kept are not taken for those of an encoder that reads pictures otherwise."""

import json
import shutil

import numpy as np
import pytest
import tiny

from close.encoders import load_encoder
from close.errors import OutputExistsError
from close.vectors.build import embed_images
from close.vectors.cache import cached_images


def test_other_preprocessing_makes_other_vectors(zoo, tmp_path):
    place = tmp_path / "encoder"
    shutil.copytree(zoo("hf_clip_dir"), place)
    images = [("a", tiny.picture(tmp_path / "a.png", 0))]
    before = cached_images(images, load_encoder(str(place)))
    assert cached_images(images, load_encoder(str(place))).path == before.path
    file = place / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_mean": [0.1, 0.2, 0.9]}))
    encoder = load_encoder(str(place))
    after = cached_images(images, encoder)
    own = encoder.encode_image([images[0][1]]).numpy()[0]
    np.testing.assert_allclose(after[0] / np.linalg.norm(after[0]), own, atol=1e-5)
    assert not np.allclose(after[0], before[0], atol=1e-3)


@pytest.mark.parametrize("kind", ["hf_clip_dir", "open_clip_dir"])
def test_a_table_is_not_finished_with_another_reading(zoo, tmp_path, kind):
    """The weights stay the same: what is changed is the preparation of one, and the activation of the other."""
    place = tmp_path / "encoder"
    shutil.copytree(zoo(kind), place)
    images = [("a", tiny.picture(tmp_path / "a.png", 0))]
    before = load_encoder(str(place))
    embed_images(images, before, tmp_path / "t")
    embed_images(images, load_encoder(str(place)), tmp_path / "t")
    file = place / ("preprocessor_config.json" if kind == "hf_clip_dir" else "open_clip_config.json")
    config = json.loads(file.read_text())
    if kind == "hf_clip_dir":
        config["image_mean"] = [0.1, 0.2, 0.9]
    else:
        config["model_cfg"]["quick_gelu"] = True
    file.write_text(json.dumps(config))
    after = load_encoder(str(place))
    assert after.fingerprint == before.fingerprint
    assert after.reading != before.reading
    with pytest.raises(OutputExistsError, match="holds something else"):
        embed_images(images, after, tmp_path / "t")
