"""The patient's page and its routes: patients, tables, images, files."""

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from nicegui import app as nicegui_app
from nicegui import ui
from pydantic import Field

from causalcxr.apps.explorer import downloads, streaming
from causalcxr.apps.explorer.assumptions import weights_source
from causalcxr.apps.explorer.image_encoding import encoded
from causalcxr.apps.explorer.page_frame import STATIC, page_frame
from causalcxr.apps.explorer.patients import controls
from causalcxr.apps.explorer.service import ExplorerService, QuestionRequest
from causalcxr.apps.explorer.uploads import MAX_BYTES
from causalcxr.apps.explorer.workspace import Workspace
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.web_server import Sent, refusal
from causalcxr.images.synthetic_mark import MARK
from causalcxr.scm.identity import couplings

__all__ = ["register"]

_FILES = {
    "png": ("causalcxr-pair.png", "image/png"),
    "dicom": ("causalcxr-pair.zip", "application/zip"),
    "json": ("causalcxr-pair.json", "application/json"),
    "python": ("causalcxr-pair.py", "text/x-python"),
}


_SECONDS = 60  # an upload must arrive within this time, since others wait


class PatientFilter(Sent):
    """A search for patients, one page of results at a time."""

    cohort: str
    model: str
    filters: dict[str, dict[str, str | int | float]] = Field(default={})
    page: int = Field(default=0, ge=0)


class DoseRequest(Sent):
    """A question at several values (doses) of one more variable."""

    request: QuestionRequest
    variable: str


def register(app: FastAPI, workspace: Workspace) -> None:
    """Add the patient's page and its routes to an application."""
    service = ExplorerService(workspace)
    # The threads end with the server.
    nicegui_app.on_shutdown(service.close)
    app.exception_handler(CausalCXRError)(_refused)
    _tables(app, service)
    _images(app, service)
    _files(app, service)

    @ui.page("/", title="Patient - causalcxr", response_timeout=30)
    def page() -> None:
        with page_frame("Explorer", "/"):
            _element()(_state(service))
        style = (STATIC / "patient.css").read_text(encoding="utf-8")
        ui.add_head_html(f"<style>{style}</style>")


def _refused(_: Request, fault: Exception) -> JSONResponse:
    """Reply to an invalid request with one line that says how to correct it."""
    return refusal(str(fault))


# Plain functions run in threads, so that a slow one delays no other request.


def _tables(app: FastAPI, service: ExplorerService) -> None:
    @app.post("/api/patients")
    def patients(search: PatientFilter) -> dict[str, Any]:
        return service.patient_list(search.cohort, search.model).page(search.filters, search.page)

    @app.post("/api/patient")
    def patient(request: QuestionRequest) -> dict[str, Any]:
        return service.patient(request)

    @app.post("/api/ask")
    def ask(request: QuestionRequest) -> dict[str, Any]:
        return service.table(request)

    @app.post("/api/assumptions")
    async def assumptions(request: QuestionRequest) -> dict[str, Any]:
        return (await service.run_slow(service.assumptions, request)).to_json()

    @app.post("/api/graph")
    async def graph(request: QuestionRequest) -> dict[str, str]:
        return {"svg": await service.run_slow(service.graph, request)}

    @app.post("/api/dose")
    def dose(dose: DoseRequest) -> dict[str, Any]:
        return service.dose_table(dose.request, dose.variable)

    @app.post("/api/state")
    def state() -> dict[str, Any]:
        return _state(service)


def _images(app: FastAPI, service: ExplorerService) -> None:
    @app.get("/api/thumb")
    def thumb(model: str, cohort: str, row: int) -> Response:
        return Response(service.patient_list(cohort, model).thumbnail(row), media_type="image/png")

    @app.post("/api/factual")
    def factual(request: QuestionRequest) -> dict[str, Any]:
        return encoded(service.factual(request))

    @app.post("/api/radiograph")
    async def radiograph(request: QuestionRequest) -> StreamingResponse:
        return streaming.response(streaming.twin_events(service, request))

    @app.post("/api/dose-radiographs")
    async def dose_radiographs(dose: DoseRequest) -> StreamingResponse:
        return streaming.response(streaming.dose_events(service, dose.request, dose.variable))


def _files(app: FastAPI, service: ExplorerService) -> None:
    @app.post("/api/upload")
    async def upload(request: Request) -> JSONResponse:
        if "x-file-name" not in request.headers:  # a page of another site cannot send it
            raise HTTPException(400, "give the file's name in the header x-file-name")
        name = unquote(request.headers.get("x-file-name", ""))
        # A slot is taken before the content is read, so that memory is limited.
        async with service.upload_slots:
            content = await _body(request)
            upload = await streaming.in_thread(service.uploads.put, content, name)
        about = {"token": upload.token, "name": upload.name, "format": upload.format}
        return JSONResponse(about | {"size": list(upload.pixels.shape)})

    @app.post("/api/download/{kind}")
    def download(kind: str, request: QuestionRequest) -> Response:
        if kind not in _FILES:
            raise HTTPException(404)
        name, media = _FILES[kind]
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(_content(service, kind, request), media_type=media, headers=headers)


async def _body(request: Request) -> bytes:
    """Return the content of an upload, limited in size and time."""
    content = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                # Counted while it arrives: a header could state any length.
                content += part
                if len(content) > MAX_BYTES:
                    limit = f"larger than {MAX_BYTES // 2**20} MB; give a smaller file"
                    raise HTTPException(413, limit)
    except TimeoutError:
        raise HTTPException(
            408, f"the upload took longer than {_SECONDS} seconds; send it again"
        ) from None
    return bytes(content)


def _content(service: ExplorerService, kind: str, request: QuestionRequest) -> bytes:
    code = service.code(request)
    if kind == "python":
        return downloads.python_text(code)
    abducted = service.abducted(request)
    answer = service.answer(request)
    if kind == "json":
        return downloads.answer_json(abducted, answer, service.assumptions(request), code)
    pair = service.pair(request)
    if kind == "png":
        is_synthetic = abducted.synthetic or not pair.same
        return pair.png(downloads.provenance_of(abducted, answer), synthetic=is_synthetic)
    return downloads.pair_dicom(abducted, answer, pair, service.key)


def _state(service: ExplorerService) -> dict[str, Any]:
    """Return the models and cohorts that the page starts with."""
    workspace = service.workspace
    # Ranges of the controls are those of the first cohort.
    first = next(iter(workspace.cohorts))
    return {
        "mark": MARK,
        "cohorts": [_cohort(name, cohort) for name, cohort in workspace.cohorts.items()],
        "models": [
            {
                "name": name,
                "graph": (model := workspace.models[name]).graph.name,
                "image": model.graph.image if model.graph.image in model.fitted else "",
                "coupling": couplings(model).get(model.graph.image, ""),
                "trained_on": weights_source(model),
                "variables": controls(model.graph, service.patient_list(first, name).columns),
            }
            for name in workspace.models.names
        ],
    }


def _cohort(name: str, cohort: Any) -> Mapping[str, Any]:
    return {"name": name, "records": len(cohort), "source": cohort.source}


@cache
def _element() -> type:
    """Return the component; a NiceGUI class registers itself when it is defined."""

    class PatientElement(ui.element, component=STATIC / "patient.js"):
        """The page's main region, run in the browser."""

        def __init__(self, state: dict[str, Any]) -> None:
            super().__init__()
            self._props["initial"] = state

    return PatientElement
