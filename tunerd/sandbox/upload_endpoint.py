"""The storage's end of HTTP: reads a presigned POST part by part, records how it ends, and only then answers.

What a form may do is decided in upload_policy.py. A client that leaves before its file was read whole leaves no record.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from tunerd.clock import Clock
from tunerd.sandbox.accounts import Response, planned_response
from tunerd.sandbox.faults import Faults, FixedAnswer, Ordinary, Planned
from tunerd.sandbox.http_io import carry_out
from tunerd.sandbox.recording_store import STORED, Draft, RecordingStore, UploadArrival
from tunerd.sandbox.upload_policy import (
    BUCKET,
    FIELDS_TOO_LARGE,
    MALFORMED,
    MOST_FIELD_BYTES,
    NO_FILE,
    NO_LENGTH,
    NOT_A_FORM,
    AllowedUpload,
    StorageError,
    planned_error,
    stored_document,
)

UPLOAD_PATH: Final = f"/{BUCKET}"
RECORDINGS_PATH: Final = "/recordings/"
_PIECE_BYTES: Final = 256 * 1024
_XML: Final = "application/xml"
_NO_WISHES: Final = Faults()


class UploadEndpoint:
    """`plan` is asked once a file is allowed to arrive: how the upload (of a call, where its id is known) ends. `recorded` is
    called with each upload that has ended."""

    def __init__(
        self,
        store: RecordingStore,
        clock: Clock,
        plan: Callable[[str | None], Planned],
        recorded: Callable[[UploadArrival], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._plan = plan
        self._recorded = recorded

    async def upload(self, request: web.BaseRequest) -> web.StreamResponse:
        """One POST, from its first part to its answer."""
        request_id = secrets.token_hex(8).upper()
        fields: dict[str, str] = {}
        file = await _read_fields(request, fields)
        if isinstance(file, StorageError):
            return await self._refuse(request, file, fields, request_id)
        allowed = self._store.signer.check(fields, self._clock.now())
        if isinstance(allowed, StorageError):
            return await self._refuse(request, allowed, fields, request_id)
        call = self._store.call_of(allowed.key)
        self._store.begun += 1
        planned = self._plan(None if call is None else call[2])
        end = _planned_end(planned, request_id)
        if end is None:
            end = await self._receive(file, allowed, f"{request.scheme}://{request.host}{UPLOAD_PATH}", request_id)
        else:
            self._record(end, allowed.key, allowed.content_type)
        return await carry_out(request, planned, end)

    async def _receive(self, file: BodyPartReader, allowed: AllowedUpload, bucket_url: str, request_id: str) -> Response:
        draft = self._store.draft()
        try:
            error = await _read_file(file, draft, allowed)
            if error is None:
                body = stored_document(bucket_url, allowed.key) if allowed.success_status == 201 else b""
                end = Response(allowed.success_status, STORED, body, headers=_s3_headers(request_id), content_type=_XML)
            else:
                end = _refusal(error, request_id)
            self._record(end, allowed.key, allowed.content_type, draft)
        finally:
            draft.discard()
        return end

    async def _refuse(
        self, request: web.BaseRequest, error: StorageError, fields: dict[str, str], request_id: str
    ) -> web.StreamResponse:
        """A form that does not get as far as its file."""
        end = _refusal(error, request_id)
        self._record(end, fields.get("key", ""), fields.get("content-type", ""))
        return await carry_out(request, Ordinary(), end)

    def _record(self, end: Response, key: str, content_type: str, draft: Draft | None = None) -> None:
        self._recorded(self._store.record(end, key, content_type, draft, self._clock.now()))

    def serve(self, number: str) -> web.StreamResponse:
        """The bytes of a stored upload; parts of them too, as a player asks for them."""
        upload = self._store.find(number)
        if upload is None or upload.path is None:
            return web.Response(status=404, text="no such recording\n")
        # The type is one of a short list or none that a browser would run; sniffing is off all the same.
        headers = {
            "Content-Type": upload.content_type,
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        return web.FileResponse(upload.path, headers=headers)


async def _read_fields(request: web.BaseRequest, fields: dict[str, str]) -> BodyPartReader | StorageError:
    """Fill `fields` (names in lower case) with what stands before the file, and give the file's part."""
    if request.content_type != "multipart/form-data":
        return NOT_A_FORM
    if request.content_length is None:
        return NO_LENGTH
    left = MOST_FIELD_BYTES
    try:
        reader = MultipartReader(request.headers, request.content)
        while isinstance(part := await reader.next(), BodyPartReader):
            name = (part.name or "").lower()
            if name == "file":
                return part
            value = b""
            while piece := await part.read_chunk():
                value += piece
                if len(value) > left:
                    return FIELDS_TOO_LARGE
            left -= len(value)
            if not name or name in fields:
                return MALFORMED
            fields[name] = value.decode()
    except _MALFORMED:
        return MALFORMED
    return NO_FILE if part is None else MALFORMED


async def _read_file(file: BodyPartReader, draft: Draft, allowed: AllowedUpload) -> StorageError | None:
    try:
        while piece := await file.read_chunk(_PIECE_BYTES):
            await draft.write(piece)
            if draft.size > allowed.most_bytes:
                break
    except _MALFORMED:
        return MALFORMED
    return allowed.refuse_size(draft.size)


_MALFORMED: Final = (ValueError, HttpProcessingError, AssertionError)
"""What aiohttp's reader raises for a body that is no multipart."""


def _planned_end(planned: Planned, request_id: str) -> Response | None:
    """The end of an upload whose file nobody reads; None: it is read."""
    if isinstance(planned, FixedAnswer) and planned.body is None:
        error = planned_error(planned.status)
        return replace(_refusal(error, request_id), note="planned")
    return planned_response(planned, _NO_WISHES)


def _refusal(error: StorageError, request_id: str) -> Response:
    return Response(error.status, error.code, error.xml(request_id), headers=_s3_headers(request_id), content_type=_XML)


def _s3_headers(request_id: str) -> dict[str, str]:
    return {"x-amz-request-id": request_id, "x-amz-id-2": request_id * 2, "Server": "AmazonS3"}
