"""A configuration file and an environment -> Config: defaults, forms, locations, secrets, destinations, warnings."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.config.test_yaml_nodes import mutated
from tests.examples import examples
from tunerd.call import AfterUpload, AudioPlan, Fail, Form, Hold, Publish, SendAnyway
from tunerd.config import Config, ManifestRule, Secret, UrlRule
from tunerd.config.api_key import KeyUnusable, read_key
from tunerd.config.printing import redacted
from tunerd.loading.config_file import load, load_text, refuse_changes
from tunerd.yaml_location import ConfigError

SECRET = "tr_api_canary_5f3a91"
TUNER = "tuner: {workspace_id: 42, agent_remote_identifier: bot, api_key: made-up}\n"
SOURCE = "sources:\n  - name: agent\n    path: calls\n    call: {call_id: doc.id}\n    recording: [{url: doc.url}]\n"
EGRESS = "  - name: egress\n    path: egress\n    manifest: {key: doc.room, url: doc.url, started_at: doc.t}\n"


def read(text: str, environ: dict[str, str] | None = None, **how: bool) -> Config:
    return load_text(text, "/etc/tunerd/config.yaml", environ or {}, **how)


def told(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """The problems, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        read(text, environ)
    return [str(problem).removeprefix("/etc/tunerd/config.yaml:") for problem in caught.value.problems]


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    """Sections, sources and keys do not hide each other's mistakes."""
    sources = "sources:\n  - {name: a, pth: calls, call: {}}\n  - 5\n"
    lines = told("tuner: {workspace_id: x}\n" + sources + "delivery: {concurrency: 0, drain: soon}\nlgo: {}\n")
    assert [": ".join(line.split(": ")[:2]) for line in lines] == [
        "1:8: tuner.api_key_file",
        "1:23: tuner.workspace_id",
        "3:5: sources[0]",
        "3:5: sources[0].agent",
        "3:5: sources[0].recording",
        "3:15: sources[0].pth",
        "4:5: sources[1]",
        "5:25: delivery.concurrency",
        "5:35: delivery.drain",
        "6:1: lgo",
    ]


def test_what_is_left_out_has_the_default_of_the_models() -> None:
    """A configuration of the least gives the documented defaults."""
    config = read(TUNER + SOURCE)
    source = config.sources[0]
    assert (source.rescan_s, source.settle_s, source.settle_timeout_s, source.max_document_bytes) == (30, 1, 60, 4 * 1024**2)
    assert source.on_missing == Hold(hold_s=14 * 86_400)
    assert (config.delivery.concurrency, config.delivery.timeout_s, config.delivery.give_up_after_s) == (8, 30, 7 * 86_400)
    assert config.ledger.path == "/var/lib/tunerd/ledger.db"
    assert config.http.listen == "127.0.0.1:9464"
    assert config.destinations[0].base_url == "https://api.usetuner.ai"


def test_sections_may_be_empty() -> None:
    """`delivery:` with nothing below is as if it were not there."""
    config = read(TUNER + SOURCE + "delivery:\nledger:\nhttp:\nlog:\ntests:\n")
    without = {"locations": {}, "text": Secret("")}
    assert replace(config, **without) == replace(read(TUNER + SOURCE), **without)


def test_values_are_read_in_their_units() -> None:
    """Durations become seconds, sizes bytes, one text a list, relative paths absolute from the file's directory."""
    more = "    settle: 250ms\n    max_document: 500kB\n    ignore_older: 7d\n    include: '*.json'\n    rescan: 5\n"
    source = read(TUNER + SOURCE + more).sources[0]
    assert (source.settle_s, source.max_document_bytes, source.ignore_older_s, source.rescan_s) == (0.25, 500_000, 604_800, 5)
    assert source.include == ("*.json",)
    assert source.path == "/etc/tunerd/calls"


