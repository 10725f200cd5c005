"""Whether Tuner has answered at all since the start: what `run --once` asks before it waits any longer.

It listens to the attempts and changes nothing about them; pauses and retries are pacing.py's and retry.py's.
"""

from tunerd.clock import Clock
from tunerd.config import Destination
from tunerd.delivery.ports import Upload
from tunerd.events import Emit, Unanswered
from tunerd.ledger import Claimed
from tunerd.outcome import Outcome, Retry
from tunerd.record import record


@record
class NoContact:
    """A destination from which no HTTP answer has come yet, of any kind, though it was asked."""

    destination: str
    base_url: str
    since: float
    """Monotonic time of the first attempt."""
    detail: str
    """Of the first attempt that ended."""


class ContactTracker:
    def __init__(self, clock: Clock, emit: Emit) -> None:
        self._clock, self._emit = clock, emit
        self._without_contact: dict[str, NoContact] = {}
        self._answered: set[str] = set()

    def listen(self, destination: Destination, upload: Upload) -> Upload:
        """The same upload, listened to."""

        async def heard(claimed: Claimed) -> Outcome:
            began = self._clock.monotonic()
            outcome = await upload(claimed)
            if destination.name not in self._answered:
                self._note(destination, outcome, began)
            return outcome

        return heard

    def without_contact(self) -> tuple[NoContact, ...]:
        return tuple(self._without_contact.values())

    def _note(self, destination: Destination, outcome: Outcome, began: float) -> None:
        name, url = destination.name, destination.base_url
        if outcome.status:
            self._answered.add(name)
            self._without_contact.pop(name, None)
        elif isinstance(outcome, Retry) and name not in self._without_contact:  # a Refused without a status is our own trouble
            self._without_contact[name] = NoContact(destination=name, base_url=url, since=began, detail=outcome.detail)
            self._emit(Unanswered(destination=name, base_url=url, detail=outcome.detail))
