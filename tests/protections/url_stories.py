"""Stories of calls whose recording is elsewhere: at a host that is asked for it first (`verify: get`), or in a bucket, from which
Tuner gets a signed URL or tunerd uploads it."""

from typing import Final

from tests.protections.audio_plot import WAIT_S, Plot
from tunerd.call import Fail, Hold, ManifestStrategy, Publish, SendAnyway, Strategy, UrlStrategy

SILENCE: Final = "https://steady.example/silence.wav"
_SHORT_S: Final = 40.0
"""A wait for a URL that is over long before its schedule: only answers of the host may end it."""


def verified(plot: Plot) -> None:
    """URLs of one host, each there from some moment on. Within the wait a call is sent with its own. If the wait is short, it may
    be over before, but only by two answers of the host for this very URL: no time, no kill and no outage is an answer."""
    host = plot.chance.choice(["shaky", "steady"])
    for name in ("verified", "proven")[: plot.chance.randint(1, 2)]:
        url, wait_s = f"https://{host}.example/{name}.wav?sig=1", plot.chance.choice([_SHORT_S, WAIT_S])
        missing = plot.chance.choice([Hold(hold_s=1e6), Fail(), SendAnyway(url=SILENCE)])
        ends = ("sent", "recording_missing") if isinstance(missing, Fail) and wait_s == _SHORT_S else ("sent",)
        call = plot.call(name, UrlStrategy(location=url), *ends, verify_s=wait_s, on_missing=missing)
        plot.urls[name] = frozenset({url, SILENCE} if isinstance(missing, SendAnyway) and wait_s == _SHORT_S else {url})
        plot.asks[name] = url, wait_s
        plot.stories.append([*plot.in_any_order([call], [plot.publish(url)]), plot.asked])


def verified_second(plot: Plot) -> None:
    """Of two URLs the first one that is there counts, if it comes within its wait; otherwise the other one, when that is over."""
    first, second = (f"https://shaky.example/{name}.wav" for name in ("one", "two"))
    comes = plot.chance.random() < 0.5
    strategies = UrlStrategy(location=first), UrlStrategy(location=second)
    call = plot.call("either", strategies, "sent", verify_s=WAIT_S)
    plot.urls["either"] = frozenset({first if comes else second})
    plot.stories.append([*plot.in_any_order([plot.publish(second)], [call]), plot.asked])
    plot.stories += [[plot.publish(first)]] if comes else []


def verified_manifest(plot: Plot) -> None:
    """A manifest names a URL that is never there; the newer one names the right one."""
    wrong, right = (f"https://shaky.example/{name}.ogg?sig=2" for name in ("wrong", "right"))
    strategy = ManifestStrategy(source="egress", key="asked", within_s=600.0, wait_s=WAIT_S)
    plot.stories.append([plot.call("asked", strategy, "sent", verify_s=WAIT_S)])
    plot.urls["asked"] = frozenset({right})
    plot.stories.append([plot.recording("asked", location=wrong), plot.recording("asked", 2, location=right)])
    plot.stories.append([plot.publish(right)])


def signed_object(plot: Plot) -> None:
    """Tuner gets a signed URL of an object, which may be put there after the call came. A signature may end before Tuner takes
    the call; then another is made, unless an earlier attempt may have arrived with it."""
    location = "s3://shaky/signed.wav"
    ends = ("sent", "recording_expired")
    plot.stories.append([plot.call("signed", _named(plot, "signed", location), *ends, publish=Publish.PRESIGN,
                                   expires_s=plot.chance.choice([75.0, 86_400.0]))])  # fmt: skip
    plot.stories.append([plot.put(location, "signed"), plot.refused, lambda world: world.passes(90.0)])


def missing_object(plot: Plot) -> None:
    """An object that never comes: its call is held, or sent with the placeholder."""
    sends = plot.chance.random() < 0.5
    ends = "audio_unreadable" if sends else "recording_missing"
    plot.stories.append([plot.call("unsigned", UrlStrategy(location="s3://shaky/unsigned.wav"), ends, publish=Publish.PRESIGN,
                                   sends_on_error=sends)])  # fmt: skip
    sends = plot.chance.random() < 0.5
    plot.stories.append([plot.call("empty", UrlStrategy(location="s3://shaky/empty.wav"), "audio_unreadable",
                                   sends_on_error=sends)])  # fmt: skip


def own_object(plot: Plot) -> None:
    """An object is uploaded from its bucket, which may be put there after the call came."""
    location = "s3://shaky/object.wav"
    plot.stories.append([plot.call("object", _named(plot, "object", location), "uploaded")])
    plot.stories.append([plot.put(location, "object")])


def replaced_object(plot: Plot) -> None:
    """The next call's audio is put in the place of the first one's; its document comes, or never does."""
    location = "s3://steady/recording.wav"
    first = plot.call("before", UrlStrategy(location=location), "uploaded", "audio_changed")
    steps = [plot.put(location, "before"), first, plot.put(location, "after")]
    if plot.chance.random() < 0.6:
        steps.append(plot.call("after", UrlStrategy(location=location), "uploaded"))
    plot.stories.append(steps)


def _named(plot: Plot, name: str, location: str) -> Strategy:
    """The document of the call names the location, or a manifest does."""
    if plot.chance.random() < 0.5:
        return UrlStrategy(location=location)
    plot.stories.append([plot.recording(name, location=location)])
    return ManifestStrategy(source="egress", key=name, within_s=600.0, wait_s=WAIT_S)


URL_STORIES: Final = (
    verified, verified_second, verified_manifest, signed_object, missing_object, own_object, replaced_object,
)  # fmt: skip
