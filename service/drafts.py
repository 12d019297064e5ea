"""Drafts: what a caller may say of a new campaign, and the campaign that comes of it."""

from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import UTC, datetime
from typing import Literal

import orjson

from service import templates
from service.filters import Value

CampaignType = Literal["call", "sms", "mixed"]
FallbackValues = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a caller may say of a new campaign, with the published defaults."""

    name: str
    campaign_type: CampaignType
    assistant_id: int
    description: str | None = None
    welcome_message_template: str | None = None
    agenda_template: str | None = None
    end_call_message_template: str | None = None
    sms_message_template: str | None = None
    fallback_values: FallbackValues = field(default_factory=dict)
    max_attempts: int = 3
    retry_delay_minutes: int = 30

    def stated(self) -> dict[str, object]:
        """What is not as it would be if nothing were said of it.

        Whether a caller writes a default or leaves it out, it means the same; and a field that is
        new in a later release changes nothing for those who do not know it.
        """
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) not in (field.default, _empty(field))
        }

    def template_variables(self) -> templates.Variables:
        """The variables of all four templates, classed by who must supply them."""
        sources = (
            self.welcome_message_template,
            self.agenda_template,
            self.end_call_message_template,
            self.sms_message_template,
        )
        return templates.variables(
            [templates.parse(source) for source in sources if source is not None],
            self.fallback_values,
        )


def _empty(field: "Field[object]") -> object:
    return None if field.default_factory is MISSING else field.default_factory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A stored campaign; the order of the fields is the published order of the keys."""

    id: int
    name: str
    description: str | None
    campaign_type: CampaignType
    status: str
    assistant_id: int
    welcome_message_template: str | None
    agenda_template: str | None
    end_call_message_template: str | None
    sms_message_template: str | None
    fallback_values: FallbackValues
    variable_mappings: dict[str, str]
    available_variables: list[str]
    max_attempts: int
    retry_delay_minutes: int
    total_contacts: int
    completed_contacts: int
    failed_contacts: int
    created_at: datetime
    updated_at: datetime
    # Not in the published example: the official SDK needs the first, an ETag shows the second.
    organization_id: int
    version: int

    @property
    def etag(self) -> str:
        return f'"{self.version}"'

    def to_json(self) -> bytes:
        """The campaign as the API shows it."""
        return orjson.dumps(self, option=orjson.OPT_UTC_Z)


def new(campaign_id: int, organization_id: int, draft: Draft) -> Campaign:
    """The campaign that a draft becomes now."""
    now = datetime.now(UTC)
    return Campaign(
        id=campaign_id,
        name=draft.name,
        description=draft.description,
        campaign_type=draft.campaign_type,
        status="draft",
        assistant_id=draft.assistant_id,
        welcome_message_template=draft.welcome_message_template,
        agenda_template=draft.agenda_template,
        end_call_message_template=draft.end_call_message_template,
        sms_message_template=draft.sms_message_template,
        fallback_values=draft.fallback_values,
        variable_mappings={},
        available_variables=[],
        max_attempts=draft.max_attempts,
        retry_delay_minutes=draft.retry_delay_minutes,
        total_contacts=0,
        completed_contacts=0,
        failed_contacts=0,
        created_at=now,
        updated_at=now,
        organization_id=organization_id,
        version=1,
    )
