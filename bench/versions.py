"""What is created: the published example, also as what a create stores of it."""

import json

from dev.addresses import EXAMPLE
from service import drafts, events, schemas
from service.access import Trace
from service.history import Change, Version
from service.idempotency import Answer
from service.keys import SCOPES, Caller

ORGANIZATION = 1


def example() -> Version:
    """The first version of the campaign, for what begins where the HTTP part ends."""
    draft = schemas.load_draft(json.loads(EXAMPLE.read_text()))
    campaign = drafts.new(1, ORGANIZATION, draft)
    caller = Caller(ORGANIZATION, 1, frozenset(SCOPES), None)
    trace = Trace("4f7dbd36-8a53-4b4a-9a4f-9d3e2e2f4b1e", None)
    return Version(
        campaign=campaign,
        change=Change.to(campaign, "created", [], caller, trace),
        event=events.created(campaign, campaign.to_json(), draft.template_variables(), trace),
        answer=Answer(201, {}, campaign.to_json()),
    )
