-- When an app last called, as RFC 3339 text; NULL for one that never did.
ALTER TABLE apps ADD COLUMN last_seen TEXT;
