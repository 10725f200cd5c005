"""The storage's signatures, against those of AWS's own library."""

from base64 import b64decode
from typing import Any, Final

import boto3
import orjson
import pytest
from botocore.config import Config

from tunerd.sandbox.upload_policy import ACCESS_KEY, BUCKET, AllowedUpload, PolicySigner, StorageError

SECRET: Final = "a-secret-of-this-test"
NOW: Final = 4_102_444_800.0
"""1 January 2100: before no policy that is signed today expires."""


def presigned(
    conditions: list[Any], fields: dict[str, str], *, secret: str = SECRET, region: str = "eu-west-1"
) -> dict[str, str]:
    """A target made by boto3, its names in lower case."""
    client = boto3.client(
        "s3",
        region_name=region,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret,
        config=Config(signature_version="s3v4"),
    )
    made = client.generate_presigned_post(BUCKET, "a/b.wav", Fields=fields, Conditions=conditions, ExpiresIn=100 * 365 * 86400)
    return {name.lower(): value for name, value in made["fields"].items()}


TYPED: Final = {"Content-Type": "audio/wav"}


def test_what_boto3_signs_is_taken() -> None:
    """The same signature from a library that AWS wrote, in another region: exact values, a prefix, and a range of sizes."""
    fields = presigned([["starts-with", "$Content-Type", "audio/"], ["content-length-range", 10, 1000]], TYPED)
    allowed = PolicySigner(SECRET).check(fields, now=0.0)
    assert allowed == AllowedUpload(key="a/b.wav", content_type="audio/wav", least_bytes=10, most_bytes=1000, success_status=204)


@pytest.mark.parametrize(
    ("conditions", "fields", "more", "now", "code"),
    [
        ([TYPED], TYPED, {}, NOW * 2, "AccessDenied"),
        ([["starts-with", "$Content-Type", "video/"]], TYPED, {}, 0.0, "AccessDenied"),
        ([["eq", "$key", "other"]], {}, {}, 0.0, "AccessDenied"),
        ([], TYPED, {}, 0.0, "AccessDenied"),
        ([["near", "$key", "a"]], {}, {}, 0.0, "InvalidPolicyDocument"),
        ([], {}, {"x-ignore-me": "1"}, 0.0, ""),
        ([], {}, {"x-amz-meta-more": "1"}, 0.0, "AccessDenied"),
    ],
)
def test_what_boto3_signs_and_its_conditions_refuse(
    conditions: list[Any], fields: dict[str, str], more: dict[str, str], now: float, code: str
) -> None:
    """A good signature is not enough: expiry, each kind of condition, and a field that no condition names."""
    judged = PolicySigner(SECRET).check(presigned(conditions, fields) | more, now=now)
    assert (judged.code if isinstance(judged, StorageError) else "") == code


def test_another_secret_signs_otherwise() -> None:
    """The secret decides."""
    judged = PolicySigner(SECRET).check(presigned([], {}, secret="another"), now=0.0)
    assert isinstance(judged, StorageError)
    assert judged.code == "SignatureDoesNotMatch"
    assert judged.xml("R").startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SignatureDoesNotMatch</Code>')


def test_the_sandbox_and_boto3_sign_the_same_policy_alike() -> None:
    """The fields that the sandbox gives are the ones that a client of S3 expects, in an order that works."""
    mine = PolicySigner(SECRET).fields(
        key="a/b.wav", content_type="audio/wav", max_bytes=1000, success_status=204, now=NOW, expires_at=NOW + 60
    )
    theirs = presigned([TYPED], TYPED)
    assert {name.lower() for name in mine} == set(theirs)
    assert orjson.loads(b64decode(mine["policy"]))["expiration"] == "2100-01-01T00:01:00.000Z"
