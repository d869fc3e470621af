"""Vectors that were kept are not taken for those of an encoder that reads pictures otherwise."""

import json
import shutil

import numpy as np
import tiny

from close.encoders import load_encoder
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
