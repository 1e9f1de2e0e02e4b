"""Serving the explorer to browsers on this machine."""

import warnings
import webbrowser
from collections.abc import Callable
from threading import Timer

from causalcxr.apps.explorer.workspace import Workspace
from causalcxr.common.errors import CausalCXRError, install

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse
    from nicegui import ui
except ImportError as fault:
    raise CausalCXRError(f"the explorer requires NiceGUI ({fault}); {install('app')}") from None

from causalcxr.apps.explorer import graph_page, patient_page
from causalcxr.apps.explorer.page_frame import STATIC
from causalcxr.common.web_server import HOST, ICON, listening, protect

__all__ = ["application", "serve"]

_TYPES = {".js": "text/javascript", ".css": "text/css"}


def serve(
    workspace: Workspace,
    port: int = 8080,
    *,
    show: bool = True,
    report: Callable[[str], None] = print,
) -> None:
    """Serve the explorer until it is stopped; only this machine can reach it.

    Args:
        workspace: Models and cohorts.
        port: The port; 0 for any free one.
        show: Whether to open the page in the browser.
        report: Called with the link.

    Raises:
        CausalCXRError: If the port cannot be used.
    """
    with listening(port) as taken:
        link = f"http://{HOST}:{taken.getsockname()[1]}/"
        app = application(workspace)
        report(f"explorer: {link} (Ctrl-C stops it)")
        if show:
            # After a moment, when the server answers; a daemon, so that it delays no exit.
            opening = Timer(0.5, webbrowser.open, [link])
            opening.daemon = True
            opening.start()
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=2
        )
        with warnings.catch_warnings():
            # NiceGUI searches all objects for the server; one of torch's objects then warns.
            warnings.filterwarnings("ignore", "`torch.distributed.reduce_op`", FutureWarning)
            uvicorn.Server(config).run(sockets=[taken])


def application(workspace: Workspace) -> FastAPI:
    """Return the web application of a workspace."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    protect(app)
    app.get("/static/{name}")(_static)
    patient_page.register(app, workspace)
    graph_page.register(workspace)
    ui.run_with(
        app, title="causalcxr", favicon=ICON, dark=True, language="en-US", tailwind=False,
        show_welcome_message=False, gzip_middleware_factory=None,
    )  # fmt: skip
    return app


def _static(name: str) -> FileResponse:
    """Return a script or style of the folder `static`; no other path is served."""
    files = {file.name: file for file in STATIC.iterdir() if file.suffix in _TYPES}
    if name not in files:
        raise HTTPException(404)
    return FileResponse(files[name], media_type=_TYPES[files[name].suffix])
