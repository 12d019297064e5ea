-- The whole schema. `campaigns migrate` applies it, under an advisory lock and in one transaction;
-- every statement may run again on a database that has it already.

CREATE TABLE IF NOT EXISTS schema_revisions (
    revision   integer     CONSTRAINT schema_revisions_pkey PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE schema_revisions IS 'Which revisions of schema.sql this database has seen; /readyz compares the newest with what the service expects.';


CREATE TABLE IF NOT EXISTS api_keys (
    organization_id bigint      NOT NULL CONSTRAINT api_keys_organization_positive CHECK (organization_id > 0),
    id              bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    name            text        NOT NULL CONSTRAINT api_keys_name_not_blank CHECK (btrim(name) <> ''),
    sha256          bytea       NOT NULL CONSTRAINT api_keys_sha256_length CHECK (octet_length(sha256) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT api_keys_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT api_keys_sha256_unique UNIQUE (sha256)
);
-- Revision 2.
ALTER TABLE api_keys
    ADD COLUMN IF NOT EXISTS prefix       text        NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS scopes       text[]      NOT NULL DEFAULT '{campaigns:read,campaigns:write,templates:preview}' CONSTRAINT api_keys_scopes_known CHECK (scopes <@ '{campaigns:read,campaigns:write,templates:preview}'),
    ADD COLUMN IF NOT EXISTS expires_at   timestamptz,
    ADD COLUMN IF NOT EXISTS revoked_at   timestamptz,
    ADD COLUMN IF NOT EXISTS last_used_at timestamptz;
-- Keys of revision 1 have no checksum, so none of them opens anything any more.
UPDATE api_keys SET revoked_at = now() WHERE prefix = '' AND revoked_at IS NULL;
ALTER TABLE api_keys
    ALTER COLUMN prefix DROP DEFAULT,
    ALTER COLUMN scopes DROP DEFAULT;
COMMENT ON COLUMN api_keys.prefix IS 'The first characters of the key, for people to tell keys apart by.';
COMMENT ON COLUMN api_keys.last_used_at IS 'Up to a minute late, as it is written for many requests at once.';
COMMENT ON COLUMN api_keys.sha256 IS 'SHA-256 of the key; the key itself is shown once, when it is made, and kept nowhere.';


-- Ids are reserved in blocks before a campaign is written, so that its response and its event are
-- complete bytes by the time the one statement stores them.
CREATE SEQUENCE IF NOT EXISTS campaign_ids AS bigint;

CREATE TABLE IF NOT EXISTS campaigns (
    organization_id           bigint      NOT NULL,
    id                        bigint      NOT NULL,
    version                   integer     NOT NULL,
    name                      text        NOT NULL CONSTRAINT campaigns_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
    description               text,
    campaign_type             text        NOT NULL CONSTRAINT campaigns_campaign_type_known CHECK (campaign_type IN ('call', 'sms', 'mixed')),
    status                    text        NOT NULL CONSTRAINT campaigns_status_known CHECK (status IN ('draft', 'scheduled', 'running', 'paused', 'completed', 'cancelled', 'failed')),
    assistant_id              bigint      NOT NULL,
    welcome_message_template  text,
    agenda_template           text,
    end_call_message_template text,
    sms_message_template      text,
    fallback_values           json        NOT NULL,
    variable_mappings         json        NOT NULL DEFAULT '{}',
    available_variables       json        NOT NULL DEFAULT '[]',
    max_attempts              integer     NOT NULL,
    retry_delay_minutes       integer     NOT NULL,
    total_contacts            integer     NOT NULL DEFAULT 0,
    completed_contacts        integer     NOT NULL DEFAULT 0,
    failed_contacts           integer     NOT NULL DEFAULT 0,
    created_at                timestamptz NOT NULL,
    updated_at                timestamptz NOT NULL,

    CONSTRAINT campaigns_pkey PRIMARY KEY (organization_id, id)
);
COMMENT ON COLUMN campaigns.version IS 'Counts the changes of this campaign, from 1: the ETag over HTTP and the sequence of its events.';
COMMENT ON COLUMN campaigns.status IS 'draft: may be edited; scheduled: has a start time; running; paused: may be edited; completed, cancelled, failed: ended.';
COMMENT ON COLUMN campaigns.fallback_values IS 'json, not jsonb: a caller reads back its own order of keys.';


CREATE TABLE IF NOT EXISTS outbox (
    organization_id bigint      NOT NULL,
    campaign_id     bigint      NOT NULL,
    sequence        integer     NOT NULL,
    event_id        uuid        NOT NULL,
    event_type      text        NOT NULL,
    body            text        NOT NULL,
    headers         json        NOT NULL,
    created_at      timestamptz NOT NULL,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    attempts        integer     NOT NULL DEFAULT 0,
    last_error      text,

    CONSTRAINT outbox_pkey PRIMARY KEY (organization_id, campaign_id, sequence)
);
CREATE INDEX IF NOT EXISTS outbox_next_attempt_at ON outbox (next_attempt_at);
COMMENT ON TABLE outbox IS 'Events that are committed and not yet confirmed by the broker. A confirmed event is deleted, so a healthy outbox is empty.';
COMMENT ON COLUMN outbox.sequence IS 'Version of the campaign that the event tells of; events of one campaign leave in this order.';
COMMENT ON COLUMN outbox.event_type IS 'CloudEvents type, and the routing key.';
COMMENT ON COLUMN outbox.body IS 'The whole event as it is published, byte for byte, at every attempt.';
COMMENT ON COLUMN outbox.next_attempt_at IS 'When it is due; infinity: parked, as no attempt can publish it, until an operator replays or discards it.';
COMMENT ON COLUMN outbox.attempts IS 'How often it was given up for a while; an attempt of unknown outcome counts only if it was the second failure in a row and nothing else was under way.';


-- Revision 3.
CREATE TABLE IF NOT EXISTS idempotency_records (
    organization_id bigint      NOT NULL,
    endpoint        text        NOT NULL,
    key             text        NOT NULL CONSTRAINT idempotency_records_key_length CHECK (char_length(key) BETWEEN 1 AND 255),
    fingerprint     bytea       NOT NULL CONSTRAINT idempotency_records_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    status          integer     NOT NULL,
    headers         json        NOT NULL,
    body            text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT idempotency_records_pkey PRIMARY KEY (organization_id, endpoint, key)
);
CREATE INDEX IF NOT EXISTS idempotency_records_created_at ON idempotency_records (created_at);
COMMENT ON TABLE idempotency_records IS 'What was answered to requests with an Idempotency-Key, to be answered again when they are repeated.';
COMMENT ON COLUMN idempotency_records.endpoint IS 'Method and path: a key may be used once at each.';
COMMENT ON COLUMN idempotency_records.fingerprint IS 'SHA-256 of what the request body says, defaults left out and names in order.';


-- Revision 4.
ALTER TABLE campaigns
    ADD COLUMN IF NOT EXISTS name_key   text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS deleted_at timestamptz;
COMMENT ON COLUMN campaigns.name_key IS 'The name as it is sorted and searched: case-folded by the service, so that this does not depend on the locale of the database. Empty: written by an earlier release; migrate fills it.';
COMMENT ON COLUMN campaigns.deleted_at IS 'Since when it is deleted: nobody reads it any more, but events that are under way still refer to something.';

-- One for each order of a list, and one for each filter in each order: by any other, a page may read
-- all campaigns that come before those of the filter. What they include lets several filters be
-- counted, and campaigns be passed by, without a look at the campaigns.
CREATE INDEX IF NOT EXISTS campaigns_created_at ON campaigns (organization_id, created_at, id) INCLUDE (name_key) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_updated_at ON campaigns (organization_id, updated_at, id) INCLUDE (created_at, name_key) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_name_key ON campaigns (organization_id, name_key, id) INCLUDE (created_at) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_status ON campaigns (organization_id, status, created_at, id) INCLUDE (campaign_type, assistant_id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_status_updated_at ON campaigns (organization_id, status, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_status_name_key ON campaigns (organization_id, status, name_key, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_campaign_type ON campaigns (organization_id, campaign_type, created_at, id) INCLUDE (status, assistant_id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_campaign_type_updated_at ON campaigns (organization_id, campaign_type, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_campaign_type_name_key ON campaigns (organization_id, campaign_type, name_key, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_assistant_id ON campaigns (organization_id, assistant_id, created_at, id) INCLUDE (status, campaign_type) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_assistant_id_updated_at ON campaigns (organization_id, assistant_id, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_assistant_id_name_key ON campaigns (organization_id, assistant_id, name_key, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS campaigns_deleted_at ON campaigns (deleted_at) WHERE deleted_at IS NOT NULL;
-- Found parts of names, but took as long for frequent ones as there were campaigns.
DROP INDEX IF EXISTS campaigns_search;

CREATE TABLE IF NOT EXISTS campaign_history (
    organization_id bigint      NOT NULL,
    campaign_id     bigint      NOT NULL,
    version         integer     NOT NULL,
    change          text        NOT NULL CONSTRAINT campaign_history_change_known CHECK (change IN ('created', 'updated', 'deleted')),
    changed_fields  text[]      NOT NULL,
    changed_at      timestamptz NOT NULL,
    key_id          bigint,
    request_id      text,

    CONSTRAINT campaign_history_pkey PRIMARY KEY (organization_id, campaign_id, version)
);
COMMENT ON TABLE campaign_history IS 'Every change of every campaign, append-only: the service may insert and read.';
COMMENT ON COLUMN campaign_history.key_id IS 'The API key that did it; unknown for what was created before revision 4.';
INSERT INTO campaign_history (organization_id, campaign_id, version, change, changed_fields, changed_at)
SELECT organization_id, id, 1, 'created', '{}', created_at
FROM campaigns c
WHERE NOT EXISTS (
    SELECT FROM campaign_history h
    WHERE h.organization_id = c.organization_id AND h.campaign_id = c.id AND h.version = 1
);

-- Nobody can say that a campaign was deleted long ago, and have it pruned at once.
CREATE OR REPLACE FUNCTION stamp_deletion() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.deleted_at IS NOT NULL THEN
        RAISE EXCEPTION 'campaign % is deleted already', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    NEW.deleted_at := now();
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER campaigns_deletion
BEFORE UPDATE OF deleted_at ON campaigns
FOR EACH ROW WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
EXECUTE FUNCTION stamp_deletion();

-- A function of the owner's, as the service itself may delete neither campaigns nor their history.
CREATE OR REPLACE FUNCTION prune_campaigns(kept interval, most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER AS $$
    WITH old AS (
        SELECT
            organization_id,
            id
        FROM campaigns c
        WHERE
            deleted_at < now() - greatest(kept, interval '1 day')
            AND NOT EXISTS (
                SELECT FROM outbox o
                WHERE o.organization_id = c.organization_id AND o.campaign_id = c.id
            )
        ORDER BY deleted_at
        LIMIT most
        FOR UPDATE SKIP LOCKED
    ),

    history AS (
        DELETE FROM campaign_history h
        USING old
        WHERE h.organization_id = old.organization_id AND h.campaign_id = old.id
    ),

    pruned AS (
        DELETE FROM campaigns c
        USING old
        WHERE c.organization_id = old.organization_id AND c.id = old.id
        RETURNING 1
    )
    SELECT count(*) FROM pruned;
$$;
REVOKE ALL ON FUNCTION prune_campaigns FROM PUBLIC;
DO $$
BEGIN
    -- Or a caller could lead it to tables of its own, which are found first otherwise.
    EXECUTE format('ALTER FUNCTION prune_campaigns SET search_path = %I, pg_temp', current_schema());
END $$;


-- Revision 5.
ALTER TABLE campaign_history
    ADD COLUMN IF NOT EXISTS event_id      uuid,
    ADD COLUMN IF NOT EXISTS event_body    text,
    ADD COLUMN IF NOT EXISTS event_headers json;
COMMENT ON COLUMN campaign_history.event_body IS 'The event as the outbox had it, to be sent again byte for byte: its type is ''campaign.'' and the change, its time changed_at. Unknown, as are id and headers, for what was stored before revision 5.';
-- For republishing a range. A row costs it next to nothing, as rows come in the order of time.
CREATE INDEX IF NOT EXISTS campaign_history_changed_at ON campaign_history USING brin (changed_at) WITH (autosummarize = on);


-- Two roles that may do what their statements in queries.sql do, and nothing else. They belong to
-- all databases of the server; an owner who may not create roles goes on without them.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY ['campaigns_service', 'campaigns_relay'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- The migration of another database was quicker.
            END;
        END IF;
    END LOOP;

    REVOKE ALL ON schema_revisions, api_keys, campaigns, outbox, idempotency_records, campaign_history FROM campaigns_service, campaigns_relay;
    REVOKE ALL ON SEQUENCE campaign_ids FROM campaigns_service, campaigns_relay;
    REVOKE ALL ON FUNCTION prune_campaigns FROM campaigns_service, campaigns_relay;

    -- PUBLIC may have lost it, as careful owners see to.
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO campaigns_service, campaigns_relay', current_schema());
    GRANT SELECT (revision) ON schema_revisions TO campaigns_service;
    GRANT SELECT (organization_id, id, sha256, scopes, expires_at, revoked_at, last_used_at) ON api_keys TO campaigns_service;
    GRANT UPDATE (last_used_at) ON api_keys TO campaigns_service;
    GRANT USAGE ON SEQUENCE campaign_ids TO campaigns_service;
    GRANT INSERT, SELECT ON campaigns TO campaigns_service;
    GRANT UPDATE (version, name, name_key, description, campaign_type, assistant_id, welcome_message_template, agenda_template, end_call_message_template, sms_message_template, fallback_values, max_attempts, retry_delay_minutes, updated_at, deleted_at) ON campaigns TO campaigns_service;
    GRANT INSERT, SELECT (organization_id, campaign_id, version, change, changed_fields, changed_at, key_id, request_id) ON campaign_history TO campaigns_service;
    GRANT EXECUTE ON FUNCTION prune_campaigns TO campaigns_service;
    GRANT INSERT, SELECT (next_attempt_at) ON outbox TO campaigns_service;
    GRANT INSERT, SELECT, DELETE, UPDATE (fingerprint, status, headers, body, created_at) ON idempotency_records TO campaigns_service;

    GRANT SELECT, DELETE, UPDATE (next_attempt_at, attempts, last_error) ON outbox TO campaigns_relay;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the roles campaigns_service and campaigns_relay are not there, and this user may not create them: the service needs the login of the owner of its tables';
END $$;


INSERT INTO schema_revisions (revision) VALUES (5) ON CONFLICT DO NOTHING;
