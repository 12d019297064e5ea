"""Campaigns by the million, as unlike each other as those of real organizations."""

from collections.abc import Mapping
from datetime import UTC, datetime

from service.postgres import Connection

# The newest of a thousand days; fixed, so that tests see the same campaigns in years to come.
NEWEST = datetime(2026, 1, 1, tzinfo=UTC)

# What is rare, or new, or over since long, is what plans go wrong by.
_FILL = """
INSERT INTO campaigns (
    organization_id, id, version, name, name_key, campaign_type, status, assistant_id,
    fallback_values, max_attempts, retry_delay_minutes, created_at, updated_at
)
SELECT
    $1, n, 1, name, lower(name), campaign_type, status, assistant_id, '{}', 3, 30, created_at,
    least(
        created_at + CASE
            WHEN luck[5] < 0.60 THEN interval '0'
            WHEN luck[5] < 0.95 THEN interval '14 days' * luck[6]
            ELSE interval '1000 days' * luck[6]
        END,
        timestamptz '2026-01-01T00:00:00Z'
    )
FROM (
    SELECT
        n,
        luck,
        timestamptz '2026-01-01T00:00:00Z' - interval '1000 days' * age AS created_at,
        CASE
            WHEN age < 0.0004 AND luck[1] < 0.40 THEN 'running'
            WHEN age < 0.01 AND luck[1] < 0.30 THEN 'scheduled'
            WHEN age < 0.05 AND luck[1] < 0.003 THEN 'paused'
            WHEN age < 0.05 AND luck[1] < 0.60 THEN 'draft'
            WHEN luck[1] < 0.02 THEN 'failed'
            WHEN luck[1] < 0.07 THEN 'cancelled'
            ELSE 'completed'
        END AS status,
        CASE
            WHEN luck[2] < 0.0002 THEN 'sms'
            WHEN age < 0.1 AND luck[2] < 0.30 THEN 'mixed'
            ELSE 'call'
        END AS campaign_type,
        CASE
            WHEN age > 0.90 AND luck[3] < 0.20 THEN 7
            WHEN luck[3] > 0.99999 THEN 8
            ELSE 100 + floor(300 * power(luck[3], 3))
        END AS assistant_id,
        (ARRAY['Spring', 'Summer', 'Autumn', 'Winter'])[1 + floor(4 * luck[4])]
            || (ARRAY[' visit', ' payment', ' renewal', ' survey'])[1 + floor(4 * luck[7])]
            || CASE
                WHEN luck[6] < 0.30 THEN ' reminder'
                WHEN luck[6] > 0.99997 THEN ' zebra'
                WHEN age > 0.90 AND luck[6] > 0.50 THEN ' pilot'
                ELSE ' call'
            END
            || ' ' || n * 7919 % 1000003 AS name
    FROM (
        SELECT
            n,
            1 - (n - $2)::float8 / $3 AS age,
            ARRAY[random(), random(), random(), random(), random(), random(), random()] AS luck
        FROM generate_series($2::bigint, $2::bigint + $3::bigint - 1) AS n
    ) drawn
) made
"""


_ALL_VISIBLE = "SELECT relallvisible = relpages FROM pg_class WHERE oid = 'campaigns'::regclass"


async def gather(connection: Connection, sizes: Mapping[int, int], *, seconds: float = 120) -> None:
    """Give each organization so many campaigns, one after another; there are none yet.

    Raises:
        TimeoutError: a statement takes longer than so many seconds.
    """
    await connection.execute(
        """
        SET synchronous_commit = off;
        SET maintenance_work_mem = '512MB';
        SELECT setseed(0.5);
        """
    )
    # An index that is made at once takes a tenth of the time.
    indexes = await connection.fetch(
        """
        SELECT indexname AS name, indexdef AS definition
        FROM pg_indexes
        WHERE schemaname = current_schema() AND tablename = 'campaigns'
            AND indexname <> 'campaigns_pkey'
        """
    )
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    first = 1
    for organization_id, size in sizes.items():
        await connection.execute(_FILL, organization_id, first, size, timeout=seconds)
        first += size
    for index in indexes:
        await connection.execute(index["definition"], timeout=seconds)
    # What autovacuum does sooner or later; at once it may leave out what others might still see.
    for _ in range(10):
        await connection.execute("VACUUM (ANALYZE) campaigns", timeout=seconds)
        if await connection.fetchval(_ALL_VISIBLE):
            break
