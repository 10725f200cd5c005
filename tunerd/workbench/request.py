"""The request that a call would be posted as: URL, headers with the key hidden, and the exact bytes of the body.

delivery/ posts the real ones; a test holds the two against each other.
"""

from collections.abc import Mapping
from typing import Final

from yarl import URL

from tunerd import __version__
from tunerd.call import Call, Fail, Form, ManifestStrategy, Refusal, SendAnyway, Strategy, UrlStrategy
from tunerd.mapping.forms import preview_body
from tunerd.outcome import FailReason
from tunerd.record import record
from tunerd.workbench.compiled import MADE_UP_AGENT, CompiledSource

HIDDEN: Final = "(hidden)"
STAND_IN: Final = "https://recording.invalid/stand-in.wav"
"""In the place of a recording that is not known yet."""


@record
class RequestPreview:
    form: Form
    url: str
    headers: Mapping[str, str]
    body: bytes
    """As it is posted, before compression."""
    stand_in: bool
    """The recording's URL in it is made up."""
    notes: tuple[str, ...]
    """What differs from the request that will be sent, one sentence each."""


def form_used(call: Call, compiled: CompiledSource) -> Form:
    """The form of the compiled source; where that is not known, create-call if the call meets it."""
    return compiled.form or call.checked_for or Form.SEND_CALLS


def request_of(call: Call, compiled: CompiledSource) -> RequestPreview | Refusal:
    """The request, or why the form does not take the call."""
    form = form_used(call, compiled)
    if isinstance(call.on_missing, Fail) and not any(_answers(strategy) for strategy in call.strategies):
        what = "no strategy can find a recording for this call, and `on_missing: fail`"
        return Refusal(reason=FailReason.RECORDING_MISSING, where="recording", what=what)
    notes: list[str] = []
    if compiled.form is None:
        notes.append(f"the form is not known without the key; {form.value} is taken (choose with --form)")
    url, stand_in, note = _recording_url(call)
    if note:
        notes.append(note)
    body = preview_body(call, url, form)
    if isinstance(body, Refusal):
        return body
    destination = compiled.destination
    base_url = destination.base_url if destination else "https://api.usetuner.ai"
    workspace = destination.workspace_id if destination else 1
    agent = call.agent or MADE_UP_AGENT
    if compiled.made_up:
        notes.append("workspace and agent are made up: there is no configuration")
    target = URL(base_url.rstrip("/") + "/api/v1/public/call").with_query(
        workspace_id=str(workspace), agent_remote_identifier=agent
    )
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"tunerd/{__version__}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    if compiled.compress:
        headers["Content-Encoding"] = "gzip"
        notes.append("the body is shown before compression")
    if form is Form.SEND_CALLS:
        headers["X-API-Key"] = HIDDEN
    else:
        headers["Authorization"] = f"Bearer {HIDDEN}"
    return RequestPreview(form=form, url=str(target), headers=headers, body=body, stand_in=stand_in, notes=tuple(notes))


def _answers(strategy: Strategy) -> bool:
    return (strategy.location if isinstance(strategy, UrlStrategy) else strategy.key) is not None


def _recording_url(call: Call) -> tuple[str, bool, str]:
    """The URL, whether it is a stand-in, and what to say about it."""
    for strategy in call.strategies:
        if isinstance(strategy, UrlStrategy) and strategy.location is not None:
            asks = "tunerd sends it once the host of the recording gives its first byte (`verify: get`)"
            return strategy.location, False, "" if call.verify_s is None else asks
        if isinstance(strategy, ManifestStrategy) and strategy.key is not None:
            note = f"recording_url is a stand-in: the real one comes from source `{strategy.source}`, {strategy.looks_for}"
            return STAND_IN, True, note
    if isinstance(call.on_missing, SendAnyway):
        return call.on_missing.url, False, "no strategy has a recording for this call: `on_missing: {send: ...}` gives the URL"
    return STAND_IN, True, "recording_url is a stand-in: no strategy can find a recording for this call"
