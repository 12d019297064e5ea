"""What holds for every body, tried with a few hundred that nobody thought of."""

import json
from typing import Any

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
