"""What can go wrong with an object in a bucket, as one line that says what to do. Pure.

The text of a foreign error is searched for known codes and never quoted: it may hold a signed URL, a token or a document.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Final


class FaultKind(StrEnum):
    """What a fault means for the call, and for the others."""

    ADDRESS = "address"
    """No object can have this address."""
    MISSING = "missing"
    """There is no such object (yet), or it is empty."""
    CHANGED = "changed"
    """It is not the object any more that it was."""
    TOO_LONG = "too_long"
    """Its signed URL is longer than Tuner takes."""
    DENIED = "denied"
    """Whoever asks may not read it."""
    CREDENTIALS = "credentials"
    """There are none, or they are refused."""
    REGION = "region"
    CLOCK = "clock"
    NETWORK = "network"
    """Nobody answered, or the storage has trouble of its own."""
    STORAGE = "storage"
    """Any other refusal."""


class ObjectFault(Exception):
    """Why an object cannot be signed or read. `str()` is one line for an operator, without any secret."""

    def __init__(self, kind: FaultKind, what: str) -> None:
        super().__init__(what)
        self.kind = kind

    @property
    def is_its_own(self) -> bool:
        """Whether the object is at fault, and not what all objects of a bucket have in common."""
        return self.kind in (FaultKind.ADDRESS, FaultKind.MISSING, FaultKind.CHANGED, FaultKind.TOO_LONG)


_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{3,60})</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})|status: (\d{3}),")
_REGION: Final = re.compile(r"<Region>([a-z0-9-]{4,30})</Region>|expecting '([a-z0-9-]{4,30})'")
_TIMES: Final = tuple(re.compile(rf"<{name}>([0-9TZ:.+-]{{10,40}})</{name}>") for name in ("RequestTime", "ServerTime"))
"""RequestTime is written as 20261130T161200Z, ServerTime as 2026-11-30T16:32:00Z."""

_REFUSED_KEYS: Final = {
    "InvalidAccessKeyId": "the storage does not know the access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token has expired",
    "AuthenticationFailed": "the storage does not accept the credentials",
    "InvalidAuthenticationInfo": "the storage does not accept the credentials",
}
_WRONG_REGION: Final = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException")
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound")
_RIGHTS: Final = {"s3": "s3:GetObject", "gs": "storage.objects.get", "az": "the role Storage Blob Data Reader"}
_VARIABLES: Final = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE",
}
_METADATA: Final = ("169.254.169.254", "metadata.google.internal", "169.254.170.2")


def fault_of(error: Exception, location: str, region: str) -> ObjectFault:
    """What an error of obstore means. `location` is the object's name, `region` the one for which requests are signed."""
    text = str(error)
    code = found[1] if (found := _CODE.search(text)) else ""
    status = int(found[1] or found[2]) if (found := _STATUS.search(text)) else 0
    kind, what = _meaning(text, code, status, location[:2], region)
    return ObjectFault(kind, f"{location}: {what}")


def settings_fault(location: str) -> ObjectFault:
    """The library can make no request of the settings in the environment."""
    what = f"no request can be made with the settings in the environment: check {_VARIABLES[location[:2]]}"
    return ObjectFault(FaultKind.CREDENTIALS, f"{location}: {what}")


def _meaning(text: str, code: str, status: int, scheme: str, region: str) -> tuple[FaultKind, str]:
    if any(host in text for host in _METADATA):
        return FaultKind.CREDENTIALS, "no credentials: set them in the environment, or give this machine or pod an identity"
    if code == "RequestTimeTooSkewed":
        return FaultKind.CLOCK, f"the storage refuses the time of this machine{_skew(text)}; set the clock"
    if code in _WRONG_REGION or 300 <= status < 400 or "incorrectly configured region" in text:
        return FaultKind.REGION, _wrong_region(text, region)
    if code in _REFUSED_KEYS:
        return FaultKind.CREDENTIALS, f"{_REFUSED_KEYS[code]}; check the credentials that tunerd runs with"
    if code in _NO_BUCKET:
        return FaultKind.DENIED, "there is no such bucket"
    if status == 404:
        return FaultKind.MISSING, "there is no such object"
    if status == 416:
        return FaultKind.MISSING, "the object is empty"
    if status == 412:
        return FaultKind.CHANGED, "the object was replaced after tunerd had seen it first"
    if status == 401:
        return FaultKind.CREDENTIALS, "the storage does not accept the credentials that tunerd runs with"
    if status == 403:
        also = ", or there is no such object (S3 tells that only with s3:ListBucket)" if scheme == "s3" else ""
        return FaultKind.DENIED, f"access denied: the credentials lack {_RIGHTS[scheme]}{also}"
    if status >= 500 or status == 429:
        return FaultKind.NETWORK, f"the storage answered {status}"
    if not status and "HTTP error" in text:
        return FaultKind.NETWORK, "the storage cannot be reached"
    if not status:
        return (
            FaultKind.CREDENTIALS,
            f"the environment does not say enough to ask for it: check {_VARIABLES[scheme]}",
        )
    return FaultKind.STORAGE, f"the storage refused it with status {status}" + (f" ({code})" if code else "")


def _wrong_region(text: str, region: str) -> str:
    found = _REGION.search(text)
    right = next((one for one in found.groups() if one), "") if found else ""
    if right:
        return f"the bucket is in the region {right}, and requests are signed for {region}; set AWS_REGION={right}"
    return f"the bucket is not in the region {region}, for which requests are signed; set AWS_REGION"


def _skew(text: str) -> str:
    """By how much this machine's clock differs, where the answer has both times."""
    found = [times.search(text) for times in _TIMES]
    try:
        ours, theirs = (datetime.fromisoformat(one[1]).timestamp() for one in found if one)
    except ValueError:
        return ""
    minutes = round(abs(ours - theirs) / 60)
    return f", which is {minutes} minutes {'behind' if ours < theirs else 'ahead'}"
