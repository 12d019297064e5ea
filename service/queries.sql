-- Every statement of the service. `queries.py` has one typed function for each, of the same name.

-- name: schema_revision
-- The newest revision of schema.sql that was applied to this database.
SELECT max(revision)
FROM schema_revisions;

-- name: add_key
-- Stores the hash of a new API key; a hash that is there already is left as it is.
INSERT INTO api_keys (
    organization_id,
    name,
    prefix,
    sha256,
    scopes,
    expires_at
)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT ON CONSTRAINT api_keys_sha256_unique DO NOTHING;

-- name: find_key
-- Whose valid key this is; the one question that comes before the organization is known.
SELECT
    organization_id,
    id,
    scopes,
    expires_at
FROM api_keys
WHERE
    sha256 = $1
    AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > now());

-- name: list_keys
-- All keys of an organization, the oldest first.
SELECT
    organization_id,
    id,
    name,
    prefix,
    scopes,
    created_at,
    expires_at,
    last_used_at,
    revoked_at
FROM api_keys
WHERE organization_id = $1
ORDER BY id;

-- name: revoke_key
-- Ends a key now, unless it has ended before.
UPDATE api_keys
SET revoked_at = now()
WHERE
    organization_id = $1
    AND id = $2
    AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > now())
RETURNING id;

-- name: expire_key
-- Lets a valid key end after a while, not later than it would have anyway; tells what it was.
WITH old AS (
    SELECT
        organization_id,
        id,
        expires_at - created_at AS lifetime
    FROM api_keys
    WHERE
        organization_id = $1
        AND id = $2
        AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > now())
    FOR UPDATE
)
UPDATE api_keys k
SET expires_at = least(k.expires_at, now() + $3::interval)
FROM old
WHERE
    k.organization_id = old.organization_id
    AND k.id = old.id
RETURNING
    k.name,
    k.scopes,
    old.lifetime;

-- name: note_key_usage
-- Writes down when keys were last used, for many requests at once; in order, as replicas do it too.
WITH used AS (
    SELECT
        k.organization_id,
        k.id,
        u.at
    FROM api_keys k
    JOIN unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) AS u (organization_id, id, at)
        ON k.organization_id = u.organization_id AND k.id = u.id
    WHERE k.last_used_at IS NULL OR k.last_used_at < u.at
    ORDER BY
        k.organization_id,
        k.id
    FOR NO KEY UPDATE OF k
)
UPDATE api_keys k
SET last_used_at = used.at
FROM used
WHERE
    k.organization_id = used.organization_id
    AND k.id = used.id;

-- name: reserve_campaign_ids
-- Takes a block of ids that no other process will use.
SELECT nextval('campaign_ids') AS id
FROM generate_series(1, $1::integer);

-- name: create_draft
-- Stores a draft that comes alone and has no key, with its event and its history.
WITH campaign AS (
    INSERT INTO campaigns (
        organization_id,
        id,
        version,
        name,
        name_key,
        description,
        campaign_type,
        assistant_id,
        welcome_message_template,
        agenda_template,
        end_call_message_template,
        sms_message_template,
        fallback_values,
        max_attempts,
        retry_delay_minutes,
        created_at,
        updated_at,
        status
    )
    VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, 'draft')
),

history AS (
    INSERT INTO campaign_history (
        organization_id,
        campaign_id,
        version,
        change,
        changed_fields,
        changed_at,
        key_id,
        request_id,
        event_id,
        event_body,
        event_headers
    )
    VALUES ($1, $2, 1, 'created', '{}', $15, $16, $17, $18, $19, $20)
)

INSERT INTO outbox (
    organization_id,
    campaign_id,
    sequence,
    event_id,
    event_type,
    body,
    headers,
    created_at
)
VALUES ($1, $2, 1, $18, 'campaign.created', $19, $20, $15);

