"""The ledger: the durable record of every call, and the only place where calls wait.

What the other packages may use of it: the protocols (protocols.py) and the values that they take and give. sqlite/ implements
them; sql/ has the tables and statements, commands/ what each command does to the rows.
"""

from tunerd.ledger.admitting import Admission, Admitted, AdmitVerdict, Continued, FileMark, Matched, WantedFile
from tunerd.ledger.exceptions import LedgerRefused, LedgerUnavailable, NotTheReader
from tunerd.ledger.fleet import ALONE, Fleet
from tunerd.ledger.gathered import CheckAgain, Discard, Gathered, Group, GroupResult, PossibleGap, TooLate
from tunerd.ledger.inspecting import DiskUse, Filter, Gauges, StoredCall, StoredEvent, Story, Stranded
from tunerd.ledger.protocols import (
    FAR_AT_ONCE,
    FAR_NOT_YET,
    AudioPath,
    FarRule,
    FileQueries,
    GatherPath,
    Inspection,
    Ledger,
    Maintenance,
    OperatorActions,
    Positions,
    Retention,
    Stranding,
    WritePath,
)
from tunerd.ledger.sending import (
    NO_PAUSES,
    CallReceiver,
    Claim,
    Claimed,
    Deferred,
    Delivered,
    Ended,
    FailedCall,
    Freeze,
    Pick,
    Reservation,
    Settlement,
    StoredPauses,
    Unfrozen,
    UploadRequest,
    UrlToSign,
)
from tunerd.ledger.uploading import AudioEnded, AudioUpload, Leftover, PendingAudio, PreparedAudio, UploadTarget
from tunerd.ledger.url_checking import CheckedUrl, UrlCheckPath, UrlToCheck

__all__ = [
    "ALONE", "FAR_AT_ONCE", "FAR_NOT_YET", "NO_PAUSES", "Admission", "AdmitVerdict", "Admitted", "AudioEnded", "AudioPath",
    "AudioUpload", "CallReceiver", "CheckAgain", "CheckedUrl", "Claim", "Claimed", "Continued", "Deferred", "Delivered",
    "Discard", "DiskUse", "Ended", "FailedCall", "FarRule", "FileMark", "FileQueries", "Filter", "Fleet", "Freeze",
    "GatherPath", "Gathered", "Gauges", "Group", "GroupResult", "Inspection", "Ledger", "LedgerRefused", "LedgerUnavailable",
    "Leftover", "Maintenance", "Matched", "NotTheReader", "OperatorActions", "PendingAudio", "Pick", "Positions", "PossibleGap",
    "PreparedAudio", "Reservation", "Retention", "Settlement", "StoredCall", "StoredEvent", "StoredPauses", "Story", "Stranded",
    "Stranding", "TooLate", "Unfrozen", "UploadRequest", "UploadTarget", "UrlCheckPath", "UrlToCheck", "UrlToSign",
    "WantedFile", "WritePath",
]  # fmt: skip
