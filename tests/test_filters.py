"""The filters of message templates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import filters
from service.filters import Value


@pytest.mark.parametrize(
    ("value", "expected", "reason"),
    [
        ("o'brien", "O'Brien", "a name begins behind one letter and an apostrophe"),
        ("O\u2019BRIEN", "O\u2019Brien", "also behind the one of a word processor"),
        ("l'or\u00e9al d'A", "L'Or\u00e9al D'A", "and in other languages"),
        ("anna's", "Anna's", "but not behind a word"),
        ("don't", "Don't", "nor in one"),
        ("AB'\u0149X", "Ab'\u02bcnx", "whatever a letter becomes as a capital"),
        ("'quoted'", "'Quoted'", "quotation marks are not apostrophes"),
        ("jean-luc", "Jean-Luc", "hyphens"),
        ("jean\u2011luc picard", "Jean\u2011Luc Picard", "that do not break either"),
        ("ÅSA", "Åsa", "beyond ASCII"),
        ("A\u030aSA", "A\u030asa", "the same in two characters"),
        ("josé maría", "José María", "accents within"),
        ("ЁЛКА", "Ёлка", "another script"),
        ("中文", "中文", "a script without capitals"),
        ("ǆemal", "ǅemal", "one character that is two letters"),
        ("JOHN  SMITH", "John  Smith", "white space stays"),
        ("3rd street", "3rd Street", "digits begin a word as well"),
        ("", "", "nothing"),
        (3, "3", "a number"),
        (2.5, "2.5", "a fraction"),
        (True, "True", "a boolean"),
    ],
)
def test_title_case_begins_each_part_of_a_name_with_a_capital(
    value: Value, expected: str, reason: str
) -> None:
    assert filters.title_case(value) == expected, reason


@pytest.mark.parametrize(
    ("value", "expected", "reason"),
    [
        ("5551234567", "(555) 123-4567", "ten digits"),
        (5551234567, "(555) 123-4567", "as a number"),
        ("+15551234567", "(555) 123-4567", "E.164"),
        ("15551234567", "(555) 123-4567", "E.164 without its sign"),
        ("555-123-4567", "(555) 123-4567", "hyphens"),
        ("555.123.4567", "(555) 123-4567", "dots"),
        ("(555) 123-4567", "(555) 123-4567", "formatted already"),
        ("+1 (555) 123 4567", "(555) 123-4567", "formatted otherwise"),
        (" 555 123 4567 ", "(555) 123-4567", "white space"),
        ("+442071838750", "+442071838750", "another country"),
        ("+4930123456", "+4930123456", "with ten digits"),
        ("0551234567", "0551234567", "no area begins with 0"),
        ("1551234567", "1551234567", "nor with 1"),
        ("555123456", "555123456", "one too few"),
        ("55512345678", "55512345678", "one too many"),
        ("25551234567", "25551234567", "no country code"),
        ("555-CALL-NOW", "555-CALL-NOW", "letters"),
        ("٥٥٥١٢٣٤٥٦٧", "٥٥٥١٢٣٤٥٦٧", "digits of another script"),
        ("", "", "nothing"),
        ("n/a", "n/a", "no number"),
        (555123456.7, "555123456.7", "a fraction has a point, no dot"),
        (True, "true", "a boolean"),
    ],
)
def test_phone_format_writes_north_american_numbers_and_leaves_others(
    value: Value, expected: str, reason: str
) -> None:
    assert filters.phone_format(value) == expected, reason


@given(st.sampled_from(list(filters.TEXT_FILTERS)), st.text() | st.integers() | st.booleans())
def test_no_filter_fails_or_makes_more_than_three_of_one_character(name: str, value: Value) -> None:
    filtered = filters.TEXT_FILTERS[name](value)
    assert len(filtered) <= max(3 * len(filters.text(value)), 14)
