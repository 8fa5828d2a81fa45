-- The totals over all summaries are the sum of the rows of this table. Each process updates one row only, because
-- transactions that update the same row wait for each other. Durations are in nanoseconds.

-- +goose Up
CREATE TABLE summary_totals (
	slot       smallint PRIMARY KEY,
	summaries  bigint NOT NULL DEFAULT 0,
	nanos      numeric NOT NULL DEFAULT 0, -- the sum of all durations
	shortest   bigint,
	longest    bigint,
	first_exit bigint,
	last_exit  bigint
) WITH (fillfactor = 50);

INSERT INTO summary_totals (slot) SELECT generate_series(0, 15);

UPDATE summary_totals SET
	summaries = t.summaries, nanos = t.nanos, shortest = t.shortest, longest = t.longest,
	first_exit = t.first_exit, last_exit = t.last_exit
FROM (
	SELECT count(*) AS summaries, coalesce(sum(exit_at - entry_at), 0) AS nanos,
		min(exit_at - entry_at) AS shortest, max(exit_at - entry_at) AS longest,
		min(exit_at) AS first_exit, max(exit_at) AS last_exit
	FROM summaries
) AS t
WHERE slot = 0;
