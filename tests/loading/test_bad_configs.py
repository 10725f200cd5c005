"""Every rule of the configuration has a file that breaks it; its first comment is the message that it must give."""

import re
from pathlib import Path

import pytest

from tunerd.loading.config_file import load
from tunerd.yaml_location import ConfigError

FILES = sorted((Path(__file__).parent.parent / "bad_configs").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_bad_configuration_is_refused_with_its_message_and_place(file: Path) -> None:
    """Each file is refused with exactly the one problem that it shows, and the place is in that file."""
    expected = file.read_text().splitlines()[0].removeprefix("# ")
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert len(caught.value.problems) == 1, str(caught.value)
    told = str(caught.value)
    place, said = re.fullmatch(r"(.+?:\d+:\d+): (.*)", told, re.DOTALL).groups()  # type: ignore[union-attr]
    assert place.startswith(str(file))
    assert said == expected or (expected.endswith((" ", ": ")) and said.startswith(expected)), said
    assert "\n" not in told


def test_there_is_a_file_for_many_rules() -> None:
    """The directory is found: an empty glob would pass every test above."""
    assert len(FILES) >= 90
