-- What both examples keep beside their work, so that one transaction holds all of it.
-- They set search_path to a schema of the consumer's own: the three queues get the same event ids.

CREATE TABLE IF NOT EXISTS positions (
    campaign_id bigint PRIMARY KEY,
    sequence bigint NOT NULL
);
COMMENT ON TABLE positions IS 'The last event applied of each campaign; 0 is none.';

CREATE TABLE IF NOT EXISTS inbox (
    event_id text PRIMARY KEY,
    campaign_id bigint NOT NULL,
    sequence bigint NOT NULL,
    body text,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT inbox_sequence_key UNIQUE (campaign_id, sequence)
);
COMMENT ON TABLE inbox IS
    'Events that have come. Old rows without a body may go: positions tells their copies, too.';
COMMENT ON COLUMN inbox.body IS
    'The event while it waits for an earlier one; whoever is on call wants to know of old ones.';
CREATE INDEX IF NOT EXISTS inbox_waiting ON inbox (received_at) WHERE body IS NOT NULL;

CREATE TABLE IF NOT EXISTS campaigns (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    status text NOT NULL,
    version bigint NOT NULL,
    events bigint NOT NULL DEFAULT 1
);
COMMENT ON TABLE campaigns IS 'The work: put yours in its place.';
COMMENT ON COLUMN campaigns.events IS 'A count, which an event that is applied twice makes wrong.';
