-- PostgreSQL alone: sealed octets do not shrink, so it should not try.
ALTER TABLE objects ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE messages ALTER COLUMN data SET STORAGE EXTERNAL;
