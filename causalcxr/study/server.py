"""Serving a study on this machine: a page a reader, its images, and a place for answers.

The page is NiceGUI's; the component on it (`reader.js`) sends each answer as a request of its own,
whose reply says that the answer is on the disk. An answer without a reply is sent again.
"""

import hashlib
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from causalcxr.errors import StudyError
from causalcxr.study.answers import only_server
from causalcxr.study.making import IMAGES
from causalcxr.study.plan import Plan
from causalcxr.study.sitting import Sitting

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, Response
    from fastapi.responses import HTMLResponse, JSONResponse
    from nicegui import ui
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as fault:
    raise StudyError(
        f"a study is served by NiceGUI ({fault}); run: pip install 'causalcxr[app]'"
    ) from None

__all__ = ["HOST", "ICON", "Headers", "application", "listening", "serve"]

HOST = "127.0.0.1"
_HERE = Path(__file__).parent
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" '
    'fill="#171717"/><path d="M3 4h4v8H3zM9 4h4v8H9z" fill="#d0d0d0"/></svg>'
)
_PLAIN = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
    'content="width=device-width"><title>Reader study</title><body style="background:#171717;'
    'color:#f0f0f0;font:18px/1.5 system-ui,sans-serif;padding:2em"><main><h1 style="font-size:'
    '1.3em">Reader study</h1><p>{words}</p></main></body></html>'
)
# Vue compiles the component's template in the browser, which needs 'unsafe-eval'.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' "
    "data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}


class Given(BaseModel):
    """An answer as the browser sends it."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    step: int = Field(ge=0)
    choice: int = Field(ge=0, le=1)
    confidence: int = Field(ge=1, le=5)
    seen_ms: float = Field(ge=0, le=3e11)


def serve(
    folder: str | Path,
    port: int = 8080,
    names: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> None:
    """Serve a study until it is stopped; only this machine can reach it.

    Args:
        folder: The study.
        port: Where; 0 for any that is free.
        names: Other names under which a proxy on this machine offers the pages.
        tell: Gets the links of the readers, line by line.

    Raises:
        StudyError: If the study is damaged or served already, or the port is taken.
    """
    plan = Plan.load(folder)
    check_images(folder, plan)
    with only_server(folder), listening(port) as taken:
        sittings = {
            reader.token: Sitting(folder, plan, k) for k, reader in enumerate(plan.readers)
        }
        app = application(sittings, names)
        base = f"http://{HOST}:{taken.getsockname()[1]}"
        for token, sitting in sittings.items():
            at = f"{sitting.position} of {plan.steps} answered"
            tell(f"{sitting.reader.name}: {base}/r/{token} ({at})")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=2
        )
        uvicorn.Server(config).run(sockets=[taken])


def check_images(folder: str | Path, plan: Plan) -> None:
    """Refuse a study whose images are not those that were drawn."""
    for name, digest in plan.hashes.items():
        file = Path(folder) / IMAGES / f"{name}.png"
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        if found != digest:
            raise StudyError(f"{file}: is not the image that was drawn; bring the original back")


def listening(port: int) -> socket.socket:
    """Return a socket that listens on this machine only."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
        taken.listen(128)  # who has a link already waits for the server, and is not refused
    except (OSError, OverflowError) as fault:
        taken.close()
        reason = getattr(fault, "strerror", None) or fault
        raise StudyError(f"port {port}: cannot be used ({reason}); give another --port") from None
    return taken


def application(sittings: Mapping[str, Sitting], names: Sequence[str] = ()) -> FastAPI:
    """Return the web application of some readers, by the token of each."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Headers)
    # A page of another site that points its name at this machine is not answered.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost", *names])
    _routes(app, sittings)
    _page(sittings)
    ui.run_with(
        app, title="Reader study", favicon=ICON, dark=True, language="en-US", tailwind=False,
        show_welcome_message=False,
    )  # fmt: skip
    return app


def _routes(app: FastAPI, sittings: Mapping[str, Sitting]) -> None:
    def found(token: str) -> Sitting:
        if token not in sittings:
            raise HTTPException(404)
        return sittings[token]

    # Plain functions run in threads: a slow disk holds up nobody else.
    @app.get("/")
    def root() -> HTMLResponse:
        return HTMLResponse(_PLAIN.format(words="Please open the link that you were given."))

    @app.get("/r/{token}/state")
    def state(token: str) -> dict[str, Any]:
        return found(token).state()

    @app.post("/r/{token}/answer")
    def answer(token: str, given: Given) -> Response:
        sitting = found(token)
        try:
            return JSONResponse(sitting.answer(**given.model_dump()))
        except StudyError as fault:
            late = given.step != sitting.position
            return JSONResponse({"error": str(fault)}, 409 if late else 503)

    @app.get("/r/{token}/image/{name}.png")
    def image(token: str, name: str) -> Response:
        content = found(token).image(name)
        if content is None:
            raise HTTPException(404)
        keep = {"cache-control": "private, max-age=86400, immutable"}
        return Response(content, media_type="image/png", headers=keep)


@cache
def _element() -> type:
    """Return the component; a class of NiceGUI registers itself when it is made."""

    class Trials(ui.element, component=_HERE / "reader.js"):
        """The page of a reader, run in the browser."""

        def __init__(self, state: dict[str, Any], base: str) -> None:
            super().__init__()
            self._props["initial"], self._props["base"] = state, base

    return Trials


def _page(sittings: Mapping[str, Sitting]) -> None:
    style = f"<style>{(_HERE / 'reader.css').read_text(encoding='utf-8')}</style>"

    @ui.page("/r/{token}", title="Reader study", response_timeout=30)
    def page(token: str) -> Response | None:
        if token not in sittings:
            words = "There is no study here. Please check the link that you were given."
            return HTMLResponse(_PLAIN.format(words=words), 404)
        ui.add_head_html(style)
        _element()(sittings[token].state(), f"/r/{token}")
        return None


class Headers:
    """Add headers that keep the browser from asking anybody else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what the application sends, with the headers."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                if not any(k.lower() == b"cache-control" for k, _ in message["headers"]):
                    more.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)
