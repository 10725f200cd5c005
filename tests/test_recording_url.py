"""Which texts are URLs that Tuner can fetch; the rules refuse every other text, with the rule's place."""

import orjson
import pytest

from tests.mapping.sources import REST, compiled, document
from tunerd.outcome import FailReason
from tunerd.recording_url import url_problem

GOOD = (
    "https://audio.example/x.wav",
    "HTTP://AUDIO.example/x.wav",
    "http://10.0.0.7:8080/a/b.wav?sig=a%2Fb&e=1#t",
    "https://[2001:db8::1]/x.wav",
    "https://audio.example/ü.wav",
    "https://my_bucket.store.example/x|y",
    "https://user:word@audio.example/x.wav",
)
BAD = (
    "https://",
    "https:///x.wav",
    "https://?a=1",
    "https://:80/x.wav",
    "https:audio.example/x.wav",
    "https://a..example/x.wav",
    "https://audio.example:99999/x.wav",
    "https://audio.example:port/x.wav",
    "https://[::1/x.wav",
    "https://audio.example/a b.wav",
    "https://audio.example/\tx.wav",
    "https://audio.example/x.wav\r\nHost: other.example",
    "https://audio.example/\0.wav",
    "https://audio.example/\x1b[31m",
    "https://audio.example/\u2028x.wav",
    "https://audio.example/\u00a0x.wav",
    "https://audio\u200b.example/x.wav",
    "https://audio.example/\u202ewav.x",
    "https://audio.example/\ud800",
    "https://audio.example/<id>.wav",
    "https://audio.example/{id}.wav",
    "https:\\\\audio.example\\x.wav",
    "//cdn.example/x.wav",
    "s3://bucket/x.wav",
    "gs://bucket/x.wav",
    "file:///var/x.wav",
    "/var/rec/x.wav",
    "recordings/4711.wav",
    "audio.example/x.wav",
    "pending",
)
IN_JSON = [url for url in BAD if "\ud800" not in url]


@pytest.mark.parametrize("url", GOOD)
def test_what_a_client_can_fetch_is_a_location(url: str) -> None:
    """Any host, port, query and letter is allowed, and the scheme may be in upper or lower case."""
    assert url_problem(url) is None


@pytest.mark.parametrize("url", BAD)
def test_what_nobody_can_fetch_says_why_and_is_not_quoted(url: str) -> None:
    """A URL without host, with blanks, control or invisible characters, with another scheme, or a path is refused, and the
    message does not quote it."""
    told = url_problem(url)
    assert told
    assert "example" not in told
    assert told.isprintable()


@pytest.mark.parametrize("url", IN_JSON)
@pytest.mark.parametrize("rule", ["url: doc.url", "url: [doc.none, doc.url]"])
def test_a_call_with_such_a_url_is_refused_with_the_rules_place(url: str, rule: str) -> None:
    """Tuner keeps the first version of a call, so a URL that nobody can fetch is neither posted nor silently skipped."""
    source = compiled(f"call:{REST}recording:\n  - {rule}\n")
    refused = source.map(document({"said": ["hi"], "url": url})).refused
    assert refused is not None
    assert refused.refusal.reason is FailReason.INVALID
    assert refused.refusal.where.startswith("recording[0].url (line ")


@pytest.mark.parametrize("url", IN_JSON)
def test_a_manifest_with_such_a_url_is_refused_with_the_rules_place(url: str) -> None:
    """Tuner also fetches the URL that a manifest names."""
    mapped = compiled("manifest:\n  key: doc.room\n  url: doc.url\n").map(document({"room": "r", "url": url}))
    assert mapped.recording is None
    assert mapped.refused is not None
    assert mapped.refused.refusal.where == "manifest.url (line 3)"


@pytest.mark.parametrize("url", [None, "", "  "])
def test_no_url_is_no_location_and_no_fault(url: str | None) -> None:
    """If the URL is missing, the next strategy is used."""
    call = compiled(f"call:{REST}recording:\n  - url: doc.url\n").map(document({"said": ["hi"], "url": url})).call
    assert call is not None
    assert call.strategies[0].url is None  # type: ignore[union-attr]


def test_blanks_around_a_url_are_taken_off() -> None:
    """Blanks around a URL are not part of it, so removing them breaks no signature."""
    call = compiled(f"call:{REST}recording:\n  - url: doc.url\n").map(document({"said": ["hi"], "url": f" {GOOD[0]} \n"})).call
    assert call is not None
    assert call.strategies[0].url == GOOD[0]  # type: ignore[union-attr]
    assert b"recording_url" not in orjson.dumps(orjson.loads(call.payload))
