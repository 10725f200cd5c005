"""`tunerd check` and `tunerd schema` as a person runs them, and what --online makes of real answers."""

import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from tests.audio.s3_stub import S3Stub, s3_stub
from tests.loading.test_load import SECRET
from tunerd.call import Form
from tunerd.cli import main
from tunerd.delivery.probe import judge

GOOD = """
tuner: {{workspace_id: 42, agent_remote_identifier: bot, api_key: {key}, base_url: "{url}"}}
sources:
  - name: agent
    path: .
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      call_cost: doc.cost
      transcript_with_tool_calls: {{for_each: {{m: doc.messages}}, role: m.role, text: m.content}}
    recording: [{{url: doc.url}}]
"""


def run(tmp_path: Path, text: str, *options: str, **environ: str) -> Result:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return CliRunner().invoke(main, ["check", "-c", str(file), *options], env={"NO_PROXY": "*", **environ})


def good(url: str = "https://tuner.example", key: str = "made-up") -> str:
    return GOOD.format(url=url, key=key)


def test_a_good_configuration_is_summed_up(tmp_path: Path) -> None:
    """Exit 0, destination and sources, and the mapped fields that send-calls cannot carry."""
    result = run(tmp_path, good())
    assert result.exit_code == 0, result.output
    assert "destination tuner.example/42: request form send-calls (by the key)" in result.output
    assert "source agent: calls from " in result.output
    assert "the form send-calls cannot carry: call_cost\n" in result.output


def test_create_call_carries_everything(tmp_path: Path) -> None:
    """With a key of the other form nothing is left out."""
    result = run(tmp_path, good(key=SECRET))
    assert result.exit_code == 0, result.output
    assert "request form create-call" in result.output
    assert "cannot carry" not in result.output
    assert SECRET not in result.output


def test_problems_of_file_and_rules_are_told_together(tmp_path: Path) -> None:
    """Exit 78; a wrong key, a wrong value and a wrong expression in one run, with a count."""
    text = good().replace("doc.id", '"doc.id ||"').replace("name: agent", "name: agent\n    setle: 1s") + "log: {level: loud}\n"
    result = run(tmp_path, text)
    assert result.exit_code == 78
    lines = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines[:-1]] == ["sources[0].setle", "sources[0].call.call_id", "log.level"]
    assert lines[-1] == "3 problems in the configuration"


@pytest.mark.parametrize(
    ("right", "wrong", "place"),
    [
        ("name: agent", "nam: agent", ""),
        ("name: agent", "name: [agent]", ".name"),
        ("path: .", "recursive: false", ""),
        ("path: .", "path: 7", ".path"),
        ("path: .", "path: .\n    preset: vapy", ".preset"),
        ("path: .", "path: .\n    path_groups: '('", ".path_groups"),
        ("path: .", "path: .\n    settle: 5m\n    settle_timeout: -1s", ".settle_timeout"),
        ("path: .", "path: .\n    manifest: [doc.room]", ".manifest"),
        ("path: .", "path: .\n    timezone: Mars/Base", ".timezone"),
    ],
)
def test_what_is_wrong_with_a_source_hides_no_rule(tmp_path: Path, right: str, wrong: str, place: str) -> None:
    """Name, directory, preset, groups: the rules beside them are checked all the same, those of other sources too."""
    text = good().replace("doc.cost", '"doc.cost ||"')
    other = text[text.index("  - name") :].replace("agent", "other").replace("doc.cost ||", "doc.cost &&")
    result = run(tmp_path, text.replace(right, wrong, 1) + other)
    paths = [line.split(": ")[1] for line in result.stderr.splitlines()[:-1]]
    assert f"sources[0]{place}" in paths
    assert {path for path in paths if ".call" in path} == {"sources[0].call.call_cost", "sources[1].call.call_cost"}


def test_a_wrong_preset_is_no_reason_to_miss_its_rules(tmp_path: Path) -> None:
    """Names and fields that the preset would have brought are not told as missing."""
    text = good().replace("path: .", "path: .\n    preset: vapy").replace("      call_id: doc.id\n", "")
    result = run(tmp_path, text.replace("doc.cost", "divide(of_the_preset, 0x)"))
    paths = [line.split(": ")[1] for line in result.stderr.splitlines()[:-1]]
    assert paths == ["sources[0].preset", "sources[0].call.call_cost"]
    result = run(tmp_path, text.replace("doc.cost", "of_the_preset"))
    assert [line.split(": ")[1] for line in result.stderr.splitlines()[:-1]] == ["sources[0].preset"]


