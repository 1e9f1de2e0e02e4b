"""Images on their way to a browser: a line of JSON for each event, until the last."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from causalcxr.apps.explorer.desk import Asked, Desk
from causalcxr.apps.explorer.downloads import Pair
from causalcxr.apps.explorer.filming import Take
from causalcxr.apps.explorer.pictures import grey, packed
from causalcxr.apps.explorer.question import Question
from causalcxr.common.errors import CausalCXRError

__all__ = ["in_thread", "pair", "response", "strip"]

_T = TypeVar("_T")
Events = AsyncIterator[dict[str, Any]]


async def in_thread(work: Callable[..., _T], *given: Any) -> _T:
    """Return what a function returns that takes its time."""
    return await run_in_threadpool(work, *given)


def response(events: Events) -> StreamingResponse:
    """Return a reply that tells events as they come; it ends when nobody listens any more."""

    async def lines() -> AsyncIterator[str]:
        async for event in events:
            yield json.dumps(event) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def pair(desk: Desk, asked: Asked) -> Events:
    """Tell how far the twin's image is, and at last the image; it is kept for downloads."""
    try:
        factual = await in_thread(desk.factual, asked)
    except CausalCXRError as fault:
        yield {"error": str(fault)}
        return
    async for event in _taken(desk, asked, [asked.question]):
        if "image" in event:
            twin = grey(event["image"])
            desk.keep(asked, Pair(factual, twin))
            event = {"image": packed(twin)}
        yield event


async def strip(desk: Desk, asked: Asked, name: str) -> Events:
    """Tell the twin's image at each dose of a variable, one after the other."""
    try:
        asks = await in_thread(desk.doses, asked, name)
    except CausalCXRError as fault:
        yield {"error": str(fault)}
        return
    async for event in _taken(desk, asked, [question for _, question in asks]):
        if "image" in event:
            event = {"image": packed(grey(event["image"])), "number": event["number"]}
        yield event


async def _taken(desk: Desk, asked: Asked, questions: Sequence[Question]) -> Events:
    """Put images in the queue and pass on what the thread tells of them; stop it at the end."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue()

    def tell(event: dict[str, Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(told.put_nowait, event)

    try:
        visit = await in_thread(desk.visit, asked)
    except CausalCXRError as fault:
        yield {"error": str(fault)}
        return
    take = Take(visit, questions, tell)
    try:
        desk.darkroom.submit(take)
        while True:
            event = await told.get()
            if isinstance(event.get("preview"), np.ndarray):
                event = event | {"preview": packed(grey(event["preview"]))}
            yield event
            if "done" in event or "error" in event:
                return
    finally:
        take.stop()
