"""What an encoder does otherwise on an accelerator, seen on the CPU: the place is changed after loading."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

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


def test_the_last_that_leaves_puts_the_switch_back(monkeypatch):
    torch.backends.cudnn.conv.fp32_precision = "none"  # as torch begins: a library of another test may have set it
    before, first = inside(), exact_convolutions(CUDA, torch.float32)
    with first, ExitStack() as second:
        second.enter_context(exact_convolutions(CUDA, torch.float32))
        rest = second.pop_all()
    with rest:
        assert inside() == "ieee"
    assert inside() == before
    monkeypatch.setattr(torch.backends, "fp32_precision", "ieee")  # reaches what nobody has set by itself
    assert inside() == "ieee"


def test_an_accelerator_has_files_opened_by_all_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(12), raising=False)
    assert [opening_threads(torch.device(kind))._max_workers for kind in ("cpu", "cuda")] == [4, 12]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(96), raising=False)
    assert opening_threads(CUDA)._max_workers == 16
    seen = []
    monkeypatch.setattr(
        "close.encoders.base.opening_threads", lambda device: (seen.append(device), opening_threads(device))[1]
    )
    encoder = as_if_on_cuda(monkeypatch)
    encoder.image_features([])
    assert seen == [CUDA]


def test_threads_that_open_for_an_accelerator_have_a_core_each():
    def elsewhere() -> int:
        with ThreadPoolExecutor(1) as other:
            return other.submit(torch.get_num_threads).result()

    own = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with opening_threads(CUDA) as pool:
            assert list(pool.map(lambda _: torch.get_num_threads(), range(8))) == [1] * 8
            assert (torch.get_num_threads(), elsewhere()) == (3, 3)
        with opening_threads(torch.device("cpu")) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(own)


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
    monkeypatch.setattr(encoder, "device", CUDA)
    embed_images(images, encoder, tmp_path / "spread", engine=lambda work, parts: map(work, parts))
    monkeypatch.setattr(encoder, "items", "recordings")  # each of which takes long
    embed_images(images, encoder, tmp_path / "recordings")
    assert asked[3:] == [2, 1, 2, 1]


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
