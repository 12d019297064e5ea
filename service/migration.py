"""Migration: brings a database to the schema of this release."""

import asyncpg
import structlog

import service
from service import drafts, queries
from service.postgres import Connection

logger = structlog.get_logger(__name__)

# Any number that no other program on this database takes for its own lock.
_LOCK = 5_201_914_776

# For each of waiting for another migration, and changing large tables.
_SECONDS = 600.0

# Names that are read and written at once.
_BATCH = 1_000


async def migrate(connection: Connection) -> None:
    """Apply schema.sql; whoever comes second waits, and then changes nothing."""
    schema = (service.HOME / "schema.sql").read_text()
    connection.add_log_listener(_tell)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK, timeout=_SECONDS)
        await connection.execute(schema, timeout=_SECONDS)
        await _fill_name_keys(connection)


async def _fill_name_keys(connection: Connection) -> None:
    """Write down what names are sorted by that were stored by a release that does not know it."""
    last = (0, 0)
    while names := await queries.names_without_key(connection, last, _BATCH):
        keys = {whose: drafts.name_key(name) for whose, name in names.items()}
        await queries.set_name_keys(connection, keys)
        *_, last = keys


def _tell(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
    if message.severity_en == "WARNING":
        logger.warning(message.message)
