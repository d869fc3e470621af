"""Fitted adapters alone: a folder with `adapter.json` and `adapter.safetensors`."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch

from close.adapters.base import ADAPTERS, GapAdapter, build_adapter
from close.adapters.specs import names_in
from close.encoders.identity import fingerprint as fingerprint_of
from close.errors import CloseError, DataError, MissingError, NotFittedError
from close.io.files import write_json
from close.io.jobs import job
from close.io.plain import read_plain
from close.io.pretrained import refuse_bad_weights
from close.io.tensors import check_shapes, stored_shapes
from close.io.versions import own_version
from close.plugins import check_plugins, plugins_said, tell_changed
from close.registry import plugins_of
from close.vectors.open import check_encoder

__all__ = ["load_adapter", "read_adapter_info", "save_adapter"]

_FORMAT = 1
_NAMES = ("encoder", "fingerprint")


def save_adapter(
    adapter: GapAdapter,
    path: str | Path,
    *,
    encoder: str | None = None,
    fingerprint: str | None = None,
    made_of: Any = None,
) -> None:
    """Save a fitted adapter; the folder appears whole or not at all.

    Args:
        encoder, fingerprint: of the embeddings that it was fitted on, where known.
        made_of: plain values that tell the data, by which a killed job is known when it is done again; without it, what was
            learnt, which another number of threads rounds otherwise.
    Raises:
        NotFittedError: it is not fitted.
        OutputExistsError: there is something at `path`.
    """
    from safetensors.torch import save_file

    folder = Path(path)
    if not adapter.is_fitted:
        raise NotFittedError(f"adapter {adapter.spec()!r} is not fitted: fit it before it is saved")
    about = {
        "format": _FORMAT,
        "adapter": adapter.spec(),
        "dim": adapter.dim,
        "encoder": encoder,
        "fingerprint": fingerprint,
        **plugins_said(plugins_of((ADAPTERS, names_in(adapter.spec())))),
        "versions": {"close": own_version(), "torch": str(torch.__version__)},
    }
    with job(folder, about | {"made_of": made_of or fingerprint_of(adapter)}, "is being saved") as work:
        partial = work.partial
        partial.mkdir()
        save_file(
            {key: value.contiguous() for key, value in adapter.state_dict().items()}, partial / "adapter.safetensors"
        )
        adapter.save_files(partial)
        about |= {"made_of": made_of} if made_of else {}
        write_json(partial / "adapter.json", about | ({"learnt": adapter.findings} if adapter.findings else {}))
        shutil.copymode(partial / "adapter.json", partial / "adapter.safetensors")  # its writer keeps it for the user


def read_adapter_info(path: str | Path) -> dict[str, Any]:
    """What `adapter.json` says: adapter (its spec), dim, encoder, fingerprint, versions, what was learnt, and of which tables.

    Raises:
        MissingError: no saved adapter is there.
        DataError: it is damaged, or of a newer format.
    """
    file = Path(path) / "adapter.json"
    if not os.path.isfile(file):
        raise MissingError(
            f"{path}: no saved adapter is there (adapter.json is missing); `close adapter fit` makes one"
        )
    info = read_plain(file)
    if not {"adapter", "dim"} <= set(info):
        raise DataError(f"{file}: not a saved adapter's description; fit it again")
    if info.get("format") != _FORMAT:
        raise DataError(f"{file}: format {info.get('format')!r}, this version reads {_FORMAT}")
    if not isinstance(info["dim"], int) or not all(isinstance(info.get(key), (str, type(None))) for key in _NAMES):
        raise DataError(f"{file}: dim is a number, {' and '.join(_NAMES)} are texts; fit the adapter again")
    for key, what in (("plugins", "names"), ("plugin_sums", "SHA-256 sums")):
        if not isinstance(info.setdefault(key, []), list) or not all(isinstance(name, str) for name in info[key]):
            raise DataError(f"{file}: {key} are {what}, not {info[key]!r}")
    return info


def load_adapter(path: str | Path, *, fingerprint: str | None = None) -> GapAdapter:
    """A saved adapter, fitted.

    Args:
        fingerprint: of the encoder that it will be used with; compared where both are known.
    Raises:
        MissingError: no saved adapter, or a file of it, is there.
        DataError: it is damaged.
        MismatchError: it was fitted on another encoder's embeddings.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(path)
    info = read_adapter_info(folder)
    check_encoder(f"adapter {folder}", info.get("encoder"), info.get("fingerprint"), "the run", None, fingerprint)
    tensors = folder / "adapter.safetensors"
    if not tensors.is_file():
        raise MissingError(f"{tensors}: no such file; copy the whole folder, or fit the adapter again")
    check_plugins(info["plugins"], f"adapter {folder}")
    tell_changed(folder.resolve(), info, "this adapter was fitted, and it may map otherwise than then")
    try:
        build = partial(build_adapter, info["adapter"], info["dim"])
        check_shapes(build, stored_shapes(folder, tensors.name), f"{folder}")
        adapter = build()
        adapter.load_state_dict(load_file(tensors))
        refuse_bad_weights(adapter, "adapter")
    except (SafetensorError, RuntimeError, TypeError, CloseError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{folder}: the saved adapter is damaged ({reason}); fit it again") from None
    adapter.load_files(folder)
    return adapter
