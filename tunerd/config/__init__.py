"""The configuration as everything else sees it: each key is declared once (models.py, keys.py), with units and JSON Schema.

Reading a file into it is loading/'s matter, which stands above mapping/: what is here knows no rule.
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