@pytest.mark.parametrize(("written", "near_s"), [("", 30.0), (", near: 2m", 120.0), (", within: any, near: 5s", 5.0)])
def test_near_of_a_manifest_strategy(written: str, near_s: float) -> None:
    """Half a minute where nothing is said."""
    source = SOURCE.replace("{url: doc.url}", "{manifest: egress, key: doc.room" + written + "}")
    (strategy,) = read(TUNER + source + EGRESS).sources[0].recording
    assert isinstance(strategy, ManifestRule)
    assert strategy.near_s == near_s


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("on_missing: hold", Hold(hold_s=14 * 86_400)),
        ("on_missing: hold\n    hold_for: 2d", Hold(hold_s=2 * 86_400)),
        ("hold_for: 1h", Hold(hold_s=3600)),
        ("on_missing: fail", Fail()),
        ('on_missing: {send: "https://example.com/none.wav"}', SendAnyway(url="https://example.com/none.wav")),
    ],
)
def test_on_missing(written: str, expected: object) -> None:
    """hold (with or without hold_for), fail, or a URL to send."""
    assert read(TUNER + SOURCE + "    " + written + "\n").sources[0].on_missing == expected


@pytest.mark.parametrize(
    ("written", "expected"), [("keep", ("keep", None)), ("delete", ("delete", None)), ("{move_to: done/}", ("move_to", "done/"))]
)
def test_after_sent(written: str, expected: tuple[str, str | None]) -> None:
    """keep, delete, or a directory."""
    source = read(TUNER + SOURCE + f"    after_sent: {written}\n").sources[0]
    assert (source.after_sent, source.move_to) == expected


@pytest.mark.parametrize(("within", "seconds"), [("", 600.0), (", within: 1h", 3600.0), (", within: any", None)])
def test_strategies(within: str, seconds: float | None) -> None:
    """Rules stay nodes; `within` is 10 minutes unless it is written, and `any` is None."""
    text = SOURCE.replace(
        "[{url: doc.url}]", f"[{{url: doc.url, expires_at: doc.e}}, {{manifest: egress, key: doc.r, wait: 5m{within}}}]"
    )
    first, second = read(TUNER + text + EGRESS).sources[0].recording or ()
    assert isinstance(first, UrlRule)
    assert first.url.value == "doc.url"
    assert first.expires_at is not None
    assert isinstance(second, ManifestRule)
    assert (second.manifest, second.key.value, second.within_s, second.wait_s) == ("egress", "doc.r", seconds, 300)


def test_a_presets_strategies_are_taken_and_checked() -> None:
    """Without `recording:` the preset's strategies stand, and a source they need must be there."""
    source = "sources:\n  - {name: agent, path: calls, preset: vapi}\n"
    assert read(TUNER + source).sources[0].recording
    own = "sources:\n  - {name: agent, path: calls, preset: vapi, recording: [{url: doc.mine}]}\n"
    assert len(read(TUNER + own).sources[0].recording or ()) == 1


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("sqlite:///var/lib/t.db", "/var/lib/t.db"),
        ("sqlite:////var//lib/t.db", "/var/lib/t.db"),
        ("SQLite:///a/../t.db", "/t.db"),
    ],
)
def test_ledger_url(written: str, path: str) -> None:
    """The path after sqlite:// is absolute; extra slashes collapse."""
    assert read(TUNER + SOURCE + f'ledger: {{url: "{written}"}}\n').ledger.path == path


def test_a_ledger_in_postgresql() -> None:
    """The URL is a secret, because of its password; what is shown has neither user nor password; local files are the instance's."""
    text = TUNER + SOURCE + 'ledger: {url: "postgres://tunerd:${PGPASSWORD}@db:5433/calls?sslmode=require", password_file: pw}\n'
    config = read(text + "instance: web-1\n", {"PGPASSWORD": SECRET})
    assert config.ledger.server is not None
    assert config.ledger.server.reveal() == f"postgresql://tunerd:{SECRET}@db:5433/calls?sslmode=require"
    assert config.ledger.shown == "postgresql://db:5433/calls"
    assert (config.ledger.path, config.ledger.password_file) == ("/var/lib/tunerd/web-1", "/etc/tunerd/pw")
    assert SECRET not in repr(config)
    assert SECRET not in redacted(config)


def test_the_instance_is_named_after_the_host() -> None:
    """The pod's name, in Kubernetes."""
    assert read(TUNER + SOURCE).instance == socket.gethostname()


def test_keys_of_a_server_without_one_are_warned_of() -> None:
    """They would do nothing."""
    warnings = read(TUNER + SOURCE + "ledger: {notify: off}\n").warnings
    assert [one for one in warnings if "ledger.notify: has no effect on a ledger in a file" in one]
    warnings = read(TUNER + SOURCE + "    shared: true\n").warnings
    assert [one for one in warnings if "sources[0].shared: has no effect on a ledger in a file" in one]


