"""What reaches the bus for a create."""

import uuid
from datetime import datetime

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from service import broker, queries, topology
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client
from tests.consumers import QUEUES, Consumer, eventually, outbox_is_empty
from tests.test_create import EXAMPLE


async def test_each_queue_gets_one_event_that_is_the_answered_campaign(
    client: Client, consumer: Consumer
) -> None:
    campaign = await (await client.post("/api/v1/campaigns", json=EXAMPLE)).json()
    arrived = await consumer.events(1)
    assert list(arrived) == list(QUEUES)
    for events in arrived.values():
        assert [event["data"]["campaign"] for event in events] == [campaign]


async def test_the_body_is_a_cloud_event_that_its_sdk_accepts(
    client: Client, consumer: Consumer
) -> None:
    campaign = await (await client.post("/api/v1/campaigns", json=EXAMPLE)).json()
    await consumer.events(1)
    message = consumer.messages["campaign.import"][0]
    event = JSONFormat().read(CloudEvent, message.body)
    assert event.get_specversion() == "1.0"
    assert event.get_type() == "campaign.created"
    assert event.get_source() == f"/api/v1/campaigns/{campaign['id']}"
    assert event.get_subject() == str(campaign["id"])
    assert event.get_time() == datetime.fromisoformat(campaign["created_at"])
    assert event.get_datacontenttype() == "application/json"
    assert event.get_dataschema() == "urn:campaign-service:event:campaign.created:1"
    assert event.get_extension("sequence") == "0000000001"
    assert event.get_extension("partitionkey") == str(campaign["id"])


async def test_the_message_is_durable_and_its_id_is_the_events(
    client: Client, consumer: Consumer
) -> None:
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    arrived = await consumer.events(1)
    for queue, [message] in consumer.messages.items():
        assert message.message_id == arrived[queue][0]["id"]
        assert message.content_type == "application/cloudevents+json"
        assert message.delivery_mode == 2
        assert message.routing_key == "campaign.created"
        assert message.type == "campaign.created"


async def test_every_copy_is_byte_identical_also_when_it_is_repeated(
    idle_client: Client, settings: Settings, connection: Connection, consumer: Consumer
) -> None:
    await idle_client.post("/api/v1/campaigns", json=EXAMPLE)
    async with broker.publisher(settings) as publisher:
        for _ in range(2):  # As if the first relay had died before it could delete the row.
            async with connection.transaction():
                batch = await queries.claim_events(connection, limit=1)
                assert await publisher.publish(batch) == [None]

    def all_have_come() -> bool:
        return all(len(messages) == 2 for messages in consumer.messages.values())

    await eventually(all_have_come, 10, "two copies in each queue")
    copies = [message for messages in consumer.messages.values() for message in messages]
    assert len({message.body for message in copies}) == 1
    assert len({message.message_id for message in copies}) == 1


async def test_the_request_id_and_trace_of_the_caller_go_along(
    client: Client, consumer: Consumer
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {"X-Request-ID": "order-17", "traceparent": trace}
    response = await client.post("/api/v1/campaigns", json=EXAMPLE, headers=headers)
    arrived = await consumer.events(1)
    message = consumer.messages["campaign.start"][0]
    assert response.headers["X-Request-ID"] == "order-17"
    assert arrived["campaign.start"][0]["requestid"] == "order-17"
    assert arrived["campaign.start"][0]["traceparent"] == trace
    assert message.headers == {"request-id": "order-17", "traceparent": trace}


@pytest.mark.parametrize("request_id", ["two words", "x" * 129, "\u00fc"])
async def test_a_request_id_that_is_no_short_word_is_replaced(
    client: Client, request_id: str
) -> None:
    headers = {"X-Request-ID": request_id}
    response = await client.post("/api/v1/campaigns", json=EXAMPLE, headers=headers)
    assert str(uuid.UUID(response.headers["X-Request-ID"])) == response.headers["X-Request-ID"]


async def test_a_trace_that_is_none_is_not_passed_on(client: Client, consumer: Consumer) -> None:
    await client.post("/api/v1/campaigns", json=EXAMPLE, headers={"traceparent": "00-x"})
    [event] = (await consumer.events(1))["campaign.start"]
    assert "traceparent" not in event


async def test_required_and_optional_variables_travel_along(
    client: Client, consumer: Consumer
) -> None:
    body = EXAMPLE | {
        "sms_message_template": "{{order|default('none')}} {{plan}} {{plan|default('basic')}}",
        "fallback_values": {"city": "Rome"},
        "agenda_template": "{{city}} {{company|upper}} {{appointment_date}}",
    }
    await client.post("/api/v1/campaigns", json=body)
    [event] = (await consumer.events(1))["campaign.import"]
    assert event["data"]["template_variables"] == {
        "required": ["appointment_date", "plan"],
        "optional": ["assistant_name", "city", "company", "name", "order"],
    }


async def test_a_refused_campaign_leaves_nothing_behind(
    client: Client, connection: Connection
) -> None:
    response = await client.post("/api/v1/campaigns", json=EXAMPLE | {"max_attempts": "3"})
    assert response.status == 422
    assert await connection.fetchval("SELECT count(*) FROM campaigns") == 0
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_an_event_that_is_confirmed_leaves_the_outbox(
    client: Client, connection: Connection
) -> None:
    await client.post("/api/v1/campaigns", json=EXAMPLE)
    await outbox_is_empty(connection)


def test_the_consumers_queues_are_the_promised_ones() -> None:
    assert tuple(topology.QUEUES) == QUEUES
