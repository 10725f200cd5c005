"""Trying a destination without sending a call: an empty object is posted with the key, and the answer tells a good key
from a bad one and Tuner from something else. Used by `tunerd check --online`.

Tuner checks the key before it looks at the body, so `{}` with a good key is answered by a complaint about fields.
"""

import re
from collections.abc import Mapping
from typing import Final

import orjson

from tunerd.call import Form
from tunerd.clock import SystemClock
from tunerd.config import Delivery, Destination
from tunerd.delivery.key import Key
from tunerd.delivery.upload import NoAnswer, Uploader, open_session
from tunerd.record import record

_BUSY: Final = frozenset({408, 425, 429})
_NAMES_WHOM: Final = re.compile(
    rb"workspace|agent(?=_remote_identifier|[ _-]id\b|[^\"]{0,40}(?:not|unknown|invalid|no such))", re.IGNORECASE
)
"""An answer that complains about one of these does not complain about the empty call."""
_NOT_HERE: Final = frozenset({404, 405, 410})


@record
class ProbeResult:
    """What the answer says, in one sentence without the key and without the answer's text."""

    good: bool
    says: str


async def probe_destination(destination: Destination, agent: str, settings: Delivery, environ: Mapping[str, str]) -> ProbeResult:
    """Post `{}` once, the way the daemon would post a call. Never raises for what the network or the server does."""
    key = Key(destination)
    if key.form is None:
        return ProbeResult(good=False, says=key.missing)
    try:
        async with open_session() as session:
            answer = await Uploader(session, destination, key, settings, SystemClock(), environ).post(b"{}", agent, key.form)
    except NoAnswer as error:
        return ProbeResult(good=False, says=error.outcome.detail)
    except ValueError as error:  # a proxy that is no URL
        return ProbeResult(good=False, says=str(error))
    return judge(answer.status, answer.body, key.form, f"workspace {destination.workspace_id} and agent {agent}")


def judge(status: int, body: bytes, form: Form, asked: str = "workspace and agent") -> ProbeResult:
    """What the answer to `{}` means. `asked`: the workspace and agent that it was posted for."""
    accepted, is_json = _reads(body)
    named = _NAMES_WHOM.search(body)
    if status == 401:
        return ProbeResult(good=False, says=f"the key is not accepted (401, sent as {form.value}); see `api_key_file` and `api`")
    if status == 403:
        return ProbeResult(
            good=False, says=f"the key may not send for {asked} (403): do they exist, and does the key belong to them?"
        )
    if status in _BUSY or status >= 500:
        return ProbeResult(good=False, says=f"cannot say now (status {status}): try again later")
    if 300 <= status < 400:
        return ProbeResult(good=False, says=f"answers with a redirect ({status}); write the address it leads to into `base_url`")
    if status in _NOT_HERE or (400 <= status < 500 and not is_json):
        return ProbeResult(good=False, says=f"this is not Tuner's API, or a proxy answers (status {status}); see `base_url`")
    if status < 500 and status >= 400 and named is not None:
        whom = named[0].decode().lower()
        return ProbeResult(good=False, says=f"the answer (status {status}) speaks of the {whom}: does Tuner have {asked}?")
    if status == 400:
        says = (
            f"the key is accepted, but status 400 does not tell whether {asked} exist: Tuner mostly answers it where "
            "one of the two is wrong, and to an empty call, too; compare both with Tuner"
        )
        return ProbeResult(good=True, says=says)
    if 400 <= status < 500:
        return ProbeResult(good=True, says=f"the key is good (status {status} to an empty call, as it should be)")
    if 200 <= status < 300 and is_json:
        good = "the key is good" if not accepted else "the key is good, but an empty call was accepted: is this Tuner?"
        return ProbeResult(good=True, says=f"{good} (status {status})")
    return ProbeResult(good=False, says=f"this is not Tuner's API (status {status} without JSON); see `base_url`")


def _reads(body: bytes) -> tuple[bool, bool]:
    """Whether the answer accepts the call, and whether it is a JSON object or list at all."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False, False
    return isinstance(value, dict) and value.get("success") is not False, isinstance(value, dict | list)
