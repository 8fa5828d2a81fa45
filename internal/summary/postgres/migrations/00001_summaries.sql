-- Instants are Unix times in nanoseconds, because a timestamp has only microseconds.

-- +goose Up
CREATE TABLE summaries (
	seq      bigint NOT NULL, -- the order of storing
	id       text COLLATE "C" PRIMARY KEY,
	plate    text COLLATE "C" NOT NULL,
	entry_at bigint NOT NULL,
	exit_at  bigint NOT NULL
);

CREATE SEQUENCE summaries_seq OWNED BY summaries.seq;

CREATE INDEX summaries_by_exit ON summaries (exit_at, seq);

CREATE INDEX summaries_by_plate ON summaries (plate, exit_at, seq);
