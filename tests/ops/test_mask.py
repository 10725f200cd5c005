"""The second net: what looks like a secret is masked, what does not stays readable."""

import pytest
from hypothesis import given, strategies

from tunerd.ops import mask
from tunerd.ops.mask import keep_out, redact, without_query


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("401 for tr_api_0123abcd", "401 for [redacted]"),
        ("Authorization: Bearer abc.def1-ghi", "Authorization: [redacted]"),
        ("X-API-Key: k3y-of-mine", "X-API-Key: [redacted]"),
        ('{"api_key": "k3y-of-mine"}', '{"api_key": "[redacted]"}'),
        ("sent with bearer s3cretvalue", "sent with bearer [redacted]"),
        ("see https://user:pw1@h.example/a.wav?sig=abc#frag", "see https://h.example/a.wav?[redacted]"),
        ("https://h.example/a.wav", "https://h.example/a.wav"),
        ("key AKIAIOSFODNN7EXAMPLE", "key [redacted]"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "jwt [redacted]"),
        ("sk-live-0123456789abcdef", "[redacted]"),
    ],
)
def test_secrets_are_masked(text: str, expected: str) -> None:
    """Keys, tokens, passwords and URL queries."""
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "config.yaml:12:5: tuner.api_key_file: /etc/tunerd/key is not there",
        "call 7c9e6679-7425-40de-944b-e07fc1f90ae7 in /var/spool/calls/2026/room=7/a.json",
        "token: a text is expected",
        "HTTP 422: transcript_with_tool_calls[3].role",
        "127.0.0.1:9464 is in use",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Masking what an operator needs would be a defect too."""
    assert redact(text) == text


def test_a_known_secret_is_masked_wherever_it_stands() -> None:
    """The configured key itself, whatever its form."""
    keep_out("plain-looking")
    assert redact("refused plain-lookingX") == "refused [redacted]X"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a.wav?X-Amz-Signature=1", "https://h/a.wav?[redacted]"),
        ("https://h/a.wav", "https://h/a.wav"),
        ("s3://bucket/key#x", "s3://bucket/key?[redacted]"),
        ("bucket/key?token=1", "bucket/key"),
    ],
)
def test_urls_are_shown_without_their_query(url: str, shown: str) -> None:
    """Signed URLs carry their key behind the question mark."""
    assert without_query(url) == shown


FRAGMENTS = (
    "tr_api_1", "sk-", "ſk_live", "rk_0123456789ab", "whsec_0123456789ab", "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1.x", "Bearer ", "basic ",
    "-----BEGIN", "api key", "Api-Key", "authorization", "Secret", "PASSWORD", "passwd", "tokeN", "signature", "credential", "_file", "=", ":",
    '": "', " ", "-", "abc123", "0123456789abcdef", "x", "\n", "&", "[", "ſecret", "toKen",
)  # fmt: skip


@given(strategies.lists(strategies.sampled_from(FRAGMENTS), max_size=8).map("".join))
def test_the_quick_search_changes_nothing(text: str) -> None:
    """What the patterns would mask is masked, whatever stands around it: a text is only skipped if no pattern can match."""
    whole = mask._SECRETS.sub("[redacted]", mask._NAMED.sub(r"\g<name>\g<sign>[redacted]", text))
    assert redact(text) == whole