def test_a_wrong_rule_beside_a_wrong_strategy_is_told_once_each(tmp_path: Path) -> None:
    """What the file's reader refused is not told again by the compiler of the rules."""
    text = good().replace("doc.cost", "dok.cost").replace("{url: doc.url}", "{manifest: nowhere, key: doc.k, within: any}")
    result = run(tmp_path, text)
    paths = [line.split(": ")[1] for line in result.stderr.splitlines()[:-1]]
    assert paths == ["sources[0].call.call_cost", "sources[0].recording[0].manifest"]


def test_warnings_fail_only_strict(tmp_path: Path) -> None:
    """A directory that is not there yet: told, exit 0; with --strict exit 1."""
    text = good().replace("path: .", "path: later")
    lenient, strict = run(tmp_path, text), run(tmp_path, text, "--strict")
    assert "warning: " in lenient.stderr
    assert (lenient.exit_code, strict.exit_code) == (0, 1)
    assert run(tmp_path, good(), "--strict").exit_code == 0


def test_print_shows_what_is_in_force_without_secrets(tmp_path: Path) -> None:
    """Defaults are filled in, keys are hidden."""
    result = run(tmp_path, good(key=SECRET), "--print")
    assert "rescan: 30s" in result.output
    assert "(hidden)" in result.output
    assert SECRET not in result.output


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    """TUNERD_CONFIG stands in for -c; a missing file is one line and 78."""
    (tmp_path / "c.yaml").write_text(good())
    assert CliRunner().invoke(main, ["check"], env={"TUNERD_CONFIG": str(tmp_path / "c.yaml")}).exit_code == 0
    result = CliRunner().invoke(main, ["check"], env={"TUNERD_CONFIG": str(tmp_path / "none.yaml")})
    assert result.exit_code == 78
    assert "there is no such file" in result.stderr
    assert "Traceback" not in result.output


def test_schema_prints_json() -> None:
    """`tunerd schema` is a JSON document that names the presets."""
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert '"vapi"' in result.output
    assert json.loads(result.output)["required"] == ["sources"]


# Online


