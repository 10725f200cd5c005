"""`publish: {url: rule}`: the URL of a place that serves the same files, made from a location by a rule."""

from dataclasses import replace

import pytest

from tunerd.call import AudioPlan, Form, Publish, Refusal
from tunerd.mapping.forms import freeze_body, preview_body
from tunerd.mapping.published import published_url, url_rule_problems
from tunerd.testing import make_call
from tunerd.yaml_location import Node, YamlLocation

HERE = YamlLocation("config.yaml", 3, 20)


@pytest.mark.parametrize(
    ("rule", "location", "url"),
    [
        ("concat('https://cdn.example/', location.name)", "file:///var/rec/2026/a.wav", "https://cdn.example/a.wav"),
        ("concat('https://cdn.example', location.path)", "file:///var/rec/2026/a.wav", "https://cdn.example/var/rec/2026/a.wav"),
        ("concat('https://cdn.example', url_quote(location.path))", "file:///rec/a%20b.wav", "https://cdn.example/rec/a%20b.wav"),
        (
            "concat('https://', location.bucket, '.cdn.example/', location.key)",
            "s3://calls/2026/a.wav",
            "https://calls.cdn.example/2026/a.wav",
        ),
        (
            "concat('https://cdn.example/', location.kind, location.path)",
            "gs://calls/2026/a.wav",
            "https://cdn.example/gs/2026/a.wav",
        ),
        ("replace(location.text, 's3://', 'https://cdn.example/')", "s3://calls/a.wav", "https://cdn.example/calls/a.wav"),
    ],
)
def test_the_rule_gives_the_url(rule: str, location: str, url: str) -> None:
    """The rule sees name, path, bucket, key, kind and text of the location, unescaped."""
    assert published_url(rule, location) == url


@pytest.mark.parametrize(
    ("rule", "location", "says"),
    [
        ("concat('https://cdn.example/', location.name)", "s3://calls/a b.wav", "it has a blank or line end at character 22"),
        ("location.name", "s3://calls/a.wav", "is no location of a recording"),
        ("location.bucket", "file:///var/rec/a.wav", "gave no text for file:///var/rec/a.wav"),
        ("location.text", "s3://calls/a.wav", "is an object in a bucket"),
        ("concat('https://cdn.example/', location.name)", "embedded:7", "the audio is inside a document"),
    ],
)
def test_what_is_no_url_is_refused(rule: str, location: str, says: str) -> None:
    """The refusal names the key of the configuration, and says what is wrong; the call is not sent."""
    refused = published_url(rule, location)
    assert isinstance(refused, Refusal)
    assert refused.where == "audio.publish.url"
    assert says in refused.what


@pytest.mark.parametrize("form", Form)
def test_both_forms_carry_it(form: Form) -> None:
    """The body has the URL as recording_url, whichever form the key has."""
    payload = (
        b'{"call_id":"1","call_type":"phone_call","start_timestamp":1,"end_timestamp":2,'
        b'"transcript_with_tool_calls":[{"role":"user","text":"hi","start_ms":0,"end_ms":1}]}'
    )
    rule = "concat('https://cdn.example/', location.name)"
    body = freeze_body(payload, "file:///var/rec/a.wav", Form.CREATE_CALL, form, url_rule=rule)
    assert isinstance(body, bytes)
    assert b'"recording_url":"https://cdn.example/a.wav"' in body
    assert isinstance(freeze_body(payload, "embedded:7", Form.CREATE_CALL, form, url_rule=rule), Refusal)


@pytest.mark.parametrize(
    ("rule", "says"),
    [("concat('https://cdn.example/', doc.name)", "doc"), ("concat(", "ends too early"), (3, "takes an expression")],
)
def test_a_wrong_rule_is_found_at_load(rule: str | int, says: str) -> None:
    """A rule that reads anything but the location, or is no expression, is a problem with its place."""
    (problem, *_) = url_rule_problems(Node(rule, HERE), "sources[0]")
    assert problem.location.file == HERE.file
    assert problem.path.startswith("sources[0].audio.publish.url")
    assert says in problem.message
    assert not url_rule_problems(Node("concat('https://cdn.example/', location.name)", HERE), "sources[0]")


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(
    ("plan", "shown"),
    [
        (AudioPlan(publish=Publish.PRESIGN), "https://bucket.example/signed-when-it-is-sent"),
        (AudioPlan(publish=Publish.UPLOAD, placeholder="pending"), "pending"),
        (AudioPlan(publish=Publish.URL, url_rule="concat('https://cdn.example/', location.key)"), "https://cdn.example/a.wav"),
    ],
)
def test_a_preview_shows_how_the_audio_reaches_tuner(form: Form, plan: AudioPlan, shown: str) -> None:
    """`explain` and `test` take what `run` takes: an object is no refusal where `audio:` has a way for it."""
    body = preview_body(replace(make_call(), audio=plan), "s3://calls/a.wav", form)
    assert isinstance(body, bytes)
    assert f'"recording_url":"{shown}"'.encode() in body
    assert isinstance(preview_body(make_call(), "s3://calls/a.wav", form), Refusal)
