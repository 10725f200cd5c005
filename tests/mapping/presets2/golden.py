"""The presets of this folder on fixtures of our own: what they make of each is compared with a file that a person has read.

fixtures/PRESET/VARIANT.json is a document (of presets that gather a list: the documents of one file, in their order),
VARIANT.expected.json what becomes of it. To write the second ones anew: `python -m tests.mapping.presets2.golden [PRESET ...]`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from tests.mapping.presets import golden
from tests.mapping.presets.golden import Case
from tests.mapping.presets2 import gathering
from tunerd.call import Form, Mapped

FIXTURES: Final = Path(__file__).parent / "fixtures"


def cases() -> list[Case]:
    found = (path for path in FIXTURES.glob("*/*.json") if not path.name.endswith(".expected.json"))
    return sorted((Case(path.parent.name, path.stem) for path in found), key=str)


def document_of(case: Case) -> Path:
    return FIXTURES / case.preset / f"{case.variant}.json"


def expected_of(case: Case) -> Path:
    return FIXTURES / case.preset / f"{case.variant}.expected.json"


def outcomes(case: Case, form: Form) -> list[Mapped]:
    """What the fixture gives: several where its documents are several calls."""
    if case.preset in gathering.PRESETS:
        documents: list[Any] = orjson.loads(document_of(case).read_bytes())
        return [gathered.mapped for gathered in gathering.map_documents(case.preset, form, documents)]
    return [golden.map_file(case.preset, form, document_of(case))]


def told(case: Case) -> Any:
    """The outcomes in plain JSON, for create-call."""
    made = [golden.told(mapped) for mapped in outcomes(case, Form.CREATE_CALL)]
    return made[0] if len(made) == 1 else made


def main(presets: Sequence[str]) -> None:
    for case in cases():
        if not presets or case.preset in presets:
            expected_of(case).write_bytes(orjson.dumps(told(case), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            print(case)


if __name__ == "__main__":
    main(sys.argv[1:])
