-- One statement behind another, each ended by ";" at the end of a line. They use
-- nothing that CockroachDB or YugabyteDB lack: no sequences, triggers, functions,
-- advisory locks, partitions or deferred constraints.
--
-- Ids and names are octets, compared as such. "account" is platform and id, each
-- behind its length in two octets. "record" is JSON in UTF-8. Times are seconds
-- since 1970.

CREATE TABLE meta (key bytea PRIMARY KEY, value bytea NOT NULL);

-- What a transaction locks: people, accounts, conversations and others by a hash
-- of their names, there or not (lock.go). Rows are never changed.
CREATE TABLE locks (n integer PRIMARY KEY);
INSERT INTO locks (n) SELECT generate_series(0, 65535);

CREATE TABLE users (
  id bytea PRIMARY KEY, name bytea NOT NULL UNIQUE, record bytea NOT NULL);
CREATE TABLE sessions (
  id bytea PRIMARY KEY, user_id bytea NOT NULL, record bytea NOT NULL);
CREATE INDEX sessions_of_user ON sessions (user_id, id);
CREATE TABLE tokens (
  hash bytea PRIMARY KEY, session bytea NOT NULL, generation bigint NOT NULL);
CREATE UNIQUE INDEX tokens_of_session ON tokens (session, generation);
CREATE TABLE accounts (
  account bytea PRIMARY KEY, user_id bytea NOT NULL, record bytea NOT NULL);
CREATE INDEX accounts_of_user ON accounts (user_id, account);
CREATE TABLE challenges (
  id bytea PRIMARY KEY, expires bigint NOT NULL, record bytea NOT NULL);
CREATE INDEX challenges_end ON challenges (expires);

CREATE TABLE keypackages (
  account bytea, n bigint, ref bytea NOT NULL, not_after bigint NOT NULL, data bytea NOT NULL,
  PRIMARY KEY (account, n));
CREATE TABLE last_resort (
  account bytea PRIMARY KEY, ref bytea NOT NULL, not_after bigint NOT NULL, data bytea NOT NULL);
CREATE TABLE keypackage_refs (
  account bytea, ref bytea, expires bigint NOT NULL, PRIMARY KEY (account, ref));
CREATE INDEX keypackage_refs_end ON keypackage_refs (expires);

CREATE TABLE objects (
  user_id bytea, id bytea, counter bigint NOT NULL, size bigint NOT NULL, hash bytea NOT NULL, data bytea NOT NULL,
  PRIMARY KEY (user_id, id));
CREATE TABLE usage (
  user_id bytea PRIMARY KEY, objects bigint NOT NULL, octets bigint NOT NULL);
CREATE TABLE results (
  user_id bytea, body bytea, expires bigint NOT NULL, record bytea NOT NULL, PRIMARY KEY (user_id, body));
CREATE INDEX results_end ON results (expires);

CREATE TABLE conversations (
  kind smallint, id bytea, record bytea NOT NULL, PRIMARY KEY (kind, id));
CREATE TABLE mls_groups (
  id bytea PRIMARY KEY, kind smallint NOT NULL, conversation bytea NOT NULL);

-- Octets of a delivery, once for all inboxes that it waits in.
CREATE TABLE messages (
  id bytea PRIMARY KEY, uses bigint NOT NULL, data bytea NOT NULL);
CREATE TABLE inbox (
  account bytea, seq bigint, sender_user bytea NOT NULL, message bytea NOT NULL, size bigint NOT NULL, type text NOT NULL,
  mls_group bytea NOT NULL, epoch bigint NOT NULL, record bytea NOT NULL, PRIMARY KEY (account, seq));
CREATE TABLE inbox_state (
  account bytea PRIMARY KEY, last_seq bigint NOT NULL, messages bigint NOT NULL, octets bigint NOT NULL);
CREATE TABLE inbox_usage (
  account bytea, user_id bytea, messages bigint NOT NULL, octets bigint NOT NULL, PRIMARY KEY (account, user_id));

CREATE TABLE notes (
  kind smallint, owner bytea, key bytea, expires bigint NOT NULL, value bytea NOT NULL, PRIMARY KEY (kind, owner, key));
CREATE INDEX notes_end ON notes (expires);
