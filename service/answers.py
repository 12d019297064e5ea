"""Answers: those that were given to requests with an Idempotency-Key, to be given again."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from service import postgres, queries
from service.idempotency import Answer, Attempt
from service.keys import Caller


class Answers:
    """The answers that are kept in the database, for so long."""

    def __init__(self, pool: postgres.Pool, kept: timedelta) -> None:
        self._pool = pool
        self.kept = kept

    async def find(self, caller: Caller, attempt: Attempt | None) -> Answer | None:
        """What this attempt was answered when it was made before.

        Raises:
            idempotency.KeyReused: its key belongs to another one.
            postgres.Unavailable
        """
        if attempt is None:
            return None
        async with self._pool.acquire() as connection:
            # It locks what it finds, so that this commit waits for a synchronous standby, and for
            # the commit of that answer with it: one whose own wait was cut off is shown to all,
            # and lost with its server.
            found = await queries.find_answer(
                connection, caller.organization_id, attempt, self.kept
            )
        return attempt.replay(*found) if found else None

    async def or_earlier(
        self, caller: Caller, attempt: Attempt | None, work: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Do some work; if it is refused, that may be since the same attempt has done it already.

        Raises:
            idempotency.KeyReused: its key belongs to another one.
            whatever `work` raises, if it was not done before.
        """
        try:
            return await work()
        except postgres.Unavailable:
            raise
        except Exception:
            if earlier := await self.find(caller, attempt):
                return earlier
            raise

    async def keep(self, caller: Caller, attempt: Attempt | None, answer: Answer) -> bool:
        """Keep an answer that tells of no change; false if there is an earlier one.

        Raises:
            postgres.Unavailable: it may be kept, or not.
        """
        if attempt is None:
            return True
        async with self._pool.acquire() as connection:
            return await queries.keep_answer(
                connection, caller.organization_id, attempt, answer, self.kept
            )
