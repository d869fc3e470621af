"""The embedded language model over HTTP: `transformers serve` with the weights that come with the package."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from data_gen.errors import DataGenError, InputError

__all__ = ["MODEL", "check", "serve"]

MODEL = "mini_model"  # the folder's name beside this file is the model's name at the server


def check(host: str, port: int) -> None:
    """See that `serve` can begin: the server itself would only say so after loading everything.

    Raises:
        InputError: an impossible address or port, or one that is in use.
        DataGenError: the `serve` extra is not installed.
    """
    if not 0 < port < 65536:
        raise InputError(f"--port must be from 1 to 65535, got {port}")
    missing = [name for name in ("transformers", "torch", "fastapi", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise DataGenError(f"serve-mini needs {', '.join(missing)}: pip install 'close-toolkit[serve]'")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise InputError(f"can't listen at {host}:{port}: {reason}; give another --host or --port") from None


def serve(host: str, port: int, ready: Callable[[], None]) -> None:
    """Be `transformers serve` with the embedded model, until it is interrupted. See `check`.

    Args:
        host, port: to listen on.
        ready: called once, when the server listens.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    sys.path[:] = [folder or os.getcwd() for folder in sys.path]
    # the server takes a path relative to its working folder for the model's name, and so must the requests
    os.chdir(Path(__file__).parent)
    threading.Thread(target=_wait, args=(host, port, ready), daemon=True).start()
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.transformers import main

    card = {"id": MODEL, "object": "model", "created": 0, "owned_by": "data-gen"}
    ModelManager.get_gen_models = staticmethod(lambda cache_dir=None: [card])  # its own lists the hub's cache, or fails
    sys.argv = ["transformers", "serve", MODEL, "--host", host, "--port", str(port)]
    sys.argv += ["--device", "cpu", "--log-level", "error"]
    main()


def _wait(host: str, port: int, ready: Callable[[], None]) -> None:
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return ready()
