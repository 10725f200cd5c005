"""One strategy of `recording:`, compiled: the rule that it asks for each call, and what is known of the place it looks into."""

from collections.abc import Mapping

from tunerd.config import FileRule, ManifestRule, NearestRule, Source, StrategyRule, UrlRule
from tunerd.location import URLS, LocationPolicy
from tunerd.mapping.closures import constant
from tunerd.mapping.file_names import NamePieces, name_pieces, wrong_pattern
from tunerd.mapping.functions import Run
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.mapping.match_values import names_in
from tunerd.mapping.rules import RuleCompiler
from tunerd.mapping.scope import NameScope, nearest
from tunerd.record import positional_record
from tunerd.yaml_location import Node, YamlLocation


@positional_record
class StrategyRules:
    """One strategy with its rules compiled."""

    path: str
    text: str
    rule: StrategyRule
    wanted: Run
    """The location, the key, the values that are the same, or the name of the file."""
    expires_at: Run | None = None
    """Epoch ms."""
    names: frozenset[str] = frozenset()
    """Of values that are the same."""
    places: LocationPolicy = URLS
    """Where a location may be."""
    directory: str = ""
    """Of a file."""
    pieces: NamePieces = ()
    """Of the name of a file."""


class StrategyCompiler:
    """Of one source. Problems are noted in the compiler of its rules."""

    def __init__(self, source: Source, places: LocationPolicy, manifests: Mapping[str, ManifestFacts]) -> None:
        """`places`: where recordings of its calls may be."""
        self._source, self._places = source, places
        self._manifests = manifests

    def compile(self, compiler: RuleCompiler, rule: StrategyRule, names: NameScope, path: str) -> StrategyRules:
        match rule:
            case UrlRule():
                expires = None
                if rule.expires_at is not None:
                    expires = compiler.instant(rule.expires_at, f"{path}.expires_at", names)
                url = compiler.identity(rule.url, f"{path}.url", names)
                return StrategyRules(path, f"url: {_shown(rule.url)}", rule, url.run, expires, places=self._places)
            case ManifestRule():
                return self._manifest(compiler, rule, names, path)
            case NearestRule():
                return self._nearest(compiler, rule, names, path)
            case FileRule():
                return self._file(compiler, rule, names, path)

    def _manifest(self, compiler: RuleCompiler, rule: ManifestRule, names: NameScope, path: str) -> StrategyRules:
        facts = self._manifests.get(rule.manifest)
        if facts is None:
            self._unknown(compiler, rule.manifest, rule.key.location, f"{path}.manifest")
        elif not facts.has_start and rule.within_s is not None:
            what = (
                f"`{rule.manifest}` gives no `started_at`, so nearness can't be told: write `within: any`, or add the rule there"
            )
            compiler.problem(rule.key.location, f"{path}.within", what)
        key = compiler.identity(rule.key, f"{path}.key", names)
        return StrategyRules(path, f"manifest: {rule.manifest}, key: {_shown(rule.key)}", rule, key.run)

    def _nearest(self, compiler: RuleCompiler, rule: NearestRule, names: NameScope, path: str) -> StrategyRules:
        if rule.nearest not in self._manifests:
            place = rule.same.location if rule.same is not None else YamlLocation("", 1, 1)
            self._unknown(compiler, rule.nearest, place, f"{path}.nearest")
        same = compiler.values(rule.same, f"{path}.same", names) if rule.same is not None else constant({})
        given = names_in(rule.same) or frozenset()
        text = f"nearest: {rule.nearest}, " + (f"same: {', '.join(sorted(given))}" if given else "one at a time")
        return StrategyRules(path, text, rule, same.run, names=given)

    def _unknown(self, compiler: RuleCompiler, name: str, location: YamlLocation, path: str) -> None:
        hint = nearest(name, self._manifests) if self._manifests else ": no source has a `manifest:`"
        compiler.problem(location, path, f"no source `{name}` that brings recordings{hint}")

    def _file(self, compiler: RuleCompiler, rule: FileRule, names: NameScope, path: str) -> StrategyRules:
        name = compiler.identity(rule.file, f"{path}.file", names)
        pieces = name_pieces(str(rule.file.value), names, compiler.context)
        if (wrong := wrong_pattern(pieces)) is not None:
            compiler.problem(rule.file.location, f"{path}.file", wrong)
        if pieces and rule.within_s is None and all(isinstance(piece, str) for piece in pieces):
            what = "is the same name for every call: make it of the call's id, or write `within:`, and times decide"
            compiler.problem(rule.file.location, f"{path}.file", what)
        directory = rule.directory or self._source.path
        return StrategyRules(path, f"file: {_shown(rule.file)}", rule, name.run, directory=directory, pieces=pieces)


def asked(rule: StrategyRule) -> Node | None:
    """The rule that a strategy asks for each call."""
    match rule:
        case UrlRule():
            return rule.url
        case ManifestRule():
            return rule.key
        case NearestRule():
            return rule.same
        case FileRule():
            return rule.file


def _shown(node: Node) -> str:
    return " ".join(node.value.split()) if isinstance(node.value, str) else "a rule"
