"""Serving the explorer on this machine: its pages, what they ask for, and nothing else."""

import warnings
import webbrowser
from collections.abc import Callable
from threading import Timer

from causalcxr.apps.explorer.workbench import Workbench
from causalcxr.common.errors import CausalCXRError, install

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse
    from nicegui import ui
except ImportError as fault:
    raise CausalCXRError(
        f"the explorer is served by NiceGUI ({fault}); {install('app')}"
    ) from None

from causalcxr.apps.explorer import graph_page, patient_page
from causalcxr.apps.explorer.frame import STATIC
from causalcxr.common.web_server import HOST, ICON, listening, protect

__all__ = ["application", "serve"]

_TYPES = {".js": "text/javascript", ".css": "text/css"}


def serve(
    workbench: Workbench,
    port: int = 8080,
    *,
    show: bool = True,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve the explorer until it is stopped; only this machine can reach it.

    Args:
        workbench: Models and cohorts.
        port: Where; 0 for any that is free.
        show: Whether to open the page in the browser.
        tell: Gets the link.

    Raises:
        CausalCXRError: If the port cannot be used.
    """
    with listening(port) as taken:
        link = f"http://{HOST}:{taken.getsockname()[1]}/"
        app = application(workbench)
        tell(f"explorer: {link} (Ctrl-C stops it)")
        if show:
            opening = Timer(0.5, webbrowser.open, [link])
            opening.daemon = True
            opening.start()
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=2
        )
        with warnings.catch_warnings():
            # NiceGUI looks for the server among all objects, and torch warns of one of its own.
            warnings.filterwarnings("ignore", "`torch.distributed.reduce_op`", FutureWarning)
            uvicorn.Server(config).run(sockets=[taken])


def application(workbench: Workbench) -> FastAPI:
    """Return the web application of a workbench."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    protect(app)
    app.get("/static/{name}")(_static)
    patient_page.register(app, workbench)
    graph_page.register(workbench)
    ui.run_with(
        app, title="causalcxr", favicon=ICON, dark=True, language="en-US", tailwind=False,
        show_welcome_message=False, gzip_middleware_factory=None,
    )  # fmt: skip
    return app


def _static(name: str) -> FileResponse:
    """Return one of our own scripts or styles; only names that stand in the folder are known."""
    known = {file.name: file for file in STATIC.iterdir() if file.suffix in _TYPES}
    if name not in known:
        raise HTTPException(404)
    return FileResponse(known[name], media_type=_TYPES[known[name].suffix])