@pytest.mark.parametrize(
    ("written", "listen"),
    [
        ("127.0.0.1:0", "127.0.0.1:0"), ("localhost:9464", "localhost:9464"),
        (":9464", ":9464"), ("[::1]:9464", "[::1]:9464"),
        ("null", ""), ("off", ""), ("''", ""),
    ],
)  # fmt: skip
def test_listen(written: str, listen: str) -> None:
    """host:port in each form, and nothing at all."""
    quoted = written if written in ("null", "off", "''") else f'"{written}"'
    assert read(TUNER + SOURCE + f"http: {{listen: {quoted}}}\n").http.listen == listen


# The environment


def test_variables_fill_values_of_every_kind() -> None:
    """Text, numbers, switches and durations; `$${` is `${`; a default stands in for what is unset or empty."""
    text = (
        "tuner: {workspace_id: '${WS}', agent_remote_identifier: 'a-${NAME}', api_key: '${KEY}'}\n"
        + SOURCE.replace("path: calls", "path: ${DIR:-/spool}/$${x}")
        + "delivery: {timeout: '${T}', compress: '${C:-true}', rate_limit: '${R:-}', concurrency: '${N:-3}'}\n"
    )
    config = read(text, {"WS": "7", "NAME": "12", "KEY": "99", "T": "45s", "DIR": "", "N": ""})
    assert config.destinations[0].workspace_id == 7
    assert config.sources[0].agent_remote_identifier == "a-12"
    assert config.destinations[0].api_key is not None
    assert config.destinations[0].api_key.reveal() == "99"
    assert config.sources[0].path == "/spool/${x}"
    assert (config.delivery.timeout_s, config.delivery.compress, config.delivery.rate_limit) == (45, True, None)
    assert config.delivery.concurrency == 3


def test_rules_and_keys_are_left_alone() -> None:
    """Nothing is filled in inside rules, tests, or names of keys."""
    text = SOURCE.replace("doc.id", "'${A}'").replace("doc.url", "'${B}'") + "    agent: \"'${C}'\"\n    documents: \"'${F}'\"\n"
    config = read(TUNER + text + "tests: [{name: a, input: {a: '${D}'}, expect: {b: '${E}'}}]\n")
    source = config.sources[0]
    assert source.call is not None
    assert source.call.bare() == {"call_id": "${A}"}
    assert source.agent is not None
    assert source.agent.value == "'${C}'"
    assert source.documents is not None
    assert source.documents.value == "'${F}'"
    (example,) = config.tests
    assert example.input is not None
    assert example.input.bare() == {"a": "${D}"}
    assert example.expect["b"].value == "${E}"


def test_a_variable_cannot_change_the_structure() -> None:
    """What a variable holds is a value, whatever it looks like in YAML."""
    config = read(TUNER + SOURCE.replace("path: calls", "path: ${P}"), {"P": "x, y: {a: 1} # no"})
    assert config.sources[0].path == "/etc/tunerd/x, y: {a: 1} # no"


# Secrets


def test_no_secret_reaches_a_problem_a_warning_or_what_is_printed() -> None:
    """Keys in wrong places and kinds, and everything that came from the environment, stay unquoted."""
    wrong = [
        f"tuner: {{workspace_id: '${{K}}', base_url: 'https://u:{SECRET}@h', api: '${{K}}', api_key: ['{SECRET}']}}\n" + SOURCE,
        f"tuner: {{workspace_id: {SECRET}, api: {SECRET}, base_url: {SECRET}, ca_file: [{SECRET}]}}\n" + SOURCE,
        f"tuner: {{workspace_id: 1, agent_remote_identifier: b, api_key: '{SECRET} {SECRET}'}}\n" + SOURCE,
        TUNER + SOURCE + "log: {level: '${K}'}\nhttp: {listen: '${K}'}\nledger: {url: '${K}', keep_sent: '${K}'}\n",
        TUNER + SOURCE + "    after_sent: '${K}'\n    on_missing: '${K}'\n    timezone: '${K}'\n    hold_for: '${K}'\n",
    ]
    for text in wrong:
        assert SECRET not in "\n".join(told(text, {"K": SECRET}))
    text = f"tuner: {{workspace_id: 1, agent_remote_identifier: b, api_key: {SECRET}}}\n" + SOURCE
    config = read(text + f"    on_missing: {{send: 'https://example.com/a.wav?token={SECRET}'}}\n")
    assert SECRET not in redacted(config)
    assert SECRET not in "".join(config.warnings)
    assert SECRET not in repr(config.destinations)


