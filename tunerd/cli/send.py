"""`tunerd send`: send the calls of one file now, without the ledger, and show the answers."""

import asyncio
import os
import sys
from pathlib import Path

import click
import orjson

from tunerd.audio.object_faults import ObjectFault
from tunerd.audio.signed_url import SignedUrl
from tunerd.call import AudioPlan, Call, Document, Fragment, Publish, Refusal, RefusedDocument, UrlStrategy
from tunerd.carried_key import keyed
from tunerd.cli.compiling import mappings_or_exit
from tunerd.cli.input_files import read_or_exit, source_of
from tunerd.cli.options import FILE, config_option, exit_bad_config, load_or_exit
from tunerd.cli.terminal import say
from tunerd.clock import SystemClock
from tunerd.config import Config, Destination
from tunerd.delivery.key import Key
from tunerd.delivery.proxy import refuse_proxies
from tunerd.delivery.upload import NoAnswer, Uploader, open_session
from tunerd.location import LocationKind, stored_location
from tunerd.mapping import SourceMapping
from tunerd.mapping.forms import freeze_body
from tunerd.ops.mask import MASK
from tunerd.outcome import Sent
from tunerd.yaml_location import ConfigError

_EPILOG = """\b
Example:
  tunerd send call.json
  tunerd send call.json --recording-url https://audio.example/call.wav
\b
An object in a bucket is signed, and a rule of `audio: {url: ...}` is applied, as `tunerd run` does it.
Audio that is uploaded needs `tunerd run --once`. No recording is asked for first (`verify:`).
Nothing is written to the ledger, and nothing is retried. Exit code 0: Tuner accepted every call; 1: it did not.
"""


@click.command("send", epilog=_EPILOG)
@config_option
@click.option("--source", metavar="NAME", help="Use the rules of this source (default: the source that would read the file).")
@click.option("--recording-url", metavar="URL", help="Recording URL for calls whose recording comes from a manifest.")
@click.argument("file", type=FILE)
def command(config: Path, source: str | None, recording_url: str | None, file: Path) -> None:
    """Map FILE and send its calls now, with one attempt each, and show what Tuner answers."""
    loaded = load_or_exit(config)
    try:
        refuse_proxies(loaded, os.environ)
    except ConfigError as exc:
        exit_bad_config(exc)
    mappings = mappings_or_exit(loaded)
    chosen = source_of(loaded, file, source)
    sent = 0
    calls: list[Call] = []
    mapping = mappings[chosen.name]
    parts: list[Fragment | RefusedDocument] = []
    for read in read_or_exit(chosen, file):
        for document in mapping.elements(read) if isinstance(read, Document) else (read,):
            call = _call(document, mapping, parts)
            if call is not None:
                calls.append(call)
    calls += _gathered(mapping, parts)
    sent = asyncio.run(_send_all(loaded, calls, recording_url)) if calls else 0
    total = len(calls)
    say(f"{sent} of {total} sent" if total else "no call was sent")
    sys.exit(0 if total and sent == total else 1)


def _gathered(mapping: SourceMapping, parts: list[Fragment | RefusedDocument]) -> list[Call]:
    """For a source that gathers: the calls that the documents of the file make, complete or not."""
    calls: list[Call] = []
    of_calls = keyed(parts)
    for key, together in of_calls.calls.items():
        if (cut := of_calls.cuts.get(key)) is not None:
            _report(RefusedDocument(origin=together[-1].origin, refusal=cut))
            continue
        mapped = mapping.gather(None, together) if key else None
        if mapped is not None and mapped.call is not None:
            calls.append(mapped.call)
        elif mapped is not None and mapped.refused is not None:
            _report(mapped.refused)
        else:
            text = f"call {key}: ignored by the rules" if key else f"{len(together)} documents without a key"
            say(f"{text} (no call)")
    return calls


