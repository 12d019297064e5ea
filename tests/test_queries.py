"""Every statement, against the real schema."""

import asyncio
import inspect
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from service import keys, migration, postgres, queries
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, create_key, insert_event
from tests.test_create import EXAMPLE

SCHEMAS = Path(__file__).with_name("schemas")


@pytest.mark.parametrize("name", queries.STATEMENTS)
async def test_every_statement_fits_the_schema(connection: Connection, name: str) -> None:
    await connection.prepare(queries.STATEMENTS[name])


def test_every_statement_has_a_function_of_its_name_and_the_other_way_round() -> None:
    functions = [name for name, _ in inspect.getmembers(queries, inspect.iscoroutinefunction)]
    functions = [name for name in functions if not name.startswith("_")]
    assert sorted(functions) == sorted(queries.STATEMENTS)


@pytest.mark.parametrize("statement", queries.STATEMENTS.values())
def test_every_statement_begins_with_its_purpose(statement: str) -> None:
    lines = statement.splitlines()
    assert lines[0].startswith("-- ")
    assert not lines[1].startswith("--")


async def test_the_schema_may_be_applied_again_and_by_many_at_once(
    connection: Connection, owner: Settings
) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    async with AsyncExitStack() as stack:
        many = [await stack.enter_async_context(postgres.connect(owner)) for _ in range(5)]
        for _ in range(2):
            await asyncio.gather(*(migration.migrate(each) for each in many))
    assert await queries.schema_revision(connection) == postgres.SCHEMA_REVISION


async def test_a_database_of_the_first_revision_is_brought_up_to_date(
    connection: Connection,
) -> None:
    await connection.execute(
        """
        ALTER TABLE api_keys
            DROP COLUMN prefix,
            DROP COLUMN scopes,
            DROP COLUMN expires_at,
            DROP COLUMN revoked_at,
            DROP COLUMN last_used_at;
        UPDATE schema_revisions SET revision = 1;
        INSERT INTO api_keys (organization_id, name, sha256)
        VALUES (7, 'old', sha256('old'));
        """
    )
    await migration.migrate(connection)
    assert await queries.schema_revision(connection) == postgres.SCHEMA_REVISION
    [old] = await queries.list_keys(connection, 7)
    assert (old.name, old.scopes) == ("old", list(keys.SCOPES))
    assert old.revoked_at is not None


async def test_a_database_of_the_second_revision_with_data_is_brought_up_to_date(
    connection: Connection, settings: Settings
) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.execute((SCHEMAS / "revision_2.sql").read_text())
    await insert_event(connection, campaign_id=1, sequence=1)
    await migration.migrate(connection)
    assert await queries.schema_revision(connection) == postgres.SCHEMA_REVISION
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1
    async with postgres.connect(settings) as service:
        await service.execute("DELETE FROM idempotency_records")


async def test_campaigns_of_the_third_revision_are_found_and_have_a_history(
    connection: Connection, client: Client, organization: int
) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.execute((SCHEMAS / "revision_3.sql").read_text())
    await connection.execute(
        """
        INSERT INTO campaigns (organization_id, id, version, name, campaign_type, status,
                               assistant_id, fallback_values, max_attempts, retry_delay_minutes,
                               created_at, updated_at)
        VALUES ($1, 1, 1, 'Alte STRAßEN', 'sms', 'draft', 1, '{}', 3, 30, now(), now())
        """,
        organization,
    )
    # The second time is that of a deployment that has met older replicas again.
    for _ in range(2):
        await migration.migrate(connection)
    key = await create_key(connection, keys.Grant(organization, "new"))
    client.session.headers["Authorization"] = f"Bearer {key}"
    page = await (await client.get("/api/v1/campaigns?q=strasse&sort=name")).json()
    assert [item["name"] for item in page["items"]] == ["Alte STRAßEN"]
    changed = await client.patch("/api/v1/campaigns/1", json={"name": "New"})
    assert changed.status == 200
    history = await (await client.get("/api/v1/campaigns/1/history")).json()
    assert [(item["version"], item["change"]) for item in history["items"]] == [
        (2, "updated"),
        (1, "created"),
    ]


