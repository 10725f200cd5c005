"""docs/formats-of-your-own.md, executed: each of its documents becomes exactly the body that the page shows."""

import re
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from tests.mapping.presets.golden import body_of
from tunerd.call import Document, Form, Origin
from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_sources
from tunerd.mapping.limits import check_create_call
from tunerd.sandbox.body_check import judge

PAGE: Final = Path(__file__).parents[3] / "docs" / "formats-of-your-own.md"
_TUNER: Final = "tuner: {workspace_id: 42, agent_remote_identifier: desk, api_key: made-up, api: %s}\n"


def _formats() -> list[Any]:
    found = []
    for section in PAGE.read_text("utf-8").split("\n## ")[1:]:
        title = section.split("\n")[0]
        file = re.search(r"^File: `([^`]+)`", section, re.MULTILINE)
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        assert [kind for kind, _ in blocks] == ["json", "yaml", "json"], title
        assert file is not None, title
        found.append(pytest.param(file[1], *(text for _, text in blocks), id=title))
    return found


FORMATS: Final = _formats()


def _body(form: Form, file: str, document: str, config: str) -> dict[str, Any]:
    loaded = load_text(_TUNER % form.value + config, "/etc/tunerd/config.yaml", {})
    (source,) = loaded.sources
    origin = Origin(source=source.name, path=f"{source.path}/{file}", length=len(document))
    mapped = compile_sources(loaded, {})[source.name].map(
        Document(origin=origin, raw=document.encode(), value=orjson.loads(document), settled_at=1.0)
    )
    assert mapped.call is not None, mapped.refused
    assert mapped.notes.left_out == ()
    return body_of(mapped.call, form)


def test_there_are_three() -> None:
    """The page shows three formats."""
    assert len(FORMATS) == 3


@pytest.mark.parametrize(("file", "document", "config", "expected"), FORMATS)
def test_the_page_tells_the_truth(file: str, document: str, config: str, expected: str) -> None:
    """Its document under its YAML is its body, which create-call takes; send-calls takes one, too."""
    body = _body(Form.CREATE_CALL, file, document, config)
    assert body == orjson.loads(expected)
    assert check_create_call(body) is None
    assert not judge(Form.SEND_CALLS, orjson.dumps(_body(Form.SEND_CALLS, file, document, config))).problems


@pytest.mark.parametrize(("file", "document", "config", "expected"), FORMATS)
def test_a_page_of_yaml_is_a_page(file: str, document: str, config: str, expected: str) -> None:
    """Nobody scrolls: at most 50 lines."""
    assert len(config.splitlines()) <= 50
