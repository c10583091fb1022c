-- One statement behind another, each ended by ";" at the end of a line. They use
-- nothing that CockroachDB or YugabyteDB lack: no sequences, triggers, functions,
-- advisory locks, partitions or deferred constraints. Each may be carried out
-- again: in some databases the making of a table is no part of a transaction. ASC
-- is the default in PostgreSQL, and not in YugabyteDB.
--
-- Ids and names are octets, compared as such. "account" is platform and id, each
-- behind its length in two octets. "record" is JSON in UTF-8. Times are seconds
-- since 1970.

CREATE TABLE IF NOT EXISTS meta (key bytea PRIMARY KEY, value bytea NOT NULL);

-- What a transaction locks: people, accounts, conversations and others by a hash
-- of their names, there or not (lock.go). Rows are never changed.
CREATE TABLE IF NOT EXISTS locks (n integer PRIMARY KEY);
INSERT INTO locks (n) SELECT generate_series(0, 65535) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS users (
  id bytea PRIMARY KEY, name bytea NOT NULL UNIQUE, record bytea NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
  id bytea PRIMARY KEY, user_id bytea NOT NULL, record bytea NOT NULL);
CREATE INDEX IF NOT EXISTS sessions_of_user ON sessions (user_id, id);
CREATE TABLE IF NOT EXISTS tokens (
  hash bytea PRIMARY KEY, session bytea NOT NULL, generation bigint NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS tokens_of_session ON tokens (session, generation);
CREATE TABLE IF NOT EXISTS accounts (
  account bytea PRIMARY KEY, user_id bytea NOT NULL, record bytea NOT NULL);
CREATE INDEX IF NOT EXISTS accounts_of_user ON accounts (user_id, account);
CREATE TABLE IF NOT EXISTS challenges (
  id bytea PRIMARY KEY, expires bigint NOT NULL, record bytea NOT NULL);
CREATE INDEX IF NOT EXISTS challenges_end ON challenges (expires ASC);

CREATE TABLE IF NOT EXISTS keypackages (
  account bytea, n bigint, ref bytea NOT NULL, not_after bigint NOT NULL, data bytea NOT NULL,
  PRIMARY KEY (account, n));
CREATE TABLE IF NOT EXISTS last_resort (
  account bytea PRIMARY KEY, ref bytea NOT NULL, not_after bigint NOT NULL, data bytea NOT NULL);
CREATE TABLE IF NOT EXISTS keypackage_refs (
  account bytea, ref bytea, expires bigint NOT NULL, PRIMARY KEY (account, ref));
CREATE INDEX IF NOT EXISTS keypackage_refs_end ON keypackage_refs (expires ASC);

CREATE TABLE IF NOT EXISTS objects (
  user_id bytea, id bytea, counter bigint NOT NULL, size bigint NOT NULL, hash bytea NOT NULL, data bytea NOT NULL,
  PRIMARY KEY (user_id, id));
CREATE TABLE IF NOT EXISTS usage (
  user_id bytea PRIMARY KEY, objects bigint NOT NULL, octets bigint NOT NULL);
CREATE TABLE IF NOT EXISTS results (
  user_id bytea, body bytea, expires bigint NOT NULL, record bytea NOT NULL, PRIMARY KEY (user_id, body));
CREATE INDEX IF NOT EXISTS results_end ON results (expires ASC);

CREATE TABLE IF NOT EXISTS conversations (
  kind smallint, id bytea, record bytea NOT NULL, PRIMARY KEY (kind, id));
CREATE TABLE IF NOT EXISTS mls_groups (
  id bytea PRIMARY KEY, kind smallint NOT NULL, conversation bytea NOT NULL);

-- Octets of a delivery, once for all inboxes that it waits in.
CREATE TABLE IF NOT EXISTS messages (
  id bytea PRIMARY KEY, uses bigint NOT NULL, data bytea NOT NULL);
CREATE TABLE IF NOT EXISTS inbox (
  account bytea, seq bigint, sender_user bytea NOT NULL, message bytea NOT NULL, size bigint NOT NULL, type text NOT NULL,
  mls_group bytea NOT NULL, epoch bigint NOT NULL, record bytea NOT NULL, PRIMARY KEY (account, seq));
CREATE TABLE IF NOT EXISTS inbox_state (
  account bytea PRIMARY KEY, last_seq bigint NOT NULL, messages bigint NOT NULL, octets bigint NOT NULL);
CREATE TABLE IF NOT EXISTS inbox_usage (
  account bytea, user_id bytea, messages bigint NOT NULL, octets bigint NOT NULL, PRIMARY KEY (account, user_id));

CREATE TABLE IF NOT EXISTS notes (
  kind smallint, owner bytea, key bytea, expires bigint NOT NULL, value bytea NOT NULL, PRIMARY KEY (kind, owner, key));
CREATE INDEX IF NOT EXISTS notes_end ON notes (expires ASC);