-- name: create_drafts
-- Stores drafts, each with its event, its history, and its answer if it has a key: all or none.
WITH draft AS (
    SELECT *
    FROM unnest(
        $1::bigint[],
        $2::text[],
        $3::text[],
        $4::bytea[],
        $5::json[],
        $6::text[],
        $7::bigint[],
        $8::text[],
        $9::text[],
        $10::text[],
        $11::text[],
        $12::bigint[],
        $13::text[],
        $14::text[],
        $15::text[],
        $16::text[],
        $17::json[],
        $18::integer[],
        $19::integer[],
        $20::timestamptz[],
        $21::bigint[],
        $22::text[],
        $23::uuid[],
        $24::text[],
        $25::json[]
    ) AS d (
        organization_id,
        endpoint,
        key,
        fingerprint,
        answer_headers,
        answer_body,
        id,
        name,
        name_key,
        description,
        campaign_type,
        assistant_id,
        welcome_message_template,
        agenda_template,
        end_call_message_template,
        sms_message_template,
        fallback_values,
        max_attempts,
        retry_delay_minutes,
        created_at,
        key_id,
        request_id,
        event_id,
        event_body,
        event_headers
    )
),

record AS (
    INSERT INTO idempotency_records AS r (
        organization_id,
        endpoint,
        key,
        fingerprint,
        status,
        headers,
        body
    )
    SELECT
        organization_id,
        endpoint,
        key,
        fingerprint,
        201,
        answer_headers,
        answer_body
    FROM draft
    WHERE key IS NOT NULL
    -- Or two batches that have keys in common could wait for each other.
    ORDER BY
        organization_id,
        endpoint,
        key
    ON CONFLICT ON CONSTRAINT idempotency_records_pkey DO UPDATE
    SET
        fingerprint = excluded.fingerprint,
        status = excluded.status,
        headers = excluded.headers,
        body = excluded.body,
        created_at = excluded.created_at
    WHERE r.created_at < now() - $26::interval
    RETURNING
        organization_id,
        endpoint,
        key
),

fresh AS (
    SELECT *
    FROM draft d
    WHERE
        d.key IS NULL
        OR EXISTS (
            SELECT 1
            FROM record r
            WHERE r.organization_id = d.organization_id AND r.endpoint = d.endpoint AND r.key = d.key
        )
),

campaign AS (
    INSERT INTO campaigns (
        organization_id,
        id,
        version,
        name,
        name_key,
        description,
        campaign_type,
        assistant_id,
        welcome_message_template,
        agenda_template,
        end_call_message_template,
        sms_message_template,
        fallback_values,
        max_attempts,
        retry_delay_minutes,
        created_at,
        updated_at,
        status
    )
    SELECT
        organization_id,
        id,
        1,
        name,
        name_key,
        description,
        campaign_type,
        assistant_id,
        welcome_message_template,
        agenda_template,
        end_call_message_template,
        sms_message_template,
        fallback_values,
        max_attempts,
        retry_delay_minutes,
        created_at,
        created_at,
        'draft'
    FROM fresh
),

history AS (
    INSERT INTO campaign_history (
        organization_id,
        campaign_id,
        version,
        change,
        changed_fields,
        changed_at,
        key_id,
        request_id,
        event_id,
        event_body,
        event_headers
    )
    SELECT
        organization_id,
        id,
        1,
        'created',
        '{}',
        created_at,
        key_id,
        request_id,
        event_id,
        event_body,
        event_headers
    FROM fresh
),

event AS (
    INSERT INTO outbox (
        organization_id,
        campaign_id,
        sequence,
        event_id,
        event_type,
        body,
        headers,
        created_at
    )
    SELECT
        organization_id,
        id,
        1,
        event_id,
        'campaign.created',
        event_body,
        event_headers,
        created_at
    FROM fresh
)
SELECT id
FROM fresh;

-- name: change_campaign
-- Stores the next version of a campaign if nobody was quicker, and all that create_drafts stores.
WITH last AS (
    SELECT
        organization_id,
        id
    FROM campaigns
    WHERE
        organization_id = $1
        AND id = $9
        AND version = $10 - 1
    FOR NO KEY UPDATE
),

record AS (
    INSERT INTO idempotency_records AS r (
        organization_id,
        endpoint,
        key,
        fingerprint,
        status,
        headers,
        body
    )
    SELECT organization_id, $2, $3, $4, $5, $6, $7
    FROM last
    WHERE $3::text IS NOT NULL
    ON CONFLICT ON CONSTRAINT idempotency_records_pkey DO UPDATE
    SET
        fingerprint = excluded.fingerprint,
        status = excluded.status,
        headers = excluded.headers,
        body = excluded.body,
        created_at = excluded.created_at
    WHERE r.created_at < now() - $8::interval
    RETURNING key
),

