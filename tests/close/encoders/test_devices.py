"""What an encoder does otherwise on an accelerator, seen on the CPU: the place is changed after loading."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from close.encoders import ContrastiveEncoder, load_encoder
from close.encoders.devices import exact_convolutions, opening_threads
from close.fast.precision import INT8
from close.vectors import build
from close.vectors.build import embed_images

CUDA = torch.device("cuda")


def as_if_on_cuda(monkeypatch, precision: str = "fp32") -> ContrastiveEncoder:
    encoder = load_encoder("mini", device="cpu", precision=precision)
    monkeypatch.setattr(encoder, "device", CUDA)

    def place(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: value.to(encoder.dtype) if value.is_floating_point() else value for key, value in inputs.items()}

    monkeypatch.setattr(encoder, "_place", place)
    return encoder


def inside() -> str:
    return str(torch.backends.cudnn.conv.fp32_precision)


def test_convolutions_in_fp32_are_no_tf32(monkeypatch, pictures):
    before = inside()
    seen = []
    for precision in ("fp32", "bf16"):
        encoder = as_if_on_cuda(monkeypatch, precision)
        for name in ("text_tower", "image_tower"):
            tower = getattr(encoder, name)
            monkeypatch.setattr(encoder, name, lambda inputs, tower=tower: (seen.append(inside()), tower(inputs))[1])
        encoder.encode_text("a dog")
        encoder.encode_image([pictures / "p00.png"])
        assert inside() == before
    assert seen == ["ieee", "ieee", before, before]


def test_on_the_cpu_no_switch_is_touched():
    before = inside()
    with exact_convolutions(torch.device("cpu"), torch.float32):
        assert inside() == before


def test_an_accelerator_has_files_opened_by_all_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(16), raising=False)
    assert [opening_threads(torch.device(kind)) for kind in ("cpu", "cuda")] == [4, 16]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(96), raising=False)
    assert opening_threads(CUDA) == 32
    seen = []

    def pool(max_workers: int) -> ThreadPoolExecutor:
        seen.append(max_workers)
        return ThreadPoolExecutor(max_workers)

    monkeypatch.setattr("close.encoders.base.ThreadPoolExecutor", pool)
    encoder = as_if_on_cuda(monkeypatch)
    encoder.image_features([])
    monkeypatch.setattr(encoder, "device", torch.device("cpu"))
    encoder.image_features([])
    assert seen == [32, 4]


def test_an_accelerator_is_not_kept_waiting_between_chunks(monkeypatch, pictures, tmp_path):
    monkeypatch.setattr(build, "IMAGE_CHUNK", 2)
    encoder, asked = as_if_on_cuda(monkeypatch), []
    features = encoder.image_features
    monkeypatch.setattr(
        encoder, "image_features", lambda items, size: (asked.append(len(items)), features(items, size))[1]
    )
    images = [(f"{i}", pictures / f"p{i:02}.png") for i in range(3)]
    on_cuda = embed_images(images, encoder, tmp_path / "cuda")
    monkeypatch.setattr(encoder, "device", torch.device("cpu"))
    on_cpu = embed_images(images, encoder, tmp_path / "cpu")
    assert asked == [3, 2, 1]
    assert on_cuda.info["plan"] == on_cpu.info["plan"]


def test_another_machine_takes_the_device_that_was_asked_for(monkeypatch):
    """Any, where none was: the machine of the command may have no accelerator, or one of another number."""

    def travels(encoder: ContrastiveEncoder) -> dict[str, str | None]:
        return encoder.__reduce__()[0].keywords

    free = load_encoder("mini", precision="fp32")
    assert (travels(free)["device"], travels(free)["precision"]) == (None, "fp32")
    assert travels(load_encoder("mini", device="cpu"))["device"] == "cpu"
    monkeypatch.setattr("close.encoders.base.pick_device", lambda device: torch.device("meta", 3))
    assert travels(load_encoder("mini", device="meta:3"))["device"] == "meta"
    monkeypatch.setattr(free, "precision", INT8)
    assert travels(free)["device"] == "cpu"  # the only place for int8
