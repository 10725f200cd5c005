-- Version 1 of the ledger's tables. A later version is a later file; after the first release none of these is edited.
-- Times are Unix seconds (REAL) unless the name says _ms or _ns. Flags are 0 and 1. rows.py says what a column means.
-- tests/ledger/test_statements.py checks that each index is used, and that the columns are the fields of the records.

-- One small row for each call (or refused, or ignored document). Documents and payloads are kept apart from it, so that claims,
-- lists and retention never read them.
CREATE TABLE call (
    row INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                   -- call | conflict | refused | ignored | group
    state TEXT NOT NULL,                  -- gathering | waiting | due | sending | sent | failed | ignored
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    workspace TEXT NOT NULL,
    agent TEXT NOT NULL,
    call_id TEXT,
    path TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    started_at_ms INTEGER,
    ended_at_ms INTEGER,
    admitted_at REAL NOT NULL,
    settled_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    due_at REAL,
    waits_from REAL NOT NULL,
    attempts INTEGER NOT NULL,
    first_attempt_at REAL,
    claimed_at REAL,
    paused_before_s REAL NOT NULL,
    may_have_arrived INTEGER NOT NULL,
    status INTEGER,
    reason TEXT,
    place TEXT NOT NULL,
    detail TEXT NOT NULL,
    tuner_call_id TEXT,
    recording_location TEXT,
    recording_expires_at REAL,
    joined INTEGER,
    form TEXT,
    frozen_by_claim INTEGER NOT NULL,
    size INTEGER NOT NULL,
    gathers INTEGER NOT NULL,
    fragments_size INTEGER NOT NULL,
    dismissed INTEGER NOT NULL,
    seeks INTEGER NOT NULL,
    copies INTEGER NOT NULL,
    patch BLOB,
    audio TEXT NOT NULL,                  -- none | pending | uploading | uploaded | failed: audio that tunerd uploads
    holder INTEGER NOT NULL,
    claims INTEGER NOT NULL,
    volume INTEGER NOT NULL,
    owner INTEGER NOT NULL                -- of its audio: the instance that alone can upload it; 0: any
) STRICT;

CREATE UNIQUE INDEX call_holder ON call (call_id, agent, workspace) WHERE kind = 'call';
CREATE INDEX call_namesake ON call (call_id) WHERE kind <> 'call' AND call_id IS NOT NULL;
CREATE INDEX call_place ON call (volume, source, path, "offset");
CREATE INDEX call_due ON call (destination, due_at) WHERE state = 'due' AND audio <> 'pending';
CREATE INDEX call_due_agent ON call (destination, agent, due_at) WHERE state = 'due' AND audio <> 'pending';
CREATE INDEX call_due_row ON call (destination) WHERE state = 'due' AND audio <> 'pending';
CREATE INDEX call_expiring ON call (destination, recording_expires_at)
    WHERE state = 'due' AND audio <> 'pending' AND recording_expires_at IS NOT NULL;
CREATE INDEX call_audio_due ON call (owner, destination, due_at) WHERE state = 'due' AND audio = 'pending';
CREATE INDEX call_audio_due_agent ON call (owner, destination, agent, due_at) WHERE state = 'due' AND audio = 'pending';
CREATE INDEX call_audio_open ON call (audio) WHERE audio = 'uploading';
CREATE INDEX call_waiting ON call (state, due_at) WHERE state = 'waiting';
CREATE INDEX call_waiting_row ON call (state) WHERE state = 'waiting';
CREATE INDEX call_gathering ON call (state) WHERE state = 'gathering';
CREATE INDEX call_ended ON call (state, changed_at) WHERE state IN ('sent', 'failed', 'ignored');
CREATE INDEX call_failed ON call (dismissed) WHERE state = 'failed' OR audio = 'failed';
CREATE INDEX call_failed_body ON call (state, changed_at) WHERE state = 'failed' AND size > 0 AND (kind = 'call' OR dismissed = 1);

-- What a row is made of. `payload` comes before `document`, so that reading one does not page through the other.
CREATE TABLE body (
    row INTEGER PRIMARY KEY,
    checked_for TEXT,
    matching TEXT NOT NULL,               -- strategies and on_missing, JSON
    head BLOB NOT NULL,
    payload BLOB,
    document BLOB
) STRICT;

