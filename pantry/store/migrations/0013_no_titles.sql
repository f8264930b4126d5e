-- Nothing reads titles: the beginning of a session's system message, in plain text even beside an encrypted history.
-- The column stays, empty, so that a service that still runs an older version goes on.
UPDATE sessions SET title = '';
