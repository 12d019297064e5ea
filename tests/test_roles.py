"""Least privilege: each role may do what its statements do, and nothing else."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest
import structlog

from service import migration, postgres, queries
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Start
from tests.test_commands import campaigns

ROLES = ("campaigns_service", "campaigns_relay")

OF_THE_OWNER = {"add_key", "list_keys", "revoke_key", "expire_key"}
OF_THE_OWNER |= {"count_events", "find_events", "republish_events"}
OF_THE_OWNER |= {"find_parked", "discard_event"}
OF_THE_RELAY = {"claim_events", "delete_events", "postpone_event", "park_event"}
# What operators ask of the outbox alone, the relay's login could ask, too.
OF_THE_RELAY |= {"count_waiting", "count_reasons", "list_parked", "replay_events"}
# PostgreSQL shows its counters to every login; how much waits is for those who fill the outbox to
# ask, and those who empty it see it anyway.
OF_BOTH = {"count_passages", "outbox_exceeds"}
STATEMENTS_OF = {
    "campaigns_service": queries.STATEMENTS.keys() - OF_THE_OWNER - OF_THE_RELAY,
    "campaigns_relay": OF_THE_RELAY | OF_BOTH,
}

# Whatever a role was given, as REVOKE takes it.
GRANTS = """
    SELECT format('%s ON %s %s', privilege_type, CASE relkind WHEN 'S' THEN 'SEQUENCE' END, c.oid::regclass)
    FROM pg_class c, aclexplode(relacl)
    WHERE grantee = $1::text::regrole
    UNION ALL
    SELECT format('%s (%s) ON %s', privilege_type, attname, attrelid::regclass)
    FROM pg_attribute, aclexplode(attacl)
    WHERE grantee = $1::text::regrole
    UNION ALL
    SELECT format('%s ON FUNCTION %s', privilege_type, p.oid::regprocedure)
    FROM pg_proc p, aclexplode(proacl)
    WHERE grantee = $1::text::regrole
