"""What a request brings: the fields of JSON or of a form, and a picture."""

import base64
import binascii
import io
import re
from typing import Any

from fastapi import Request
from PIL import Image, ImageOps
from starlette.datastructures import FormData, UploadFile

from longtake.errors import InputError
from longtake.reading import parse_json
from longtake.serve.guard import ApiError

MOST_JSON, MOST_TEXT = 1 << 24, 1 << 20
"""Bytes of a request that is JSON, pictures included; and of a text in a form."""


MOST_PIXELS, MOST_SIDE = 64_000_000, 8192


PICTURES = ("PNG", "JPEG", "WEBP")


async def read_content(request: Request) -> tuple[dict[str, Any], bytes | None]:
    """Return the fields of a request, which is JSON or a form, and the picture that came with it."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with request.form(max_files=1, max_fields=200, max_part_size=MOST_TEXT) as form:
            return await _read_form(form)
    if kind != "application/json":
        raise ApiError(415, "send application/json or multipart/form-data", "unsupported_media_type")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_JSON:
            raise ApiError(413, f"JSON may have {MOST_JSON} bytes; send a form", "request_too_large")
    try:
        content = parse_json(bytes(body))
    except ValueError:
        raise InputError("the request is no JSON") from None
    if not isinstance(content, dict):
        raise InputError("the request is no JSON object")
    reference = content.pop("input_reference", None)
    return content, None if reference is None else _of_address(reference)


async def _read_form(form: FormData) -> tuple[dict[str, Any], bytes | None]:
    content: dict[str, Any] = {}
    picture = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "input_reference":
                raise InputError(f"{name[:100]} takes no file; a picture goes into input_reference")
            picture = await value.read()
        elif found := re.fullmatch(r"(\w+)\[(\w+)\]", name):
            inner = content.setdefault(found[1], {})
            if isinstance(inner, dict):
                inner[found[2]] = value
        else:
            content[name] = value
    reference = content.pop("input_reference", None)
    return content, picture if reference is None else _of_address(reference)


def _of_address(reference: Any) -> bytes:
    """Return the picture that a data: URL holds."""
    address = reference.get("image_url") if isinstance(reference, dict) else reference
    start = re.match(r"data:image/[\w.+-]+;base64,", address) if isinstance(address, str) else None
    if not isinstance(address, str) or start is None:
        raise InputError("input_reference takes a picture: as a file of a form, or as a data: URL with base64")
    try:
        return base64.b64decode(address[start.end() :], validate=True)
    except binascii.Error:
        raise InputError("input_reference is no base64") from None


def read_upload(data: bytes) -> Image.Image:
    """Return a picture of somebody else's, turned as it is shown. Raises InputError for what is none, or too large."""
    try:
        picture = Image.open(io.BytesIO(data), formats=PICTURES)
        width, height = picture.size
        if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE:
            raise InputError(f"input_reference has {width}x{height} pixels; a picture may have {MOST_SIDE} a side")
        turned = ImageOps.exif_transpose(picture).convert("RGB")
        turned.info.clear()
        return turned
    except InputError:
        raise
    except Exception:
        # Decoders fail on damaged files in more ways than they say.
        raise InputError(f"input_reference is no picture; send {', '.join(PICTURES)}") from None
