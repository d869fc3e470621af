"""Image vectors rebuilt from text vectors: the gap is crossed at test time, and training stays as it is.

The texts are either a seeded sample kept in a buffer, which travels in the checkpoint's tensors, or all of them (`disk: true`) in
a file beside the tensors, memory-mapped and read block by block. The file is named by a digest of its content, which is in the
tensors: a run that is moved or copied as a folder keeps its memory, and another file can't take its place.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from close.adapters.base import ADAPTERS, GapAdapter, Needs
from close.adapters.options import number, whole_number
from close.errors import DataError, MissingError, RecipeError
from close.io.files import whole
from close.vectors.arrays import map_array, write_rows
from close.vectors.blocks import blocks

__all__ = ["Memory", "Nearest", "TextMemory"]


class TextMemory(GapAdapter):
    """What `memory` and `nearest` share: unit text vectors, in a buffer or in a file.

    Args:
        size: rows of the sample in the buffer, 10,000 unless given; if there are fewer, `spec` tells the true size after `fit`.
        seed: of the sample.
        disk: keep every row, in a file beside the checkpoint's tensors; for memories too large for the buffer.
    """

    needs: ClassVar[Needs] = "text"
    trusted = 3000
    memory: Tensor
    digest: Tensor

    def __init__(
        self, dim: int, *, size: int | None, seed: int, disk: bool, renorm: bool, options: dict[str, Any]
    ) -> None:
        for key, given in (("size", size is not None), ("seed", seed)):
            if disk and given:
                raise RecipeError(
                    f"{self.name}: {key} is of the sample in the checkpoint, disk: true keeps every row; give one"
                )
        size = whole_number(self.name, "size", 10_000 if size is None else size, low=1, high=10**9)
        place = {"disk": True} if disk else {"size": size, "seed": whole_number(self.name, "seed", seed)}
        super().__init__(dim, renorm=renorm, options={**options, **place})
        self.disk, self.asked = disk, size
        self.file: Path | None = None
        self._is_verified = False
        if disk:
            self.register_buffer("digest", torch.zeros(32, dtype=torch.uint8))
        else:
            self.register_buffer("memory", torch.zeros(size, dim))

    def learn(self, text: Any, image: Any) -> None:
        """Keep the texts: all in a file, or a sample in the buffer."""
        if self.disk:
            self._write(text)
            return
        size = min(self.asked, len(text))
        self.options["size"] = size
        kept = np.sort(np.random.default_rng(self.options["seed"]).choice(len(text), size, replace=False))
        self.memory = torch.cat(list(_take(text, torch.from_numpy(kept)))).to(self.memory)

    def _write(self, text: Any) -> None:
        folder = Path(tempfile.mkdtemp(prefix="close-memory-"))  # closed to others; the file in it is as open as any
        atexit.register(_remove, folder, os.getpid())
        self.file, self._is_verified = folder / "memory.npy", True
        digest = hashlib.sha256()

        def units() -> Iterator[Any]:
            for block in blocks(text):
                rows = F.normalize(block, dim=-1).numpy()
                digest.update(rows.tobytes())
                yield rows

        write_rows(self.file, (len(text), self.dim), units())
        self.digest.copy_(torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8))

    def _file_name(self) -> str:
        return f"memory-{bytes(self.digest.tolist()).hex()[:16]}.npy"

    def save_files(self, folder: Path) -> None:
        """Put the file beside the tensors: a hard link where the disk allows, else a copy."""
        target = folder / self._file_name() if self.disk else None
        if target is None or target.exists():
            return
        with whole(target) as partial:
            try:
                os.link(self._existing_file(), partial)
            except OSError:
                shutil.copyfile(self._existing_file(), partial)

    def load_files(self, folder: Path) -> None:
        """Find the file beside the tensors."""
        if self.disk:
            self.file, self._is_verified = folder / self._file_name(), False
            self._existing_file()

    def _existing_file(self) -> Path:
        if self.file is None or not self.file.is_file():
            raise MissingError(
                f"adapter {self.name!r}: its memory {self.file or self._file_name()} is missing; "
                "it lies beside the checkpoint's tensors: copy the whole folder, or fit the adapter again"
            )
        return self.file

    def rows(self) -> Iterator[Tensor]:
        """The memory's unit rows, (≤ 8192, dim) at a time; what is read from a file is compared with its digest, once.

        Raises:
            DataError: the file is another, or damaged; at the latest after its last row.
        """
        if not self.disk:
            yield from self.memory.split(8192)
            return
        stored = map_array(self._existing_file(), np.float32, 2)
        digest = None if self._is_verified else hashlib.sha256()
        for block in blocks(stored):
            if digest:
                digest.update(block.numpy().tobytes())
            yield block
        if digest and digest.digest() != bytes(self.digest.tolist()):
            raise DataError(f"{self.file}: the memory's file is damaged; fit the adapter again")
        self._is_verified = True


def _remove(folder: Path, owner: int) -> None:
    """Remove a folder, unless in a process that was forked from its owner."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _take(text: Any, kept: Tensor) -> Iterator[Tensor]:
    """Unit rows at the sorted positions `kept`, read block by block."""
    start = 0
    for block in blocks(text):
        inside = kept[(kept >= start) & (kept < start + len(block))] - start
        yield F.normalize(block[inside], dim=-1)
        start += len(block)


