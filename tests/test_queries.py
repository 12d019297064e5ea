"""Every statement, against the real schema."""

import asyncio
import inspect
from contextlib import AsyncExitStack

import pytest

from service import postgres, queries
from service.postgres import Connection
from service.settings import Settings


@pytest.mark.parametrize("name", queries.STATEMENTS)
async def test_every_statement_fits_the_schema(connection: Connection, name: str) -> None:
    await connection.prepare(queries.STATEMENTS[name])


def test_every_statement_has_a_function_of_its_name_and_the_other_way_round() -> None:
    functions = [name for name, _ in inspect.getmembers(queries, inspect.iscoroutinefunction)]
    assert sorted(functions) == sorted(queries.STATEMENTS)


@pytest.mark.parametrize("statement", queries.STATEMENTS.values())
def test_every_statement_begins_with_its_purpose(statement: str) -> None:
    lines = statement.splitlines()
    assert lines[0].startswith("-- ")
    assert not lines[1].startswith("--")


async def test_the_schema_may_be_applied_again_and_by_many_at_once(
    connection: Connection, settings: Settings
) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    async with AsyncExitStack() as stack:
        many = [await stack.enter_async_context(postgres.connect(settings)) for _ in range(5)]
        for _ in range(2):
            await asyncio.gather(*(postgres.migrate(each) for each in many))
    assert await queries.schema_revision(connection) == postgres.SCHEMA_REVISION
