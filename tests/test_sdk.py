"""The official SDK of the published API, as the package index has it, against the service."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import burki
import pytest
from burki.models.campaign import Campaign, CampaignContact, CampaignSchedule, CampaignSettings

from service import schemas
from service.app import create_app
from service.postgres import Connection
from service.settings import Settings
from tests.conftest import Client, Start

Call = Callable[..., Awaitable[Any]]
SAID: dict[str, Any] = {"name": "Outreach", "assistant_id": 123, "contacts": []}


def base_url(client: Client) -> str:
    return str(client.make_url("/"))


def calls_of(sdk: burki.BurkiClient, *, is_async: bool) -> Call:
    """Call a method of `campaigns` by its name, in either of the two ways that the SDK has."""

    async def call(name: str, /, *arguments: Any, **named: Any) -> Any:
        if is_async:
            return await getattr(sdk.campaigns, f"{name}_async")(*arguments, **named)
        return await asyncio.to_thread(getattr(sdk.campaigns, name), *arguments, **named)

    return call


@pytest.fixture(params=["sync", "async"])
async def call(request: pytest.FixtureRequest, client: Client, api_key: str) -> AsyncIterator[Call]:
    sdk = burki.BurkiClient(api_key=api_key, base_url=base_url(client))
    yield calls_of(sdk, is_async=request.param == "async")
    await sdk.close_async()
    sdk.close()


def errors_of(refused: burki.ValidationError) -> list[dict[str, Any]]:
    assert refused.response_body is not None
    errors: list[dict[str, Any]] = refused.response_body["errors"]
    return errors


async def test_a_campaign_lives_its_whole_life(call: Call, organization: int) -> None:
    created = await call("create", **SAID)
    assert isinstance(created, Campaign)
    assert (created.status, created.organization_id) == ("draft", organization)
    assert (created.campaign_type, created.total_contacts) == ("call", 0)
    assert await call("get", created.id) == created
    assert await call("list") == [created]
    updated = await call("update", created.id, name="New", description="About")
    assert isinstance(updated, Campaign)
    assert (updated.name, updated.description) == ("New", "About")
    assert await call("get", created.id) == updated
    assert await call("delete", created.id) is True
    assert await call("list") == []


async def test_lists_are_filtered_and_have_parts(call: Call) -> None:
    made = [await call("create", **SAID | {"name": name}) for name in "abc"]
    assert [each.name for each in await call("list", skip=1, limit=1)] == ["b"]
    assert await call("list", status="draft") == made[::-1]
    assert await call("list", status="running") == []


SETTINGS = CampaignSettings(
    max_attempts=5,
    retry_delay_minutes=60,
    welcome_template="Hi {{ name }}",
    agenda_template="About {{ topic }}",
)
OURS = {
    "max_attempts": 5,
    "retry_delay_minutes": 60,
    "welcome_message_template": "Hi {{ name }}",
    "agenda_template": "About {{ topic }}",
}


async def test_settings_are_our_fields_and_read_back(call: Call, connection: Connection) -> None:
    created = await call("create", **SAID, settings=SETTINGS)
    assert created.settings == SETTINGS
    assert (await call("get", created.id)).settings == SETTINGS
    row = await connection.fetchrow("SELECT * FROM campaigns")
    assert row is not None
    assert {name: row[name] for name in OURS} == OURS


async def test_settings_that_were_read_can_be_changed_and_sent_back(call: Call) -> None:
    created = await call("create", **SAID, settings=SETTINGS)
    changed = created.settings.model_copy(update={"max_attempts": 7})
    # The asynchronous call sends what it is given, so it is given plain objects.
    updated = await call("update", created.id, settings=changed.model_dump())
    assert updated.settings == changed


async def test_settings_that_clear_a_template_or_do_not_are_refused(call: Call) -> None:
    # The SDK sends all of its settings, whether the caller has spoken of them or not.
    created = await call("create", **SAID, settings=SETTINGS)
    fresh = CampaignSettings(max_attempts=7).model_dump()
    with pytest.raises(burki.ValidationError) as refused:
        await call("update", created.id, settings=fresh)
    assert errors_of(refused.value) == [
        {
            "pointer": f"#/settings/{theirs}",
            "detail": f"May mean to clear it, or not: leave it out, or set '{ours}' to null.",
        }
        for theirs, ours in [
            ("welcome_template", "welcome_message_template"),
            ("agenda_template", "agenda_template"),
        ]
    ]
    assert (await call("get", created.id)).settings == SETTINGS


@pytest.mark.parametrize(
    ("patch", "status", "reason"),
    [
        ({"settings": None}, 422, "all of them, or none"),
        ({"settings": {}}, 200, "nothing is said"),
        ({"settings": {"agenda_template": None}}, 200, "it is clear already"),
        ({"settings": {"welcome_template": None}}, 422, "it may be cleared, or not"),
        ({"settings": {"welcome_template": None}, "welcome_message_template": None}, 200,
         "it is cleared"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_null_in_the_settings_does_not_clear(
    client: Client, method: str, patch: dict[str, Any], status: int, reason: str
) -> None:
    body = {"name": "n", "campaign_type": "call", "assistant_id": 1}
    created = await (
        await client.post("/api/v1/campaigns", json=body | {"welcome_message_template": "Hi"})
    ).json()
    answer = await client.request(method, f"/api/v1/campaigns/{created['id']}", json=patch)
    assert answer.status == status, reason


async def test_a_part_of_the_settings_leaves_the_rest(call: Call) -> None:
    created = await call("create", **SAID, settings=SETTINGS)
    updated = await call("update", created.id, settings={"retry_delay_minutes": 90})
    assert updated.settings == SETTINGS.model_copy(update={"retry_delay_minutes": 90})


CONTACTS = (
    "Must be empty or left out: contacts are imported once the campaign is there, with "
    "POST /api/v1/campaigns/{id}/import-data."
)
SCHEDULE = (
    "Must be left out: a schedule is saved once the campaign is there, with "
    "POST /api/v1/campaigns/{id}/schedule."
)
PACE = "Must be {} or left out: how fast calls are made is decided where campaigns are started."
VOICEMAIL = "Must be {} or left out: what is left on a voicemail is decided by the assistant."


@pytest.mark.parametrize(
    ("said", "pointer", "detail"),
    [
        (
            {"contacts": [CampaignContact(phone_number="+14155551234")]},
            "#/contacts",
            CONTACTS,
        ),
        (
            {"schedule": CampaignSchedule()},
            "#/schedule",
            SCHEDULE,
        ),
        (
            {"phone_number_id": 7},
            "#/phone_number_id",
            "Must be left out: the number to call from is assigned to the assistant.",
        ),
        (
            {"settings": CampaignSettings(max_concurrent_calls=6)},
            "#/settings/max_concurrent_calls",
            PACE.format(5),
        ),
        (
            {"settings": CampaignSettings(calls_per_minute=11)},
            "#/settings/calls_per_minute",
            PACE.format(10),
        ),
        (
            {"settings": CampaignSettings(leave_voicemail=True)},
            "#/settings/leave_voicemail",
            VOICEMAIL.format("false"),
        ),
        (
            {"settings": CampaignSettings(voicemail_message="Hi")},
            "#/settings/voicemail_message",
            VOICEMAIL.format("null"),
        ),
        (
            {"settings": {"max_concurrent_calls": True}},
            "#/settings/max_concurrent_calls",
            PACE.format(5),
        ),
        (
            {"settings": {"max_attempts": 0}},
            "#/settings/max_attempts",
            "Must be an integer from 1 to 100.",
        ),
        (
            {"settings": {"max_attempt": 4}},
            "#/settings/max_attempt",
            "Is not a known field. Did you mean 'max_attempts'?",
        ),
        ({"settings": [1]}, "#/settings", "Must be an object."),
    ],
)
async def test_what_is_decided_elsewhere_is_refused_and_says_where(
    call: Call, connection: Connection, said: dict[str, Any], pointer: str, detail: str
) -> None:
    with pytest.raises(burki.ValidationError) as refused:
        await call("create", **SAID | said)
    assert refused.value.status_code == 422
    [error] = errors_of(refused.value)
    assert (error["pointer"], error["detail"]) == (pointer, detail)
    assert await connection.fetchval("SELECT count(*) FROM campaigns") == 0


async def test_a_template_in_the_settings_is_told_with_its_place(call: Call) -> None:
    settings = {"welcome_template": "Hi {{ name|titlecase }}"}
    with pytest.raises(burki.ValidationError) as refused:
        await call("create", **SAID, settings=settings)
    [error] = errors_of(refused.value)
    assert (error["pointer"], error["column"]) == ("#/settings/welcome_template", 12)


@pytest.mark.parametrize(
    ("ours", "theirs", "status", "reason"),
    [
        ({"max_attempts": 4}, {"max_attempts": 5}, 422, "nobody knows which"),
        ({"max_attempts": 4}, {"max_attempts": 4}, 201, "both say the same"),
        ({"welcome_message_template": "a"}, {"welcome_template": "b"}, 422, "by another name"),
        ({"welcome_message_template": None}, {"welcome_template": "b"}, 422, "cleared or not"),
    ],
)
async def test_a_field_and_a_setting_must_not_say_two_things(
    client: Client, ours: dict[str, Any], theirs: dict[str, Any], status: int, reason: str
) -> None:
    body = SAID | {"campaign_type": "call", "settings": theirs} | ours
    answer = await client.post("/api/v1/campaigns", json=body)
    assert answer.status == status, reason
    if status == 422:
        [[mine], [their]] = [list(ours), list(theirs)]
        assert (await answer.json())["errors"] == [
            {
                "pointer": f"#/settings/{their}",
                "detail": f"Is given as '{mine}', too, and otherwise.",
            }
        ]


async def test_what_is_not_there_is_a_not_found_error(call: Call) -> None:
    for name, arguments in [("get", {}), ("update", {"name": "New"}), ("delete", {})]:
        with pytest.raises(burki.NotFoundError) as missing:
            await call(name, 999_999_999, **arguments)
        assert missing.value.message == "Your organization has no campaign of this id."


async def test_a_status_that_does_not_allow_it_is_an_error_that_says_so(
    call: Call, connection: Connection
) -> None:
    created = await call("create", **SAID)
    await connection.execute("UPDATE campaigns SET status = 'running'")
    with pytest.raises(burki.BurkiError) as refused:
        await call("delete", created.id)
    assert str(refused.value) == "[409] A running campaign cannot be deleted: stop it first."


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_wrong_key_is_an_authentication_error(client: Client, is_async: bool) -> None:
    async with burki.BurkiClient(api_key="wrong", base_url=base_url(client)) as sdk:
        with pytest.raises(burki.AuthenticationError) as refused:
            await calls_of(sdk, is_async=is_async)("list")
        sdk.close()
    assert refused.value.status_code == 401


@pytest.mark.parametrize("is_async", [False, True])
async def test_too_much_is_a_rate_limit_error_that_says_when_to_come_back(
    settings: Settings, api_key: str, aiohttp_client: Start, is_async: bool
) -> None:
    limited = replace(settings, key_requests_per_second=0.1, key_requests_burst=1)
    client = await aiohttp_client(create_app(limited))
    async with burki.BurkiClient(api_key=api_key, base_url=base_url(client)) as sdk:
        call = calls_of(sdk, is_async=is_async)
        await call("list")
        with pytest.raises(burki.RateLimitError) as refused:
            await call("list")
        sdk.close()
    assert refused.value.retry_after in range(9, 11)


async def test_the_defaults_of_the_sdk_are_accepted_and_change_nothing(call: Call) -> None:
    created = await call("create", **SAID, settings=CampaignSettings())
    assert created.settings == CampaignSettings()


def test_every_setting_of_the_sdk_is_known() -> None:
    # So that a release of the SDK that sends something new does not come unnoticed.
    assert schemas._SettingsSchema().fields.keys() == CampaignSettings.model_fields.keys()
