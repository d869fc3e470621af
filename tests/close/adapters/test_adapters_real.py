"""What the adapters do to real CLIP embeddings: 250 COCO pairs, ViT-B/16; fitted on 200, looked at on the other 50."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from close.adapters import build_adapter
from close.vectors.moments import covariance, symmetric_power

DATA = Path(os.environ.get("CLOSE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "coco250_clip_vitb16"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"needs real CLIP embeddings in {DATA}")


@pytest.fixture(scope="module")
def halves():
    text, image = (torch.from_numpy(np.load(DATA / f"{side}.npy")) for side in ("text", "image"))
    order = torch.randperm(250, generator=torch.Generator().manual_seed(0))
    return {"text": text[order[:200]], "image": image[order[:200]]}, text[order[200:]], image[order[200:]]


@pytest.fixture(scope="module")
def look(halves):
    """Mean cosine of held-out pairs, and the share of images whose own caption is the nearest of 50."""

    def measure(spec):
        data, text, image = halves
        adapter = build_adapter(spec, 512).fit(**data).eval()
        cosines = adapter(image, "image") @ adapter(text, "text").T
        return cosines.diagonal().mean().item(), (cosines.argmax(1) == torch.arange(50)).float().mean().item()

    return measure


def test_the_gap_is_there(look):
    assert look("none")[0] == pytest.approx(0.31, abs=0.02)


@pytest.mark.parametrize("spec", ["mean_shift", "moments", "realign", "transport", "covariance", "linear", "memory"])
def test_pairs_come_closer(look, spec):
    assert look(spec)[0] > 0.6


def test_the_wrong_way_drives_pairs_apart(look):
    assert look({"mean_shift": {"scale": -1}})[0] < 0.0
    assert look({"random_shift": {"norm": 1.0}})[0] < look("none")[0]


def test_ridge_beats_least_squares_where_pairs_are_few(look):
    few, ridge = look("linear"), look({"linear": {"method": "ridge"}})
    assert ridge[0] > few[0] + 0.1
    assert ridge[1] > few[1] + 0.1
    assert look({"linear": {"method": "ridge", "alpha": 10, "toward": "identity"}})[1] > few[1] + 0.2


def test_centring_keeps_what_tells_images_apart(look):
    assert look("centring")[1] > 0.7


def test_transport_closes_the_distance_between_the_distributions(halves):
    """Fréchet distance of the fitting rows: shift takes the means away, ReAlign the traces, transport nearly all."""
    data, *_ = halves

    def distance(spec):
        moved = build_adapter(spec, 512).fit(**data).text(data["text"], None)
        (mean_t, sigma_t), (mean_v, sigma_v) = covariance([moved]), covariance([data["image"]])
        root = symmetric_power(sigma_t, 0.5)
        cross = symmetric_power(root @ sigma_v @ root, 0.5).trace()
        return float((mean_t - mean_v).square().sum() + sigma_t.trace() + sigma_v.trace() - 2 * cross)

    none, shift, transport = distance("none"), distance("mean_shift"), distance("transport")
    assert none > 1.5 * shift
    assert shift > 4 * transport