-- Frozen bodies that are kept whole, since a delta of the payload (call.patch) would be hardly smaller.
CREATE TABLE frozen (
    row INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- Audio that tunerd uploads. `target` is a secret; it is there only while the audio is uploaded.
CREATE TABLE audio (
    row INTEGER PRIMARY KEY,
    location TEXT NOT NULL,
    plan TEXT NOT NULL,                   -- JSON
    identity TEXT NOT NULL,               -- '' until it was looked at
    extension TEXT NOT NULL,
    channels INTEGER NOT NULL,
    size INTEGER NOT NULL,
    looked_from REAL NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    target BLOB,
    expires_at REAL,
    max_bytes INTEGER,
    attempts INTEGER NOT NULL,
    leftover INTEGER NOT NULL,
    by_hand INTEGER NOT NULL
) STRICT;
CREATE INDEX audio_unseen ON audio (row) WHERE identity = '';
CREATE INDEX audio_location ON audio (location, identity);
CREATE INDEX audio_leftover ON audio (leftover) WHERE leftover = 1;

-- Further places at which a call's document was read; the first is in its row.
CREATE TABLE origin (
    row INTEGER NOT NULL,
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    volume INTEGER NOT NULL,
    PRIMARY KEY (row, source, path, "offset", volume)
) STRICT, WITHOUT ROWID;
CREATE INDEX origin_place ON origin (volume, source, path);

-- The last 20 events of each call.
CREATE TABLE event (
    row INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    what TEXT NOT NULL,
    status INTEGER,
    detail TEXT NOT NULL,
    PRIMARY KEY (row, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE recording (
    row INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    key TEXT NOT NULL,                    -- '' where the manifest gives none
    "match" TEXT NOT NULL,                 -- values that its call has, too; '' where one is missing
    id TEXT NOT NULL,                     -- '' where the manifest gives none
    location TEXT,                        -- Location.text (location.py); NULL: there will never be one
    started_at_ms INTEGER,
    expires_at REAL,
    duration_s REAL,
    path TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    admitted_at REAL NOT NULL,
    known_at REAL NOT NULL,
    taken_by INTEGER,
    identity TEXT NOT NULL,               -- of a file: device, inode, size and times, JSON; '' of anything else
    owner INTEGER NOT NULL                -- the instance that alone can open it, if it is a file; 0: any
) STRICT;
CREATE INDEX recording_key ON recording (source, key, started_at_ms);
CREATE INDEX recording_match ON recording (source, "match", started_at_ms) WHERE "match" <> '';
CREATE INDEX recording_id ON recording (source, id) WHERE id <> '';
CREATE INDEX recording_free ON recording (source, key, started_at_ms) WHERE taken_by IS NULL;
CREATE INDEX recording_taken ON recording (taken_by) WHERE taken_by IS NOT NULL;
CREATE INDEX recording_embedded ON recording (location) WHERE location LIKE 'embedded:%';
CREATE INDEX recording_age ON recording (admitted_at);

-- What a call looks for, or looked for: one row for each manifest strategy. They are kept as long as the call is, since a recording
-- that is nearer to a call that was sent than to any other is given to no call.
CREATE TABLE want (
    call INTEGER NOT NULL,
    position INTEGER NOT NULL,
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER,
    within_ms INTEGER,
    near_ms INTEGER NOT NULL,
    answered_at REAL,
    expired INTEGER NOT NULL,
    seeking INTEGER NOT NULL,
    look_at REAL,
    choice TEXT NOT NULL,                 -- nearest | first | last | longest | only
    note TEXT NOT NULL,
    stem TEXT NOT NULL,                   -- of a file's name with `*` and the like: the text before these; else ''
    PRIMARY KEY (call, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX want_open ON want (source, key, seeking, started_at_ms, call, position) WHERE seeking = 1 AND (answered_at IS NULL OR expired = 1);
CREATE INDEX want_key ON want (source, key, started_at_ms, call, position);
CREATE INDEX want_stem ON want (stem, key) WHERE stem <> '';
CREATE INDEX want_look ON want (look_at) WHERE look_at IS NOT NULL;

-- URLs of recordings that are only sent once their host has given a byte of them (`verify: get`).
CREATE TABLE url_check (
    call INTEGER NOT NULL,
    location TEXT NOT NULL,
    host TEXT NOT NULL,                   -- with its port
    due_at REAL,                          -- NULL: it is there
    since REAL,                           -- the first answer for it
    asked_at REAL,                        -- the last one
    answered INTEGER NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (call, location)
) STRICT, WITHOUT ROWID;
CREATE INDEX url_check_due ON url_check (host, due_at, call, location) WHERE due_at IS NOT NULL;
CREATE INDEX url_check_unanswered ON url_check (host, call, location) WHERE answered = 0;

-- Calls that are gathered from several documents: the key of the row, and when to look at it.
CREATE TABLE gathering (
    row INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    look_at REAL,
    last_at REAL NOT NULL,
    wait_s REAL NOT NULL,
    count INTEGER NOT NULL,
    owner INTEGER NOT NULL                -- the instance that looks at it while it lives; 0: any
) STRICT;
CREATE UNIQUE INDEX gathering_key ON gathering (source, key);
CREATE INDEX gathering_look ON gathering (source, look_at) WHERE look_at IS NOT NULL;

-- Their documents; NULL once they are part of body.document. A line of a log is known by the number of its log (file.log),
-- whatever the log is called by then; log 0 is a whole file, known by its path.
CREATE TABLE fragment (
    row INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    path TEXT NOT NULL,
    log INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    length INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    settled_at REAL NOT NULL,
    part TEXT,
    newest REAL,
    digest BLOB NOT NULL,
    whole INTEGER NOT NULL,
    document BLOB,
    volume INTEGER NOT NULL,
    PRIMARY KEY (row, seq)
) STRICT;
CREATE INDEX fragment_place ON fragment (row, volume, log, "offset");

-- Where a gathered call was cut: it may lack a part. (In a table WITHOUT ROWID the columns of the key come first, in its order,
-- because quick_check of SQLite 3.40 reports damage otherwise.)
CREATE TABLE cut (
    row INTEGER NOT NULL,
    log INTEGER NOT NULL,
    path TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    cause TEXT NOT NULL,                  -- unreadable | log_end
    volume INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (row, log, path, "offset", cause, volume)
) STRICT, WITHOUT ROWID;
CREATE INDEX cut_place ON cut (source, volume, log, path);

-- Logs whose end is not known: the gathered call that is carried at their end is cut.
CREATE TABLE torn (
    volume INTEGER NOT NULL,
    source TEXT NOT NULL,
    log INTEGER NOT NULL,
    lost INTEGER NOT NULL,                -- 1: it cannot be found anywhere; 0: it was truncated, or not read to its end
    PRIMARY KEY (volume, source, log)
) STRICT, WITHOUT ROWID;

-- Whether the documents of a source have keys of their own, as far as they were read.
CREATE TABLE key_style (
    source TEXT PRIMARY KEY,
    keyless INTEGER NOT NULL,
    own INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far each file has been read (`volume`: on whose disk). Inode numbers are stored as signed 64 bit. A log has one row; while it is at no known path (it
-- was moved, and not found yet) its row is kept as vanished under its last path, beside the row of the file that is there now.
CREATE TABLE file (
    volume INTEGER NOT NULL,
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    log INTEGER NOT NULL,                 -- number of a log within its source; 0: a whole file
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    content BLOB NOT NULL,                -- whole file: hash of its content; log: state of its hash chain (intake/chain.py)
    whole INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    summary_at INTEGER NOT NULL,
    carry TEXT NOT NULL,
    home TEXT NOT NULL,                   -- of a log: the path at which it was first read, and the inode
    home_inode INTEGER NOT NULL,
    vanished_at REAL,
    disposed INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    PRIMARY KEY (volume, source, path, log)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_log ON file (volume, source, log) WHERE log <> 0;
CREATE INDEX file_inode ON file (volume, source, inode, log) WHERE log <> 0;
CREATE INDEX file_head ON file (volume, source, substr(content, 1, 8), log) WHERE log <> 0;
CREATE INDEX file_vanished ON file (vanished_at) WHERE vanished_at IS NOT NULL;

CREATE TABLE destination (
    name TEXT PRIMARY KEY,
    gate TEXT NOT NULL,                   -- JSON
    clock TEXT NOT NULL                   -- JSON
) STRICT, WITHOUT ROWID;

-- Base URLs that accepted a call whose row is removed: a backlog is moved away from a base URL only if that never accepted one.
CREATE TABLE accepted (
    base_url TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The tally of a fleet, kept by adding (sql/fleet_counts.py). Empty where one process owns the ledger.
CREATE TABLE counts (
    holder INTEGER NOT NULL,
    name TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (holder, name)
) STRICT, WITHOUT ROWID;

-- The instances of a fleet. Empty where one process owns the ledger.
CREATE TABLE instance (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL,              -- of the name, whatever its start; owner in other tables
    generation INTEGER NOT NULL,          -- of its last start; no number is given twice, to whichever instance
    version TEXT NOT NULL,
    host TEXT NOT NULL,
    taken_from TEXT NOT NULL,             -- another host, on which the start before the last one was alive when the last one took its name
    started_at REAL NOT NULL,             -- by the clock of the database, as the next
    heartbeat_at REAL NOT NULL,
    is_over INTEGER NOT NULL,             -- 1: its last start ended in order
    is_reading INTEGER NOT NULL           -- 1: it reads for the first time what was there when it started
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