campaign AS (
    UPDATE campaigns c
    SET
        version = $10,
        name = $11,
        name_key = $12,
        description = $13,
        campaign_type = $14,
        assistant_id = $15,
        welcome_message_template = $16,
        agenda_template = $17,
        end_call_message_template = $18,
        sms_message_template = $19,
        fallback_values = $20,
        max_attempts = $21,
        retry_delay_minutes = $22,
        updated_at = $23,
        deleted_at = $24
    FROM last
    WHERE
        c.organization_id = last.organization_id
        AND c.id = last.id
        AND ($3::text IS NULL OR EXISTS (SELECT 1 FROM record))
    RETURNING
        c.organization_id,
        c.id,
        c.version,
        c.updated_at
),

history AS (
    INSERT INTO campaign_history (
        organization_id,
        campaign_id,
        version,
        change,
        changed_fields,
        changed_at,
        key_id,
        request_id,
        event_id,
        event_body,
        event_headers
    )
    SELECT
        organization_id,
        id,
        version,
        $25,
        $26,
        updated_at,
        $27,
        $28,
        $29,
        $31,
        $32
    FROM campaign
)
INSERT INTO outbox (
    organization_id,
    campaign_id,
    sequence,
    event_id,
    event_type,
    body,
    headers,
    created_at
)
SELECT
    organization_id,
    id,
    version,
    $29,
    $30,
    $31,
    $32,
    updated_at
FROM campaign;

-- name: keep_answer
-- Keeps the answer to a request with a key that had nothing to change.
INSERT INTO idempotency_records AS r (
    organization_id,
    endpoint,
    key,
    fingerprint,
    status,
    headers,
    body
)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT ON CONSTRAINT idempotency_records_pkey DO UPDATE
SET
    fingerprint = excluded.fingerprint,
    status = excluded.status,
    headers = excluded.headers,
    body = excluded.body,
    created_at = excluded.created_at
WHERE r.created_at < now() - $8::interval;

-- name: read_campaigns
-- Campaigns of this organization, in any order; those of others are not even looked at.
SELECT
    id,
    name,
    description,
    campaign_type,
    status,
    assistant_id,
    welcome_message_template,
    agenda_template,
    end_call_message_template,
    sms_message_template,
    fallback_values,
    variable_mappings,
    available_variables,
    max_attempts,
    retry_delay_minutes,
    total_contacts,
    completed_contacts,
    failed_contacts,
    created_at,
    updated_at,
    organization_id,
    version
FROM campaigns
WHERE
    organization_id = $1
    AND id = ANY($2)
    AND deleted_at IS NULL;

-- name: scan
-- What a list looks through, by {looked}: an index has all conditions in this order, so it reads no more.
SELECT
    id,
    {key} AS place,
    status,
    campaign_type,
    assistant_id,
    created_at,
    name_key
FROM campaigns
WHERE
    organization_id = $1
    AND deleted_at IS NULL
    AND ($2::text IS NULL OR status = $2)
    AND ($3::text IS NULL OR campaign_type = $3)
    AND ($4::bigint IS NULL OR assistant_id = $4)
    -- Nothing is updated before it is created, so an order by the update may begin there, too.
    AND ($5::timestamptz IS NULL OR {begins} > $5)
    AND ($6::timestamptz IS NULL OR created_at < $6)
    AND ($7::bigint IS NULL OR ({key}, id) {beyond} ($8, $7))
ORDER BY
    {looked} {way},
    id {way}
LIMIT $9

-- name: matches
-- Those among them that the list is about.
SELECT
    id AS found_id,
    place
FROM (
    {scan}
) looked_through
WHERE
    ($10::text IS NULL OR status = $10)
    AND ($11::text IS NULL OR campaign_type = $11)
    AND ($12::bigint IS NULL OR assistant_id = $12)
    AND ($13::timestamptz IS NULL OR created_at > $13)
    AND ($14::timestamptz IS NULL OR created_at < $14)
    AND ($15::text IS NULL OR name_key LIKE $15)
    AND ($16::bigint IS NULL OR (place, id) {beyond} ($17, $16))

-- name: list_campaigns
-- A page in the order of {key}, {way}, of those that lie {beyond} where another one ended; with sizes.
SELECT
    id,
    place,
    coalesce(octet_length(description), 0)
    + coalesce(octet_length(welcome_message_template), 0)
    + coalesce(octet_length(agenda_template), 0)
    + coalesce(octet_length(end_call_message_template), 0)
    + coalesce(octet_length(sms_message_template), 0)
    + octet_length(fallback_values::text) AS bytes
