"""Serving a study on this machine: one page for each reader, with images and answers.

The page is NiceGUI's; its component (`reader.js`) sends each answer in a separate request, and the
reply confirms that the answer is on disk. An answer without a reply is sent again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from causalcxr.apps.study.answers import only_server
from causalcxr.apps.study.creation import IMAGES
from causalcxr.apps.study.plan import StudyPlan
from causalcxr.apps.study.reader_session import ReaderSession
from causalcxr.common.errors import StudyError, install
from causalcxr.common.web_server import HOST, ICON, Sent, listening, protect, refusal

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, Response
    from fastapi.responses import HTMLResponse, JSONResponse
    from nicegui import ui
    from pydantic import Field
except ImportError as fault:
    raise StudyError(f"serving a study requires NiceGUI ({fault}); {install('app')}") from None

__all__ = ["application", "serve"]

_HERE = Path(__file__).parent
_PLAIN = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
    'content="width=device-width"><title>Reader study</title><body style="background:#171717;'
    'color:#f0f0f0;font:18px/1.5 system-ui,sans-serif;padding:2em"><main><h1 style="font-size:'
    '1.3em">Reader study</h1><p>{words}</p></main></body></html>'
)


class SentAnswer(Sent):
    """An answer as the browser sends it."""

    step: int = Field(ge=0)
    choice: int = Field(ge=0, le=1)
    confidence: int = Field(ge=1, le=5)
    seen_ms: float = Field(ge=0, le=3e11)


def serve(
    folder: str | Path,
    port: int = 8080,
    names: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> None:
    """Serve a study until it is stopped; only this machine can reach it.

    Args:
        folder: The study.
        port: The port; 0 for any free one.
        names: Host names of a proxy on this machine that forwards to the server.
        report: Called with one line for each reader: the name and the link.

    Raises:
        CausalCXRError: If the study is damaged or served already, or the port is in use.
    """
    plan = StudyPlan.load(folder)
    check_images(folder, plan)
    # One server a study: two would write to the same files of answers.
    with only_server(folder), listening(port) as taken:
        sessions = {
            reader.token: ReaderSession(folder, plan, k) for k, reader in enumerate(plan.readers)
        }
        app = application(sessions, names)
        base = f"http://{HOST}:{taken.getsockname()[1]}"
        for token, session in sessions.items():
            progress = f"{session.position} of {plan.steps} answered"
            report(f"{session.reader.name}: {base}/r/{token} ({progress})")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=2
        )
        uvicorn.Server(config).run(sockets=[taken])


def check_images(folder: str | Path, plan: StudyPlan) -> None:
    """Refuse a study whose images differ from those of the plan."""
    for name, expected in plan.hashes.items():
        file = Path(folder) / IMAGES / f"{name}.png"
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        if digest != expected:
            raise StudyError(f"{file}: is not the image of the plan; restore the original")


def application(sessions: Mapping[str, ReaderSession], names: Sequence[str] = ()) -> FastAPI:
    """Return the web application of some readers' sessions, by token."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    protect(app, names)
    _routes(app, sessions)
    _page(sessions)
    ui.run_with(
        app, title="Reader study", favicon=ICON, dark=True, language="en-US", tailwind=False,
        show_welcome_message=False,
    )  # fmt: skip
    return app


def _routes(app: FastAPI, sessions: Mapping[str, ReaderSession]) -> None:
    def session_of(token: str) -> ReaderSession:
        if token not in sessions:
            raise HTTPException(404)
        return sessions[token]

    # Plain functions run in threads, so that a slow disk delays no other reader.
    @app.get("/")
    def root() -> HTMLResponse:
        return HTMLResponse(_PLAIN.format(words="Please open the link that you received."))

    @app.get("/r/{token}/state")
    def state(token: str) -> dict[str, Any]:
        return session_of(token).state()

    @app.post("/r/{token}/answer")
    def answer(token: str, answer: SentAnswer) -> Response:
        session = session_of(token)
        try:
            return JSONResponse(session.answer(**answer.model_dump()))
        except StudyError as fault:
            # 409 makes the page load its state again; 503 is a disk that may recover.
            is_out_of_order = answer.step != session.position
            return refusal(str(fault), 409 if is_out_of_order else 503)

    @app.get("/r/{token}/image/{name}.png")
    def image(token: str, name: str) -> Response:
        content = session_of(token).image(name)
        if content is None:
            raise HTTPException(404)
        # Private: images belong to one reader. Immutable: a name is never used twice.
        caching = {"cache-control": "private, max-age=86400, immutable"}
        return Response(content, media_type="image/png", headers=caching)


@cache
def _element() -> type:
    """Return the component; a NiceGUI class registers itself when it is defined."""

    class Trials(ui.element, component=_HERE / "reader.js"):
        """The page of a reader, run in the browser."""

        def __init__(self, state: dict[str, Any], base: str) -> None:
            super().__init__()
            self._props["initial"], self._props["base"] = state, base

    return Trials


def _page(sessions: Mapping[str, ReaderSession]) -> None:
    style = f"<style>{(_HERE / 'reader.css').read_text(encoding='utf-8')}</style>"

    @ui.page("/r/{token}", title="Reader study", response_timeout=30)
    def page(token: str) -> Response | None:
        if token not in sessions:
            words = "No study was found. Please check the link that you received."
            return HTMLResponse(_PLAIN.format(words=words), 404)
        ui.add_head_html(style)
        _element()(sessions[token].state(), f"/r/{token}")
        return None
