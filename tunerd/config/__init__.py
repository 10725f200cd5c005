"""The configuration as everything else sees it: each key is declared once (models.py), with its units and its JSON Schema.

loading/ reads a file into it. That package knows mapping/; this one does not.
"""

from tunerd.config.audio_settings import AudioSettings
from tunerd.config.file_rule import FileRule
from tunerd.config.ledger_settings import LedgerConfig
from tunerd.config.models import Config, Delivery, Destination, Http, Log, form_of_key
from tunerd.config.secret import Secret
from tunerd.config.source_settings import Example, Redact, Source
from tunerd.config.strategy_rules import ManifestRule, NearestRule, StrategyRule, UrlRule
from tunerd.config.verify_settings import AllowedHosts, VerifySettings

__all__ = [
    "AllowedHosts",
    "AudioSettings",
    "Config",
    "Delivery",
    "Destination",
    "Example",
    "FileRule",
    "Http",
    "LedgerConfig",
    "Log",
    "ManifestRule",
    "NearestRule",
    "Redact",
    "Secret",
    "Source",
    "StrategyRule",
    "UrlRule",
    "VerifySettings",
    "form_of_key",
]