def _call(document: Document | RefusedDocument, mapping: SourceMapping, parts: list[Fragment | RefusedDocument]) -> Call | None:
    refused = document if isinstance(document, RefusedDocument) else None
    if refused is None and isinstance(document, Document):
        mapped = mapping.map(document)
        if mapped.call is not None:
            return mapped.call
        refused = mapped.refused
        if mapped.fragment is not None:
            parts.append(mapped.fragment)
            return None
        if refused is None:
            say(f"{document.origin}: no call (the rules ignore it, or it is a recording)")
            return None
    assert refused is not None  # noqa: S101 - one of the two it is
    if mapping.gathers:
        parts.append(refused)
    _report(refused)
    return None


def _report(refused: RefusedDocument) -> None:
    say(f"{refused.origin}: {refused.refusal.reason.value}: {refused.refusal.where}: {refused.refusal.what}", err=True)


async def _send_all(config: Config, calls: list[Call], recording_url: str | None) -> int:
    destinations = {destination.name: destination for destination in config.destinations}
    async with open_session() as session:
        uploaders: dict[str, tuple[Uploader, Key]] = {}
        sent = 0
        for call in calls:
            destination = destinations[call.destination]
            if destination.name not in uploaders:
                key = Key(destination)
                uploader = Uploader(session, destination, key, config.delivery, SystemClock(), os.environ)
                uploaders[destination.name] = uploader, key
            sent += await _send(call, destination, *uploaders[destination.name], recording_url)
    return sent


async def _send(call: Call, destination: Destination, uploader: Uploader, key: Key, recording_url: str | None) -> bool:
    if key.form is None:
        say(f"{call.call_id}: {key.missing}", err=True)
        return False
    url = recording_url or next((one.location for one in call.strategies if isinstance(one, UrlStrategy) and one.location), None)
    if url is None:
        say(f"{call.call_id}: its recording comes from a manifest or a file; give its URL with --recording-url", err=True)
        return False
    url_rule = ""
    if call.audio is not None and stored_location(url).kind is not LocationKind.URL:
        if call.audio.publish is Publish.UPLOAD:
            what = "its audio is uploaded, which `tunerd send` does not do: use `tunerd run --once`, or --recording-url URL"
            say(f"{call.call_id}: {what}", err=True)
            return False
        if call.audio.publish is Publish.PRESIGN:
            signed = await _signed(url, call.audio)
            if isinstance(signed, ObjectFault):
                say(f"{call.call_id}: its recording cannot be signed: {signed}", err=True)
                return False
            url = signed.url
        url_rule = call.audio.url_rule
    body = freeze_body(call.payload, url, call.checked_for, key.form, url_rule=url_rule)
    if isinstance(body, Refusal):
        say(f"{call.call_id}: {body.reason.value}: {body.where}: {body.what}", err=True)
        return False
    say(f"{call.call_id}: POST {destination.base_url} workspace {destination.workspace_id}, agent {call.agent}, "
               f"{key.form.value}, {len(body):,} bytes")  # fmt: skip
    try:
        answer = await uploader.post(body, call.agent, key.form)
    except NoAnswer as exc:
        say(f"  no answer: {exc.outcome.detail}", err=True)
        return False
    say(f"  {answer.status} {_shown(answer.body)}")
    outcome = uploader.judge(answer)
    if not isinstance(outcome, Sent):
        say(f"  not sent: {outcome.detail}", err=True)
    return isinstance(outcome, Sent)


async def _signed(location: str, plan: AudioPlan) -> SignedUrl | ObjectFault:
    from tunerd.audio.objects import ObjectStores  # here, because it takes memory that only buckets need

    try:
        return await ObjectStores(SystemClock()).sign(location, plan.expires_s)
    except ObjectFault as fault:
        return fault


def _shown(answer: bytes) -> str:
    """Its beginning. Where audio may be uploaded is a secret."""
    try:
        parsed = orjson.loads(answer)
    except orjson.JSONDecodeError:
        answer = answer.partition(b'"recording_upload"')[0]  # no JSON, or too long an answer, of which the end is missing
    else:
        if isinstance(parsed, dict) and "recording_upload" in parsed:
            answer = orjson.dumps(parsed | {"recording_upload": MASK})
    return answer[:2000].decode("utf-8", "replace")
