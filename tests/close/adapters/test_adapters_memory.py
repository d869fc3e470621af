"""Text memory on the image side: against scipy's softmax, in the buffer and on disk, small and large."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import softmax

from close.adapters import build_adapter, load_adapter, save_adapter
from close.errors import DataError, MissingError

DIM = 12


def unit_rows(count, seed):
    return unit(np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32))


def image_side(adapter, x):
    return adapter.eval()(torch.from_numpy(x), "image").double().numpy()


def decap(queries, texts, temperature):
    """The formula, one image at a time."""
    out = []
    for v in queries.astype(np.float64):
        weights = softmax(texts.astype(np.float64) @ v / temperature)
        out.append((weights[:, None] * texts).sum(0))
    return np.array(out)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def texts():
    return unit_rows(20_001, seed=0)  # three blocks, the last of them short


@pytest.fixture(scope="module")
def images():
    return unit_rows(23, seed=1)


@pytest.mark.parametrize("place", [{"size": 30_000}, {"disk": True}])
@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_memory_is_decaps_projection(texts, images, place, temperature):
    adapter = build_adapter({"memory": {"temperature": temperature, **place}}, DIM).fit(text=texts)
    expected = decap(images, texts, temperature)
    np.testing.assert_allclose(image_side(adapter, images), unit(expected), atol=3e-6)
    raw = adapter.image(torch.from_numpy(5 * images))  # as a chain passes it on: the query's norm plays no part
    np.testing.assert_allclose(raw, expected, atol=3e-6)
    x = torch.from_numpy(texts[:9])
    torch.testing.assert_close(adapter(x, "text"), x)


@pytest.mark.parametrize("place", [{"size": 30_000}, {"disk": True}])
def test_nearest_is_the_nearest(texts, images, place):
    adapter = build_adapter({"nearest": place}, DIM).fit(text=texts)
    np.testing.assert_allclose(image_side(adapter, images), texts[(images @ texts.T).argmax(1)], atol=1e-6)


def test_memory_tends_to_nearest_and_to_the_mean(texts, images):
    cold = build_adapter({"memory": {"temperature": 1e-5}}, DIM).fit(text=texts[:5000])
    nearest = build_adapter("nearest", DIM).fit(text=texts[:5000])
    np.testing.assert_allclose(image_side(cold, images), image_side(nearest, images), atol=1e-5)
    hot = build_adapter({"memory": {"temperature": 1e6}}, DIM).fit(text=texts[:5000])
    middle = texts[:5000].astype(np.float64).mean(0)
    np.testing.assert_allclose(image_side(hot, images), unit([middle] * 23), atol=1e-3)


def test_sample_is_seeded_distinct_and_in_the_spec(texts):
    first, same, other = (
        build_adapter({"nearest": {"size": 500, "seed": seed}}, DIM).fit(text=texts).memory for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    distances = torch.cdist(first, torch.from_numpy(texts), compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(1).values.max() < 1e-6
    assert len(set(distances.argmin(1).tolist())) == 500


def test_fewer_texts_than_asked_shrink_the_buffer(texts):
    adapter = build_adapter({"memory": {"size": 100}}, DIM).fit(text=texts[:7])
    assert adapter.spec()["memory"]["size"] == 7
    build_adapter(adapter.spec(), DIM).load_state_dict(adapter.state_dict())


def test_after_centring_it_remembers_centred_text(texts, images):
    chain = build_adapter(["centring", {"memory": {"temperature": 0.1}}], DIM).fit(text=texts[:3000], image=images)
    shifted = texts[:3000] - texts[:3000].astype(np.float64).mean(0)
    queries = unit(images - images.astype(np.float64).mean(0))
    np.testing.assert_allclose(image_side(chain, images), unit(decap(queries, unit(shifted), 0.1)), atol=3e-6)


def test_the_file_moves_with_the_folder(texts, images, tmp_path):
    adapter = build_adapter(["centring", {"memory": {"disk": True}}], DIM).fit(text=texts, image=images)
    before = image_side(adapter, images)
    save_adapter(adapter, tmp_path / "a")
    os.unlink(adapter.members[1].file)
    os.rename(tmp_path / "a", tmp_path / "moved")
    moved = load_adapter(tmp_path / "moved")
    np.testing.assert_array_equal(image_side(moved, images), before)
    save_adapter(moved, tmp_path / "again")  # from a loaded one, as a later checkpoint would be
    np.testing.assert_array_equal(image_side(load_adapter(tmp_path / "again"), images), before)
    assert len(list((tmp_path / "again").iterdir())) == 3


def test_a_lost_or_broken_file_is_told(texts, images, tmp_path):
    save_adapter(build_adapter({"memory": {"disk": True}}, DIM).fit(text=texts), tmp_path / "a")
    (file,) = (tmp_path / "a").glob("memory-*.npy")
    adapter = load_adapter(tmp_path / "a")
    whole = file.read_bytes()
    for place in (90, 5000, len(whole) - 1):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"memory-.*\.npy"):
            image_side(load_adapter(tmp_path / "a"), images)
    file.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"not a plain \.npy"):
        image_side(adapter, images)
    file.unlink()
    with pytest.raises(MissingError, match="copy the whole folder"):
        load_adapter(tmp_path / "a")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory the way Linux counts it")
def test_a_large_file_needs_little_memory(tmp_path):
    """400,000 × 64 rows (102 MB) are fitted and searched, in a process that may not hold them twice."""
    script = """
import resource, sys, numpy as np, torch
from close.adapters import build_adapter
rows = np.lib.format.open_memmap(sys.argv[1], mode="w+", dtype=np.float32, shape=(400_000, 64))
for start in range(0, len(rows), 10_000):
    rows[start : start + 10_000] = np.random.default_rng(start).normal(size=(10_000, 64))
del rows
adapter = build_adapter({"memory": {"disk": True}}, 64)
limit = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize() + 90_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
adapter.fit(text=np.load(sys.argv[1], mmap_mode="r")).eval()
print(adapter(torch.nn.functional.normalize(torch.ones(4, 64), dim=1), "image").norm(dim=1).sum().item())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "rows.npy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(4)
