"""No message about a configuration repeats a key, a password, or what the environment gave, however YAML reads it."""

import os
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.test_order_commands import CONFIG
from tests.examples import IS_THOROUGH
from tunerd.cli import main
from tunerd.loading.config_file import read_text
from tunerd.yaml_location import ConfigError

SECRET = "Zq7xW9vK2mNp"
STARTS = ["", "!", "!!", "*", "&", "&a ", "%", "@", "`", "|", "|-", ">", "{", "[", "{a: ", "'", '"', "- ", "? ", ": ", "#", "!<", "\t", "}", "]", ",",
          "tr_api_", "\\", "~", "=", "<<", "${", "$${", "${X:-", "---", "..."]  # fmt: skip
BLOCKS = {
    "block": "tuner:\n  workspace_id: 42\n  agent_remote_identifier: bot\n  api_key: {}\n",
    "no blank": "tuner:\n  workspace_id: 42\n  agent_remote_identifier: bot\n  api_key:{}\n",
    "flow": "tuner: {workspace_id: 42, agent_remote_identifier: bot, api_key: {}}\n",
    "flow, no blank": "tuner: {workspace_id: 42, agent_remote_identifier: bot, api_key:{}}\n",
    "on the next line": "tuner:\n  workspace_id: 42\n  agent_remote_identifier: bot\n  api_key:\n    {}\n",
    "one line too high": "tuner:\n  workspace_id: {}\n  agent_remote_identifier: bot\n",
    "as a name": "tuner:\n  workspace_id: 42\n  {}: x\n",
    "twice": "tuner:\n  workspace_id: 42\n  api_key: {}\n  api_key: {}\n",
    "as the file": "tuner:\n  workspace_id: 42\n  api_key_file: {}\n",
    "as a password": "tuner:\n  workspace_id: 42\n  api_key: k\n  base_url: https://user:{}@api.example\n",
    "as a query": "tuner:\n  workspace_id: 42\n  api_key: k\n  base_url: https://api.example?key={}\n",
    "in a source": "tuner: {workspace_id: 42}\nsources:\n  - name: a\n    path: /tmp\n    preset: vapi\n    tuner: {api_key: {}}\n",
}
REST = "sources:\n  - name: agent\n    path: /tmp\n    preset: vapi\n    ledgre: 1\n"


def problems(text: str, environ: dict[str, str]) -> list[str]:
    try:
        reading = read_text(text, "config.yaml", environ)
    except ConfigError as exc:
        return [str(problem) for problem in exc.problems]
    return [*map(str, reading.problems), *reading.config.warnings]


ENDS = ("", ": y", " # c", "\n", " x", "}", "]", "'")
PAIRS = [pair for number, pair in enumerate(product(STARTS, ENDS)) if IS_THOROUGH or number % 7 == 0]
"""All ends come with some starts, and all starts with some ends."""


@pytest.mark.parametrize("block", BLOCKS)
def test_a_key_is_not_repeated(block: str) -> None:
    """Whatever sign of YAML it begins with or holds, and wherever it was pasted."""
    for start, end in PAIRS:
        text = BLOCKS[block].replace("{}", start + SECRET + end)
        told = problems(text + ("" if "sources:" in text else REST), {"X": "1"})
        if block == "as the file":  # the path of a key file is told where it is one
            told = [one for one in told if "cannot be read" not in one]
        assert SECRET[2:-2] not in "\n".join(told), (start, end)


@pytest.mark.parametrize("where", ["tuner: {workspace_id: ${S}, api_key: k}", "tuner: {workspace_id: 1, api_key: k, base_url: '${S}'}",
                                   "tuner: {workspace_id: 1, api_key: '${S} x'}", "log: {level: '${S}'}", "http: {listen: '${S}'}",
                                   "ledger: {url: 'postgresql://u:${S}@h/db'}", "delivery: {timeout: '${S}'}", "delivery: {concurrency: '${S}'}",
                                   "tests: '${S}'", "http: '${S}'", "delivery: ['${S}']"])  # fmt: skip
def test_what_the_environment_gives_is_not_repeated(where: str) -> None:
    """Any variable may be a secret, in any value."""
    told = "\n".join(problems(where + "\n" + REST, {"S": SECRET, "TUNER_API_KEY": f"{SECRET} with a blank"}))
    assert told
    assert SECRET not in told


def test_a_number_from_the_environment_is_not_repeated_as_a_hint() -> None:
    """`listen: 9464` is answered with the address to write; what a variable gives is not."""
    assert "write 127.0.0.1:9464" in "\n".join(problems("http: {listen: 9464}\n" + REST, {}))
    told = "\n".join(problems("http: {listen: '${PIN}'}\n" + REST, {"PIN": "739154"}))
    assert "http.listen" in told
    assert "739154" not in told


def test_nor_on_the_terminal(tmp_path: Path) -> None:
    """`check` prints the problems; a key of Tuner's form in a place that is repeated is masked there, too."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(directory=tmp_path) + f"ledgre: {{tr_api_{SECRET}: 1}}\nlog: {{level: tr_api_{SECRET}}}\n")
    result = CliRunner().invoke(main, ["check", "-c", str(config)], env=dict(os.environ))
    assert result.exit_code == 78
    assert SECRET not in result.output