@contextmanager
def tuner(status: int, body: str, seen: list[web.BaseRequest], headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server in a thread of its own that gives one answer to everything."""

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        assert await request.read() == b"{}"
        return web.Response(status=status, text=body, headers=headers)

    ready, stop, loop, port = threading.Event(), asyncio.Event(), asyncio.new_event_loop(), [0]

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port[0] = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.mark.parametrize(
    ("status", "body", "code", "says"),
    [
        (422, '{"detail": []}', 0, "the key is good (status 422"),
        (401, '{"detail": "no"}', 1, "the key is not accepted (401, sent as create-call)"),
        (404, "<html>", 1, "this is not Tuner's API"),
        (503, "", 1, "cannot say now (status 503)"),
    ],
)
def test_online_tells_a_good_key_from_a_bad_one(tmp_path: Path, status: int, body: str, code: int, says: str) -> None:
    """`{}` is posted once to the real address with key, workspace and agent; the key is never shown."""
    seen: list[web.BaseRequest] = []
    with tuner(status, body, seen) as url:
        result = run(tmp_path, good(url, SECRET), "--online")
    assert result.exit_code == code, result.output
    assert says in result.output
    assert SECRET not in result.output
    [request] = seen
    assert (request.method, request.path) == ("POST", "/api/v1/public/call")
    assert dict(request.query) == {"workspace_id": "42", "agent_remote_identifier": "bot"}
    assert request.headers["Authorization"] == f"Bearer {SECRET}"
    assert "X-API-Key" not in request.headers


def test_online_follows_no_redirect(tmp_path: Path) -> None:
    """The key stays with its host."""
    seen: list[web.BaseRequest] = []
    with tuner(302, "", [], {"Location": "/elsewhere"}) as other, tuner(307, "", seen, {"Location": f"{other}/x"}) as url:
        result = run(tmp_path, good(url, "made-up"), "--online")
    assert result.exit_code == 1
    assert "redirect (307)" in result.output
    [request] = seen
    assert request.headers["X-API-Key"] == "made-up"


def test_online_without_a_server(tmp_path: Path) -> None:
    """Refused connections and names that do not resolve are one line each, exit 1."""
    result = run(tmp_path, good("http://127.0.0.1:9"), "--online")
    assert result.exit_code == 1
    assert "online: 127.0.0.1:9/42: 127.0.0.1:9 cannot be reached" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("status", "body", "good"),
    [
        (400, b"{}", True), (400, b"bad", False), (403, b"{}", False), (405, b"{}", False), (408, b"", False), (409, b"{}", True),
        (410, b"{}", False), (413, b"{}", True), (415, b"[]", True), (425, b"", False), (429, b"{}", False), (200, b"{}", True),
        (200, b'{"success": false}', True), (200, b"<html>", False), (204, b"", False), (301, b"{}", False), (500, b"{}", False),
        (502, b"<html>", False), (422, b'"text"', False),
    ],
)  # fmt: skip
def test_what_each_answer_says_about_the_key(status: int, body: bytes, good: bool) -> None:
    """Only an answer that looked at the body proves the key."""
    assert judge(status, body, Form.SEND_CALLS).good is good


@pytest.mark.parametrize(
    ("status", "body", "good", "says"),
    [
        (400, b"{}", True, "status 400 does not tell whether workspace 42 and agent bot exist"),
        (
            400,
            b'{"detail": "Workspace not found"}',
            False,
            "speaks of the workspace: does Tuner have workspace 42 and agent bot?",
        ),
        (
            422,
            b'{"detail": [{"loc": ["query", "agent_remote_identifier"], "msg": "unknown"}]}',
            False,
            "speaks of the agent: does",
        ),
        (400, b'{"error": "agent does not exist"}', False, "speaks of the agent: does Tuner have"),
        (422, b'{"detail": [{"loc": ["body", "call_id"], "msg": "required"}]}', True, "the key is good (status 422"),
        (403, b"{}", False, "may not send for workspace 42 and agent bot (403)"),
    ],
)
def test_a_400_is_mostly_a_wrong_workspace_or_agent(status: int, body: bytes, good: bool, says: str) -> None:
    """Both causes are said where the answer does not tell; where it names one of them, it is not good."""
    trial = judge(status, body, Form.SEND_CALLS, "workspace 42 and agent bot")
    assert trial.good is good
    assert says in trial.says


def test_online_asks_for_each_agent(tmp_path: Path) -> None:
    """One wrong agent among several is found; an agent that rules name is made up, and said to be."""
    seen: list[web.BaseRequest] = []
    with tuner(422, "{}", seen) as url:
        text = good(url)
        source = text[text.index("  - name:") :]
        other = source.replace("name: agent", "name: other", 1).rstrip() + "\n    tuner: {agent_remote_identifier: second}\n"
        assert run(tmp_path, text.rstrip() + "\n" + other, "--online").exit_code == 0
    assert [request.query["agent_remote_identifier"] for request in seen] == ["bot", "second"]


def test_a_socks_proxy_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    """As `run` would refuse it: one line, told with the others, that names the variable; its value is not shown."""
    both = run(tmp_path, good() + "unknown: 1\n", NO_PROXY="", HTTPS_PROXY="socks5h://user:canary@proxy:1080")
    assert "2 problems in the configuration" in both.stderr
    assert "HTTPS_PROXY in the environment" in both.stderr
    result = run(tmp_path, good(), NO_PROXY="", ALL_PROXY="socks5://user:canary@proxy:1080")
    assert result.exit_code == 78
    assert result.stderr.count("ALL_PROXY in the environment") == 1
    assert "HTTPS_PROXY to an http:// proxy, or NO_PROXY=tuner.example" in result.stderr
    assert "canary" not in result.output + both.output
    assert run(tmp_path, good(), ALL_PROXY="socks5://proxy:1080", NO_PROXY="tuner.example").exit_code == 0


@pytest.mark.parametrize(
    "field",
    [
        "foo[",
        "call_id",
        "a b",
        "recording_url",
        "transcript_with_tool_calls[0].text",
        "transcript_with_tool_calls[].role",
        "transcript_with_tool_calls",
    ],
)
@pytest.mark.parametrize("at_the_top", [True, False])
def test_a_wrong_path_of_redact_is_told_once_and_the_rest_is_compiled(tmp_path: Path, field: str, at_the_top: bool) -> None:
    """`redact.fields` with a path that is none ends with 78 and one line, at the top and in a source; never a traceback."""
    redact = json.dumps({"fields": [field, "metadata.x"], "detect": ["cards"]})
    text = good() + (f"redact: {redact}\n" if at_the_top else f"    redact: {redact}\n")
    result = run(tmp_path, text)
    assert result.exit_code == 78, result.output
    assert isinstance(result.exception, SystemExit)
    told = result.output.splitlines()
    where = "redact" if at_the_top else "sources[0].redact"
    assert len([line for line in told if f"{where}.fields[0]: " in line]) == 1, told
    assert len([line for line in told if f"{where}.detect[0]: " in line]) == 1, told
    assert told[-1] == "2 problems in the configuration"


@contextmanager
def as_another_user() -> Iterator[None]:
    """Root may read everything: be somebody else for a moment, by the real user id, too, which access(2) asks about."""
    if os.geteuid():
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("command", ["check", "run", "status"])
def test_a_file_that_may_not_be_read_is_a_wrong_configuration(tmp_path: Path, command: str) -> None:
    """Exit 78 with a place and the system's words, so that a supervisor does not start tunerd over and over."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(directory.stat().st_mode | 0o055)
    file = tmp_path / "config.yaml"
    file.write_text(good())
    file.chmod(0)
    for late in ("tunerd.app", "concurrent.futures.thread", f"tunerd.cli.{command}"):
        importlib.import_module(late)  # the other user may have no right to read the interpreter
    with as_another_user():
        result = CliRunner().invoke(main, [command, "-c", str(file)])
    assert result.exit_code == 78, result.output
    assert result.output.splitlines() == [
        f"{file}:1:1: cannot be read: Permission denied; let this user read it, or run tunerd as one that may",
        "1 problem in the configuration",
    ]


@pytest.mark.parametrize(
    ("rule", "column", "part", "advice"),
    [
        ("regex(doc.x, 'a(?=b)')", 19, "`(?=`, a look-ahead", "name the part that you want"),
        ("if(regex(doc.x, '(?<!a)b'), 1, 2)", 22, "`(?<!`, a look-behind", "say what may stand before"),
        ("regex(doc.x, '(a)\\1')", 19, "`\\1`, a reference to a group", "write the alternatives out"),
        ("""classify(doc.x, {"(?P<q>.)(?P=q)": 1})""", 19, "`(?P=`, a reference to a group", "write the alternatives out"),
        ("doc.list[?regex(@.x, 'a++b')] | length(@)", 29, "bad repetition operator at `++`", "leave the + out"),
        ("regex(doc.x, '(?x)a b')", 19, "`(?x)`, the flag x", "without blanks and comments"),
        ("regex(doc.x, 'a{2000}')", 19, "invalid repetition size at `{2000}`", "1000 at most"),
    ],
)
def test_a_pattern_that_re2_does_not_know_is_an_error_with_its_place(
    tmp_path: Path, rule: str, column: int, part: str, advice: str
) -> None:
    """It names the part, and a way around."""
    result = run(tmp_path, good().replace("call_cost: doc.cost", f"call_cost: {json.dumps(rule)}"))
    assert result.exit_code == 78, result.output
    (problem,) = [line for line in result.output.splitlines() if "call_cost" in line]
    assert f"config.yaml:9:{column}: sources[0].call.call_cost: " in problem
    assert part in problem
    assert advice in problem


@pytest.mark.parametrize(
    ("pattern", "wrong"), [("(?P<a>(x+)+)$", None), ("(?P<a>x)(?!y)", "`(?!`, a look-ahead"), ("(?<=x)(?P<a>y)", "a look-behind")]
)
def test_patterns_over_paths_are_re2s_too(tmp_path: Path, pattern: str, wrong: str | None) -> None:
    """What was slow before is as good as any other."""
    result = run(tmp_path, good() + f"    path_groups: '{pattern}'\n", "--strict")
    assert result.exit_code == (0 if wrong is None else 78), result.output
    assert wrong is None or f"config.yaml:12:18: sources[0].path_groups: has {wrong if wrong[0] == '`' else ''}" in result.output
    assert wrong is None or wrong in result.output


@pytest.mark.parametrize("rule", ["regex(doc.x, '(a+)+$')", "regex(doc.x, doc.y)", "regex(doc.x, '.*a.*b')", "concat('(?=a)')"])
def test_other_patterns_are_taken(tmp_path: Path, rule: str) -> None:
    """Those that would be slow elsewhere, what comes from the document, and what is no pattern."""
    text = good().replace("call_cost: doc.cost", f"call_cost: {json.dumps(rule)}")
    assert run(tmp_path, text, "--strict").exit_code == 0, run(tmp_path, text, "--strict").output


def test_without_a_pattern_the_engine_is_not_imported() -> None:
    """Neither by the package nor by a configuration that has none."""
    code = (
        "import sys, tunerd.app, tunerd.loading.rule_checks\n"
        "from tests.mapping.sources import REST, compiled, document\n"
        "mapping = compiled('call:' + REST)\n"
        "assert mapping.map(document({'said': ['hi']})).call\n"
        "assert 're2' not in sys.modules\n"
        "compiled('call:' + REST + \"  call_status: regex(doc.x, 'a')\")\n"
        "assert 're2' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


PRESIGN = (
    GOOD.replace("url: doc.url", "url: \"concat('s3://calls/', doc.name)\"") + "    audio: {{publish: presign, expires: 12h}}\n"
)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    for name, value in {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "canary", "AWS_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)


def test_a_sample_is_signed(tmp_path: Path, aws: None) -> None:
    """For each bucket that a rule names: how long such a URL is and how long it is valid; without asking anybody."""
    result = run(tmp_path, PRESIGN.format(url="https://tuner.example", key="made-up"), "--strict")
    assert result.exit_code == 0, result.output
    assert re.search(r"source agent: a URL of s3://calls has about 3\d\d characters and is valid for 12h\n", result.output)
    assert "canary" not in result.output


def test_a_sample_that_is_too_long(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of a role would make every call fail: `check` says so before."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary" * 200)
    result = run(tmp_path, PRESIGN.format(url="https://tuner.example", key="made-up"), "--strict")
    assert result.exit_code == 1
    assert "warning: source agent: `audio: presign`: s3://calls/" in result.output
    assert "because the credentials have a session token, and Tuner takes 1,024; write `audio: upload`" in result.output
    assert "canary" not in result.output


def test_a_sample_without_credentials(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning with what to set; the configuration itself is good."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    result = run(tmp_path, PRESIGN.format(url="https://tuner.example", key="made-up"))
    assert result.exit_code == 0, result.output
    assert "no AWS credentials: set AWS_ACCESS_KEY_ID" in result.output


@pytest.mark.parametrize("rule", ["concat('s3://calls/', doc.id)", "doc.url"])
def test_after_upload_of_objects_is_a_warning(tmp_path: Path, rule: str) -> None:
    """tunerd deletes and moves nothing in a bucket: whoever expects it learns it here, and nobody else."""
    config = (
        "tuner: {workspace_id: 42, agent_remote_identifier: bot, api_key: tr_api_made-up}\n"
        f"sources:\n  - {{name: agent, path: {tmp_path}, call: {{call_id: doc.id, call_type: {{const: phone_call}}, "
        "start_timestamp: doc.t, end_timestamp: doc.u, transcript_with_tool_calls: {for_each: {m: doc.m}, role: m.role, "
        "text: m.text, start_ms: m.at}}, "
        f'recording: [{{url: "{rule}"}}], audio: {{publish: upload, after_upload: delete, files: [{tmp_path}]}}}}\n'
    )
    result = run(tmp_path, config)
    assert result.exit_code == 0, result.output
    assert ("`after_upload` does nothing for objects in a bucket" in result.output) == ("s3://" in rule)


def test_presign_without_its_library_is_an_error_that_names_the_extra(tmp_path: Path) -> None:
    """obstore is an extra: without it such a configuration is refused at load."""
    file = tmp_path / "config.yaml"
    file.write_text(PRESIGN.format(url="https://tuner.example", key="made-up"))
    code = "import sys; sys.modules['obstore'] = None; from tunerd.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "check", "-c", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 78, done.stderr
    assert "sources[0].audio: `presign` signs objects of buckets, and that needs the extra `cloud`" in done.stderr
    assert "pip install 'tunerd[cloud]'" in done.stderr


async def test_online_asks_the_storage_too(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a made-up object is missing proves credentials, region and clock; what proves the opposite fails the check."""
    text = PRESIGN.format(url="https://tuner.example", key="made-up")
    async with s3_stub(S3Stub()) as stub:
        for name, value in stub.environ().items():
            monkeypatch.setenv(name, value)
        result = await asyncio.to_thread(run, tmp_path, text, "--online")
        assert "is valid for 12h; the storage accepts the credentials\n" in result.output
        stub.region = "us-west-2"
        result = await asyncio.to_thread(run, tmp_path, text, "--online")
        assert "the bucket is in the region us-west-2" in result.output
