"""`audio:` of a source: how Tuner gets audio that no https URL names. Each key is declared here once (settings.py). Pure."""

from typing import Annotated, Literal

from tunerd.call import AfterUpload, AudioPlan, Publish
from tunerd.config.settings import DAY_S, TEXT, VARIABLE, Seconds, Setting, ValueKind, any_of
from tunerd.location import LocationKind, LocationPolicy
from tunerd.record import record
from tunerd.yaml_location import Node


@record
class AudioSettings:
    """What `audio:` says. Its short form is the value of `publish:` alone."""

    publish: Annotated[
        Literal["upload", "presign", "url", "reject"],
        ValueKind.OWN,
        Setting(
            "upload: to Tuner's storage (create-call keys only); presign: an object of a bucket becomes an https URL; "
            "{url: rule}: a server of yours has the same files; reject: a location that is no URL is refused.",
            schema=any_of({"$ref": "#/$defs/publish"}, VARIABLE),
        ),
    ] = "reject"
    url: Node | None = None
    """With `publish: {url: ...}`: the rule that makes the URL of a location."""
    expires_s: Annotated[Seconds, Setting("How long a URL that `presign` makes is valid.", low=1, high=7 * DAY_S)] = DAY_S
    files: Annotated[
        tuple[str, ...],
        Setting("Directories that locations of recordings may lie in. Nothing outside them is ever read as audio."),
    ] = ()
    """Absolute."""
    placeholder: Annotated[str, Setting("What Tuner gets as recording_url of a call whose audio is uploaded.")] = "pending"
    after_upload: Annotated[
        AfterUpload,
        ValueKind.OWN,
        Setting(
            "What becomes of a file of audio when Tuner's storage has it: keep, delete, or {move_to: uploaded/} (relative to the "
            "file's own directory).",
            schema=any_of(
                {"enum": ["keep", "delete"]},
                {"type": "object", "properties": {"move_to": TEXT}, "required": ["move_to"], "additionalProperties": False},
                VARIABLE,
            ),
        ),
    ] = AfterUpload.KEEP
    move_to: str = ""
    on_error: Annotated[
        Literal["hold", "send"],
        Setting("Audio that cannot be used: hold keeps the call from being sent; send sends it with the placeholder."),
    ] = "hold"

    def places(self) -> LocationPolicy:
        """Where a recording may be."""
        kinds = {LocationKind.URL}
        if self.publish != "reject":
            kinds.add(LocationKind.OBJECT)
        if self.publish in ("upload", "url"):
            kinds.add(LocationKind.FILE)
        return LocationPolicy(frozenset(kinds), self.files)

    def plan(self) -> AudioPlan | None:
        """What each call carries of it; None with `reject`."""
        if self.publish == "reject":
            return None
        return AudioPlan(
            publish=Publish(self.publish),
            placeholder=self.placeholder,
            sends_on_error=self.on_error == "send",
            expires_s=self.expires_s,
            files=self.files,
            after_upload=self.after_upload,
            move_to=self.move_to,
            url_rule=self.url.value if self.url is not None and isinstance(self.url.value, str) else "",
        )
