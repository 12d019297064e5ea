"""What templates say to a contact, which variables they use, and who must bring those."""

import tracemalloc
from typing import Any

import pytest

from service import templates


def classed(*sources: str, fallbacks: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    found = templates.variables(sources, fallbacks)
    return list(found.required), list(found.optional)


def said(source: str, fallbacks: dict[str, Any] | None = None, **contact: Any) -> str:
    return templates.parse(source).render(contact, fallbacks or {})


@pytest.mark.parametrize(
    ("source", "required", "optional", "reason"),
    [
        ("no variable", [], [], "plain text"),
        ("{{ city }}", ["city"], [], "nobody else supplies it"),
        ("{{ city|upper }}", ["city"], [], "a filter supplies nothing"),
        ("{{ city|default('Rome') }}", [], ["city"], "an inline default"),
        ("{{ city|default('Rome')|upper }}", [], ["city"], "a default, then a filter"),
        ("{{ city|upper|default('Rome') }}", [], ["city"], "a filter, then a default"),
        ("{{ city }}{{ city|default('x') }}", ["city"], [], "once without a default"),
        ("{{ a|default(b) }}", ["b"], ["a"], "a default that is a variable"),
        ("{{ a|default(b|default('x')) }}", [], ["a", "b"], "which has one itself"),
        ("{{ a|default(b)|default('x') }}", [], ["a", "b"], "or is within one"),
        ("{{ a|default(company) }}", [], ["a", "company"], "or is the system's"),
        ("{{ company }}{{ name }}{{ assistant_name }}", [], ["assistant_name", "company", "name"],
         "system values"),
        ("{{ a if b else c }}", ["a", "b", "c"], [], "either may be said, and the third is asked"),
        ("{{ (a if b else c)|default('x') }}", ["b"], ["a", "c"], "the condition has no default"),
        ("{% if vip %}hello{% endif %}", ["vip"], [], "used in a condition only"),
        ("{% if a == b or c in d %}{% endif %}", ["a", "b", "c", "d"], [], "in all its parts"),
        ("{% if a in ['x'] %}{% endif %}", ["a"], [], "also before a list"),
        ("{% if a|default('x') == 'x' %}{% endif %}", [], ["a"], "a default in a condition"),
        ("{% if a %}{% elif b %}{{ c }}{% else %}{{ d }}{% endif %}", ["a", "b", "c", "d"], [],
         "all branches"),
        ("{% if a is defined %}{{ a }}{% endif %}", [], ["a"], "asked for first"),
        ("{{ a if a is defined else 'x' }}", [], ["a"], "also in a line"),
        ("{% if a is not defined %}x{% else %}{{ a }}{% endif %}", [], ["a"], "the other way"),
        ("{% if a is not defined %}{{ a }}{% endif %}", ["a"], [], "but not this way"),
        ("{% if a is defined %}x{% endif %}{{ a }}", ["a"], [], "nor behind the condition"),
        ("{% if a is defined and a != 'x' %}{{ a }}{% endif %}", [], ["a"], "with 'and'"),
        ("{% if b and a is defined %}{{ a }}{% endif %}", ["b"], ["a"], "on either side"),
        ("{% if a is defined or b %}{{ a }}{% endif %}", ["a", "b"], [], "not with 'or'"),
        ("{% if a is not defined or a == 'x' %}{% endif %}", [], ["a"], "but behind it"),
        ("{% if a is not defined or b %}{% else %}{{ a }}{% endif %}", ["b"], ["a"], "or else"),
        ("{% if a is not defined %}x{% elif b %}{{ a }}{% endif %}", ["b"], ["a"], "or else if"),
        ("{% if not (a is not defined) %}{{ a }}{% endif %}", [], ["a"], "negated twice"),
        ("{% if a is defined %}{% if b %}{{ a }}{% endif %}{% endif %}", ["b"], ["a"], "deeper"),
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


def test_a_value_comes_from_the_contact_the_fallback_the_default_or_the_system_in_this_order() -> (
    None
):
    source, fallbacks = "{{ name|default('inline') }}", {"name": "fallback"}
    assert said(source, fallbacks, name="contact") == "contact"
    assert said(source, fallbacks) == "fallback"
    assert said(source) == "inline"
    assert said("{{ name }}") == "there"
    assert said("{{ name|default(nobody) }}") == "there"
    assert said("{{ name|default(nobody)|default('last') }}") == "last"


@pytest.mark.parametrize("value", ["'yes' if name is defined else 'no'", "'yes' if name else 'no'"])
def test_a_default_changes_no_condition_before_it(value: str) -> None:
    assert said("{{ (" + value + ")|default('x') }}") == "yes"


@pytest.mark.parametrize(
    ("source", "contact", "expected", "reason"),
    [
        ("{{ a }}", {}, "", "nobody has a value"),
        ("{{ a }}", {"a": None}, "", "null is none"),
        ("{{ name }}", {"name": " \t"}, "there", "an empty column of a CSV file is none"),
        ("{{ name }}", {"name": " \x07"}, "there", "nor is what is never said"),
        ("{{ name|upper|default('x') }}", {}, "x", "a filter does not hide where a value is from"),
        ("{{ name|default(company)|default('x') }}", {}, "x", "nor does a default"),
        ("{{ a|upper|default('x') }}", {}, "x", "what is missing stays so behind a filter"),
        ("{{ name|upper }}", {}, "THERE", "filters work on system values"),
        ("{{ a }}", {"a": 3}, "3", "a number"),
        ("{{ a }}", {"a": 0}, "0", "zero is a value"),
        ("{{ a }}", {"a": 2.5}, "2.5", "a fraction"),
        ("{{ a }}", {"a": 1e-07}, "0.0000001", "a small one, as people write it"),
        ("{{ a }}", {"a": False}, "false", "a boolean, as JSON spells it"),
        ("{{ a|upper }}", {"a": True}, "TRUE", "through a filter"),
        ("{{ a|title_case }}", {"a": 3}, "3", "a number through a filter"),
        ("{{ a|lower }}", {"a": "ÅSA"}, "åsa", "beyond ASCII"),
        ("{{ 'x' }}{{ 3 }}{{ true }}", {}, "x3true", "constants"),
        (r"{{ 'it\'s\n\\' }}", {}, "it's\n\\", "escapes in quotes"),
        ("{{ a if b else c }}", {"a": "A", "b": "1", "c": "C"}, "A", "a choice"),
        ("{{ a if b else c }}", {"a": "A", "c": "C"}, "C", "the other"),
        ("{{ a if b }}!", {"a": "A"}, "!", "or nothing"),
        ("{% if a %}A{% elif b %}B{% else %}C{% endif %}", {"b": 1}, "B", "branches"),
        ("{% if a %}A{% endif %}", {"a": 0}, "", "zero does not hold"),
        ("{% if a %}A{% endif %}", {"a": "0"}, "A", "as a text it does, as any"),
        ("{% if a %}A{% endif %}", {"a": "false"}, "A", "whatever it says"),
        ("{% if a == 3 %}yes{% endif %}", {"a": "3"}, "yes", "columns of CSV files are text"),
        ("{% if a == 3 %}yes{% endif %}", {"a": " 3.0 "}, "yes", "however they write a number"),
        ("{% if a == 3 %}yes{% endif %}", {"a": "3\x1f"}, "yes", "among what Python calls blank"),
        ("{% if a == 3 %}yes{% endif %}", {"a": "three"}, "", "if it is one"),
        ("{% if a != 3 %}yes{% endif %}", {}, "yes", "what is missing is no number"),
        ("{% if a == '03' %}yes{% endif %}", {"a": "3"}, "", "texts are compared as texts"),
        ("{% if a == true %}yes{% endif %}", {"a": "true"}, "yes", "booleans as JSON spells them"),
        ("{% if a == true %}yes{% endif %}", {"a": "TRUE"}, "yes", "or as spreadsheets do"),
        ("{% if a == 3 %}yes{% endif %}", {"a": "+3"}, "yes", "with its sign"),
        ("{% if 1 == true %}yes{% endif %}", {}, "", "and no number is one"),
        ("{% if a == '' %}yes{% endif %}", {}, "yes", "what is missing is the empty text"),
        ("{% if a > 9 %}yes{% endif %}", {"a": "10"}, "yes", "ordered as numbers"),
        ("{% if a > b %}yes{% endif %}", {"a": "10", "b": "9"}, "yes", "even from two columns"),
        ("{% if a > -5 %}yes{% endif %}", {"a": "-4.5"}, "yes", "negative, with a fraction"),
        ("{% if a < 'b' %}yes{% endif %}", {"a": "a"}, "yes", "ordered as texts"),
        ("{% if a < b %}yes{% endif %}", {"a": "2026-01-31", "b": "2026-02-01"}, "yes", "dates"),
        ("{% if a < 3 %}yes{% endif %}", {"a": "two"}, "", "a text and a number have no order"),
        ("{% if a < 3 or a >= 3 %}yes{% endif %}", {}, "", "what is missing has none"),
        ("{% if a <= 3 and a >= 3 %}yes{% endif %}", {"a": 3}, "yes", "with the limits"),
        ("{% if a in ['x', 'y'] %}yes{% endif %}", {"a": "y"}, "yes", "in a list"),
        ("{% if a in [1, 2] %}yes{% endif %}", {"a": "2"}, "yes", "compared in the same way"),
        ("{% if a not in ['x'] %}yes{% endif %}", {"a": "y"}, "yes", "not in a list"),
        ("{% if 'ell' in a %}yes{% endif %}", {"a": "hello"}, "yes", "in a text"),
        ("{% if a in b %}yes{% endif %}", {"b": "hello"}, "", "what is missing is in nothing"),
        ("{% if 'a' in b %}yes{% endif %}", {}, "", "and nothing is in it"),
        ("{% if name is defined %}yes{% endif %}", {}, "yes", "the system defines it"),
        ("{% if a is defined %}yes{% endif %}", {"a": " "}, "", "blank is not defined"),
        ("{% if not a and (b or c) %}yes{% endif %}", {"c": "x"}, "yes", "and, or, not, brackets"),
        ("{% if (a|upper) == 'X' %}yes{% endif %}", {"a": "x"}, "yes", "brackets around a value"),
        ("{% if (a if b else c) == 'X' %}yes{% endif %}", {"c": "X"}, "yes", "and a choice"),
        ("a\n {%- if b %} x {% endif -%} \n c", {"b": 1}, "a x c", "white space at tags"),
        ("Hi\n", {}, "Hi\n", "a line feed at the end is meant"),
        ("a\r\nb\rc\td", {}, "a\nb\nc\td", "line ends of any system"),
        ("{{ a }}", {"a": "x\x07\x1b[0m\x85y"}, "x[0my", "control characters"),
        ("{{ a }}", {"a": "\ud83d"}, "", "half a character"),
        ("}} %} {a} %", {}, "}} %} {a} %", "no tag"),
    ],
)  # fmt: skip
def test_a_template_says(source: str, contact: dict[str, Any], expected: str, reason: str) -> None:
    assert said(source, None, **contact) == expected, reason


def test_a_fallback_that_is_the_empty_text_is_meant() -> None:
    assert said("{{ name|default('x') }}", {"name": ""}) == ""


@pytest.mark.parametrize(
    "value", ["x" * 1001, 2**53, -(2**53), float("nan"), float("inf"), ["x"], {"x": 1}, b"x"]
)
def test_a_value_that_cannot_be_said_is_refused_by_name(value: Any) -> None:
    with pytest.raises(templates.ValueRefused, match="'a'"):
        said("{{ a }}", a=value)
    with pytest.raises(templates.ValueRefused, match="'a'"):
        said("{{ a }}", {"a": value})


def test_a_value_that_is_not_used_may_be_anything() -> None:
    assert said("{{ a }}", a="x", b=["y"] * 5000) == "x"


def test_what_is_no_template_is_said_with_its_place() -> None:
    with pytest.raises(templates.TemplateError) as caught:
        templates.parse("one\n{{ two.three }}")
    assert str(caught.value).startswith("line 2, column 7: '.' is not expected here.")


def test_a_template_that_was_read_before_is_remembered_and_the_oldest_is_forgotten() -> None:
    parsed = templates.parse("{{ remembered }}")
    assert templates.parse("{{ remember" + "ed }}") is parsed
    for number in range(100):
        templates.parse(f"{number}")
    assert templates.parse("{{ remembered }}") is not parsed


def test_templates_that_come_and_go_leave_no_memory_behind() -> None:
    def after_batch(number: int) -> int:
        for template in range(200):
            templates.variables([f"{number} {template} " + "{{a|upper}}" * 100], ["a"])
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        after_batch(0)
        first, second = after_batch(1), after_batch(2)
    finally:
        tracemalloc.stop()
    assert second < first * 1.05
