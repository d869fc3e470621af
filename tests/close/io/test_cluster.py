"""Ray Data as engine: the same files as the local one, whatever happens to a worker."""

from __future__ import annotations

import filecmp
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import RecipeError
from close.vectors.build import embed_texts

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'close-toolkit[ray]'")

PROBE = """
import ray
ray.init(num_cpus=1, include_dashboard=False)
assert ray.get(ray.remote(lambda: 1).remote()) == 1
"""
TABLE = ("vectors.npy", "norms.npy", "keys.npy", "index.npy", "ids.bin", "ids.npy", "table.json")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local cluster of four logical CPUs: enough for two workers, with a thread each, as what they are compared with."""
    try:
        subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"Ray can't start a cluster here: {error}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # the GPU is a word to Ray, whether there is one or not
        ray.init(num_cpus=4, num_gpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    except Exception as error:  # Ray has no class for it: on a busy machine its own processes start too late
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        pytest.skip(f"Ray can't start a cluster here: {error}")
    yield
    ray.shutdown()
    torch.set_num_threads(threads)


def test_encoders_travel_as_their_reference(tiny_encoder):
    encoder = load_encoder(str(tiny_encoder))
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy.fingerprint == encoder.fingerprint
    assert torch.equal(copy.encode_text("a dog"), encoder.encode_text("a dog"))


@pytest.mark.parametrize(
    ("workers", "machines", "share"),
    [
        (8, [{"CPU": 64, "GPU": 8}], 1),
        (2, [{"CPU": 64, "GPU": 8}], 1),
        (12, [{"CPU": 64, "GPU": 8}], 0.5),
        (3, [{"CPU": 8, "GPU": 1}], 0.3333),
        (2, [{"CPU": 4}], 0),
        (64, [{"CPU": 16, "GPU": 1}, {"CPU": 64}], 0),  # most would wait, with CPUs idle
        (16, [{"CPU": 2}, {"CPU": 16, "GPU": 8}, {"CPU": 16, "GPU": 8}], 1),
    ],
)
def test_what_a_worker_asks_for_of_a_gpu(workers, machines, share):
    from close.io.cluster import share_of_gpu

    assert share_of_gpu(workers, machines) == share


@pytest.mark.parametrize(("device", "free", "share", "warns"), [(None, 8, 1, 0), ("cuda", 1, 1, 1), ("cpu", 0, 0, 0)])
def test_gpus_are_asked_for_where_they_are_used_and_told_where_they_are_taken(caplog, device, free, share, warns):
    from close.cli.options import pick_engine

    nodes = [{"Alive": True, "Resources": {"CPU": 64, "GPU": 8}}]
    cluster = SimpleNamespace(nodes=lambda: nodes, available_resources=lambda: {"GPU": free} if free else {})
    assert pick_engine("ray", 2, None, device)._share(cluster) == share
    assert len(caplog.messages) == warns
    assert all("2 workers ask the Ray cluster for 2 GPUs, of which 1 are free" in said for said in caplog.messages)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("cluster")
class TestCluster:
    """Two workers."""

    def test_embedding_gives_the_local_files(self, tiny_encoder, tmp_path, monkeypatch):
        from close.io.cluster import RayEngine

        monkeypatch.setattr("close.vectors.build.CHUNK", 16)
        rows = RowFile(tiny.write_jsonl(tmp_path / "captions.jsonl", tiny.caption_rows(100)))
        encoder = load_encoder(str(tiny_encoder))
        embed_texts(rows, encoder, tmp_path / "local")
        embed_texts(rows, encoder, tmp_path / "ray", engine=RayEngine(2))
        same, different, missing = filecmp.cmpfiles(tmp_path / "local", tmp_path / "ray", TABLE, shallow=False)
        assert (sorted(same), different, missing) == (sorted(TABLE), [], [])

    def test_captions_are_the_local_ones(self, cli, run, pictures, tmp_path):
        local = cli("caption", run, pictures, "--json", "--n", 2, "--batch-size", 4)
        assert local.code == 0
        spread = cli("caption", run, pictures, "--json", "--n", 2, "--batch-size", 4, "--engine", "ray")
        assert spread.out == local.out
        np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32))
        command = ("caption", run, "--vectors", tmp_path / "v.npy", "--json", "--batch-size", 4, "--engine")
        assert cli(*command, "ray").out == cli(*command, "local").out != ""

    def test_parquet_in_parquet_out(self, cli, run, pictures, captions, tiny_encoder, tmp_path):
        from pyarrow import json as arrow
        from pyarrow import parquet

        parquet.write_table(arrow.read_json(captions), tmp_path / "captions.parquet")
        commands = {
            "vectors": ("embed", "text", tmp_path / "captions.parquet", "--encoder", tiny_encoder, "--export"),
            "captions": ("caption", run, pictures, "--batch-size", 4, "--out"),
        }
        for name, command in commands.items():
            for engine in ("local", "ray"):
                out = [tmp_path / f"{name}-{engine}.parquet", "--engine", engine]
                out += ["--out", tmp_path / engine] if name == "vectors" else []
                assert cli(*command, *out).code == 0
            local, spread = (parquet.read_table(tmp_path / f"{name}-{engine}.parquet") for engine in ("local", "ray"))
            assert len(local)
            assert spread.equals(local)

    def test_a_killed_worker_is_replaced(self, tmp_path):
        from close.io.cluster import RayEngine

        def work(part: int) -> tuple[int, int]:
            marker = tmp_path / "killed"
            if part == 5 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.05)
            return part, part * part

        found = list(RayEngine(2)(work, list(range(12))))
        assert (tmp_path / "killed").exists()
        assert found == [(part, part * part) for part in range(12)]

    def test_workers_share_the_gpus(self):
        from close.io.cluster import RayEngine

        def work(_: int) -> tuple[object, ...]:
            time.sleep(0.2)
            return (
                os.getpid(),
                os.environ.get("CUDA_VISIBLE_DEVICES"),
                ray.get_runtime_context().get_assigned_resources(),
            )

        found = list(RayEngine(2)(work, list(range(8))))
        assert len({process for process, *_ in found}) == 2
        assert {seen for _, seen, _ in found} == {"0"}
        assert {had["GPU"] for *_, had in found} == {0.5}

    def test_too_few_cpus_are_told(self):
        from close.io.cluster import RayEngine

        with pytest.raises(RecipeError, match="4 logical CPUs; 3 workers need 5"):
            list(RayEngine(3)(str, [1, 2]))
