"""The ledger objects to every lie, and to nothing else."""

import json
from dataclasses import replace

import pytest

from tests.consumers import QUEUES
from tests.faults.ledger import Arrival, Change, Ledger, Outcome, Stored

ORGANIZATION = 7


def event(campaign_id: int, sequence: int, name: str = "key", organization: int = 7) -> bytes:
    campaign = {"id": campaign_id, "organization_id": organization, "name": name}
    return json.dumps({"sequence": f"{sequence:010}", "data": {"campaign": campaign}}).encode()


def answer(campaign_id: int, version: int) -> bytes:
    return json.dumps({"id": campaign_id, "version": version}).encode()


def change(campaign_id: int, version: int, what: str, name: str = "key") -> Change:
    body = event(campaign_id, version, name)
    return Change(campaign_id, version, what, f"{campaign_id}-{version}", body)


@pytest.fixture
def stored() -> Stored:
    changes = [change(1, 1, "created"), change(1, 2, "updated"), change(1, 3, "deleted")]
    return Stored(campaigns={1}, history=changes)


@pytest.fixture
def ledger(stored: Stored) -> Ledger:
    """What was answered and consumed when all went well."""
    made = Ledger(ORGANIZATION)
    made.note(Outcome("POST", "key", None))
    made.note(Outcome("POST", "key", 503))
    made.note(Outcome("POST", "key", 201, answer(1, 1)))
    made.note(Outcome("POST", "key", 201, answer(1, 1)))
    made.note(Outcome("PATCH", "change", 200, answer(1, 2), 1))
    made.note(Outcome("DELETE", "end", 200, b"{}", 1))
    for queue in QUEUES:
        for stored_change in stored.history:
            made.take(queue, Arrival(stored_change.event_id, stored_change.event_body))
    return made


def test_the_truth_is_accepted(ledger: Ledger, stored: Stored) -> None:
    assert ledger.objections(stored) == []


def test_copies_of_earlier_events_are_accepted(ledger: Ledger, stored: Stored) -> None:
    first = stored.history[0]
    ledger.take(QUEUES[0], Arrival(first.event_id, first.event_body, redelivered=True))
    assert ledger.objections(stored) == []


@pytest.mark.parametrize("stored_as", [[], ["created"]], ids=["not stored", "stored"])
def test_what_became_of_an_unknown_outcome_may_be_either(stored_as: list[str]) -> None:
    asked = Ledger(ORGANIZATION)
    asked.note(Outcome("POST", "key", None))
    changes = [change(1, 1, what) for what in stored_as]
    for queue in QUEUES:
        for stored_change in changes:
            asked.take(queue, Arrival(stored_change.event_id, stored_change.event_body))
    assert asked.objections(Stored({1} if changes else set(), changes)) == []


def test_events_of_others_are_none_of_its_business(ledger: Ledger, stored: Stored) -> None:
    ledger.take(QUEUES[0], Arrival("other", event(9, 5, organization=8)))
    ledger.take(QUEUES[0], Arrival("none", b"{}"))
    assert ledger.objections(stored) == []


def test_a_campaign_that_was_answered_and_is_not_there_is_lost(
    ledger: Ledger, stored: Stored
) -> None:
    ledger.note(Outcome("POST", "other", 201, answer(2, 1)))
    assert ledger.objections(stored) == ["campaign 2 was answered 201, and is lost"]


def test_a_change_that_was_answered_and_is_not_there_is_lost(
    ledger: Ledger, stored: Stored
) -> None:
    ledger.note(Outcome("PATCH", "other", 200, answer(1, 4), 1))
    assert ledger.objections(stored) == ["version 4 of 1 is lost"]


def test_a_campaign_that_was_deleted_is_not_there_again(ledger: Ledger, stored: Stored) -> None:
    ledger.note(Outcome("DELETE", "other", 200, b"{}", 2))
    assert ledger.objections(stored) == ["campaign 2 was deleted, and is not"]


def test_a_key_makes_no_two_campaigns(ledger: Ledger, stored: Stored) -> None:
    stored.campaigns.add(2)
    stored.history.append(change(2, 1, "created"))
    for queue in QUEUES:
        ledger.take(queue, Arrival("2-1", event(2, 1)))
    assert ledger.objections(stored) == ["the key key made 2 campaigns"]


