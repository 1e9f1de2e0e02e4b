"""The patient's page, and what it asks for: patients, tables, images, files."""

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
from causalcxr.apps.explorer.desk import Asked, Desk
from causalcxr.apps.explorer.doubt import weights_know
from causalcxr.apps.explorer.dropping import MOST
from causalcxr.apps.explorer.frame import STATIC, page_frame
from causalcxr.apps.explorer.patients import controls
from causalcxr.apps.explorer.pictures import packed
from causalcxr.apps.explorer.workbench import Workbench
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.web_server import Sent, refusal
from causalcxr.images.synthetic_mark import MARK

__all__ = ["register"]

_FILES = {
    "png": ("causalcxr-pair.png", "image/png"),
    "dicom": ("causalcxr-pair.zip", "application/zip"),
    "json": ("causalcxr-pair.json", "application/json"),
    "python": ("causalcxr-pair.py", "text/x-python"),
}


_SECONDS = 60  # for an upload to arrive; others wait for it


class Filtered(Sent):
    """Which patients are looked for."""

    cohort: str
    model: str
    filters: dict[str, dict[str, str | int | float]] = Field(default={})
    page: int = Field(default=0, ge=0)


class Dosed(Sent):
    """A question at several values of one more variable."""

    asked: Asked
    variable: str


def register(app: FastAPI, workbench: Workbench) -> None:
    """Add the patient's page and its routes to an application."""
    desk = Desk(workbench)
    nicegui_app.on_shutdown(desk.close)
    app.exception_handler(CausalCXRError)(_refused)
    _tables(app, desk)
    _images(app, desk)
    _files(app, desk)

    @ui.page("/", title="Patient - causalcxr", response_timeout=30)
    def page() -> None:
        with page_frame("Explorer", "/"):
            _element()(_state(desk))
        style = (STATIC / "patient.css").read_text(encoding="utf-8")
        ui.add_head_html(f"<style>{style}</style>")


def _refused(_: Request, fault: Exception) -> JSONResponse:
    """Answer what a user can put right with its one line."""
    return refusal(str(fault))


# Plain functions run in threads, so that whatever takes its time holds up nobody else.


def _tables(app: FastAPI, desk: Desk) -> None:
    @app.post("/api/patients")
    def patients(given: Filtered) -> dict[str, Any]:
        return desk.ward(given.cohort, given.model).page(given.filters, given.page)

    @app.post("/api/patient")
    def patient(asked: Asked) -> dict[str, Any]:
        return desk.patient(asked)

    @app.post("/api/ask")
    def ask(asked: Asked) -> dict[str, Any]:
        return desk.table(asked)

    @app.post("/api/doubt")
    async def doubt(asked: Asked) -> dict[str, Any]:
        return (await desk.later(desk.doubt, asked)).to_json()

    @app.post("/api/graph")
    async def graph(asked: Asked) -> dict[str, str]:
        return {"svg": await desk.later(desk.graph, asked)}

    @app.post("/api/dose")
    def dose(given: Dosed) -> dict[str, Any]:
        return desk.dose_table(given.asked, given.variable)

    @app.post("/api/state")
    def state() -> dict[str, Any]:
        return _state(desk)


def _images(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/thumb")
    def thumb(model: str, cohort: str, row: int) -> Response:
        return Response(desk.ward(cohort, model).thumbnail(row), media_type="image/png")

    @app.post("/api/factual")
    def factual(asked: Asked) -> dict[str, Any]:
        return packed(desk.factual(asked))

    @app.post("/api/film")
    async def film(asked: Asked) -> StreamingResponse:
        return streaming.response(streaming.pair(desk, asked))

    @app.post("/api/strip")
    async def strip(given: Dosed) -> StreamingResponse:
        return streaming.response(streaming.strip(desk, given.asked, given.variable))


def _files(app: FastAPI, desk: Desk) -> None:
    @app.post("/api/drop")
    async def drop(request: Request) -> JSONResponse:
        if "x-file-name" not in request.headers:  # which no page of another site may send
            raise HTTPException(400, "give the file's name as x-file-name")
        name = unquote(request.headers.get("x-file-name", ""))
        async with desk.uploads:
            content = await _body(request)
            found = await streaming.in_thread(desk.drops.put, content, name)
        told = {"token": found.token, "name": found.name, "format": found.format}
        return JSONResponse(told | {"size": list(found.pixels.shape)})

    @app.post("/api/download/{kind}")
    def download(kind: str, asked: Asked) -> Response:
        if kind not in _FILES:
            raise HTTPException(404)
        name, media = _FILES[kind]
        told = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(_content(desk, kind, asked), media_type=media, headers=told)


async def _body(request: Request) -> bytes:
    """Return what is uploaded, of limited size and within limited time."""
    content = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > MOST:
                    told = f"larger than {MOST // 2**20} MB; give a smaller file"
                    raise HTTPException(413, told)
    except TimeoutError:
        raise HTTPException(408, f"not here after {_SECONDS} seconds; send it again") from None
    return bytes(content)


def _content(desk: Desk, kind: str, asked: Asked) -> bytes:
    code = desk.code(asked)
    if kind == "python":
        return downloads.python_text(code)
    visit = desk.visit(asked)
    answer = desk.answer(asked)
    if kind == "json":
        return downloads.answer_json(visit, answer, desk.doubt(asked), code)
    pair = desk.pair(asked)
    if kind == "png":
        made = visit.synthetic or not pair.same
        return pair.png(downloads.provenance_of(visit, answer), synthetic=made)
    return downloads.pair_dicom(visit, answer, pair, desk.key)


def _state(desk: Desk) -> dict[str, Any]:
    """Return what the page knows before anything is asked."""
    bench = desk.workbench
    first = next(iter(bench.cohorts))
    return {
        "mark": MARK,
        "cohorts": [_cohort(name, cohort) for name, cohort in bench.cohorts.items()],
        "models": [
            {
                "name": name,
                "graph": (model := bench.models[name]).graph.name,
                "image": model.graph.image if model.graph.image in model.fitted else "",
                "knows": weights_know(model),
                "variables": controls(model.graph, desk.ward(first, name).columns),
            }
            for name in bench.models.names
        ],
    }


def _cohort(name: str, cohort: Any) -> Mapping[str, Any]:
    return {"name": name, "records": len(cohort), "source": cohort.source}


@cache
def _element() -> type:
    """Return the component; a class of NiceGUI registers itself when it is made."""

    class Patient(ui.element, component=STATIC / "patient.js"):
        """The page's main region, run in the browser."""

        def __init__(self, state: dict[str, Any]) -> None:
            super().__init__()
            self._props["initial"] = state

    return Patient
