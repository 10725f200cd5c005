"""The configuration: what everything else sees of it stands in models.py and is named here; the other files read it.

file.py is the way in (YAML and environment -> Config, or every problem with its place); check.py adds what the rules say.
"""

from tunerd.config.models import (
    DAY_S,
    MIB,
    Bytes,
    Config,
    Delivery,
    Destination,
    Example,
    Http,
    LedgerConfig,
    Log,
    ManifestRule,
    Redact,
    Seconds,
    Source,
    UrlRule,
    form_of_key,
)

__all__ = [
    "DAY_S",
    "MIB",
    "Bytes",
    "Config",
    "Delivery",
    "Destination",
    "Example",
    "Http",
    "LedgerConfig",
    "Log",
    "ManifestRule",
    "Redact",
    "Seconds",
    "Source",
    "UrlRule",
    "form_of_key",
]
