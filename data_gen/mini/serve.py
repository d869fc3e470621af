"""The embedded language model over HTTP: `transformers serve` with the weights that come with the package."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
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
    except OSError as error:
        raise InputError(f"can't listen at {host}:{port}: {error.strerror}; give another --host or --port") from None


def serve(host: str, port: int) -> None:
    """Become `transformers serve` with the embedded model; ends when it is interrupted. See `check`."""
    # the server takes a path relative to its working folder for the model's name, and so must the requests
    os.chdir(Path(__file__).parent)
    code = (
        "import sys; sys.path.remove(''); from transformers.cli.transformers import main; main()"  # none of our files
    )
    arguments = ["serve", MODEL, "--host", host, "--port", str(port), "--device", "cpu", "--log-level", "error"]
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.execve(sys.executable, [sys.executable, "-c", code, *arguments], {**os.environ, **environment})