-- Joined last, as an index alone may tell what is passed by.
FROM (
    {matches}
    ORDER BY
        place {way},
        found_id {way}
    LIMIT $18
    OFFSET $19
) found
JOIN campaigns ON
    organization_id = $1
    AND id = found_id
ORDER BY
    place {way},
    id {way};

-- name: count_campaigns
-- How many campaigns a list has among those that it looks through, counted no further than a limit.
SELECT count(*)
FROM (
    {matches}
    LIMIT $18
) found;

-- name: find_end
-- The last that a list looks through, and whether the index has more.
SELECT
    id,
    place
FROM (
    {scan}
) looked_through
ORDER BY
    place {way},
    id {way}
OFFSET $9 - 2;

-- name: list_history
-- A page of the changes of a campaign, the latest first, also of one that is deleted.
SELECT
    version,
    change,
    changed_fields,
    changed_at,
    key_id,
    request_id
FROM campaign_history
WHERE
    organization_id = $1
    AND campaign_id = $2
ORDER BY version DESC
LIMIT $3
OFFSET $4;

-- name: count_history
-- How many changes a campaign has had; none: the organization never had such a campaign.
SELECT count(*)
FROM campaign_history
WHERE
    organization_id = $1
    AND campaign_id = $2;

-- name: names_without_key
-- The next names that an earlier release has written, after those of a campaign.
SELECT
    organization_id,
    id,
    name
FROM campaigns
WHERE
    (organization_id, id) > ($1, $2)
    AND name_key = ''
ORDER BY
    organization_id,
    id
LIMIT $3;

-- name: set_name_keys
-- Writes down what names are sorted and searched by.
UPDATE campaigns c
SET name_key = k.name_key
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS k (organization_id, id, name_key)
WHERE
    c.organization_id = k.organization_id
    AND c.id = k.id;

-- name: prune_campaigns
-- Forgets campaigns that were deleted long enough ago, and their history, a few at a time.
SELECT prune_campaigns($1, $2);

-- name: find_answer
-- What a request was answered that had this key, unless that was kept long enough.
SELECT
    fingerprint,
    status,
    headers,
    body
FROM idempotency_records
WHERE
    organization_id = $1
    AND endpoint = $2
    AND key = $3
    AND created_at >= now() - $4::interval
FOR KEY SHARE;

-- name: prune_answers
-- Forgets answers that were kept long enough, a few at a time, past those that another replica does.
DELETE FROM idempotency_records r
USING (
    SELECT
        organization_id,
        endpoint,
        key
    FROM idempotency_records
    WHERE created_at < now() - $1::interval
    ORDER BY created_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
) old
WHERE
    r.organization_id = old.organization_id
    AND r.endpoint = old.endpoint
    AND r.key = old.key;

-- name: count_events
-- How many events of a range can be sent again, and how many have not kept their bytes.
SELECT
    organization_id,
    'campaign.' || change AS type,
    count(event_id) AS events,
    count(*) - count(event_id) AS unavailable
FROM campaign_history
WHERE
    changed_at >= $1
    AND changed_at < $2
    AND 'campaign.' || change = ANY($3)
    AND ($4::bigint IS NULL OR organization_id = $4)
GROUP BY
    organization_id,
    change
ORDER BY
    organization_id,
    change;

-- name: find_events
-- The next events of a range that can be sent again, after one of them; those of a campaign in order.
SELECT
    changed_at,
    organization_id,
    campaign_id,
    version
FROM campaign_history
WHERE
    -- The index knows times only, not places.
    changed_at >= $1
    AND (changed_at, organization_id, campaign_id, version) > ($1, $2, $3, $4)
    AND changed_at < $5
    AND 'campaign.' || change = ANY($6)
    AND ($7::bigint IS NULL OR organization_id = $7)
    AND event_id IS NOT NULL
ORDER BY
    changed_at,
    organization_id,
    campaign_id,
    version
LIMIT $8;

-- name: republish_events
-- Puts events into the outbox as they were there before, unless they still are.
INSERT INTO outbox (
    organization_id,
    campaign_id,
    sequence,
    event_id,
    event_type,
    body,
    headers,
    created_at
)
SELECT
    h.organization_id,
    h.campaign_id,
    h.version,
    h.event_id,
    'campaign.' || h.change,
    h.event_body,
    h.event_headers,
    h.changed_at