def test_an_unknown_outcome_makes_no_two_campaigns_either() -> None:
    asked = Ledger(ORGANIZATION)
    asked.note(Outcome("POST", "key", None))
    changes = [change(1, 1, "created"), change(2, 1, "created")]
    for queue in QUEUES:
        for stored_change in changes:
            asked.take(queue, Arrival(stored_change.event_id, stored_change.event_body))
    assert asked.objections(Stored({1, 2}, changes)) == ["the key key made 2 campaigns"]


def test_a_key_gets_no_two_answers(ledger: Ledger, stored: Stored) -> None:
    ledger.note(Outcome("POST", "key", 201, answer(1, 2)))
    assert ledger.objections(stored) == ["the key key got 2 answers"]


def test_an_error_of_ours_is_no_answer(ledger: Ledger, stored: Stored) -> None:
    ledger.note(Outcome("POST", "other", 500, b"sorry"))
    assert ledger.objections(stored) == ["POST was answered 500: sorry"]


@pytest.mark.parametrize("queue", QUEUES)
def test_an_event_reaches_every_queue(ledger: Ledger, stored: Stored, queue: str) -> None:
    ledger.arrivals[queue].pop()
    assert ledger.objections(stored) == [f"event 3 of 1 never reached {queue}"]


def test_an_event_that_nobody_stored_is_not_told(ledger: Ledger, stored: Stored) -> None:
    ledger.take(QUEUES[0], Arrival("2-1", event(2, 1)))
    assert ledger.objections(stored) == ["nobody stored event 2-1 of campaign 2"]


def test_an_event_is_not_left_without_its_campaign(ledger: Ledger, stored: Stored) -> None:
    stored.history.append(change(2, 1, "created", name="other"))
    for queue in QUEUES:
        ledger.take(queue, Arrival("2-1", event(2, 1, name="other")))
    assert ledger.objections(stored) == ["nobody stored event 2-1 of campaign 2"]


def test_first_deliveries_come_in_order(ledger: Ledger, stored: Stored) -> None:
    first, second, *_ = ledger.arrivals[QUEUES[1]]
    ledger.arrivals[QUEUES[1]][:2] = [second, first]
    assert ledger.objections(stored) == [f"{QUEUES[1]} got 1 in the order [2, 1, 3]"]


def test_a_later_copy_does_not_hide_that_an_event_came_too_early(
    ledger: Ledger, stored: Stored
) -> None:
    first, second, third = ledger.arrivals[QUEUES[1]]
    ledger.arrivals[QUEUES[1]][:] = [second, first, second, third]
    assert ledger.objections(stored) == [f"{QUEUES[1]} got 1 in the order [2, 1, 3]"]


def test_copies_do_not_differ(ledger: Ledger, stored: Stored) -> None:
    last = ledger.arrivals[QUEUES[2]][-1]
    ledger.take(QUEUES[2], replace(last, body=last.body + b" "))
    assert ledger.objections(stored) == ["copies of event 1-3 differ"]


def test_copies_do_not_differ_between_queues(ledger: Ledger, stored: Stored) -> None:
    last = ledger.arrivals[QUEUES[2]].pop()
    ledger.take(QUEUES[2], replace(last, body=last.body + b" "))
    assert ledger.objections(stored) == ["copies of event 1-3 differ"]


def test_properties_of_copies_do_not_differ(ledger: Ledger, stored: Stored) -> None:
    last = ledger.arrivals[QUEUES[2]][-1]
    ledger.take(QUEUES[2], replace(last, properties="other"))
    assert ledger.objections(stored) == ["properties of event 1-3 differ"]


def test_nothing_waits_for_ever(ledger: Ledger, stored: Stored) -> None:
    assert ledger.objections(replace(stored, outbox=2)) == ["the outbox still has 2 events"]


def test_of_many_objections_of_one_kind_a_few_are_told(ledger: Ledger, stored: Stored) -> None:
    for campaign_id in range(10, 20):
        ledger.note(Outcome("POST", f"{campaign_id}", 201, answer(campaign_id, 1)))
    told = ledger.objections(stored)
    assert len(told) == 4
    assert told[-1] == "... and 7 more like the last"
