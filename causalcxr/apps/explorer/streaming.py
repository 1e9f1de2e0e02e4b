"""Images on the way to a browser: one line of JSON for each event, until the last."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from causalcxr.apps.explorer.downloads import ImagePair
from causalcxr.apps.explorer.image_encoding import encoded, to_uint16
from causalcxr.apps.explorer.question import Question
from causalcxr.apps.explorer.rendering import RenderJob
from causalcxr.apps.explorer.service import ExplorerService, QuestionRequest
from causalcxr.common.errors import CausalCXRError

__all__ = ["dose_events", "in_thread", "response", "twin_events"]

_T = TypeVar("_T")
Events = AsyncIterator[dict[str, Any]]


async def in_thread(work: Callable[..., _T], *args: Any) -> _T:
    """Return the result of a slow function, which runs in a thread."""
    return await run_in_threadpool(work, *args)


def response(events: Events) -> StreamingResponse:
    """Return a reply that sends events as they occur; it ends when the browser disconnects."""

    async def lines() -> AsyncIterator[str]:
        async for event in events:
            yield json.dumps(event) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def twin_events(service: ExplorerService, request: QuestionRequest) -> Events:
    """Yield the progress of the twin's image, then the image, which is kept for downloads."""
    try:
        factual = await in_thread(service.factual, request)
    except CausalCXRError as fault:
        yield {"error": str(fault)}
        return
    async for event in _render_events(service, request, [request.question]):
        if "image" in event:
            twin = to_uint16(event["image"])
            service.keep(request, ImagePair(factual, twin))
            event = {"image": encoded(twin)}
        yield event


async def dose_events(service: ExplorerService, request: QuestionRequest, name: str) -> Events:
    """Yield the twin's image at each dose of a variable, one after the other."""
    try:
        doses = await in_thread(service.doses, request, name)
    except CausalCXRError as fault:
        yield {"error": str(fault)}
        return
    async for event in _render_events(service, request, [question for _, question in doses]):
        if "image" in event:
            event = {"image": encoded(to_uint16(event["image"])), "number": event["number"]}
        yield event


async def _render_events(
    service: ExplorerService, request: QuestionRequest, questions: Sequence[Question]
) -> Events:
    """Queue images and yield the events of their thread; stop the job at the end."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()

    # Called from the rendering thread; the queue belongs to the event loop.
    def report(event: dict[str, Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, event)

    try:
        # Abduction may take long, so it runs in a thread, not in the event loop.
        abducted = await in_thread(service.abducted, request)
    except CausalCXRError as fault:
        yield {"error": str(fault)}
        return
    job = RenderJob(abducted, questions, report)
    try:
        service.render_queue.submit(job)
        while True:
            event = await queue.get()
            # Encoded here, so that the rendering thread goes on.
            if isinstance(event.get("preview"), np.ndarray):
                event = event | {"preview": encoded(to_uint16(event["preview"]))}
            yield event
            if "done" in event or "error" in event:
                return
    finally:
        # Also when the user closes the page: the generator is then closed.
        job.stop()
