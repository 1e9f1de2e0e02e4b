"""The web server of the explorer and the reader study: one machine, one origin.

Both listen on this machine only. A page of another site can still send requests here through the
user's browser, so the server checks the host name and the origin of every request, websockets
included. Input that is not valid JSON of the expected form is refused with one line.
"""

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from causalcxr.common.errors import CausalCXRError, install

try:
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from pydantic import BaseModel, ConfigDict, model_validator
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as fault:
    raise CausalCXRError(
        f"pages are served by NiceGUI and FastAPI ({fault}); {install('app')}"
    ) from None

__all__ = ["HOST", "ICON", "Headers", "SameOrigin", "Sent", "listening", "protect", "refusal"]

HOST = "127.0.0.1"
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" '
    'fill="#171717"/><path d="M3 4h4v8H3zM9 4h4v8H9z" fill="#d0d0d0"/></svg>'
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
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_KINDS = ("str", "int", "float")  # how pydantic names the alternatives of a value
_LONGEST = 300  # characters of an error message


class Sent(BaseModel):
    """A message of a page: exactly the declared fields, finite numbers, valid Unicode."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _is_unicode(cls, given: object) -> object:
        """Refuse half a surrogate pair, which JSON allows and no encoding can write."""
        if not _encodable(given):
            raise ValueError("text with half a character (a lone surrogate)")
        return given


def _encodable(given: object) -> bool:
    if isinstance(given, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in given)
    if isinstance(given, dict):
        return all(_encodable(part) for item in given.items() for part in item)
    return all(map(_encodable, given)) if isinstance(given, list) else True


def protect(app: FastAPI, names: Sequence[str] = ()) -> None:
    """Make an application answer only its own pages, and refuse invalid input with one line.

    Args:
        app: The application, before its routes are used.
        names: Other host names under which a proxy on this machine offers the pages.
    """
    app.add_middleware(Headers)
    app.add_middleware(SameOrigin, names=names)
    # A page of another site that points its name at this machine is not answered.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost", *names])
    app.exception_handler(RequestValidationError)(_invalid)


def refusal(text: str, status: int = 422) -> JSONResponse:
    r"""Return an error message of one line, as JSON.

    Example:
        >>> refusal("one line,\nand another").body.decode()
        '{"error":"one line, and another"}'
    """
    line = " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST - 3]}..."
    return JSONResponse({"error": line}, status)


def _invalid(_: Request, fault: Exception) -> JSONResponse:
    """Return the error of the first invalid field, without repeating its content."""
    errors = fault.errors() if isinstance(fault, RequestValidationError) else []
    # A value that may be text or a number has an error for each; that of the number is clearer.
    errors.sort(key=lambda error: error["type"] != "finite_number")
    place, reason = [], "is not what this page expects"
    if errors:
        reason = errors[0]["msg"].removeprefix("Value error, ")
        place = [str(part) for part in errors[0]["loc"] if part != "body"]
        place = place[:-1] if place[-1:] and place[-1] in _KINDS else place
    return refusal(f"{'.'.join(place)}: {reason}" if place else reason)


def listening(port: int) -> socket.socket:
    """Return a socket that listens on this machine only.

    Raises:
        CausalCXRError: If the port cannot be used.
    """
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Bind now, so that a port that cannot be used is an error before the server starts.
    try:
        taken.bind((HOST, port))
        taken.listen(128)  # early requests wait until the server answers
    except (OSError, OverflowError) as fault:
        taken.close()
        reason = getattr(fault, "strerror", None) or fault
        raise CausalCXRError(
            f"port {port}: cannot be used ({reason}); give another --port"
        ) from None
    return taken


class Headers:
    """Add headers that keep the browser from loading anything from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the responses of the application with the headers."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                if not any(k.lower() == b"cache-control" for k, _ in message["headers"]):
                    more.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)


class SameOrigin:
    """Refuse requests and websockets that a page of another origin sends.

    A browser names the origin of the page in every websocket handshake and in every request
    across origins. Other programs send no origin, and are answered.

    Args:
        app: The application.
        names: Host names whose pages are answered under any port, as a proxy may serve them.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        self._app, self._names = app, frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests of this origin."""
        if scope["type"] not in ("http", "websocket") or self._is_ours(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "another origin"})
        else:
            reply = refusal("the request comes from a page of another site", 403)
            await reply(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        # Read every copy of both headers: one that occurs twice is refused.
        values: dict[bytes, list[str]] = {b"origin": [], b"host": []}
        for key, value in scope["headers"]:
            if key in values:
                values[key].append(value.decode("latin-1"))
        origins, hosts = values[b"origin"], values[b"host"]
        # Not a page of another origin, or not a browser.
        if not origins:
            return True
        if len(origins) > 1 or len(hosts) != 1:
            return False
        origin, host = _place(origins[0]), _place(f"{scope['scheme']}://{hosts[0]}")
        if origin is None or host is None:
            return False
        # A page of a known host, or of this server itself.
        return origin[0] in self._names or origin == host


def _place(address: str) -> tuple[str, int] | None:
    """Return host and port of an address, or None where it has none.

    Example:
        >>> _place("http://localhost:8080"), _place("https://study.example"), _place("null")
        (('localhost', 8080), ('study.example', 443), None)
    """
    try:
        parts = urlsplit(address)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None