"""  # noqa: E501

# The plan is enough for PostgreSQL to look at tables, but not at sequences and functions.
NOT_PLANNED = {
    "reserve_campaign_ids": "SELECT nextval('campaign_ids')",
    "prune_campaigns": "SELECT prune_campaigns('1 day', 1)",
}


@asynccontextmanager
async def undone(connection: Connection) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def may_run(connection: Connection, role: str) -> set[str]:
    """The statements that the role may run."""
    return {name for name in queries.STATEMENTS if await is_allowed(connection, role, name)}


async def is_allowed(connection: Connection, role: str, name: str) -> bool:
    explain = f"EXPLAIN (GENERIC_PLAN) {queries.STATEMENTS[name]}"
    explain = NOT_PLANNED.get(name, explain)
    async with undone(connection):
        await connection.execute(f"SET LOCAL ROLE {role}")
        return not await is_denied(connection, explain)


async def is_denied(connection: Connection, statement: str) -> bool:
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


async def is_refused(settings: Settings, statement: str) -> bool:
    async with postgres.connect(settings) as connection:
        return await is_denied(connection, statement)


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_run_its_statements_and_no_others(
    connection: Connection, role: str
) -> None:
    assert await may_run(connection, role) == STATEMENTS_OF[role]


@pytest.mark.parametrize("role", ROLES)
async def test_every_privilege_of_a_role_is_needed_by_a_statement(
    connection: Connection, role: str
) -> None:
    grants = [grant for (grant,) in await connection.fetch(GRANTS, role)]
    assert grants
    for grant in grants:
        async with undone(connection):
            await connection.execute(f"REVOKE {grant} FROM {role}")
            assert await may_run(connection, role) < STATEMENTS_OF[role], grant


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT body FROM outbox", "events are the relay's"),
        ("SELECT event_body FROM campaign_history", "events are the relay's"),
        ("DELETE FROM outbox", "an event that is not published would be lost"),
        ("DELETE FROM campaigns", "only those deleted long ago are pruned, by a function"),
        ("UPDATE campaigns SET organization_id = 2", "campaigns stay whose they are"),
        ("UPDATE campaign_history SET change = 'created'", "history is append-only"),
        ("DELETE FROM campaign_history", "history is append-only"),
        ("TRUNCATE campaign_history", "history is append-only"),
        ("UPDATE campaigns SET status = 'running'", "nothing changes it yet"),
        ("INSERT INTO api_keys (organization_id) VALUES (1)", "it could let itself in"),
        ("UPDATE api_keys SET revoked_at = NULL", "it could let others in again"),
        ("UPDATE api_keys SET organization_id = 2", "a key would open another organization"),
        ("SELECT name FROM api_keys", "names are for the owner's list"),
        ("SELECT setval('campaign_ids', 1)", "ids would come twice"),
        ("INSERT INTO schema_revisions VALUES (99)", "only migrations know"),
        ("TRUNCATE outbox", "the same, and faster"),
        ("CREATE TABLE mine (id int)", "it owns nothing"),
        ("DROP TABLE campaigns", "it owns nothing"),
        ("SET ROLE campaigns_relay", "the roles are apart"),
        ("SET ROLE campaigns", "the owner's rights stay with the owner"),
    ],
)
async def test_the_service_must_not(settings: Settings, statement: str, reason: str) -> None:
    assert await is_refused(settings, statement), reason


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT 1 FROM campaigns", "it sees the outbox only"),
        ("SELECT 1 FROM api_keys", "it sees the outbox only"),
        ("SELECT 1 FROM campaign_history", "it sees the outbox only"),
        ("SELECT prune_campaigns('1 day', 1)", "it prunes nothing"),
        ("SELECT 1 FROM schema_revisions", "it sees the outbox only"),
        ("SELECT nextval('campaign_ids')", "it makes no campaigns"),
        ("INSERT INTO outbox (organization_id) VALUES (1)", "it invents no events"),
        ("UPDATE outbox SET body = ''", "events stay as they were committed"),
        ("UPDATE outbox SET organization_id = 2", "events stay whose they are"),
        ("TRUNCATE outbox", "it deletes what it published, row by row"),
        ("CREATE TABLE mine (id int)", "it owns nothing"),
        ("SET ROLE campaigns_service", "the roles are apart"),
    ],
)
async def test_the_relay_must_not(settings: Settings, statement: str, reason: str) -> None:
    relays = replace(settings, database_url=settings.relay_database_url)
    assert await is_refused(relays, statement), reason


async def test_the_roles_are_neither_owners_nor_superusers(connection: Connection) -> None:
    roles = await connection.fetch(
        """
        SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
               EXISTS (SELECT FROM pg_class WHERE relowner = r.oid) AS owns
        FROM pg_roles r
        WHERE rolname LIKE 'campaigns\\_%'
        """
    )
    assert len(roles) == len(ROLES)
    assert not any(any(role.values()) for role in roles)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["migrate"], "the schema is the owner's"),
        (["keys", "create", "--organization", "7", "--name", "a"], "keys are the owner's"),
        (["keys", "list", "--organization", "7"], "keys are the owner's"),
        (["events", "parked", "list"], "events are the owner's"),
    ],
)
def test_the_commands_of_the_owner_say_so_to_others(
    settings: Settings, command: list[str], reason: str
) -> None:
    done = campaigns(*command, settings=settings)
    assert done.returncode == 2, reason
    assert done.stderr.startswith("campaigns: PostgreSQL refuses: ")
    assert done.stderr.endswith("; this needs the DATABASE_URL of the tables' owner\n")


async def test_a_login_without_the_role_is_not_ready_and_says_what_it_needs(
    settings: Settings, aiohttp_client: Start
) -> None:
    app = create_app(replace(settings, database_url=settings.relay_database_url))
    answer = await (await (await aiohttp_client(app)).get("/readyz")).json()
    assert answer["database"].endswith("make it a member of campaigns_service")


async def test_a_schema_that_is_closed_to_all_is_open_to_the_roles(
    connection: Connection, settings: Settings
) -> None:
    await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    await migration.migrate(connection)
    async with postgres.connect(settings) as service:
        assert await queries.schema_revision(service) == postgres.SCHEMA_REVISION


async def test_an_owner_who_may_not_create_roles_gets_the_tables_and_a_warning(
    connection: Connection,
) -> None:
    plain = f"plain_{secrets.token_hex(8)}"
    async with undone(connection):
        # Nobody else sees any of this, as it is never committed.
        await connection.execute(
            f"""
            DROP SCHEMA public CASCADE;
            CREATE ROLE {plain};
            CREATE SCHEMA public AUTHORIZATION {plain};
            ALTER ROLE campaigns_relay RENAME TO {plain}_gone;
            SET LOCAL ROLE {plain};
            """
        )
        with structlog.testing.capture_logs() as logged:
            await migration.migrate(connection)
        assert await queries.schema_revision(connection) == postgres.SCHEMA_REVISION
    [warning] = logged
    assert warning["log_level"] == "warning"
    assert warning["event"].startswith("the roles campaigns_service and campaigns_relay")
