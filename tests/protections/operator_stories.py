"""Stories in which an operator gives a call its recording (`tunerd retry CALL_ID --recording LOCATION`)."""

from typing import Final

from tests.protections.audio_plot import WAIT_S, Plot
from tunerd.call import ManifestStrategy, UrlStrategy


def given_by_hand(plot: Plot) -> None:
    """A call waits for a manifest that never comes. A file or an object that is given may come after the order."""
    strategy = ManifestStrategy(source="egress", key="given", within_s=600.0, wait_s=WAIT_S)
    kind = plot.chance.choice(["file", "object", "URL"])
    call = plot.call("given", strategy, "sent" if kind == "URL" else "uploaded", **(plot.after_upload if kind == "file" else {}))
    location = {"file": plot.file("given.wav"), "object": "s3://shaky/given.wav", "URL": "https://audio.example/given.wav"}[kind]
    plot.urls["given"] = frozenset({location})
    plot.stories.append([call, plot.by_hand("given", location)])
    if kind == "file":
        plot.stories.append([plot.write("given.wav", "given")])
    elif kind == "object":
        plot.stories.append([plot.put(location, "given")])


def tie_decided(plot: Plot) -> None:
    """Two files fit a call by their name, and the operator says which is its own."""
    call = plot.call("tied", plot.found_as("tied-*.wav"), "uploaded", **plot.after_upload)
    plot.stories.append([call, plot.by_hand("tied", plot.file("tied-1.wav"))])
    plot.stories.append([plot.write("tied-1.wav", "tied")])
    plot.stories.append([plot.write("tied-2.wav", "other")])


def decided_for_one(plot: Plot) -> None:
    """Two calls are near two files, and the operator says which is the first call's. The other call gets neither."""
    strategy = plot.found_as("near_*.wav", 60.0)
    chosen = plot.call("chosen", strategy, "uploaded", **plot.after_upload)
    plot.stories.append([chosen, plot.by_hand("chosen", plot.file("near_1.wav"))])
    plot.stories.append([plot.call("beside", strategy, "recording_ambiguous", ended_s=-70.0, **plot.after_upload)])
    plot.stories.append([plot.write("near_1.wav", "chosen", at_s=-95.0)])
    plot.stories.append([plot.write("near_2.wav", "beside", at_s=-65.0)])


def verified_by_hand(plot: Plot) -> None:
    """A URL that an operator gives is asked for by nobody."""
    url = "https://steady.example/by-hand.wav"
    call = plot.call("sure", UrlStrategy(location="https://shaky.example/never.wav"), "sent", verify_s=WAIT_S)
    plot.urls["sure"] = frozenset({url})
    plot.unasked.add(url)
    plot.stories.append([call, plot.by_hand("sure", url)])


OPERATOR_STORIES: Final = (given_by_hand, tie_decided, decided_for_one, verified_by_hand)
