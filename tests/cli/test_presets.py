"""`tunerd presets`, run as a user runs it."""

import pytest
from click.testing import CliRunner

from tunerd.cli import main
from tunerd.mapping import presets
from tunerd.workbench.catalogue import preset_info


def test_the_list_has_a_line_or_two_for_each(tmp_path: object) -> None:
    """Every preset, with where its documents come from, in eighty columns."""
    result = CliRunner().invoke(main, ["presets"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for name in presets.names():
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line) > 35
    assert lines.index("Calls") < lines.index("Recordings")


@pytest.mark.parametrize("name", presets.names())
def test_each_says_in_short_what_it_is(name: str) -> None:
    """A phrase, not a paragraph, and no half bracket."""
    short = preset_info(name).in_short
    assert 8 < len(short) < 160
    assert short.count("(") == short.count(")")
    assert short.count("{") == short.count("}")


def test_show_prints_the_yaml_as_it_is() -> None:
    """To read, or to start from."""
    result = CliRunner().invoke(main, ["presets", "show", "vapi"])
    assert (result.exit_code, result.stdout) == (0, presets.text("vapi"))


def test_an_unknown_one_is_a_usage_error_with_the_nearest_name() -> None:
    """No traceback, and names that look like paths are names."""
    assert "did you mean retell?" in CliRunner().invoke(main, ["presets", "show", "retel"]).stderr
    assert CliRunner().invoke(main, ["presets", "show", "../../../etc/passwd"]).exit_code == 2


def test_what_a_preset_asks_for_is_known() -> None:
    """Other sources, and variables of the environment."""
    assert preset_info("livekit").looks_in == ("livekit-egress",)
    assert preset_info("daily-recording").environment == ("DAILY_RECORDINGS_URL",)
    assert preset_info("vapi").has_strategies
    assert preset_info("deepgram").has_strategies is False
    needed = [preset_info(name).needs_audio for name in ("vapi", "elevenlabs", "asterisk-recording")]
    assert [one and one.unless_set for one in needed] == [None, "", "ASTERISK_RECORDINGS_URL"]
