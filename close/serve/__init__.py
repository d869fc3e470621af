"""Finished runs over HTTP, and a page to try them on.

FastAPI and uvicorn come with the extra `serve`, and are imported where they are used.
"""

from close.serve.limits import Limits
from close.serve.server import serve

__all__ = ["Limits", "serve"]