FROM campaign_history h
JOIN unnest($1::bigint[], $2::bigint[], $3::integer[]) AS chosen (organization_id, campaign_id, version)
    ON
        h.organization_id = chosen.organization_id
        AND h.campaign_id = chosen.campaign_id
        AND h.version = chosen.version
-- The same for all, so that two operators do not wait for each other.
ORDER BY
    h.organization_id,
    h.campaign_id,
    h.version
ON CONFLICT ON CONSTRAINT outbox_pkey DO NOTHING;

-- name: outbox_exceeds
-- Whether more events wait than so many.
SELECT count(*) > $1
FROM (
    SELECT
    FROM outbox
    LIMIT $1 + 1
) AS counted;

-- name: claim_events
-- Locks the next due events, at most the oldest of each campaign, past those that another relay holds.
WITH due AS (
    SELECT
        o.organization_id,
        o.campaign_id,
        o.sequence,
        o.event_id,
        o.event_type,
        o.body,
        o.headers,
        o.created_at,
        o.next_attempt_at
    FROM outbox o
    WHERE
        o.next_attempt_at <= now()
        AND NOT EXISTS (
            SELECT 1
            FROM outbox earlier
            WHERE
                earlier.organization_id = o.organization_id
                AND earlier.campaign_id = o.campaign_id
                AND earlier.sequence < o.sequence
            -- Or it would be a join, which a plan from when the outbox was empty reads all of for each row.
            OFFSET 0
        )
    ORDER BY o.next_attempt_at
    LIMIT $1
    FOR UPDATE OF o SKIP LOCKED
),

counted AS (
    SELECT
        *,
        sum(octet_length(body)) OVER (ORDER BY next_attempt_at ROWS UNBOUNDED PRECEDING)
        - octet_length(body) AS bytes_before
    FROM due
)

SELECT
    organization_id,
    campaign_id,
    sequence,
    event_id,
    event_type,
    body,
    headers,
    created_at
FROM counted
-- A relay has several copies of what it publishes, and anybody may make events of half a megabyte.
WHERE bytes_before < 4 * 1024 * 1024
ORDER BY next_attempt_at;

-- name: delete_events
-- Forgets events that the broker confirmed.
DELETE FROM outbox
-- Each is looked up by itself: a join that was planned when the outbox was empty would read all of it.
WHERE ctid = ANY (ARRAY(
    SELECT (
        SELECT o.ctid
        FROM outbox o
        WHERE
            o.organization_id = confirmed.organization_id
            AND o.campaign_id = confirmed.campaign_id
            AND o.sequence = confirmed.sequence
    )
    FROM unnest($1::bigint[], $2::bigint[], $3::integer[]) AS confirmed (organization_id, campaign_id, sequence)
));

-- name: postpone_event
-- Notes why an attempt failed, and tries again in 1, 2, 4 ... 60 seconds.
UPDATE outbox
SET
    attempts = attempts + 1,
    next_attempt_at = now() + make_interval(secs => least(2 ^ least(attempts, 6), 60)),
    last_error = $4
WHERE
    organization_id = $1
    AND campaign_id = $2
    AND sequence = $3;

-- name: park_event
-- Keeps an event that no attempt can publish, and those of its campaign behind it, until an operator decides.
UPDATE outbox
SET
    attempts = attempts + 1,
    next_attempt_at = 'infinity',
    last_error = $4
WHERE
    organization_id = $1
    AND campaign_id = $2
    AND sequence = $3;

-- name: count_waiting
-- How many events wait and for what: an event goes after all earlier ones of its campaign, not before.
SELECT
    count(*) AS total,
    count(*) FILTER (WHERE goes_at <= now()) AS due,
    count(*) FILTER (WHERE goes_at > now() AND goes_at < 'infinity' AND next_attempt_at > now()) AS postponed,
    count(*) FILTER (WHERE goes_at > now() AND goes_at < 'infinity' AND next_attempt_at <= now()) AS behind_postponed,
    count(*) FILTER (WHERE next_attempt_at = 'infinity') AS parked,
    count(*) FILTER (WHERE goes_at = 'infinity' AND next_attempt_at < 'infinity') AS behind_parked,
    extract(epoch FROM now() - min(waits_since))::float8 AS oldest_seconds
