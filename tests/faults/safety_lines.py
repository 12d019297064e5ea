"""The lines that faults are survived by, and for each a scenario that must fail without it."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A line that is taken out, by replacing texts that are there exactly once."""

    line: str
    file: str
    changes: tuple[tuple[str, str], ...]
    scenario: str


MUTATIONS = [
    Mutation(
        "confirms",
        "service/confirms.py",
        (
            ("timeout=timeout_seconds, return_when", "timeout=0, return_when"),
            ("[answer.failure for answer in batch.answers]", "[None for _ in batch.answers]"),
        ),
        "test_topologies.py::test_events_that_no_binding_takes_are_held",
    ),
    Mutation(
        "mandatory",
        "service/confirms.py",
        (("mandatory=True", "mandatory=False"),),
        "test_topologies.py::test_events_that_no_binding_takes_are_held",
    ),
    Mutation(
        "delete after the confirm, not before",
        "service/relay.py",
        (
            ("            await stack.enter_async_context(connection.transaction())\n", ""),
            (
                "results = await publisher.publish(batch)",
                """if batch:
                await queries.delete_events(connection, batch)
            results = await publisher.publish(batch)""",
            ),
        ),
        # Each event of it is confirmed in the end, or was deleted too early.
        "test_topologies.py::test_events_that_no_binding_takes_are_held",
    ),
    Mutation(
        "only the oldest event of a campaign",
        "service/queries.sql",
        (("AND earlier.sequence < o.sequence", "AND false"),),
        "test_order.py::test_events_of_a_campaign_stay_in_order_whoever_writes_them"
        "_and_whatever_crashes[6]",
    ),
    Mutation(
        "look-up of the idempotency key",
        "service/queries.sql",
        (("d.key IS NULL\n", "true\n"),),
        "test_database.py::test_a_create_that_is_cut_off_at_its_commit_is_made_once_by_those_who"
        "_repeat_it_at_once[5-after it, before its answer-cut_at_answer]",
    ),
    Mutation(
        "deadline of a publish",
        "service/confirms.py",
        (("timeout=timeout_seconds", "timeout=None"),),
        "test_links.py::test_a_broker_that_stops_reading_is_given_up_and_others_publish",
    ),
    Mutation(
        "deadline of a connect to the broker",
        "service/broker.py",
        (
            (
                "aio_pika.connect(url, timeout=settings.amqp_timeout_seconds)",
                "aio_pika.connect(url)",
            ),
        ),
        "test_links.py::test_a_broker_that_falls_silent_while_a_replica_connects_is_tried_again"
        "[it is greeted]",
    ),
    Mutation(
        "deadline of a look at the topology",
        "service/broker.py",
        (("asyncio.timeout(self._timeout_seconds)", "asyncio.timeout(None)"),),
        "test_links.py::test_a_broker_that_falls_silent_while_a_replica_connects_is_tried_again"
        "[it is asked for its queues]",
    ),
    Mutation(
        "deadline of a channel",
        "service/broker.py",
        (("asyncio.timeout(settings.amqp_timeout_seconds)", "asyncio.timeout(None)"),),
        "test_links.py::test_a_broker_that_falls_silent_while_a_replica_connects_is_tried_again"
        "[it is asked to confirm]",
    ),
    Mutation(
        "pause after a failure",
        "service/relay.py",
        (
            (
                "await background.within(_retry_delay(self._failures), self._stopping)",
                "await asyncio.sleep(0)",
            ),
        ),
        "own_broker/test_breaks.py"
        "::test_an_exchange_that_has_another_type_is_not_asked_for_all_the_time",
    ),
    Mutation(
        "deadline of a wait for a connection to the database",
        "service/postgres.py",
        (("self._pool.acquire(timeout=self._timeout_seconds)", "self._pool.acquire()"),),
        "test_pools.py::test_requests_that_wait_for_a_connection_are_refused_in_time",
    ),
    Mutation(
        "deadline of a transaction that is silent",
        "service/postgres.py",
        (('"idle_in_transaction_session_timeout": str(round(idle_seconds * 1000)),', ""),),
        "test_database.py::test_a_replica_whose_database_is_silent_fails_in_time_and_others_take"
        "_its_events[4]",
    ),
    Mutation(
        "deadline of a statement",
        "service/hosts.py",
        (("command_timeout=self._timeout_seconds,", ""),),
        "test_database.py::test_a_replica_whose_database_is_silent_fails_in_time_and_others_take"
        "_its_events[4]",
    ),
    Mutation(
        "another connection after an unknown outcome",
        "service/broker.py",
        (('self._doubt = f"the outcome of an event is unknown: {type(error).__name__}"', "pass"),),
        "test_links.py::test_a_broker_that_stops_reading_is_given_up_and_others_publish",
    ),
    Mutation(
        "the second way to each queue",
        "service/topology.py",
        (('WAYS = ("first", "second")', 'WAYS = ("first",)'),),
        "test_topologies.py::test_a_binding_that_is_removed_costs_no_event[first]",
    ),
    Mutation(
        "one event alone after a failure",
        "service/relay.py",
        (("self._window = 1\n", "\n"),),
        "test_poison.py::test_an_event_that_can_never_be_published_holds_up_its_own_campaign_only",
    ),
    Mutation(
        "parking",
        "service/settlement.py",
        (("await queries.park_event(connection, event, reason)", "pass"),),
        "test_poison.py::test_an_event_that_can_never_be_published_holds_up_its_own_campaign_only",
    ),
]


def without(mutation: Mutation) -> str:
    """The file without the line.

    Raises:
        LookupError: it is not what this table takes it for.
    """
    text = (ROOT / mutation.file).read_text()
    for old, new in mutation.changes:
        if text.count(old) != 1:
            raise LookupError(f"{mutation.file} has not exactly one {old!r}")
        text = text.replace(old, new)
    return text