def test_the_key_comes_from_the_block_or_the_environment() -> None:
    """api_key, else api_key_file, else TUNER_API_KEY; surrounding white space goes."""
    without = TUNER.replace(", api_key: made-up", "")
    environ = {"TUNER_API_KEY": "from-env\n"}
    assert read_key(read(without + SOURCE, environ).destinations[0]) == "from-env"
    assert read_key(read(TUNER + SOURCE, environ).destinations[0]) == "made-up"
    filed = read(without.replace("}", ", api_key_file: key}") + SOURCE, environ).destinations[0]
    assert (filed.api_key, filed.api_key_file) == (None, "/etc/tunerd/key")


def test_commands_that_need_no_secrets_demand_none() -> None:
    """Without resolving secrets a missing key, an unset variable in one and a missing file are all fine."""
    for tuner in (
        "{workspace_id: 1, agent_remote_identifier: b}",
        "{workspace_id: 1, agent_remote_identifier: b, api_key: '${UNSET}'}",
    ):
        config = read(f"tuner: {tuner}\n" + SOURCE, resolve_secrets=False)
        assert config.destinations[0].api_key is None


def test_manifests_alone_need_no_destination() -> None:
    """A configuration without calls asks for no key, workspace or agent."""
    config = read("sources:\n" + EGRESS)
    assert config.destinations == ()
    assert config.sources[0].destination == ""


@pytest.mark.parametrize(
    ("content", "key"),
    [(b"abc\n", "abc"), (b"\xef\xbb\xbfabc\r\n", "abc"), (b"  abc  ", "abc"), (b"", None), (b"a b\n", None), (b"a\nb", None),
     (b"\xff", None), (b"x" * 9000, None)],
)  # fmt: skip
def test_key_files(tmp_path: Path, content: bytes, key: str | None) -> None:
    """One line of visible ASCII, without its line end; anything else is no key, and is never quoted."""
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "c.yaml").write_text(TUNER.replace("api_key: made-up", "api_key_file: key") + SOURCE)
    config = load(tmp_path / "c.yaml", {})
    if key is not None:
        assert read_key(config.destinations[0]) == key
        assert not [warning for warning in config.warnings if "api_key_file" in warning]
    else:
        with pytest.raises(KeyUnusable) as caught:
            read_key(config.destinations[0])
        assert "a b" not in str(caught.value)
        assert any("api_key_file" in warning for warning in config.warnings)


# Destinations


def names(text: str) -> list[str]:
    return [destination.name for destination in read(text).destinations]


OTHER = SOURCE.removeprefix("sources:\n").replace("name: agent", "name: other").replace("path: calls", "path: more")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (TUNER + SOURCE, ["default"]),
        (TUNER.replace("{", "{name: eu, ") + SOURCE, ["eu"]),
        (TUNER + SOURCE + "    tuner: {workspace_id: 7}\n", ["agent"]),
        (TUNER + SOURCE + "    tuner: {name: us, workspace_id: 7}\n" + OTHER, ["us", "default"]),
        (TUNER.replace("{", "{name: eu, ") + SOURCE + "    tuner: {workspace_id: 7}\n", ["agent"]),
        (TUNER + SOURCE + "    tuner: {name: eu}\n" + OTHER, ["eu"]),
        (TUNER + SOURCE + OTHER + "    tuner: {name: eu}\n", ["eu"]),
        (
            TUNER + SOURCE.replace("name: agent", "name: default") + "    tuner: {workspace_id: 7}\n" + OTHER,
            ["default", "default-2"],
        ),
        (TUNER + SOURCE.replace("name: agent", "name: removed") + "    tuner: {workspace_id: 7}\n", ["removed-2"]),
    ],
)
def test_a_destination_has_a_label_for_metrics(text: str, labels: list[str]) -> None:
    """Its `name:`, else `default` for the block at the top and the source's name for another; no two have the same."""
    assert [destination.label for destination in read(text).destinations] == labels


