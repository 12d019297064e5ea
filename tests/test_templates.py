"""Which variables templates use, and who must bring them."""

import pytest

from service import templates


def classed(*sources: str, fallbacks: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    found = templates.variables([templates.parse(source) for source in sources], fallbacks)
    return found.required, found.optional


@pytest.mark.parametrize(
    ("source", "required", "optional", "reason"),
    [
        ("no variable", [], [], "plain text"),
        ("{{ city }}", ["city"], [], "nobody else supplies it"),
        ("{{ city|upper }}", ["city"], [], "a filter supplies nothing"),
        ("{{ city|default('Rome') }}", [], ["city"], "an inline default"),
        ("{{ city|default('Rome')|upper }}", [], ["city"], "a default, then a filter"),
        ("{{ city }}{{ city|default('x') }}", ["city"], [], "once without a default"),
        ("{{ a|default(b) }}", ["b"], ["a"], "a default that is a variable"),
        ("{{ company }}{{ name }}{{ assistant_name }}", [], ["assistant_name", "company", "name"],
         "system values"),
        ("{% if vip %}hello{% endif %}", ["vip"], [], "used in a condition"),
        ("{% for x in list %}{{ x }}{% endfor %}", ["list"], [], "a loop's own name"),
    ],
)  # fmt: skip
def test_a_variable_is_required_when_only_contacts_can_bring_it(
    source: str, required: list[str], optional: list[str], reason: str
) -> None:
    assert classed(source) == (required, optional), reason


def test_a_fallback_value_makes_a_variable_optional() -> None:
    assert classed("{{ city }} {{ day }}", fallbacks=("city",)) == (["day"], ["city"])


def test_a_fallback_value_that_no_template_uses_is_no_variable() -> None:
    assert classed("{{ day }}", fallbacks=("city",)) == (["day"], [])


def test_all_templates_of_a_campaign_count() -> None:
    assert classed("{{ b|default('x') }}", "{{ b }} {{ a }}") == (["a", "b"], [])


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("one\n{{ two", "line 2: "),
        ("{{ name|shout }}", "line 1: unknown filter 'shout', use one of default, lower, "),
        ("{{ " + "(" * 10_000, "nested too deeply"),
        ("{{ " + "9" * 10_000 + " }}", "a number too long"),
    ],
)
def test_what_is_no_template_is_said_with_its_place(source: str, sentence: str) -> None:
    with pytest.raises(templates.TemplateError) as caught:
        templates.parse(source)
    assert sentence in str(caught.value)
