"""Stories of calls whose audio is a file on this machine or in a manifest, told one after the other or at once. In some of them the
document of another call never comes."""

from typing import Final

from tests.protections.audio_outside import audio_of
from tests.protections.audio_plot import ENDED_AGO_S, WAIT_S, Plot
from tunerd.call import Choice, ManifestStrategy
from tunerd.mapping.match_values import match_text


def own_file(plot: Plot) -> None:
    """A call names a file of its own, which may come before it or after it."""
    call = plot.call("own", plot.upload_of("own.wav"), "uploaded", **plot.after_upload)
    plot.stories.append(plot.in_any_order([call], plot.recorded("own.wav", "own")))


def found_file(plot: Plot) -> None:
    """A call's file is found by its name."""
    strategy = plot.found_as("found.wav")
    call = plot.call("found", strategy, "uploaded", **plot.after_upload)
    plot.stories.append(plot.in_any_order([call], plot.recorded("found.wav", "found")))


def overwritten_file(plot: Plot) -> None:
    """The next call's audio is written to the same place; what was the first call's is gone, or is at Tuner. So it is, too, if the
    document of the next call never comes."""
    ends = ("uploaded", "audio_changed", "audio_unreadable")  # the last: also the second call's audio was moved away
    first = plot.call("first", plot.upload_of("recording.wav"), *ends, **plot.after_upload)
    steps = [plot.write("recording.wav", "first"), first, plot.write("recording.wav", "second")]
    if plot.chance.random() < 0.7:
        steps.append(plot.call("second", plot.upload_of("recording.wav"), "uploaded", **plot.after_upload))
    plot.stories.append(steps)


def one_file_for_two(plot: Plot) -> None:
    """Two calls name one file. The second one never gets it."""
    moves = plot.after_upload
    first = plot.call("left", plot.upload_of("both.wav"), "uploaded", "audio_changed", **moves)
    second = plot.call("right", plot.upload_of("both.wav"), "audio_changed", "audio_unreadable", **moves)
    plot.stories.append([plot.write("both.wav", "left"), first, second])


def times_alone(plot: Plot) -> None:
    """Files that only their times tell apart: a call that is alone gets its file, of two neighbours neither does. The file of a
    neighbour counts, whether its document comes or not."""
    kind = plot.chance.choice(["alone", "neighbours", "untold"])
    ends = "uploaded" if kind == "alone" else "recording_ambiguous"
    strategy = plot.found_as("times_*.wav", 60.0)
    plot.stories.append([plot.call("early", strategy, ends, **plot.after_upload)])
    plot.stories.append([plot.write("times_1.wav", "early", at_s=-ENDED_AGO_S + 5)])
    if kind == "neighbours":
        plot.stories.append([plot.call("late", strategy, ends, ended_s=-ENDED_AGO_S + 30, **plot.after_upload)])
    if kind != "alone":
        plot.stories.append([plot.write("times_2.wav", "late", at_s=-ENDED_AGO_S + 35)])


def files_by_pattern(plot: Plot) -> None:
    """Names with wildcards: `call-*.wav` of one call fits a file of the call `call-1`, too. That file goes to neither of them. A file
    that fits one call alone goes to it, two files of a call are a tie (also if one is of a call whose document never comes), and an
    old file of a call that nobody knows counts nowhere."""
    kind = plot.chance.choice(["alone", "shared", "two files", "untold"])
    ends = "uploaded" if kind == "alone" else "recording_ambiguous"
    plot.stories.append([plot.call("call", plot.found_as("call-*.wav"), ends, **plot.after_upload)])
    if kind == "shared":
        plot.stories.append([plot.call("call-1", plot.found_as("call-1-*.wav"), ends, **plot.after_upload)])
    plot.stories.append([plot.write("call-1-x.wav", "call-1" if kind == "untold" else "call")])
    if kind in ("two files", "untold"):
        plot.stories.append([plot.write("call-2.wav", "call")])
    if plot.chance.random() < 0.3:
        plot.stories.append([plot.write("call-0-x.wav", "forgotten", at_s=-86_400.0)])


def embedded(plot: Plot) -> None:
    """Audio that a manifest holds, told once or again."""
    strategy = ManifestStrategy(source="egress", key="embedded", within_s=600.0, wait_s=WAIT_S)
    plot.stories.append([plot.call("embedded", strategy, "uploaded")])
    plot.stories.append([plot.recording("embedded", embedded=audio_of("embedded"))] * plot.chance.randint(1, 2))


def told_anew(plot: Plot) -> None:
    """A manifest names a file that never comes; the newer one names the right one."""
    strategy = ManifestStrategy(source="egress", key="anew", within_s=600.0, wait_s=WAIT_S)
    plot.stories.append([plot.call("anew", strategy, "uploaded")])
    wrong, right = (plot.file(f"{name}.wav") for name in ("never", "anew"))
    plot.stories.append([plot.recording("anew", location=wrong), plot.recording("anew", 2, location=right)])
    plot.stories.append(plot.recorded("anew.wav", "anew"))


def missing_file(plot: Plot) -> None:
    """A file that never comes: its call is held, or sent with the placeholder."""
    plot.stories.append([plot.call("gone", plot.upload_of("gone.wav"), "audio_unreadable", sends_on_error=True)])
    plot.stories.append([plot.call("held", plot.upload_of("held.wav"), "audio_unreadable")])


def same_caller(plot: Plot) -> None:
    """`nearest:` finds a recording by who called. With two calls of one caller, or two recordings, nobody gets any; the document
    of the second call may come, or never does."""
    kind = plot.chance.choice(["alone", "neighbours", "untold"])
    caller = match_text(["caller"], {"caller": "+1 555 0100"}) or ""
    strategy = ManifestStrategy(source="egress", key=caller, within_s=120.0, wait_s=WAIT_S, near_s=0.0, choice=Choice.ONLY)
    ends = "uploaded" if kind == "alone" else "recording_ambiguous"
    plot.stories.append([plot.call("caller", strategy, ends, **plot.after_upload)])
    if kind == "neighbours":
        plot.stories.append([plot.call("again", strategy, ends, ended_s=-ENDED_AGO_S + 90, **plot.after_upload)])
    of = {"alone": ["caller"], "neighbours": ["again", "caller"][: plot.chance.randint(1, 2)], "untold": ["caller", "again"]}
    for name in of[kind]:
        after_s = 4.0 if name == "caller" else 94.0
        plot.stories.append([plot.recording(name, key="", match=caller, location=plot.file(f"{name}.wav"), after_s=after_s)])
        plot.stories.append([plot.write(f"{name}.wav", name)])


def same_room(plot: Plot) -> None:
    """A room is used again, and the document of the next call never comes, but its recording does. It began long after the first
    call, which gets its own."""
    if plot.runs_once:
        return
    strategy = ManifestStrategy(source="egress", key="room", within_s=600.0, wait_s=WAIT_S)
    plot.stories.append([plot.call("room", strategy, "uploaded", **plot.after_upload)])
    for name, after_s in (("room", 2.0), ("next", 300.0)):
        plot.stories.append([plot.recording(name, key="room", location=plot.file(f"{name}.wav"), after_s=after_s)])
        plot.stories.append([plot.write(f"{name}.wav", name)])


FILE_STORIES: Final = (
    own_file, found_file, overwritten_file, one_file_for_two, times_alone, files_by_pattern, embedded, told_anew, missing_file,
    same_caller, same_room,
)  # fmt: skip
