"""Checkpoint files as people have them: which kind one is, and its weights, without running anything that lies in it."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from close.errors import WeightsError

__all__ = ["Checkpoint", "readable"]

_WRAPPERS = ("state_dict", "model", "model_state_dict", "module", "weights")
_PREFIXES = ("module.", "model.", "_orig_mod.")  # of DistributedDataParallel, of trainers, of torch.compile
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # what traced models carry besides


class Checkpoint(NamedTuple):
    """A file that open_clip reads.

    Attributes:
        path: of it. quick_gelu: whether its own code says that the activation is OpenAI's QuickGELU.
    """

    path: str
    quick_gelu: bool = False


@contextmanager
def readable(path: Path) -> Iterator[Checkpoint]:
    """A checkpoint file as one that open_clip reads: itself where it can, else its weights in a file for the block.

    Read are safetensors, torch's files of a state dict, half precision, inside `{"state_dict": …}`, `{"model": …}` or behind
    `module.`, and TorchScript archives, which OpenAI's own files are.

    Raises:
        WeightsError: a file of another kind; says which.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: a pointer of Git LFS, and not the weights; fetch them with `git lfs pull`")
    if head.lstrip()[:1] == b"<":
        raise WeightsError(f"{path}: a web page, and not the weights; download the file again")
    if path.suffix in (".npz", ".npy"):
        yield Checkpoint(str(path))
        return
    whole, quick = _read(path, head)
    state, plain = _unwrapped(whole)
    if not state:
        raise WeightsError(f"{path}: no weights in it (it holds {type(whole).__name__}); expected a state dict")
    if plain and not quick:
        yield Checkpoint(str(path))
        return
    from safetensors.torch import save_file

    with TemporaryDirectory(prefix="close-weights-") as folder:
        copy = Path(folder) / "weights.safetensors"
        save_file({key: value.detach().clone().contiguous() for key, value in state.items()}, copy)
        yield Checkpoint(str(copy), quick)


def _read(path: Path, head: bytes) -> tuple[Any, bool]:
    """What the file holds, and whether its code has QuickGELU."""
    if head[8:9] == b"{" and path.suffix != ".safetensors":
        from safetensors.torch import load_file

        return {"model": load_file(path)}, False  # open_clip goes by the name
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, False  # noqa: SIM118
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist()):
                return _Archive(archive, path.stat().st_size).weights()
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True), False
    return torch.load(path, map_location="cpu", weights_only=True), False


def _unwrapped(value: Any) -> tuple[dict[str, Tensor], bool]:
    """The state dict in what a file holds, and whether open_clip finds it there by itself."""
    plain, state = True, value
    while isinstance(state, dict):
        inner = next((key for key in _WRAPPERS if isinstance(state.get(key), dict)), None)
        if inner is None:
            break
        plain, state = plain and state is value and inner == "state_dict", state[inner]
    if not isinstance(state, dict):
        return {}, False
    found = {str(key): tensor for key, tensor in state.items() if isinstance(tensor, Tensor)}
    found = {key: tensor for key, tensor in found.items() if key.rpartition(".")[2] not in _NO_WEIGHTS}
    plain = plain and len(found) == len(state)
    while found and (prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in found)), "")):
        plain = plain and prefix == "module."
        found = {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    return found, plain


class _Object:
    """Stands for any object of an archive: what was stored of it, and none of its code."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Archive(pickle.Unpickler):
    """The tensors of a TorchScript archive.

    `torch.jit.load` runs the archive's own `__setstate__`, whose operators can write files: here, names of the pickle stand
    for a tensor, a storage or nothing.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive, self.size = archive, size
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        self.root = name.removesuffix("data.pkl")
        super().__init__(archive.open(name))

    def weights(self) -> tuple[dict[str, Tensor], bool]:
        """The state dict, and whether the code has QuickGELU."""
        files = [name for name in self.archive.namelist() if name.endswith(".py")]
        code = "".join(self._bytes(name).decode(errors="replace") for name in files)
        return dict(_tensors(self.load())), "torch.sigmoid(" in code and "torch.gelu(" not in code

    def find_class(self, module: str, name: str) -> Any:
        """Only what makes tensors is what it is called."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name.endswith("Storage"):
            return _STORAGES.get(name, _Object)
        return _Object

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage, as all of its numbers in one row."""
        _, dtype, key, *_ = pid
        data = self._bytes(f"{self.root}data/{key}")
        return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)

    def _bytes(self, name: str) -> bytes:
        if self.archive.getinfo(name).file_size > self.size:
            raise ValueError(f"{name} is larger than the archive that it lies in")
        return self.archive.read(name)


_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, _Object) and isinstance(value.state, dict):
        for key, part in value.state.items():
            yield from _tensors(part, f"{name}.{key}" if name else str(key))
