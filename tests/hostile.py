"""Bodies that no honest caller sends, each with the reason why it is here and its answer."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

SHORTEST: dict[str, Any] = {"name": "A", "campaign_type": "call", "assistant_id": 1}
JSON = {"Content-Type": "application/json"}

# An ellipsis, in a pointer.
CUT = "%E2%80%A6"

TEXTS = ("description",)
TEMPLATES = (
    "welcome_message_template",
    "agenda_template",
    "end_call_message_template",
    "sms_message_template",
)
INTEGERS = ("assistant_id", "max_attempts", "retry_delay_minutes")


@dataclass(frozen=True)
class Case:
    reason: str
    body: bytes
    status: int
    pointers: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=lambda: JSON)


def with_(reason: str, *pointers: str, **change: Any) -> Case:
    """The shortest body with other fields, whose first is wrong if nothing else is said."""
    pointers = pointers or (f"#/{next(iter(change))}",)
    return Case(reason, json.dumps(SHORTEST | change).encode(), 422, pointers)


def without(name: str) -> Case:
    body = {key: value for key, value in SHORTEST.items() if key != name}
    return Case(f"{name} is missing", json.dumps(body).encode(), 422, (f"#/{name}",))


def raw(reason: str, body: bytes | str, status: int = 400, *pointers: str) -> Case:
    return Case(reason, body if isinstance(body, bytes) else body.encode(), status, pointers)


def member(text: str) -> str:
    """The shortest body, with one more member that json.dumps would not write."""
    return json.dumps(SHORTEST)[:-1] + ", " + text + "}"


def types() -> Iterator[Case]:
    """Every field with every type of JSON that it does not have."""
    texts = ("name", "campaign_type", *TEXTS, *TEMPLATES)
    values = {"true": True, "false": False, "a number": 3, "a fraction": 3.5, "an array": ["x"]}
    values |= {"an object": {"x": 1}}
    for name in texts:
        for kind, value in values.items():
            yield with_(f"{name} is {kind}", **{name: value})
    for name in INTEGERS:
        wrong = {"a text": "3", "true": True, "a fraction": 3.5, "a whole fraction": 3.0}
        wrong |= {"an array": [3], "an object": {"x": 3}, "an empty text": ""}
        for kind, value in wrong.items():
            yield with_(f"{name} is {kind}", **{name: value})
        yield raw(f"{name} has an exponent", _instead(name, "1e1"), 422, f"#/{name}")
        yield raw(f"{name} has 400 digits", _instead(name, "1" * 400), 422, f"#/{name}")
        yield raw(f"{name} has 5000 digits", _instead(name, "1" * 5000), 422, f"#/{name}")
        yield raw(f"{name} is beyond a double", _instead(name, "1e999"), 422, f"#/{name}")
    for kind, value in {"a text": "x", "true": True, "a number": 3, "an array": [1]}.items():
        yield with_(f"fallback_values is {kind}", fallback_values=value)


def _instead(name: str, number: str) -> str:
    others = {key: value for key, value in SHORTEST.items() if key != name}
    return json.dumps(others)[:-1] + f', "{name}": {number}}}'


def fields() -> Iterator[Case]:
    """Right types, wrong values."""
    yield from (without(name) for name in SHORTEST)
    for name in SHORTEST:
        yield with_(f"{name} is required, so null is not 'not given'", **{name: None})
    yield with_("name is empty", name="")
    yield with_("name is white space", name=" \t\n\u00a0\u2003")
    yield with_("name has no width", name="\u200b\ufeff\u2060")
    yield with_("name is one too long", name="x" * 201)
    yield with_("name is one emoji too long", name="\U0001f600" * 201)
    yield with_("name is too long once trimmed, too", name=" " + "x" * 201 + " ")
    yield with_("description is one too long", description="\u00e9" * 2001)
    yield with_("campaign_type is not published", campaign_type="fax")
    yield with_("campaign_type in capitals", campaign_type="CALL")
    yield with_("campaign_type with a space", campaign_type="call ")
    yield with_("assistant_id begins at 1", assistant_id=0)
    yield with_("assistant_id is negative", assistant_id=-1)
    yield with_("assistant_id is beyond bigint", assistant_id=2**63)
    yield with_("max_attempts begins at 1", max_attempts=0)
    yield with_("max_attempts ends at 100", max_attempts=101)
    yield with_("max_attempts is beyond integer", max_attempts=2**31)
    yield with_("retry_delay_minutes is negative", retry_delay_minutes=-1)
    yield with_("retry_delay_minutes is over 30 days", retry_delay_minutes=43_201)
    for name in ("name", *TEXTS, *TEMPLATES):
        yield with_(f"{name} has a NUL, which PostgreSQL cannot store", **{name: "a\0b"})
        yield with_(f"{name} has a lone high surrogate", **{name: "a\ud800b"})
        yield with_(f"{name} has a lone low surrogate", **{name: "a\udc00"})
    yield with_("campaign_type has a NUL", campaign_type="call\0")
    yield with_("a misspelt field", max_attempt=3)
    yield with_("a field in another style", maxAttempts=3)
    yield with_("the id is not the caller's", id=1)
    yield with_("nor is the status", status="running")
    yield with_("nor the organization", organization_id=1)
    yield with_("nor the version", version=9)
    yield with_("nor the counters", total_contacts=5)
    yield with_("null makes no field known", anything=None)
    yield with_("a name that marshmallow uses itself", _schema=1)
    yield with_("a name that Python uses itself", __class__="x")
    yield with_("a name of JavaScript's", __proto__={"x": 1})
    yield raw("an empty name", member('"": 1'), 422, "#/")
    yield raw("a name to be escaped in a pointer", member('"a/b~c": 1'), 422, "#/a~1b~0c")
    yield raw("a name with NUL", member('"a\\u0000": 1'), 422, "#/a%00")
    yield raw("a name with a lone surrogate", member('"a\\ud800": 1'), 422, "#/a?")
    yield raw(
        "a name of 500 KB", member('"' + "x" * 500_000 + '": 1'), 422, "#/" + "x" * 64 + "%E2%80%A6"
    )
    yield raw(
        "names that grow in a pointer",
        json.dumps({"\U0001f600" * 63 + chr(0x1F600 + n): 1 for n in range(101)}),
        422,
        *["#/" + "%F0%9F%98%80" * 63 + quote(chr(0x1F600 + n)) for n in range(30)],
    )
    yield raw("everything is wrong at once", '{"z": 1, "name": 2}', 422,
              "#/z", "#/name", "#/campaign_type", "#/assistant_id")  # fmt: skip
    yield raw("in the order of the body", '{"assistant_id": 0, "name": "", "campaign_type": ""}',
              422, "#/assistant_id", "#/name", "#/campaign_type")  # fmt: skip


def values() -> Iterator[Case]:
    """Fallback values."""
    where = "#/fallback_values"
    wrong: dict[str, Any] = {"null": None, "an array": [], "an object": {}}
    for kind, value in wrong.items():
        yield with_(f"a value is {kind}", f"{where}/a", fallback_values={"a": value})
    yield with_("a value is too long", f"{where}/a", fallback_values={"a": "x" * 1001})
    yield with_("a value has a NUL", f"{where}/a", fallback_values={"a": "\0"})
    yield with_("a value has a lone surrogate", f"{where}/a", fallback_values={"a": "\udfff"})
    yield with_("a value is too large", f"{where}/a", fallback_values={"a": 2**53})
    yield with_("a value is too small", f"{where}/a", fallback_values={"a": -(2**53)})
    for number in ("1e999", "-1e999", "1" * 400, "1" * 5000):
        body = member(f'"fallback_values": {{"a": {number}}}')
        yield raw(f"a value is {number[:6]}, {len(number)} long", body, 422, f"{where}/a")
    for key in ("", "a b", "1a", "a-b", "a.b", "if", "true", "none", "a\0", "\u201ca\u201d"):
        yield with_(f"{key!r} is no variable", f"{where}/{quote(key)}", fallback_values={key: "x"})
    yield with_("a key is too long", f"{where}/{'x' * 64}{CUT}", fallback_values={"x" * 65: "x"})
    yield with_("a key is to be escaped", f"{where}/a~1b~0", fallback_values={"a/b~": "x"})
    yield with_("too many", fallback_values={f"a{n}": "x" for n in range(101)})
    yield with_("far too many", fallback_values={f"a{n}": "x" for n in range(50_000)})
    yield with_("each of several is named", f"{where}/a", f"{where}/c",
                fallback_values={"a": [], "b": "x", "c": {}})  # fmt: skip
    repeated = member('"fallback_values": {"a": "1", "a": "2"}')
    yield raw("a value is given twice", repeated, 422, f"{where}/a")
    # What grew with the square of these took twelve seconds.
    many = [f'"a{n}": 1' for n in [*range(50_000), *range(18_000)]]
    many_values = member('"fallback_values": {' + ", ".join(many) + "}")
    yield raw(
        "far too many, twice", many_values, 422, *([where] + [f"{where}/a{n}" for n in range(99)])
    )


def templates() -> Iterator[Case]:
    for name in TEMPLATES:
        yield with_(f"{name} is never closed", **{name: "{{ a"})
        yield with_(f"{name} is too long", **{name: "x" * 10_001})
    yield with_("100 MB in half a second", agenda_template="{{ 'x'*(10**8) }}")
    yield with_("an escape", agenda_template="{{ ''.__class__.__mro__ }}")
    yield with_("a loop", agenda_template="{% for x in y %}{% endfor %}")
    yield with_("5000 brackets", agenda_template="{{" + "(" * 5000)
    yield with_("5000 filters", agenda_template="{{a" + "|upper" * 1600 + "}}")
    yield with_("5000 sums", agenda_template="{{a" + "+a" * 4900 + "}}")
    yield with_("5000 negations", agenda_template="{% if " + "not " * 2400 + "a %}")
    yield with_("2000 tags", agenda_template="{{a}}" * 2000)
    yield with_("3300 openings", agenda_template="{{ " * 3300)
    yield with_("a number of 9000 digits", agenda_template="{{ " + "9" * 9000 + " }}")
    yield with_("a megabyte of braces", agenda_template="{" * 1_000_000)
    yield with_("half a million line feeds", agenda_template="\n" * 500_000)
    yield with_("two faults", "#/agenda_template", "#/agenda_template",
                agenda_template="{{ a.b }} {{ c|d }}")  # fmt: skip


def documents() -> Iterator[Case]:
    """What is no JSON, or no object."""
    for body in ("[]", "[{}]", '"text"', "1", "null", "true", "1e5"):
        yield raw(f"{body} is no object", body, 422, "#")
    yield raw("a campaign in an array", f"[{json.dumps(SHORTEST)}]", 422, "#")
    yield raw("nothing", b"")
    yield raw("white space", b" \n")
    yield raw("NUL bytes", b"\0\0\0\0")
    yield raw("a byte order mark", b"\xef\xbb\xbf" + json.dumps(SHORTEST).encode())
    yield raw("UTF-16", json.dumps(SHORTEST).encode("utf-16"))
    yield raw("UTF-32", json.dumps(SHORTEST).encode("utf-32-be"))
    yield raw("Latin-1", json.dumps(SHORTEST | {"name": "é"}, ensure_ascii=False).encode("latin-1"))
    yield raw("an overlong encoding", b'{"name": "\xc0\xaf"}')
    yield raw("a surrogate in UTF-8", b'{"name": "\xed\xa0\x80"}')
    yield raw("a cut character", b'{"name": "\xe2\x82')
    yield raw("beyond Unicode", b'{"name": "\xf4\x90\x80\x80"}')
    for number in ("NaN", "Infinity", "-Infinity"):
        yield raw(f"{number} is not JSON", member(f'"max_attempts": {number}'))
    for number in ("+1", "01", "1.", ".5", "0x10", "1_000", "- 1", "1e"):
        yield raw(f"{number} is no number of JSON's", member(f'"max_attempts": {number}'))
    yield raw("an open object", "{")
    yield raw("an open text", '{"name": "A')
    yield raw("an open escape", '{"name": "\\')
    yield raw("an unknown escape", '{"name": "\\x41"}')
    yield raw("a cut escape", '{"name": "\\u12"}')
    yield raw("a line feed in a text", '{"name": "a\nb"}')
    yield raw("a comma at the end", '{"name": "A",}')
    yield raw("no colon", '{"name" "A"}')
    yield raw("single quotation marks", "{'name': 'A'}")
    yield raw("names without quotation marks", '{name: "A"}')
    yield raw("a comment", "{} // comment")
    yield raw("two documents", "{}{}")
    yield raw("a form", "name=A&campaign_type=call")
    yield raw("XML", "<campaign/>")
    yield raw("100,000 arrays", "[" * 100_000)
    yield raw("100,000 closed arrays", "[" * 100_000 + "]" * 100_000)
    yield raw("100,000 objects", '{"a":' * 100_000)
    yield raw(
        "nesting within a field", member('"agenda_template": ' + "[" * 100_000 + "]" * 100_000)
    )
    yield raw("a field twice", member('"name": "B"'), 422, "#/name")
    yield raw("a field twice, as null first", member('"name": null'), 422, "#/name", "#/name")
    yield raw("an unknown field twice", member('"x": 1, "x": 2'), 422, "#/x", "#/x")


def messages() -> Iterator[Case]:
    """What is wrong with the message around the body."""
    yield Case("no Content-Type", b"{}", 415, headers={})
    for kind in ("text/plain", "text/json", "application/x-www-form-urlencoded", "*/*", "json",
                 "multipart/form-data; boundary=x", "application/xml", "application/jsonp",
                 "application/problem+json", "application/json2", ";", "\xe9"):  # fmt: skip
        yield Case(f"Content-Type: {kind}", b"{}", 415, headers={"Content-Type": kind})
    for charset in ("latin-1", "utf-16", "ascii", "utf-7", "x"):
        kind = f"application/json; charset={charset}"
        yield Case(f"charset {charset}", b"{}", 415, headers={"Content-Type": kind})
    packed = gzip.compress(json.dumps(SHORTEST).encode())
    for coding in ("gzip", "deflate", "br", "zstd", "x", "gzip, gzip", "identity, gzip"):
        yield Case(
            f"Content-Encoding: {coding}", packed, 415, headers=JSON | {"Content-Encoding": coding}
        )
    twice = JSON | {"Content-Encoding": "identity", "content-encoding": "gzip"}
    yield Case("a second Content-Encoding", packed, 415, headers=twice)
    bomb = gzip.compress(b" " * 50_000_000)
    yield Case("50 MB in 50 KB", bomb, 415, headers=JSON | {"Content-Encoding": "gzip"})
    yield raw("one byte too many", b" " * (1024 * 1024 + 1), 413)
    yield raw("exactly the limit, of nothing", b" " * 1024 * 1024)
    announced = JSON | {"Content-Length": "10737418240"}
    yield Case("a length that is announced only", b"{}", 413, headers=announced)


CASES = [*types(), *fields(), *values(), *templates(), *documents(), *messages()]