@ADAPTERS.register("memory")
class Memory(TextMemory):
    """Image vectors replaced by a weighted mean of the text vectors they resemble; text stays as it is.

    Formula: unit(Σ_i softmax(cos(v, m_i)/τ)·m_i) over the memory's unit text vectors m_i; training on t.
    Paper: DeCap (Li et al., ICLR 2023), τ = 1/100, 500k texts.
    Needs: text.
    When: no image at all is at hand, and texts like the test images' captions are; without noise on the text side.

    Args:
        temperature: τ of the softmax; the smaller, the nearer to `nearest`.
        size, seed, disk: where the memory is kept, see `TextMemory`.
    """

    name = "memory"

    def __init__(
        self,
        dim: int,
        *,
        temperature: float = 0.01,
        size: int | None = None,
        seed: int = 0,
        disk: bool = False,
        renorm: bool = False,
    ) -> None:
        options = {"temperature": number("memory", "temperature", temperature, low=1e-6)}
        super().__init__(dim, size=size, seed=seed, disk=disk, renorm=renorm, options=options)
        self.temperature = temperature

    def image(self, x: Tensor) -> Tensor:
        """Σ softmax(cos(x, m)/τ)·m, by a softmax that runs over the blocks."""
        query = F.normalize(x.float(), dim=-1) / self.temperature
        top = query.new_full((len(x), 1), -torch.inf)
        weight, total = torch.zeros_like(top), torch.zeros_like(query)
        for rows in self.rows():
            logits = query @ rows.to(query).T
            higher = torch.maximum(top, logits.amax(1, keepdim=True))
            old, share = (top - higher).exp(), (logits - higher).exp()
            weight = weight * old + share.sum(1, keepdim=True)
            total = total * old + share @ rows.to(query)
            top = higher
        return (total / weight).to(x)


@ADAPTERS.register("nearest")
class Nearest(TextMemory):
    """Image vectors replaced by the one text vector nearest to each; text stays as it is.

    Formula: argmax over the memory's unit text vectors m of cos(v, m); training on t. The limit τ → 0 of `memory`.
    Paper: nearest-neighbour decoding, a baseline in DeCap (Li et al., ICLR 2023).
    Needs: text.
    When: as a baseline: what the model makes of the best caption that is already there.

    Args:
        size, seed, disk: where the memory is kept, see `TextMemory`.
    """

    name = "nearest"

    def __init__(
        self, dim: int, *, size: int | None = None, seed: int = 0, disk: bool = False, renorm: bool = False
    ) -> None:
        super().__init__(dim, size=size, seed=seed, disk=disk, renorm=renorm, options={})

    def image(self, x: Tensor) -> Tensor:
        """The nearest text vector; the first one of equals."""
        query = x.float()
        best, found = query.new_full((len(x),), -torch.inf), torch.zeros_like(query)
        for rows in self.rows():
            score, place = (query @ rows.to(query).T).max(1)
            found = torch.where((score > best)[:, None], rows.to(query)[place], found)
            best = torch.maximum(best, score)
        return found.to(x)
