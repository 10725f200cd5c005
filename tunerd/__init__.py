"""tunerd: the sidecar that gets every finished voice call, with its recording, into Tuner.

The way of a call, and where each step lives:

1. watch    intake/inotify.py  a file has settled
2. read     intake/read.py     documents, each with its origin
3. map      mapping/            a Call or a Recording, by the rules in YAML
4. admit    ledger/             a durable row; matched with its recording in the same transaction
5. claim    ledger/             a due call whose recording is decided
6. upload   delivery/upload.py  exactly one HTTP attempt
7. decide   delivery/retry.py, delivery/pacing.py   when again, or never
8. settle   ledger/             written down

intake/file_reader.py runs steps 1-4, delivery/run.py steps 5-8; app.py puts them together.
"""

__version__ = "0.1.0"
