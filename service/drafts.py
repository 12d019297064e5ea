"""Drafts: what a caller may say of a campaign, and the campaign that comes of it."""

from dataclasses import MISSING, Field, dataclass, field, fields, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Literal

import orjson

from service import templates
from service.filters import Value

CampaignType = Literal["call", "sms", "mixed"]
Status = Literal["draft", "scheduled", "running", "paused", "completed", "cancelled", "failed"]
FallbackValues = dict[str, Value]

# The official SDK calls these fields otherwise, and keeps them in an object of their own.
SDK_SETTINGS = {
    "max_attempts": "max_attempts",
    "retry_delay_minutes": "retry_delay_minutes",
    "welcome_template": "welcome_message_template",
    "agenda_template": "agenda_template",
}
_SETTINGS = attrgetter(*SDK_SETTINGS.values())


# Nobody changes a draft or a campaign, but it would take half as long again to make a frozen one.
@dataclass(slots=True, kw_only=True)
class Draft:
    """What a caller may say of a campaign, with the published defaults."""

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
            [source for source in sources if source is not None], self.fallback_values
        )


def _empty(field: "Field[object]") -> object:
    return None if field.default_factory is MISSING else field.default_factory()


FIELDS = tuple(field.name for field in fields(Draft))


@dataclass(slots=True, kw_only=True)
class Campaign:
    """A stored campaign; the order of the fields is the published order of the keys."""

    id: int
    name: str
    description: str | None
    campaign_type: CampaignType
    status: Status
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
    # Published for reading; nothing fills them yet.
    assistant_name: None = None
    last_import_file_name: None = None
    last_import_date: None = None
    last_import_row_count: None = None
    # Not in the published examples: the official SDK needs the first, an ETag shows the second,
    # and the third is where the SDK looks for what it has set.
    organization_id: int
    version: int
    settings: dict[str, object] = field(init=False)

    def __post_init__(self) -> None:
        self.settings = dict(zip(SDK_SETTINGS, _SETTINGS(self), strict=True))

    @property
    def etag(self) -> str:
        return f'"{self.version}"'

    def to_json(self, **more: object) -> bytes:
        """The campaign as the API shows it, and more keys after its own."""
        if not more:
            return orjson.dumps(self, option=orjson.OPT_UTC_Z)
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return orjson.dumps(shown | more, option=orjson.OPT_UTC_Z)

    def editable(self) -> dict[str, object]:
        """The fields that callers may change, as they are."""
        return _said(self)

    def changed_to(self, draft: Draft) -> "Campaign":
        """The next version, in which a draft is stated."""
        return replace(self.next(), **_said(draft))

    def next(self) -> "Campaign":
        """The next version, as yet the same; time does not go backwards between two replicas."""
        now = max(datetime.now(UTC), self.updated_at)
        return replace(self, version=self.version + 1, updated_at=now)

    def differing(self, draft: Draft) -> list[str]:
        """The fields of which the draft says something else; the order of entries says nothing."""
        return [
            name
            for name in FIELDS
            if _canonical(getattr(self, name)) != _canonical(getattr(draft, name))
        ]


READ_ONLY = tuple(
    field.name for field in fields(Campaign) if field.name not in (*FIELDS, "settings")
)


def _canonical(value: object) -> bytes:
    """Tell 1 from true and from 1.0, which Python takes for equal."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def name_key(name: str) -> str:
    """What a name is sorted and searched by."""
    return name.casefold()


def new(campaign_id: int, organization_id: int, draft: Draft) -> Campaign:
    """The campaign that a draft becomes now."""
    now = datetime.now(UTC)
    return Campaign(
        **_said(draft),
        id=campaign_id,
        status="draft",
        variable_mappings={},
        available_variables=[],
        total_contacts=0,
        completed_contacts=0,
        failed_contacts=0,
        created_at=now,
        updated_at=now,
        organization_id=organization_id,
        version=1,
    )


_VALUES = attrgetter(*FIELDS)


def _said(by: Draft | Campaign) -> dict[str, Any]:
    return dict(zip(FIELDS, _VALUES(by), strict=True))
