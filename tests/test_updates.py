"""`PATCH` and `PUT /api/v1/campaigns/{id}`: what changes, what does not, and who is told."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, Start
from tests.consumers import Consumer
from tests.test_create import ADDED, EXAMPLE, PUBLISHED

PATH = "/api/v1/campaigns"
KEY = {"Idempotency-Key": "7c4a8d09"}
UPDATED = "Campaign updated successfully"

Campaign = dict[str, Any]


async def create(client: Client, **said: Any) -> Campaign:
    created: Campaign = await (await client.post(PATH, json=EXAMPLE | said)).json()
    return created


def place(campaign: Campaign) -> str:
    return f"{PATH}/{campaign['id']}"


async def read(client: Client, campaign: Campaign) -> Campaign:
    found: Campaign = await (await client.get(place(campaign))).json()
    return found


async def written(connection: Connection) -> tuple[int, int, int]:
    """How many versions there are, by three accounts."""
    row = await connection.fetchrow(
        """
        SELECT (SELECT sum(version) FROM campaigns),
               (SELECT count(*) FROM campaign_history),
               (SELECT count(*) FROM outbox)
        """
    )
    assert row is not None
    return tuple(row)


async def set_status(connection: Connection, campaign: Campaign, status: str) -> None:
    await connection.execute(
        "UPDATE campaigns SET status = $1 WHERE id = $2", status, campaign["id"]
    )


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_an_update_answers_the_whole_campaign_and_the_published_message(
    client: Client, method: str
) -> None:
    campaign = await create(client)
    answer = await client.request(method, place(campaign), json={"name": "New", "max_attempts": 5})
    body = await answer.json()
    assert answer.status == 200
    assert answer.headers["ETag"] == '"2"'
    assert list(body) == [*PUBLISHED, *ADDED, "message"]
    assert body.pop("message") == UPDATED
    assert body == campaign | {
        "name": "New",
        "max_attempts": 5,
        "updated_at": body["updated_at"],
        "version": 2,
        "settings": campaign["settings"] | {"max_attempts": 5},
    }
    assert body["updated_at"] > campaign["updated_at"]
    assert await read(client, campaign) == body


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("description", None),
        ("welcome_message_template", None),
        ("agenda_template", None),
        ("end_call_message_template", None),
        ("sms_message_template", None),
        ("fallback_values", {}),
        ("max_attempts", 3),
        ("retry_delay_minutes", 30),
    ],
)
async def test_null_clears_a_field_to_what_it_is_when_nothing_is_said(
    client: Client, method: str, field: str, default: object
) -> None:
    said = {"max_attempts": 9, "sms_message_template": "Hi"}
    campaign = await create(client, **said)
    answer = await client.request(method, place(campaign), json={field: None})
    body = await answer.json()
    assert answer.status == 200
    assert body[field] == default
    assert {**body, field: 0}.keys() == body.keys()


@pytest.mark.parametrize("field", ["name", "campaign_type", "assistant_id"])
async def test_a_field_that_every_campaign_has_cannot_be_cleared(
    client: Client, field: str
) -> None:
    campaign = await create(client)
    answer = await client.patch(place(campaign), json={field: None})
    assert answer.status == 422
    assert (await answer.json())["errors"] == [
        {"pointer": f"#/{field}", "detail": "Must not be null."}
    ]


VALUES = {"name": "there", "company": "our office"}


@pytest.mark.parametrize(
    ("patch", "after", "reason"),
    [
        ({"city": "Rome"}, {**VALUES, "city": "Rome"}, "an entry more"),
        ({"name": "you"}, {**VALUES, "name": "you"}, "another value, at the same place"),
        ({"name": None}, {"company": "our office"}, "an entry less"),
        ({"gone": None}, VALUES, "an entry that is not there is not there"),
        ({"name": None, "a": 1}, {"company": "our office", "a": 1}, "both"),
        ({}, VALUES, "nothing is said"),
        (None, {}, "all of them"),
    ],
)
async def test_a_merge_patch_changes_fallback_values_entry_by_entry(
    client: Client, patch: object, after: dict[str, Any], reason: str
) -> None:
    campaign = await create(client, fallback_values=VALUES)
    answer = await client.patch(place(campaign), json={"fallback_values": patch})
    body = await answer.json()
    assert list(body["fallback_values"].items()) == list(after.items()), reason


async def test_put_replaces_fallback_values_as_a_whole(client: Client) -> None:
    campaign = await create(client, fallback_values=VALUES)
    answer = await client.put(place(campaign), json={"fallback_values": {"city": "Rome"}})
    assert (await answer.json())["fallback_values"] == {"city": "Rome"}


async def test_put_knows_no_entry_that_is_null(client: Client) -> None:
    campaign = await create(client, fallback_values=VALUES)
    answer = await client.put(place(campaign), json={"fallback_values": {"name": None}})
    assert (await answer.json())["errors"] == [
        {"pointer": "#/fallback_values/name", "detail": "Must not be null."}
    ]


async def test_limits_hold_for_what_comes_of_a_patch(client: Client) -> None:
    campaign = await create(client, fallback_values={f"a{n}": "" for n in range(60)})
    more = {f"b{n}": "" for n in range(60)}
    answer = await client.patch(place(campaign), json={"fallback_values": more})
    assert answer.status == 422
    assert (await answer.json())["errors"] == [
        {"pointer": "#/fallback_values", "detail": "Must have at most 100 entries."}
    ]


async def test_templates_of_the_campaign_are_checked_with_those_of_the_patch(
    client: Client, connection: Connection
) -> None:
    campaign = await create(client)
    # As if an earlier release had accepted it.
    await connection.execute("UPDATE campaigns SET agenda_template = '{{ a.b }}'")
    answer = await client.patch(place(campaign), json={"name": "New"})
    [error] = (await answer.json())["errors"]
    assert answer.status == 422
    assert (error["pointer"], error["line"]) == ("#/agenda_template", 1)
    mended = await client.patch(place(campaign), json={"agenda_template": "{{ a }}"})
    assert mended.status == 200


async def test_all_problems_are_named_in_the_order_of_the_body_and_nothing_is_stored(
    idle_client: Client, connection: Connection
) -> None:
    campaign = await create(idle_client)
    before = await written(connection)
    patch = {
        "id": 7,
        "name": "",
        "max_attempt": 3,
        "agenda_template": "{{ a|uper }}",
        "fallback_values": {"b": []},
    }
    answer = await idle_client.patch(place(campaign), json=patch)
    document = await answer.json()
    assert answer.status == 422
    assert [(error["pointer"], error["detail"]) for error in document["errors"]] == [
        ("#/id", "Is set by the service: leave it out."),
        ("#/name", "Must have 1 to 200 characters, not all of them blank."),
        ("#/max_attempt", "Is not a known field. Did you mean 'max_attempts'?"),
        ("#/agenda_template", "There is no filter 'uper'. Did you mean 'upper'?"),
        ("#/fallback_values/b", "Must be a string, a number or a boolean."),
    ]  # fmt: skip
    assert await written(connection) == before
    assert await read(idle_client, campaign) == campaign


@pytest.mark.parametrize("body", ["[]", '"x"', "1", "null"])
async def test_a_patch_is_an_object(client: Client, body: str) -> None:
    campaign = await create(client)
    headers = {"Content-Type": "application/json"}
    answer = await client.patch(place(campaign), data=body, headers=headers)
    assert answer.status == 422
    assert (await answer.json())["errors"] == [{"pointer": "#", "detail": "Must be an object."}]


@pytest.mark.parametrize(
    ("method", "content_type", "status", "reason"),
    [
        ("PATCH", "application/merge-patch+json", 200, "its own name (RFC 7396)"),
        ("PATCH", "application/json", 200, "what the SDK sends"),
        ("PATCH", "application/json-patch+json", 415, "another format"),
        ("PUT", "application/merge-patch+json", 415, "no merge patch"),
    ],
)
async def test_a_patch_may_be_called_what_it_is(
    client: Client, method: str, content_type: str, status: int, reason: str
) -> None:
    campaign = await create(client)
    answer = await client.request(
        method, place(campaign), data='{"name": "New"}', headers={"Content-Type": content_type}
    )
    assert answer.status == status, reason


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ({}, "nothing is said"),
        ({"name": EXAMPLE["name"]}, "the same again"),
        ({"name": f" {EXAMPLE['name']} "}, "with white space that is taken off"),
        (EXAMPLE, "all of it again"),
        ({"fallback_values": {"company": "our office", "name": "there"}}, "in another order"),
        ({"sms_message_template": None}, "clears what is clear"),
        ({"contacts": []}, "no contacts, as the SDK says on every create"),
    ],
)
async def test_an_update_that_changes_nothing_writes_nothing_and_emits_nothing(
    idle_client: Client, connection: Connection, method: str, patch: Campaign, reason: str
) -> None:
    campaign = await create(idle_client)
    before = await written(connection)
    answer = await idle_client.request(method, place(campaign), json=patch)
    assert (answer.status, answer.headers["ETag"]) == (200, '"1"'), reason
    assert await answer.json() == campaign | {"message": UPDATED}
    assert await written(connection) == before == (1, 1, 1)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [(1, True, "true is not 1"), (1, 1.0, "1.0 is told as 1.0, and 1 as 1"), (0, False, "nor 0")],
)
async def test_what_python_takes_for_equal_is_a_change(
    client: Client, before: object, after: object, reason: str
) -> None:
    campaign = await create(client, fallback_values={"a": before})
    answer = await client.patch(place(campaign), json={"fallback_values": {"a": after}})
    assert (await answer.json())["version"] == 2, reason
    assert json.dumps((await read(client, campaign))["fallback_values"]["a"]) == json.dumps(after)


async def test_what_is_nested_too_deeply_to_compare_is_refused(client: Client) -> None:
    campaign = await create(client)
    for depth in range(900, 1_000):
        deep = "[" * depth + "]" * depth
        body = f'{{"max_attempts": {deep}, "settings": {{"max_attempts": {deep}}}}}'
        headers = {"Content-Type": "application/json"}
        answer = await client.patch(place(campaign), data=body, headers=headers)
        assert answer.status in (400, 422), depth


STATUSES = {
    "draft": 200,
    "paused": 200,
    "scheduled": 409,
    "running": 409,
    "completed": 409,
    "cancelled": 409,
    "failed": 409,
}


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
async def test_only_a_draft_and_a_paused_campaign_can_be_changed(
    idle_client: Client, connection: Connection, method: str, status: str, expected: int
) -> None:
    campaign = await create(idle_client)
    await set_status(connection, campaign, status)
    answer = await idle_client.request(method, place(campaign), json={"name": "New"})
    assert answer.status == expected
    if expected == 409:
        document = await answer.json()
        assert document["type"] == "urn:problem-type:campaigns:campaign-status"
        assert document["detail"] == (
            f"A campaign can be changed as long as it is draft or paused; this one is {status}."
        )
        assert await written(connection) == (1, 1, 1)


@pytest.mark.parametrize(
    ("patch", "named"),
    [
        ({"campaign_type": "sms"}, "campaign_type"),
        ({"assistant_id": 5}, "assistant_id"),
        ({"assistant_id": 5, "campaign_type": "sms"}, "campaign_type and assistant_id"),
    ],
)
async def test_type_and_assistant_are_changed_in_a_draft_only(
    client: Client, connection: Connection, patch: Campaign, named: str
) -> None:
    campaign = await create(client)
    await set_status(connection, campaign, "paused")
    answer = await client.patch(place(campaign), json=patch)
    assert answer.status == 409
    assert (await answer.json())["detail"] == (
        f"{named} can be changed in a draft only; this campaign is paused."
    )
    same = await client.patch(place(campaign), json={"campaign_type": "call", "name": "New"})
    assert same.status == 200
    await set_status(connection, campaign, "draft")
    assert (await client.patch(place(campaign), json=patch)).status == 200


@pytest.mark.parametrize(
    ("if_match", "status", "reason"),
    [
        ([], 200, "nothing is taken for granted"),
        (["*"], 200, "any version will do"),
        (['"1"'], 200, "the current one"),
        (['"7", "1"'], 200, "one of them"),
        (['"7"', '"1"'], 200, "one of them, in two lines"),
        ([',, "1" ,'], 200, "places may be empty"),
        (['"a,b", "1"'], 200, "a comma may be in a tag"),
        (['""', '"1"'], 200, "a tag may be empty"),
        (['"2"'], 412, "another one"),
        (['W/"1"'], 412, "a weak one never matches"),
        (['"*"'], 412, "this is a tag, not a star"),
        (['"01"'], 412, "another text"),
    ],
)
async def test_an_update_happens_only_to_the_version_that_was_read(
    client: Client, if_match: list[str], status: int, reason: str
) -> None:
    campaign = await create(client)
    headers = [("If-Match", line) for line in if_match]
    answer = await client.patch(place(campaign), json={"name": "New"}, headers=headers)
    assert answer.status == status, reason
    if status == 412:
        assert answer.headers["ETag"] == '"1"'
        document = await answer.json()
        assert document["type"] == "urn:problem-type:campaigns:precondition-failed"
        assert document["detail"] == 'The campaign has changed: its ETag is "1" now.'
        assert await read(client, campaign) == campaign


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("1", "no quotes"),
        ("", "nothing"),
        (",", "empty places only"),
        ('*, "1"', "any, or one"),
        ('"1', "half a tag"),
        ('"1" x', "something more"),
        ('w/"1"', "weak is written large"),
    ],
)
async def test_a_precondition_that_is_none_is_not_passed_over(
    client: Client, sent: str, reason: str
) -> None:
    campaign = await create(client)
    for method, header in itertools.product(
        ("PATCH", "PUT", "DELETE"), ("If-Match", "If-None-Match")
    ):
        answer = await client.request(method, place(campaign), json={}, headers={header: sent})
        document = await answer.json()
        assert answer.status == 400, reason
        assert document["type"] == "urn:problem-type:campaigns:invalid-precondition"
        assert document["detail"] == f'Send {header} as ETags in quotes, such as "3", or as *.'
    assert await read(client, campaign) == campaign


@pytest.mark.parametrize(
    ("if_none_match", "status", "reason"),
    [
        ("*", 412, "only if there is none"),
        ('"1"', 412, "only if it has changed"),
        ('W/"1"', 412, "only if it has changed"),
        ('"2"', 200, "it is another one"),
    ],
)
async def test_an_update_does_not_happen_to_what_is_ruled_out(
    client: Client, if_none_match: str, status: int, reason: str
) -> None:
    campaign = await create(client)
    headers = {"If-None-Match": if_none_match}
    answer = await client.put(place(campaign), json={"name": "New"}, headers=headers)
    assert answer.status == status, reason


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
async def test_a_setting_demands_if_match(
    settings: Settings, api_key: str, aiohttp_client: Start, method: str
) -> None:
    app = create_app(replace(settings, require_if_match=True))
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {api_key}"})
    campaign = await create(client)
    said = {} if method == "DELETE" else {"name": "New"}
    without = await client.request(method, place(campaign), json=said)
    assert without.status == 428
    document = await without.json()
    assert document["type"] == "urn:problem-type:campaigns:precondition-required"
    assert document["detail"] == (
        "Send the ETag of the campaign that you have read in the header If-Match."
    )
    headers = {"If-Match": '"1"'}
    given = await client.request(method, place(campaign), json=said, headers=headers)
    assert given.status == 200


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
async def test_a_query_that_would_not_be_heeded_is_refused(client: Client, method: str) -> None:
    campaign = await create(client)
    answer = await client.request(method, f"{place(campaign)}?validate_only=true", json={})
    assert answer.status == 422
    assert (await answer.json())["errors"] == [
        {"parameter": "validate_only", "detail": "Is not a parameter of this call."}
    ]
    assert await read(client, campaign) == campaign


async def test_time_does_not_go_backwards(client: Client, connection: Connection) -> None:
    # As if another replica, whose clock is ahead, had changed it before.
    campaign = await create(client)
    await connection.execute("UPDATE campaigns SET updated_at = '2100-01-01Z'")
    answer = await client.patch(place(campaign), json={"name": "New"})
    assert (await answer.json())["updated_at"] == "2100-01-01T00:00:00Z"


async def test_each_queue_is_told_what_changed_from_which_version_to_which(
    client: Client, consumer: Consumer
) -> None:
    campaign = await create(client)
    answer = await client.patch(
        place(campaign), json={"name": "New", "agenda_template": "{{ place }}"}
    )
    after = await answer.json()
    del after["message"]
    for events in (await consumer.events(2)).values():
        created, updated = events
        assert (created["sequence"], updated["sequence"]) == ("0000000001", "0000000002")
        assert updated["type"] == "campaign.updated"
        assert updated["dataschema"] == "urn:campaign-service:event:campaign.updated:1"
        assert updated["time"] == after["updated_at"]
        assert updated["data"] == {
            "campaign": after,
            "template_variables": {
                "required": ["place"],
                "optional": ["assistant_name", "company", "name"],
            },
            "changed_fields": ["name", "agenda_template"],
            "old_version": 1,
            "new_version": 2,
        }


async def test_a_repeated_update_is_answered_as_the_first_and_done_once(
    idle_client: Client, connection: Connection
) -> None:
    campaign = await create(idle_client)
    headers = KEY | {"If-Match": '"1"'}
    first = await idle_client.patch(place(campaign), json={"name": "New"}, headers=headers)
    await idle_client.patch(place(campaign), json={"name": "Newer"})
    again = await idle_client.patch(place(campaign), json={"name": "New"}, headers=headers)
    assert (first.status, again.status) == (200, 200)
    assert await first.read() == await again.read()
    assert again.headers["ETag"] == '"2"'
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await read(idle_client, campaign))["name"] == "Newer"
    assert await written(connection) == (3, 3, 3)


async def test_a_repeated_update_that_changed_nothing_changes_nothing_later(
    idle_client: Client,
) -> None:
    campaign = await create(idle_client, name="New")
    first = await idle_client.patch(place(campaign), json={"name": "New"}, headers=KEY)
    await idle_client.patch(place(campaign), json={"name": "Newer"})
    again = await idle_client.patch(place(campaign), json={"name": "New"}, headers=KEY)
    assert await first.read() == await again.read()
    assert (await read(idle_client, campaign))["name"] == "Newer"


async def test_a_key_with_another_patch_is_refused(client: Client) -> None:
    campaign = await create(client)
    await client.patch(place(campaign), json={"name": "New"}, headers=KEY)
    answer = await client.patch(place(campaign), json={"name": "Newer"}, headers=KEY)
    assert answer.status == 422
    document = await answer.json()
    assert document["type"] == "urn:problem-type:campaigns:idempotency-key-reused"


async def test_a_key_belongs_to_one_campaign(client: Client) -> None:
    campaigns = [await create(client), await create(client)]
    for campaign in campaigns:
        answer = await client.patch(place(campaign), json={"name": "New"}, headers=KEY)
        assert (answer.status, (await answer.json())["id"]) == (200, campaign["id"])
