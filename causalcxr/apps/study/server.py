"""Serving a study on this machine: a page a reader, its images, and a place for answers.

The page is NiceGUI's; the component on it (`reader.js`) sends each answer as a request of its own,
whose reply says that the answer is on the disk. An answer without a reply is sent again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from causalcxr.apps.study.answers import only_server
from causalcxr.apps.study.making import IMAGES
from causalcxr.apps.study.plan import Plan
from causalcxr.apps.study.sitting import Sitting
from causalcxr.common.errors import StudyError, install
from causalcxr.common.web_server import HOST, ICON, Sent, listening, protect, refusal

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, Response
    from fastapi.responses import HTMLResponse, JSONResponse
    from nicegui import ui
    from pydantic import Field
except ImportError as fault:
    raise StudyError(f"a study is served by NiceGUI ({fault}); {install('app')}") from None

__all__ = ["application", "serve"]

_HERE = Path(__file__).parent
_PLAIN = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
    'content="width=device-width"><title>Reader study</title><body style="background:#171717;'
    'color:#f0f0f0;font:18px/1.5 system-ui,sans-serif;padding:2em"><main><h1 style="font-size:'
    '1.3em">Reader study</h1><p>{words}</p></main></body></html>'
)


class Given(Sent):
    """An answer as the browser sends it."""

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
        CausalCXRError: If the study is damaged or served already, or the port is taken.
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


def application(sittings: Mapping[str, Sitting], names: Sequence[str] = ()) -> FastAPI:
    """Return the web application of some readers, by the token of each."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    protect(app, names)
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
            return refusal(str(fault), 409 if late else 503)

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
