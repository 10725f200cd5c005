"""S3's presigned POST as the storage sees it: the fields of a target, and whether a form may be taken.

Pure: the time is passed in. Written from S3's documents (SigV4 POST policies) and not with an AWS library.
"""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias
from xml.sax.saxutils import escape

import orjson

from tunerd.record import positional_record, record

BUCKET: Final = "tuner-recordings"
REGION: Final = "us-east-1"
ACCESS_KEY: Final = "TUNERDSANDBOX"
MOST_FIELD_BYTES: Final = 20 * 1024
"""S3's limit for everything before the file."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_NEEDED: Final = ("key", "policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
_UNCONDITIONED: Final = frozenset({"policy", "x-amz-signature", "file"})


@positional_record
class StorageError:
    """A refusal in S3's words. `details` are further elements of its XML."""

    status: int
    code: str
    message: str
    details: tuple[tuple[str, str], ...] = ()

    def xml(self, request_id: str) -> bytes:
        told = (
            ("Code", self.code),
            ("Message", self.message),
            *self.details,
            ("RequestId", request_id),
            ("HostId", request_id * 2),
        )
        inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in told)
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inside}</Error>'.encode()


@record
class AllowedUpload:
    """What a form that was checked may store."""

    key: str
    content_type: str
    least_bytes: int
    most_bytes: int
    success_status: int

    def refuse_size(self, size: int) -> StorageError | None:
        if size > self.most_bytes:
            sizes = (("ProposedSize", str(size)), ("MaxSizeAllowed", str(self.most_bytes)))
            return StorageError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size", sizes)
        if size < self.least_bytes:
            sizes = (("ProposedSize", str(size)), ("MinSizeAllowed", str(self.least_bytes)))
            return StorageError(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", sizes)
        return None


_Conditions: TypeAlias = list[object]


class PolicySigner:
    """Signs targets and checks the forms that come back, with one pair of keys."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def fields(
        self, *, key: str, content_type: str, max_bytes: int, success_status: int, now: float, expires_at: float
    ) -> dict[str, str]:
        """The fields of a target, in the order in which a client is to send them."""
        at = datetime.fromtimestamp(now, UTC)
        expires = datetime.fromtimestamp(expires_at, UTC)
        given = {
            "Content-Type": content_type,
            "key": key,
            "x-amz-algorithm": _ALGORITHM,
            "x-amz-credential": f"{ACCESS_KEY}/{at:%Y%m%d}/{REGION}/s3/aws4_request",
            "x-amz-date": f"{at:%Y%m%dT%H%M%SZ}",
        }
        if success_status != 204:
            given["success_action_status"] = str(success_status)
        conditions: _Conditions = [{"bucket": BUCKET}, ["content-length-range", 1, max_bytes]]
        conditions += [{name: value} for name, value in given.items()]
        expiration = f"{expires:%Y-%m-%dT%H:%M:%S}.{expires.microsecond // 1000:03d}Z"
        policy = b64encode(orjson.dumps({"expiration": expiration, "conditions": conditions})).decode()
        return {**given, "policy": policy, "x-amz-signature": self._signature(policy, f"{at:%Y%m%d}", REGION)}

    def check(self, fields: Mapping[str, str], now: float) -> AllowedUpload | StorageError:
        """`fields`: those before the file, by their names in lower case."""
        for name in _NEEDED:
            if not fields.get(name):
                what = (
                    f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
                )
                return _bad_argument(name, "", what)
        if fields["x-amz-algorithm"] != _ALGORITHM:
            return _bad_argument("x-amz-algorithm", fields["x-amz-algorithm"], f"x-amz-algorithm only supports {_ALGORITHM}")
        scope = fields["x-amz-credential"].split("/")
        if len(scope) != 5 or scope[3:] != ["s3", "aws4_request"] or scope[1] != fields["x-amz-date"][:8]:
            return _bad_argument("x-amz-credential", fields["x-amz-credential"], "The credential's scope is malformed")
        if scope[0] != ACCESS_KEY:
            what = "The AWS Access Key Id you provided does not exist in our records."
            return StorageError(403, "InvalidAccessKeyId", what, (("AWSAccessKeyId", scope[0]),))
        policy, signature = fields["policy"], fields["x-amz-signature"]
        if not hmac.compare_digest(self._signature(policy, scope[1], scope[2]).encode(), signature.encode()):
            what = "The request signature we calculated does not match the signature you provided."
            shown = (("AWSAccessKeyId", scope[0]), ("StringToSign", policy), ("SignatureProvided", signature))
            return StorageError(403, "SignatureDoesNotMatch", what, shown)
        return _judge_policy(policy, fields, now)

    def _signature(self, policy: str, date: str, region: str) -> str:
        key = f"AWS4{self._secret}".encode()
        for part in (date, region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), hashlib.sha256)
        return hmac.digest(key, policy.encode(), hashlib.sha256).hex()


def _judge_policy(policy: str, fields: Mapping[str, str], now: float) -> AllowedUpload | StorageError:
    """A policy whose signature is right."""
    try:
        document = orjson.loads(b64decode(policy, validate=True))
        expires_at = datetime.fromisoformat(document["expiration"]).timestamp()
        conditions: _Conditions = document["conditions"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        return StorageError(400, "InvalidPolicyDocument", "Invalid Policy: Invalid JSON.")
    if now >= expires_at:
        return _against_policy("Policy expired.")
    least, most = 0, 5 * 1024**3
    named = set(_UNCONDITIONED)
    for condition in conditions:
        match condition:
            case ["content-length-range", int() as low, int() as high]:
                least, most = low, high
            case ["eq" | "starts-with" as kind, str() as field, str() as value]:
                name = field.removeprefix("$").lower()
                named.add(name)
                said = BUCKET if name == "bucket" else fields.get(name, "")
                if not (said == value if kind == "eq" else said.startswith(value)):
                    return _failed([kind, field, value])
            case dict() if len(condition) == 1:
                ((field, value),) = condition.items()
                named.add(str(field).lower())
                said = BUCKET if field == "bucket" else fields.get(str(field).lower(), "")
                if said != value:
                    return _failed(["eq", f"${field}", value])
            case _:
                return StorageError(400, "InvalidPolicyDocument", "Invalid Policy: Invalid Condition.")
    if extra := [name for name in fields if name not in named and not name.startswith("x-ignore-")]:
        return _against_policy(f"Extra input fields: {', '.join(extra)}")
    status = fields.get("success_action_status", "204")
    return AllowedUpload(
        key=fields["key"],
        content_type=fields.get("content-type", "binary/octet-stream"),
        least_bytes=least,
        most_bytes=most,
        success_status=int(status) if status in ("200", "201") else 204,
    )


def _failed(condition: Sequence[object]) -> StorageError:
    return _against_policy(f"Policy Condition failed: {orjson.dumps(condition).decode()}")


def _against_policy(what: str) -> StorageError:
    return StorageError(403, "AccessDenied", f"Invalid according to Policy: {what}")


def _bad_argument(name: str, value: str, what: str) -> StorageError:
    return StorageError(400, "InvalidArgument", what, (("ArgumentName", name), ("ArgumentValue", value)))


NOT_A_FORM: Final = StorageError(
    412,
    "PreconditionFailed",
    "At least one of the pre-conditions you specified did not hold",
    (("Condition", "Bucket POST must be of the enclosure-type multipart/form-data"),),
)
NO_LENGTH: Final = StorageError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
NO_FILE: Final = _bad_argument("file", "0", "POST requires exactly one file upload per request.")
MALFORMED: Final = StorageError(
    400, "MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data."
)
FIELDS_TOO_LARGE: Final = StorageError(
    400, "MaxPostPreDataLengthExceeded", "Your POST request fields preceding the upload file were too large."
)


def stored_document(bucket_url: str, key: str) -> bytes:
    """The body of a 201."""
    told = (("Location", f"{bucket_url}/{key}"), ("Bucket", BUCKET), ("Key", key))
    inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in told)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>{inside}</PostResponse>'.encode()


_PLANNED: Final = {
    403: ("AccessDenied", "Access Denied"),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("SlowDown", "Please reduce your request rate."),
}


def planned_error(status: int) -> StorageError:
    """What S3 says with this status."""
    code, message = _PLANNED.get(status, (f"Planned{status}", "The sandbox was asked for this answer."))
    return StorageError(status, code, message)
