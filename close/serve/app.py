"""The server as an ASGI application: what can be asked, and what errors become."""
# Annotations are evaluated here, since FastAPI reads them, and its names are imported within a function.

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from close.errors import CloseError, WeightsError, listed
from close.io.versions import own_version
from close.serve.asked import Caption, Embed, read
from close.serve.desk import Desk
from close.serve.gate import Gate, GoneError
from close.serve.limits import Limits, RefusedError
from close.serve.page import page
from close.serve.samples import samples

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

__all__ = ["application"]


def application(desk: Desk, limits: Limits, *, key: str | None = None, hosts: Iterable[str] | None = None) -> Gate:
    """What uvicorn is given.

    Args:
        desk: what answers; it is closed with the application. key, hosts: as of `Gate`.
    """
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    @asynccontextmanager
    async def lifespan(_: Any) -> Any:
        yield
        await asyncio.to_thread(desk.close)

    app = FastAPI(
        title="CLOSE toolkit",
        version=own_version(),
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )

    _tell_errors(app)
    _show_page(app, desk)

    @app.get("/healthz", summary="Whether the server answers, and how many items it holds")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "held": desk.batches.held}

    @app.get("/v1/runs", summary="The runs that are served, the first being meant where none is named")
    async def runs() -> JSONResponse:
        return JSONResponse({"runs": desk.listed()})

    @app.post("/v1/caption", summary="What a run says of pictures, or of texts", openapi_extra=_body(Caption))
    async def caption(request: Request) -> JSONResponse:
        _no_query(request)
        asked = read(Caption, await request.body(), request.headers.get("content-type", ""), limits)
        return JSONResponse(await _answer(desk.caption(asked), request, limits))

    @app.post("/v1/embed", summary="The encoder's unit vectors of pictures, or of texts", openapi_extra=_body(Embed))
    async def embed(request: Request) -> JSONResponse:
        _no_query(request)
        asked = read(Embed, await request.body(), request.headers.get("content-type", ""), limits)
        return JSONResponse(await _answer(desk.embed(asked), request, limits))

    return Gate(app, limits, key=key, hosts=hosts)


def _no_query(request: "Request") -> None:
    """Nothing is asked behind the address, where it would do nothing.

    Raises:
        RefusedError: something is.
    """
    if names := [*request.query_params]:
        raise RefusedError(422, f"{listed(names)} behind the address would do nothing: send that in the body")


def _tell_errors(app: "FastAPI") -> None:
    """What is raised becomes a line of JSON."""
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    def told(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": message}, status, headers)

    @app.exception_handler(CloseError)
    async def _(request: Request, error: CloseError) -> JSONResponse:
        if isinstance(error, RefusedError):
            return told(error.status, str(error), error.headers)
        return told(500 if isinstance(error, WeightsError) else 422, str(error))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        hint = "; /openapi.json says what can be asked" if error.status_code in (404, 405) else ""
        return told(error.status_code, f"{request.method} {request.url.path}: {error.detail}{hint}")

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> JSONResponse:
        return told(500, "this server failed at it; its log says more")


def _show_page(app: "FastAPI", desk: Desk) -> None:
    from fastapi.responses import HTMLResponse, JSONResponse

    whole, policy = page()
    shown = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    drawn = samples(desk.listed()[0]["encoder"])

    @app.get("/", summary="A page to try the runs on", response_class=HTMLResponse)
    async def front() -> HTMLResponse:
        return HTMLResponse(whole, headers=shown)

    @app.get("/v1/samples", summary="Pictures or sounds to try a run with, where its encoder knows an embedded world")
    async def tries() -> JSONResponse:
        return JSONResponse({"samples": drawn})


_ABOUT = """Pictures are sent as files of a form (`curl -F images=@photo.jpg`) or as base64 in JSON. Errors are
`{"error": "one line"}`; of several pictures, each output carries its own."""


def _body(kind: type[Embed]) -> dict[str, Any]:
    """How a request's body is described."""
    schema = kind.model_json_schema()
    schema.pop("description", None)
    form = {**schema, "properties": {**schema["properties"]}}
    form["properties"]["images"] = {"type": "array", "items": {"type": "string", "format": "binary"}}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


async def _answer(answer: Awaitable[dict[str, Any]], request: Any, limits: Limits) -> dict[str, Any]:
    """An answer, unless its time is up, or nobody waits for it any more.

    Raises:
        RefusedError: its time is up (504). GoneError: the connection was cut.
    """
    working = asyncio.ensure_future(answer)
    watching = asyncio.ensure_future(_cut(request))
    try:
        await asyncio.wait({working, watching}, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if watching.done():
            raise GoneError
        raise RefusedError(504, f"no answer within {limits.seconds:g} s; ask for less at once, or try again")
    finally:
        for task in (working, watching):
            task.cancel()
        with suppress(asyncio.CancelledError, CloseError):
            await asyncio.gather(working, watching)


async def _cut(request: Any) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
