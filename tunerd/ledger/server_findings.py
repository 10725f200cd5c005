"""What an inspection of a ledger's server found, for `tunerd check`. Pure."""

from tunerd.record import record


@record
class ServerFindings:
    server: str
    """Version and host, for people."""
    is_new: bool
    """The tables are not there yet: the first start makes them."""
    missing: tuple[str, ...] = ()
    """Why `tunerd run` would be refused; a line each."""
    asynchronous: tuple[str, ...] = ()
    """Names of standbys that may lack the last commits after a failover."""
