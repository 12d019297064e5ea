"""What holds for every body, tried with a few hundred that nobody thought of."""

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from service import tokens
from service.templates import LARGEST_NUMBER
from tests.hostile import INTEGERS, JSON, SHORTEST, TEMPLATES
from tests.targets import Target
from tests.test_grammar import NAMES, nonsense, sensible

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
# Bodies that look like campaigns, more or less.
bodies = st.dictionaries(
    st.sampled_from([*SHORTEST, *TEMPLATES, *INTEGERS, "description", "fallback_values", "x"]),
    st.one_of(documents, sensible, nonsense, st.integers(-1, 200)),
)

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
names = st.text(characters, min_size=1, max_size=200).filter(
    lambda name: name == name.strip() and any(c.isalnum() for c in name)
)
values = st.one_of(
    st.text(characters, max_size=30),
    st.booleans(),
    st.integers(-LARGEST_NUMBER, LARGEST_NUMBER),
    st.floats(-1e15, 1e15, allow_subnormal=False),
)
campaigns = st.fixed_dictionaries(
    {
        "name": names,
        "campaign_type": st.sampled_from(["call", "sms", "mixed"]),
        "assistant_id": st.integers(1, 2**63 - 1),
    },
    optional={
        "description": st.text(characters, max_size=50),
        "fallback_values": st.dictionaries(st.sampled_from(NAMES), values),
        "max_attempts": st.integers(1, 100),
        "retry_delay_minutes": st.integers(0, 43_200),
    }
    | dict.fromkeys(TEMPLATES, sensible),
)


parts = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "assistant_id": st.integers(1, 2**63 - 1),
        "description": st.one_of(st.none(), st.text(characters, max_size=50)),
        "fallback_values": st.one_of(
            st.none(), st.dictionaries(st.sampled_from(NAMES), st.one_of(st.none(), values))
        ),
        "max_attempts": st.one_of(st.none(), st.integers(1, 100)),
    }
    | dict.fromkeys(TEMPLATES, st.one_of(st.none(), sensible)),
)
DEFAULTS = {"fallback_values": {}, "max_attempts": 3}

PARAMETERS = ["skip", "limit", "page", "per_page", "cursor", "sort", "status", "assistant_id", "q"]
PARAMETERS += ["campaign_type", "created_after", "created_before", "x"]
queries = st.lists(
    st.tuples(
        st.sampled_from(PARAMETERS),
        st.one_of(
            st.sampled_from(
                ["1", "-1", "name", "-created_at", "draft", "sms", "2026-01-01T00:00Z"]
            ),
            st.integers().map(str),
            st.datetimes().map(str),
            st.text(max_size=10),
        ),
    ),
    max_size=4,
)


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


@settings(max_examples=400)
@given(body=st.one_of(documents, bodies))
def test_any_json_is_answered_and_never_by_a_failure(target: Target, body: Any) -> None:
    answer = target.post(encoded(body), JSON, "?validate_only=true")
    assert answer.status in (200, 400, 422)


@settings(max_examples=200)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_answered_and_never_by_a_failure(target: Target, body: bytes) -> None:
    assert target.post(body, JSON, "?validate_only=true").status in (400, 422)


@settings(max_examples=300)
@given(body=campaigns)
def test_what_is_accepted_reads_back_identical_and_can_be_previewed(
    target: Target, body: dict[str, Any]
) -> None:
    created = target.post(encoded(body), JSON)
    assert created.status == 201, created.body
    answered = json.loads(created.body)
    assert {name: answered[name] for name in body} == body
    stored = target.stored(answered["id"])
    assert {name: stored[name] for name in body} == body
    for name in TEMPLATES:
        sample = {"template": body.get(name, "")} | {
            "fallback_values": body.get("fallback_values", {})
        }
        preview = target.post(encoded(sample), JSON, "/template-preview")
        assert preview.status == 200, preview.body
        rendered = json.loads(preview.body)["rendered_template"]
        assert tokens.CONTROL_CHARACTERS.search(rendered) is None


def created(target: Target, body: dict[str, Any]) -> dict[str, Any]:
    answer = target.post(encoded(body), JSON)
    assert answer.status == 201, answer.body
    campaign: dict[str, Any] = json.loads(answer.body)
    return campaign


@settings(max_examples=300)
@given(body=st.one_of(documents, bodies), method=st.sampled_from(["PATCH", "PUT"]))
def test_any_json_as_an_update_is_answered_and_never_by_a_failure(
    target: Target, body: Any, method: str
) -> None:
    campaign = created(target, SHORTEST)
    answer = target.request(method, f"/{campaign['id']}", encoded(body), JSON)
    assert answer.status in (200, 400, 422)


def said(patch: dict[str, Any], name: str, before: Any) -> Any:
    value = patch.get(name, before)
    return DEFAULTS.get(name) if value is None else value


@settings(max_examples=200)
@given(body=campaigns, patch=parts)
def test_a_patch_says_what_it_says_and_nothing_else(
    target: Target, body: dict[str, Any], patch: dict[str, Any]
) -> None:
    campaign = created(target, body)
    answer = target.request("PATCH", f"/{campaign['id']}", encoded(patch), JSON)
    after = json.loads(answer.body)
    assert answer.status == 200, after
    for name, value in campaign.items():
        if name not in ("fallback_values", "settings", "updated_at", "version"):
            assert after[name] == said(patch, name, value)
    values = dict(campaign["fallback_values"])
    given = patch.get("fallback_values", {})
    values = {} if given is None else values | given
    assert after["fallback_values"] == {k: v for k, v in values.items() if v is not None}


@settings(max_examples=300)
@given(query=queries)
def test_any_query_is_answered_and_never_by_a_failure(
    target: Target, query: list[tuple[str, str]]
) -> None:
    encoded_query = urlencode(query, errors="surrogatepass")
    answer = target.request("GET", f"?{encoded_query}", b"", {})
    assert answer.status in (200, 422), answer.body
