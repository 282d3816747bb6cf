BEGIN TRANSACTION;
CREATE TABLE baseline (  -- at most one row
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id TEXT NOT NULL,
    release TEXT NOT NULL,
    unix_ns INTEGER NOT NULL,
    document BLOB NOT NULL
);
INSERT INTO "baseline" VALUES(1,'0a1b2c3d-0000-4000-8000-000000000001','6.1.0-56-amd64',5,X'789CAB564ACB2FCA4D2C51B2522A48CED4CD4F2A4E2D2A4B2DD24D2C4DC92C51AA0500B2680B59');
CREATE TABLE bindings (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    address TEXT NOT NULL,
    vendor INTEGER NOT NULL,
    device INTEGER NOT NULL,
    subvendor INTEGER NOT NULL,
    subdevice INTEGER NOT NULL,
    class INTEGER NOT NULL,
    driver TEXT,
    driver_override TEXT,
    since_ktime_ns INTEGER NOT NULL,
    since_unix_ns INTEGER NOT NULL,
    until_ktime_ns INTEGER,  -- null: it was so when the boot was last observed
    until_unix_ns INTEGER,
    seen INTEGER NOT NULL,  -- 0: found so by a look
    comm TEXT,  -- of who caused it
    tgid INTEGER,
    uid INTEGER
);
INSERT INTO "bindings" VALUES(1,1,'0000:00:02.0',32902,4110,6900,4352,131072,'e1000',NULL,100000000000,1000100000000000,104000000000,1000104000000000,0,NULL,NULL,NULL);
INSERT INTO "bindings" VALUES(2,1,'0000:00:02.0',32902,4110,6900,4352,131072,NULL,NULL,104000000000,1000104000000000,NULL,NULL,1,'tee',123,0);
CREATE TABLE boots (
    boot INTEGER PRIMARY KEY,  -- in the order of observation
    boot_id TEXT NOT NULL UNIQUE,
    release TEXT NOT NULL,
    machine TEXT NOT NULL,
    layout TEXT NOT NULL,
    semantics TEXT NOT NULL,
    new_id_rules TEXT NOT NULL,
    version TEXT NOT NULL,  -- of the observer
    first_unix_ns INTEGER NOT NULL,
    last_unix_ns INTEGER NOT NULL,
    first_ktime_ns INTEGER NOT NULL,  -- CLOCK_MONOTONIC, as all ktime_ns
    last_ktime_ns INTEGER NOT NULL
);
INSERT INTO "boots" VALUES(1,'0a1b2c3d-0000-4000-8000-000000000001','6.1.0-56-amd64','x86_64','E','linux-5.15','linux-5.11','0.1.0',1000100000000000,1000100000000000,100000000000,100000000000);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    unix_ns INTEGER NOT NULL,
    ktime_ns INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    tgid INTEGER NOT NULL,
    comm TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    address TEXT NOT NULL,
    is_virtfn INTEGER NOT NULL,
    vendor INTEGER NOT NULL,
    device INTEGER NOT NULL,
    subvendor INTEGER NOT NULL,
    subdevice INTEGER NOT NULL,
    class INTEGER NOT NULL,
    driver INTEGER NOT NULL,  -- drivers.id
    dynids TEXT,  -- JSON; null: there is none
    dynids_complete INTEGER NOT NULL,
    driver_override TEXT,
    "match" TEXT NOT NULL,
    "index" INTEGER,
    doubts TEXT NOT NULL,  -- words
    judgement TEXT NOT NULL,
    expected_match TEXT,  -- null: indeterminate
    expected_index INTEGER,
    kind TEXT,
    reason TEXT,
    seen TEXT NOT NULL  -- live, boot
);
INSERT INTO "decisions" VALUES(1,1,1000099000000000,99000000000,10,10,'sh',0,'0000:00:02.0',0,32902,4110,6900,4352,131072,1,NULL,1,NULL,'static',0,'','agree','static',0,NULL,NULL,'live');
CREATE TABLE drivers (  -- by what was known of them
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    decision INTEGER NOT NULL,  -- id of the last that refers to it
    number INTEGER NOT NULL,  -- of the registration
    name TEXT NOT NULL,
    table_state TEXT NOT NULL,
    has_probe INTEGER NOT NULL,
    id_table BLOB  -- JSON, by zlib; null: there is none
);
INSERT INTO "drivers" VALUES(1,1,1,1,'e1000','complete',1,X'789C8B8E3636B23430D231313434D03131B234B1343337B23445661A40606C2C00D3AE095D');
CREATE TABLE findings (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    address TEXT NOT NULL,
    also TEXT NOT NULL,  -- words: further addresses
    finding TEXT NOT NULL,
    kind TEXT NOT NULL,
    which TEXT NOT NULL,  -- of several at one address
    text TEXT NOT NULL,
    cure TEXT NOT NULL,
    begin_ktime_ns INTEGER NOT NULL,
    begin_unix_ns INTEGER NOT NULL,
    end_ktime_ns INTEGER,  -- null: it stood when the boot was last observed
    end_unix_ns INTEGER
);
INSERT INTO "findings" VALUES(1,1,'0000:00:02.0','','orphan','unbound','','It has no driver.','echo',100000000000,1000100000000000,NULL,NULL);
CREATE TABLE pictures (  -- the last good one of each boot
    boot INTEGER PRIMARY KEY,
    unix_ns INTEGER NOT NULL,
    document BLOB NOT NULL  -- of `audit --json`, by zlib
);
INSERT INTO "pictures" VALUES(1,5,X'789CAB564ACB2FCA4D2C51B2522A48CED4CD4F2A4E2D2A4B2DD24D2C4DC92C51AA0500B2680B59');
CREATE TABLE probes (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    unix_ns INTEGER NOT NULL,
    ktime_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    tgid INTEGER NOT NULL,
    comm TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    address TEXT NOT NULL,
    driver INTEGER NOT NULL,  -- number of the registration
    name TEXT NOT NULL,
    has_probe INTEGER NOT NULL,
    path TEXT NOT NULL,
    result TEXT NOT NULL,
    errno TEXT,
    kind TEXT,
    seen TEXT NOT NULL
);
INSERT INTO "probes" VALUES(1,1,1000099000000000,99000000000,10,10,10,'sh',0,'0000:00:02.0',1,'e1000',1,'direct','bound',NULL,NULL,'live');
CREATE TABLE writes (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    unix_ns INTEGER NOT NULL,
    ktime_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    tgid INTEGER NOT NULL,
    comm TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    file TEXT NOT NULL,
    driver TEXT,
    address TEXT,  -- of the device whose file it is
    text TEXT NOT NULL,
    size INTEGER NOT NULL,
    errno TEXT,
    judgement TEXT NOT NULL,
    expected TEXT
);
INSERT INTO "writes" VALUES(1,1,1000099000000000,99000000000,10,10,10,'sh',0,0,'bind','e1000',NULL,'0000:00:02.0',12,NULL,'indeterminate',NULL);
CREATE INDEX drivers_by_number ON drivers (boot, number);
CREATE INDEX drivers_by_decision ON drivers (decision);
CREATE INDEX probes_by_address ON probes (address);
CREATE INDEX bindings_by_address ON bindings (address);
CREATE INDEX bindings_now ON bindings (boot) WHERE until_ktime_ns IS NULL;
CREATE INDEX findings_now ON findings (boot) WHERE end_ktime_ns IS NULL;
COMMIT;
PRAGMA user_version = 1;