FROM (
    SELECT
        next_attempt_at,
        max(next_attempt_at) OVER (PARTITION BY organization_id, campaign_id ORDER BY sequence) AS goes_at,
        -- An event of the past that was republished is old, but has not waited for long.
        CASE WHEN attempts = 0 AND next_attempt_at < 'infinity' THEN next_attempt_at ELSE created_at END AS waits_since
    FROM outbox
) o;

-- name: count_reasons
-- Why events are postponed or parked, the most frequent reasons first.
SELECT
    next_attempt_at = 'infinity' AS parked,
    coalesce(last_error, 'unknown') AS reason,
    count(*) AS events
FROM outbox
WHERE next_attempt_at > now()
GROUP BY
    1,
    2
ORDER BY
    events DESC,
    reason
LIMIT $1;

-- name: count_passages
-- How many events have ever come into the outbox, and left it; up to a second late.
SELECT
    n_tup_ins AS entered,
    n_tup_del AS gone,
    extract(epoch FROM clock_timestamp())::float8 AS at
FROM pg_stat_user_tables
WHERE relid = 'outbox'::regclass;

-- name: list_parked
-- Parked events, the oldest first, and how many wait behind each.
SELECT
    organization_id,
    campaign_id,
    sequence,
    event_type AS type,
    event_id::text,
    created_at,
    attempts,
    (
        SELECT count(*)
        FROM outbox later
        WHERE
            later.organization_id = o.organization_id
            AND later.campaign_id = o.campaign_id
            AND later.sequence > o.sequence
    ) AS behind,
    coalesce(last_error, 'unknown') AS reason
FROM outbox o
WHERE next_attempt_at = 'infinity'
ORDER BY
    created_at,
    organization_id,
    campaign_id,
    sequence
LIMIT $1;

-- name: find_parked
-- All of a parked event, and whether it could be republished if it were not here any more.
SELECT
    organization_id,
    campaign_id,
    sequence,
    event_type AS type,
    event_id::text,
    created_at,
    attempts,
    (
        SELECT count(*)
        FROM outbox later
        WHERE
            later.organization_id = o.organization_id
            AND later.campaign_id = o.campaign_id
            AND later.sequence > o.sequence
    ) AS behind,
    coalesce(last_error, 'unknown') AS reason,
    EXISTS (
        SELECT 1
        FROM campaign_history h
        WHERE
            h.organization_id = o.organization_id
            AND h.campaign_id = o.campaign_id
            AND h.version = o.sequence
            AND h.event_id = o.event_id
    ) AS in_history,
    headers,
    body
FROM outbox o
WHERE
    event_id = $1
    AND next_attempt_at = 'infinity';

-- name: replay_events
-- Lets the relay try a parked event, or all of them, once more; tells how many waited behind.
WITH replayed AS (
    UPDATE outbox
    SET
        next_attempt_at = now(),
        attempts = 0
    WHERE
        next_attempt_at = 'infinity'
        AND ($1::uuid IS NULL OR event_id = $1)
    RETURNING
        organization_id,
        campaign_id,
        sequence
),

campaigns_first AS (
    SELECT
        organization_id,
        campaign_id,
        min(sequence) AS sequence
    FROM replayed
    GROUP BY
        organization_id,
        campaign_id
)
SELECT
    (SELECT count(*) FROM replayed) AS replayed,
    (
        SELECT count(*)
        FROM campaigns_first f
        JOIN outbox later ON
            later.organization_id = f.organization_id
            AND later.campaign_id = f.campaign_id
            AND later.sequence > f.sequence
        -- Those that are replayed look parked here, as the statement sees what was before it.
        WHERE later.next_attempt_at < 'infinity'
    ) AS behind;

-- name: discard_event
-- Deletes a parked event, and tells all of it, as find_parked does.
DELETE FROM outbox o
WHERE
    event_id = $1
    AND next_attempt_at = 'infinity'
RETURNING
    organization_id,
    campaign_id,
    sequence,
    event_type AS type,
    event_id::text,
    created_at,
    attempts,
    (
        SELECT count(*)
        FROM outbox later
        WHERE
            later.organization_id = o.organization_id
            AND later.campaign_id = o.campaign_id
            AND later.sequence > o.sequence
    ) AS behind,
    coalesce(last_error, 'unknown') AS reason,
    EXISTS (
        SELECT 1
        FROM campaign_history h
        WHERE
            h.organization_id = o.organization_id
            AND h.campaign_id = o.campaign_id
            AND h.version = o.sequence
            AND h.event_id = o.event_id
    ) AS in_history,
    headers,
    body;
