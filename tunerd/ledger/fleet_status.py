"""What is known about the instances that share a ledger, and about their server: values for `status` and `check`. Pure."""

from tunerd.record import record


@record
class InstanceStatus:
    """A tunerd that shares the ledger."""

    name: str
    host: str
    version: str
    started_at: float
    heartbeat_age_s: float
    """Since its last heartbeat, by the clock of the database."""
    in_flight: int
    """Calls that it is sending."""


@record
class ServerFindings:
    """What an inspection of the server found."""

    server: str
    """Version and host, for people."""
    is_new: bool
    """The tables are not there yet: the first start makes them."""
    missing: tuple[str, ...] = ()
    """Why `tunerd run` would be refused; a line each."""
    asynchronous: tuple[str, ...] = ()
    """Names of standbys that may lack the last commits after a failover."""
