"""Whether a preset that only shared marks speak for maps less of a file than rules proposed by its field names would.

A list of messages with a system message is made by dozens of frameworks; a call that a team stores with its own times and
its own URL of the audio must not become one without them.
"""

from collections.abc import Mapping, Sequence

from tunerd.call import Call, Document, UrlStrategy
from tunerd.mapping.functions.times import epoch_ms
from tunerd.mapping.values import RuleError
from tunerd.workbench.evaluation import mapped, units
from tunerd.workbench.propose import propose
from tunerd.workbench.recognise import Match, compiled_preset
from tunerd.workbench.row_rules import Proposal

_CLOSE_MS = 1000


def loses(match: Match, documents: Sequence[Document], environ: Mapping[str, str]) -> bool:
    """True where a proposal for these documents maps what the preset leaves out: times of the call, times of the rows, the
    URL of the audio, or the call at all. Never for a preset with a mark that only its platform makes."""
    if match.certain:
        return False
    proposal = propose([one.value for one in documents], one_file=True)
    if proposal is None or not proposal.calls or not proposal.speaks:
        return False
    compiled = compiled_preset(match.preset, environ)
    made = [mapped(compiled, unit) for unit in units(compiled, documents)]
    calls = [one for one in made if one.call is not None]
    if not calls:
        return match.recordings == 0
    call, notes = calls[0].call, calls[0].notes
    return call is not None and (
        _other_start(call, proposal) or (proposal.timed and "spread" in notes.repairs) or (proposal.audio and not _has_url(call))
    )


def _other_start(call: Call, proposal: Proposal) -> bool:
    try:
        started = epoch_ms(proposal.starts_at)
    except RuleError:
        return False
    return started is not None and abs(call.started_at_ms - started) > _CLOSE_MS


def _has_url(call: Call) -> bool:
    return any(isinstance(strategy, UrlStrategy) and strategy.location for strategy in call.strategies)