async def test_a_database_of_the_fourth_revision_keeps_its_history_and_goes_on(
    connection: Connection, client: Client, organization: int
) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.execute((SCHEMAS / "revision_4.sql").read_text())
    await connection.execute(
        """
        INSERT INTO campaign_history (organization_id, campaign_id, version, change,
                                      changed_fields, changed_at)
        VALUES ($1, 1000, 1, 'created', '{}', now())
        """,
        organization,
    )
    for _ in range(2):
        await migration.migrate(connection)
    key = await create_key(connection, keys.Grant(organization, "new"))
    client.session.headers["Authorization"] = f"Bearer {key}"
    assert (await client.post("/api/v1/campaigns", json=EXAMPLE)).status == 201
    kept = await connection.fetch(
        "SELECT event_id IS NOT NULL, event_body IS NOT NULL, event_headers IS NOT NULL"
        " FROM campaign_history ORDER BY changed_at"
    )
    assert [tuple(row) for row in kept] == [(False,) * 3, (True,) * 3]


_TABLES = r"(?:api_keys|campaigns|campaign_history|idempotency_records|outbox)\b"
TENANTS_TABLES = re.compile(rf"\b(?:INTO|FROM|UPDATE|JOIN) {_TABLES}")
BOUND = re.compile(r"organization_id = (?:\$\d+|\w+\.organization_id)")
INSERTED = re.compile(rf"INSERT INTO {_TABLES}(?: AS \w+)? \(\s*organization_id,")

EXCEPTIONS = {
    "find_key": "it finds out which organization it is",
    "claim_events": "the relay carries the events of all",
    "count_events": "the bus may have lost the events of all",
    "outbox_exceeds": "the disk is one for all",
    "find_events": "the bus may have lost the events of all",
    "count_waiting": "operators look after the events of all",
    "count_reasons": "operators look after the events of all",
    "names_without_key": "a migration is for all",
    "prune_answers": "old answers of all are forgotten",
}


OF_TENANTS = [name for name, text in queries.STATEMENTS.items() if TENANTS_TABLES.search(text)]


@pytest.mark.parametrize("name", OF_TENANTS)
def test_every_statement_on_a_tenants_table_binds_the_organization(name: str) -> None:
    statement = queries.STATEMENTS[name]
    insertions = statement.count("INSERT INTO")
    assert len(INSERTED.findall(statement)) == insertions
    if len(TENANTS_TABLES.findall(statement)) > insertions:
        assert name in EXCEPTIONS or BOUND.search(statement)


def test_every_exception_is_a_statement_on_a_tenants_table() -> None:
    assert EXCEPTIONS.keys() <= set(OF_TENANTS)


OTHER_INDEXES = {
    "api_keys_sha256_unique": "finds out which organization it is",
    "campaign_history_changed_at": "the bus may have lost the events of all",
    "campaigns_deleted_at": "deleted campaigns of all are forgotten",
    "idempotency_records_created_at": "old answers of all are forgotten",
    "outbox_next_attempt_at": "the relay carries the events of all",
}


async def test_every_index_of_a_tenants_table_begins_with_the_organization(
    connection: Connection,
) -> None:
    leading = await connection.fetch(
        """
        SELECT i.indexrelid::regclass::text AS name, c.relname, a.attname, i.indisprimary
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE n.nspname = 'public' AND c.relname <> 'schema_revisions'
        """
    )
    assert {row["relname"] for row in leading if row["indisprimary"]} == {
        "api_keys",
        "campaigns",
        "campaign_history",
        "idempotency_records",
        "outbox",
    }
    others = {row["name"] for row in leading if row["attname"] != "organization_id"}
    assert others == OTHER_INDEXES.keys()
