"""`redact:` at the top and per source: what holds where, and what follows from it for the ledger."""

from tunerd.config import Redact
from tunerd.config.printing import redacted
from tunerd.loading.config_file import load_text

BASE = """
tuner: {workspace_id: 42, agent_remote_identifier: bot, api_key: made-up}
sources:
  - {name: a, path: a, call: {call_id: doc.id}, recording: [{url: doc.url}]%s}
  - {name: e, path: e, manifest: {key: doc.room, url: doc.url}}
"""


def redact_of(own: str, top: str = "") -> Redact | None:
    config = load_text(BASE % own + top, "/etc/tunerd/config.yaml", {})
    assert config.sources[1].redact is None, "recordings are not redacted"
    return config.sources[0].redact


def test_off_without_redact() -> None:
    """Nothing is redacted that nobody asked for; null is off, too."""
    assert redact_of("") is None
    assert redact_of("", "redact:\n") is None
    assert redact_of(", redact: null", "redact: {detect: [card]}\n") is None


def test_the_defaults_are_all_detectors_and_nothing_stored() -> None:
    """Who writes `redact:` wants it on."""
    assert redact_of("", "redact: {}\n") == Redact(detect=("card", "email", "phone", "iban"), stored=True)
    assert redact_of("", "redact: {detect: []}\n") == Redact(detect=())
    assert redact_of("", "redact: {detect: card}\n") == Redact(detect=("card",))


def test_a_source_takes_from_the_top_what_it_leaves_out() -> None:
    """Key by key, as with `tuner:`."""
    top = "redact: {detect: [card], fields: [transcript], patterns: {ticket: 'TCK-\\d+'}, stored: false}\n"
    assert redact_of(", redact: {detect: [iban], stored: true}", top) == Redact(
        detect=("iban",), fields=("transcript",), patterns={"ticket": r"TCK-\d+"}, stored=True
    )


def test_patterns_are_no_place_for_variables() -> None:
    """`${` is a regular expression's business, as in rules."""
    redact = redact_of("", "redact: {patterns: {end: 'x[${0}]'}}\n")
    assert redact is not None
    assert redact.patterns == {"end": "x[${0}]"}


def test_no_documents_are_kept_for_diff() -> None:
    """`keep_documents` is 0 while something is redacted, and `check` says so if it was asked for."""
    config = load_text(BASE % "" + "redact: {}\nledger: {keep_documents: 50}\n", "/etc/tunerd/config.yaml", {})
    assert config.ledger.keep_documents == 0
    assert any("ledger.keep_documents: is 0 while" in warning for warning in config.warnings)
    kept = load_text(BASE % "" + "redact: {stored: false}\n", "/etc/tunerd/config.yaml", {})
    assert kept.ledger.keep_documents == 200


def test_the_configuration_in_force_shows_it() -> None:
    """With each of its keys."""
    shown = redacted(load_text(BASE % "" + "redact: {patterns: {ticket: 'TCK'}}\n", "/etc/tunerd/config.yaml", {}))
    assert all(part in shown for part in ("redact", "detect", "ticket", "TCK", "stored"))
