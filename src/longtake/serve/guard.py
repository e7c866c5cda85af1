"""Who may ask, and how much at once; and what is said to whoever may not, in the shape that OpenAI's clients read.

Stands before everything else: nothing of a request is looked at before its host, its origin and its token are.
"""

import hmac
import re
import sys
import traceback
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake.serve.settings import LOCAL, Access
from longtake.words import plain

OPEN = ("/", "/health", "/favicon.ico")
"""Paths that need no token: nothing of a video is there."""
PAGE = "/page/"
"""The files of the page need none, either: it asks for one."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}
# What the library calls its settings on a command line, by the names that requests have for them.
_NAMES = {"frames": "num_frames", "guidance": "guidance_scale", "steps": "num_inference_steps", "from": "from_frame"}


class ApiError(Exception):
    """A request that is not done, and why."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(plain(message))
        self.status, self.code, self.param = status, code, param

    def response(self) -> JSONResponse:
        """Return what is sent."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        headers = {"retry-after": "1"} if self.status in (409, 429) else {}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse({"error": error}, self.status, headers)


FAULT = ApiError(500, "this is a fault of longtake; the server's log says more", "internal_error")
_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def told(message: str) -> tuple[str, str | None]:
    """Return what a refusal of the library says by the names of a request, and the first of these."""
    names: list[str] = []

    def renamed(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        names.append(_NAMES.get(name, name))
        return names[-1]

    message = re.sub(r"(?<![\w-])--([a-z][a-z_-]*(?:\.\w+)?)", renamed, message)
    return message, names[0] if names else None


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access, self._token = app, access, access.secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                # A browser that is told nothing keeps the files of a page as they were before an upgrade.
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._counted(scope, receive), sent)
        except ApiError as refusal:
            await _refuse(refusal, started, scope, receive, sent)
        except ClientDisconnect:
            # Who has gone in the middle of a request is told nothing, and nothing is wrong here.
            return
        except Exception as error:
            for line in traceback.format_exception(error):
                print("\n".join(map(plain, line.rstrip().split("\n"))), file=sys.stderr)
            await _refuse(FAULT, started, scope, receive, sent)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        name = _name(headers.get("host", ""))
        if self._access.host in LOCAL and name not in LOCAL:
            # A page of another site whose name was made to lead here would have that name.
            raise ApiError(403, "this server answers to localhost and 127.0.0.1 alone", "host_not_allowed")
        origin, own = headers.get("origin"), headers.get("host", "").lower()
        if origin is not None and origin.lower() not in (f"http://{own}", f"https://{own}"):
            raise ApiError(403, "pages of other sites have no access", "cross_origin")
        navigates = scope["type"] == "http" and scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not navigates:
            raise ApiError(403, "pages of other sites have no access", "cross_origin")
        if self._token and not _is_open(scope["path"]) and not _knows(headers, self._token):
            raise ApiError(
                401, "the token is missing or wrong; send it as Authorization: Bearer TOKEN", "invalid_token"
            )

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """Return what receives a request and refuses one that is too large, whatever it says of its length."""
        most, size = self._access.max_upload, 0
        refusal = ApiError(413, f"a request may have {most} bytes", "request_too_large")
        declared = Headers(scope=scope).get("content-length", "")
        if scope["type"] == "http" and declared.isdecimal() and int(declared) > most:
            raise refusal

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                if size > most:
                    raise refusal
            return message

        return counted


def _is_open(path: str) -> bool:
    return path in OPEN or (path.startswith(PAGE) and ".." not in path)


def _knows(headers: Headers, token: str) -> bool:
    kind, _, brought = headers.get("authorization", "").partition(" ")
    return hmac.compare_digest(brought.strip().encode("latin-1"), token.encode()) and kind.lower() == "bearer"


def _name(host: str) -> str:
    """Return the name of a Host header without its port."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]+)(:\d{1,5})?", host)
    return found[1].strip("[]").lower() if found else ""


async def _refuse(refusal: ApiError, started: bool, scope: Scope, receive: Receive, send: Send) -> None:
    if started:
        # The answer has begun: its reader learns of it by its end.
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1011})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": HTTPStatus(refusal.status).phrase})
    else:
        await refusal.response()(scope, receive, send)