def test_sources_with_equal_settings_share_a_destination() -> None:
    """The unit of pause and concurrency is base_url + workspace + key, not the source."""
    second = SOURCE.removeprefix("sources:\n").replace("name: agent", "name: other").replace("path: calls", "path: more")
    assert names(TUNER + SOURCE + second) == ["api.usetuner.ai/42"]
    assert names(TUNER + SOURCE + second + "    tuner: {workspace_id: 7}\n") == ["api.usetuner.ai/42", "api.usetuner.ai/7"]


def test_a_second_key_for_the_same_workspace_is_named_after_its_source() -> None:
    """The plain name belongs to the block at the top, whichever source comes first."""
    first = SOURCE + "    tuner: {api_key: another}\n"
    second = SOURCE.removeprefix("sources:\n").replace("name: agent", "name: other").replace("path: calls", "path: more")
    assert names(TUNER + first + second) == ["api.usetuner.ai/42@agent", "api.usetuner.ai/42"]


def test_a_sources_key_replaces_the_one_above_in_either_form() -> None:
    """api_key in a source hides api_key_file at the top, and the other way round."""
    text = TUNER + SOURCE + "    tuner: {api_key_file: other}\n"
    destination = read(text).destinations[0]
    assert (destination.api_key, destination.api_key_file) == (None, "/etc/tunerd/other")


