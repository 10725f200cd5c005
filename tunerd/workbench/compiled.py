"""A source's rules, ready to try documents on: from a configuration, or from a preset alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from tunerd.call import Form, Hold
from tunerd.config import AudioSettings, Config, Destination, ManifestRule, NearestRule, Source, StrategyRule
from tunerd.mapping import SourceMapping, compile_source, compile_sources, presets
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.mapping.match_values import names_in
from tunerd.record import record

MADE_UP_AGENT: Final = "your-agent"
_MADE_UP: Final = Destination(name="api.usetuner.ai/1", base_url="https://api.usetuner.ai", workspace_id=1)


@record
class CompiledSource:
    """One source."""

    source: Source
    destination: Destination | None
    """None for a source that only brings recordings."""
    mapping: SourceMapping
    form: Form | None
    """The request form its calls are mapped for; None: not known (there is no key to tell by)."""
    made_up: bool = False
    """Workspace and agent are stand-ins: there is no configuration."""
    compress: bool = False


def compile_preset(name: str, environ: Mapping[str, str], form: Form | None) -> CompiledSource:
    """A preset alone, with a made-up workspace and agent; whatever manifest sources it looks into are taken to be there.
    Raises KeyError for an unknown name, ConfigError for a preset that does not compile."""
    members = presets.load(name)
    form = form or Form.CREATE_CALL
    calls = "call" in members
    source = Source(
        name=name,
        path="/",
        preset=name,
        agent_remote_identifier=MADE_UP_AGENT if calls else None,
        destination=_MADE_UP.name if calls else "",
        on_missing=Hold(hold_s=0.0),
        audio=AudioSettings(publish="upload", files=("/",)),  # a preset alone: what it finds is shown, wherever it is
    )
    destination = replace(_MADE_UP, api=form.value) if calls else None
    looked_for = {name: ManifestFacts(match=names) for name, names in _looked_for(presets.effective(source).recording)}
    mapping = compile_source(source, destination, manifests=looked_for, environ=environ, form=form)
    return CompiledSource(source=source, destination=destination, mapping=mapping, form=form, made_up=True)


def _looked_for(rules: Iterable[StrategyRule]) -> Iterator[tuple[str, frozenset[str]]]:
    """Sources that strategies look into, with the names of the values that they compare."""
    for rule in rules:
        if isinstance(rule, ManifestRule):
            yield rule.manifest, frozenset()
        elif isinstance(rule, NearestRule):
            yield rule.nearest, names_in(rule.same) or frozenset()


def compile_config(
    config: Config, environ: Mapping[str, str], forms: Mapping[str, Form], form: Form | None = None
) -> dict[str, CompiledSource]:
    """Every source of a configuration by its name. `forms`: by destination, where it is known; `form`: use this one for
    all. Keys are not looked at. Raises ConfigError with the problems of all sources."""
    destinations = {one.name: replace(one, api_key=None) for one in config.destinations}
    known = {name: found for name, one in destinations.items() if (found := form or forms.get(name) or one.form) is not None}
    mappings = compile_sources(replace(config, destinations=tuple(destinations.values())), environ, known)
    return {
        source.name: CompiledSource(
            source=source,
            destination=destinations.get(source.destination),
            mapping=mappings[source.name],
            form=known.get(source.destination),
            compress=config.delivery.compress,
        )
        for source in config.sources
    }
