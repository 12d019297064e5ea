"""Failure: what a command of `campaigns` cannot do, in one sentence."""

import asyncpg

from service import postgres

# What PostgreSQL may have against a command.
OF_DATABASE = (postgres.Unavailable, asyncpg.PostgresError)


class Failure(Exception):
    """A command cannot do its work; the text says why, and what to do."""


def of_database(error: postgres.Unavailable | asyncpg.PostgresError) -> str:
    """Say why, and what to do."""
    match error:
        case postgres.Unavailable():
            return f"PostgreSQL cannot be used, check DATABASE_URL: {error}"
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
            return "the database has no schema, or an old one: run 'campaigns migrate' first"
        case asyncpg.InsufficientPrivilegeError():
            return f"{_refusal(error)}; this needs the DATABASE_URL of the tables' owner"
        case _:
            return _refusal(error)


def _refusal(error: asyncpg.PostgresError) -> str:
    # Only its first line: the details may quote what was to be stored.
    return f"PostgreSQL refuses: {error.args[0].splitlines()[0]}"