@pytest.mark.parametrize(
    ("written", "base_url", "name"),
    [
        ("https://API.example.com:443/", "https://api.example.com", "api.example.com/42"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080/42"),
        ("https://h.example/tuner/", "https://h.example/tuner", "h.example/tuner/42"),
        ("http://[::1]:80", "http://[::1]", "[::1]/42"),
    ],
)
def test_base_urls_have_one_form(written: str, base_url: str, name: str) -> None:
    """Lower case host, no default port, no slash at the end; the name is what follows the scheme, and the workspace."""
    destination = read(TUNER.replace("}", f', base_url: "{written}"}}') + SOURCE).destinations[0]
    assert (destination.base_url, destination.name) == (base_url, name)


def test_the_form_is_fixed_by_the_configuration_where_it_says_so() -> None:
    """`api:` decides; `auto` leaves it to the key."""
    assert read(TUNER.replace("}", ", api: create-call}") + SOURCE).destinations[0].form is Form.CREATE_CALL
    assert read(TUNER + SOURCE).destinations[0].form is None


# Warnings, and changes


def warned(text: str, part: str) -> bool:
    return any(part in warning for warning in read(text).warnings)


def test_what_may_heal_is_a_warning() -> None:
    """A missing directory or key file, http:// beyond this machine."""
    assert warned(TUNER + SOURCE, "sources[0].path: there is no directory /etc/tunerd/calls yet")
    assert warned(TUNER.replace("api_key: made-up", "api_key_file: none") + SOURCE, "tuner.api_key_file: ")
    assert warned(TUNER.replace("}", ', base_url: "http://tuner.example"}') + SOURCE, "unencrypted")
    assert not warned(TUNER.replace("}", ', base_url: "http://localhost:1"}') + SOURCE, "unencrypted")


@pytest.mark.parametrize(
    ("one", "other", "shares"),
    [
        ("", "", True),
        ("include: '*.json'", "include: 'EG_*.json'", True),
        ("include: '*.json', exclude: 'EG_*.json'", "include: 'EG_*.json'", False),
        ("include: 'a*.json'", "include: 'b*.json'", False),
        ("include: '[ab]*.json'", "include: 'b*.json'", True),
        ("include: '*.json'", "include: '*.log'", False),
        ("path: x", "path: x/y", False),
        ("path: x, recursive: true", "path: x/y", True),
        ("path: x, recursive: true", "path: xy", False),
    ],
)
def test_two_sources_that_read_the_same_files_are_warned_of(one: str, other: str, shares: bool) -> None:
    """By directory (and below, if recursive) and patterns; a pattern that the other excludes is told apart."""
    rest = "manifest: {key: doc.a, url: doc.b}"
    sources = [
        f"  - {{name: s{at}, {'' if 'path' in own else 'path: p, '}{own + ', ' if own else ''}{rest}}}\n"
        for at, own in enumerate((one, other))
    ]
    assert warned("sources:\n" + "".join(sources), "may read the same files as source `s0`") is shares


def test_a_reload_cannot_move_the_ledger_the_listener_or_the_form_of_the_log() -> None:
    """The line of the key that changed is named; everything else may change."""
    old = read(TUNER + SOURCE)
    refuse_changes(old, read(TUNER + SOURCE + "log: {level: debug}\n"))
    more = "ledger: {url: 'sqlite:///x.db'}\nhttp:\n  listen: 127.0.0.1:1\nlog: {format: text}\n"
    with pytest.raises(ConfigError) as caught:
        refuse_changes(old, read(TUNER + SOURCE + more))
    assert [str(problem) for problem in caught.value.problems] == [
        "/etc/tunerd/config.yaml:7:15: ledger.url: cannot change by a reload; restart tunerd",
        "/etc/tunerd/config.yaml:9:11: http.listen: cannot change by a reload; restart tunerd",
        "/etc/tunerd/config.yaml:10:15: log.format: cannot change by a reload; restart tunerd",
    ]


def test_a_reload_does_not_mind_that_the_host_has_another_name() -> None:
    """It is the default of `instance`, which says nothing about a ledger in a file. In a fleet others know this tunerd by it."""
    old = read(TUNER + SOURCE)
    refuse_changes(old, replace(old, instance="another-host"))
    fleet = read(TUNER + SOURCE + "instance: a\nledger: {url: 'postgresql://tunerd@db.example/tunerd'}\n")
    with pytest.raises(ConfigError, match="instance: cannot change by a reload"):
        refuse_changes(fleet, replace(fleet, instance="b"))


# Files


@pytest.mark.parametrize(
    ("content", "part"),
    [(None, "no such file"), (b"a: \xff", ":1:4: is not UTF-8"), (b"\xff\xfea\x00", ":1:1: is not UTF-8"),
     (b"\n\xc3\xa9: \xc3", ":2:4: is not"),
     (b"#" * 5_000_000, "is larger than 4 MiB")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path, content: bytes | None, part: str) -> None:
    """Missing, not UTF-8, far too large: one line, no traceback."""
    file = tmp_path / "c.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=part) as caught:
        load(file, {})
    assert len(caught.value.problems) == 1


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    """`-c /etc/tunerd` by mistake."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


WHOLE = (Path(__file__).parent.parent.parent / "config.example.yaml").read_text()
SHORT = "\n".join(line.split("  #")[0] for line in WHOLE.splitlines() if not line.lstrip().startswith("#"))


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(SHORT))
def test_no_configuration_breaks_the_reader(text: str) -> None:
    """Any mutation of a whole configuration is read, or refused with problems of one line each."""
    problems: list[str] = []
    try:
        redacted(load_text(text, "/etc/tunerd/config.yaml", {"A": "1"}))
    except ConfigError as exc:
        problems = [str(problem) for problem in exc.problems] or ["\n refused without a problem"]
    assert not [problem for problem in problems if "\n" in problem]


def test_audio_has_a_short_and_a_long_form() -> None:
    """`audio: upload` is the value of `publish:` alone; files become absolute; without it a location that is no URL is refused."""
    short, long, moved, none = (
        read(TUNER + SOURCE + text).sources[0].audio
        for text in (
            "    audio: upload\n",
            "    audio: {publish: {url: \"concat('https://cdn.example/', location.name)\"}, files: [rec, /var/rec], expires: 1h, "
            "placeholder: none, on_error: send}\n",
            "    audio: {publish: upload, after_upload: {move_to: done}}\n",
            "",
        )
    )
    assert short.plan() == AudioPlan(publish=Publish.UPLOAD)
    assert long.plan() == AudioPlan(
        publish=Publish.URL, placeholder="none", sends_on_error=True, expires_s=3600.0,
        url_rule="concat('https://cdn.example/', location.name)", files=("/etc/tunerd/rec", "/var/rec"),
    )  # fmt: skip
    assert moved.plan() == AudioPlan(publish=Publish.UPLOAD, after_upload=AfterUpload.MOVE_TO, move_to="done")
    assert long.url is not None
    assert "location.name" in str(long.url.value)
    assert none.plan() is None


def test_variables_in_the_rule_of_a_url_are_left_alone() -> None:
    """`${` means nothing in a rule, also not in the one under `publish:`."""
    for audio in ("{url: \"'${X}'\"}", "{publish: {url: \"'${X}'\"}}"):
        (source,) = read(f"{TUNER}{SOURCE}    audio: {audio}\n").sources
        assert source.audio.url is not None
        assert source.audio.url.value == "'${X}'"
