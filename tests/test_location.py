"""Which texts are locations of a recording, and which of them Tuner can fetch; the rules refuse every other text, with the rule's
place."""

import orjson
import pytest

from tests.mapping.sources import REST, compiled, document
from tunerd.location import (
    BadLocation,
    LocationKind,
    file_location,
    parse_location,
    stored_location,
    url_location,
    without_secrets,
)
from tunerd.outcome import FailReason

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
    "https://[::1]x/x.wav",
    "https://[::1]80/x.wav",
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

FILES = ("/var/rec", "/srv/audio/")
PLACES = {
    "/var/rec/x.wav": (LocationKind.FILE, "file:///var/rec/x.wav"),
    "/var/rec//a/./b c%.wav": (LocationKind.FILE, "file:///var/rec/a/b%20c%25.wav"),
    "/srv/audio/2026/ü?#.ogg": (LocationKind.FILE, "file:///srv/audio/2026/%C3%BC%3F%23.ogg"),
    "file:///var/rec/b%20c.wav": (LocationKind.FILE, "file:///var/rec/b%20c.wav"),
    "FILE:///var/rec/x.wav": (LocationKind.FILE, "file:///var/rec/x.wav"),
    "file:///var/rec/%FF.wav": (LocationKind.FILE, "file:///var/rec/%FF.wav"),
    "s3://bucket/a/b c?#%20.wav": (LocationKind.OBJECT, "s3://bucket/a/b c?#%20.wav"),
    "GS://my_bucket/x.ogg": (LocationKind.OBJECT, "gs://my_bucket/x.ogg"),
    "az://container/x.ogg": (LocationKind.OBJECT, "az://container/x.ogg"),
    "https://audio.example/x.wav?sig=1": (LocationKind.URL, "https://audio.example/x.wav?sig=1"),
}
NO_PLACES = {
    "/etc/passwd": "outside the directories",
    "/var/record/x.wav": "outside the directories",
    "/var/rec": "outside the directories",
    "/var/rec/../../etc/passwd": "`..`",
    "file:///var/rec/%2e%2e/%2E%2E/etc/passwd": "`..`",
    "file:///var/rec/..%2F..%2Fetc/passwd": "`..`",
    "/var/rec/sub/": "is a directory",
    "/var/rec/a\nb.wav": "control character",
    "file:///var/rec/a%00b.wav": "control character",
    "file:///var/rec/a b.wav": "a blank or line end",
    "file:///var/rec/a%.wav": "have to be escaped",
    "file:///var/rec/a.wav?x=1": "have to be escaped",
    "file://other.example/var/rec/a.wav": "another host",
    "file://": "another host",
    "file:/var/rec/a.wav": "bare path",
    "s3://bucket": "not an object",
    "s3://bucket/": "not an object",
    "s3://bucket/folder/": "not an object",
    "s3:///x.wav": "without the name of a bucket",
    "s3://user:word@bucket/x.wav": "without the name of a bucket",
    "s3://bucket/a\tb": "control character",
    "ftp://host.example/x.wav": "takes http, https, file, s3, gs and az",
    "embedded:4711": "bare path",
    "embedded://4711": "takes http",
    "x.wav": "bare path",
    "": "bare path",
}  # fmt: skip


@pytest.mark.parametrize("text", PLACES)
def test_a_location_has_one_text_by_which_the_ledger_knows_it(text: str) -> None:
    """A file's is a file URL, whether a path or a URL was given; an object's key and a URL stay as they were given; the ledger's text
    gives the same location again."""
    location = parse_location(text, files=FILES)
    assert (location.kind, location.text) == PLACES[text]
    assert stored_location(location.text) == location


@pytest.mark.parametrize("text", NO_PLACES)
def test_a_text_that_is_no_location_says_what_is_wrong(text: str) -> None:
    """No path leaves its directory, however it is escaped; no document names an entry of tunerd's own spool; no text is quoted."""
    with pytest.raises(BadLocation, match=NO_PLACES[text]) as bad:
        parse_location(text, files=FILES)
    assert not [word for word in ("passwd", "4711", "word@", "example") if word in str(bad.value)]


def test_a_file_keeps_its_path_whatever_bytes_its_name_has() -> None:
    """Names of files need not be UTF-8."""
    for path in ("/var/rec/a b%.wav", "/var/rec/\udcff.wav", "/var/rec/ü.wav"):
        assert file_location(path).path == path
        assert parse_location(path, files=FILES).path == path


@pytest.mark.parametrize(("text", "advice"), [("/x/a.wav", "`audio: upload`"), ("s3://b/a.wav", "`audio: presign`")])
@pytest.mark.parametrize("side", ["call", "manifest"])
def test_what_tuner_cannot_fetch_is_refused_with_the_key_that_lets_it_reach_tuner(text: str, advice: str, side: str) -> None:
    """As long as `audio:` of the source is `reject`, a sound location that is no URL names `audio:`."""
    rules = f"call:{REST}recording:\n  - url: doc.url\n" if side == "call" else "manifest:\n  key: doc.said[0]\n  url: doc.url\n"
    refused = compiled(rules).map(document({"said": ["hi"], "url": text})).refused
    assert refused is not None
    assert advice in refused.refusal.what


@pytest.mark.parametrize("url", GOOD)
def test_what_a_client_can_fetch_is_a_location(url: str) -> None:
    """Any host, port, query and letter is allowed, and the scheme may be in upper or lower case."""
    assert url_location(url).kind is LocationKind.URL
    assert url_location(url).text == url


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("https://audio.example/x.wav", "https://audio.example/x.wav"),
        ("HTTP://audio.example/x.wav?sig=a", "http://audio.example/x.wav"),
        ("https://user:word@[2001:db8::1]:8080/x.wav?a=b@c#t", "https://[2001:db8::1]:8080/x.wav"),
        ("https://audio.example/mail@home.wav", "https://audio.example/mail@home.wav"),
        ("s3://bucket/a?b#c@d.wav", "s3://bucket/a?b#c@d.wav"),
        ("file:///var/a%3Fb@c.wav", "file:///var/a%3Fb@c.wav"),
    ],
)
def test_what_is_kept_of_a_location_that_nobody_fetches_any_more(text: str, bare: str) -> None:
    """A URL without what may be secret in it; other locations have no such part, and stay as they are."""
    assert without_secrets(text) == bare


@pytest.mark.parametrize("url", BAD)
def test_what_nobody_can_fetch_says_why_and_is_not_quoted(url: str) -> None:
    """A URL without host, with blanks, control or invisible characters, with another scheme, or a path is refused, and the
    message does not quote it."""
    with pytest.raises(BadLocation) as bad:
        url_location(url)
    told = str(bad.value)
    assert told
    assert not [word for word in ("example", "4711", "/x.wav", "bucket/x") if word in told]
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
    assert call.strategies[0].location is None  # type: ignore[union-attr]


def test_blanks_around_a_url_are_taken_off() -> None:
    """Blanks around a URL are not part of it, so removing them breaks no signature."""
    call = compiled(f"call:{REST}recording:\n  - url: doc.url\n").map(document({"said": ["hi"], "url": f" {GOOD[0]} \n"})).call
    assert call is not None
    assert call.strategies[0].location == GOOD[0]  # type: ignore[union-attr]
    assert b"recording_url" not in orjson.dumps(orjson.loads(call.payload))
