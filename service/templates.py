"""Message templates: which variables they use, and which of those an import must bring."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment, TemplateSyntaxError, nodes

# What every contact has without an import, as the published documentation lists it.
SYSTEM_VARIABLES = frozenset({"assistant_name", "company", "name"})

FILTERS = ("default", "lower", "phone_format", "title_case", "upper")

# Messages are spoken or texted, not shown as HTML; and here they are only parsed.
_ENVIRONMENT = Environment(autoescape=False)  # noqa: S701


class TemplateError(Exception):
    """A template is no message template; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Variables:
    """Names in templates: `required` ones must come with each contact, `optional` ones may."""

    required: list[str]
    optional: list[str]


@dataclass(frozen=True, slots=True)
class Template:
    """The variables of one source; `undefaulted` are used at least once without `default()`."""

    names: frozenset[str]
    undefaulted: frozenset[str]


@lru_cache(maxsize=256)
def parse(source: str) -> Template:
    """Read a template; callers send the same few again and again, so the newest are remembered.

    Raises:
        TemplateError: it is not Jinja2, or uses a filter that messages do not have.
    """
    try:
        tree = _ENVIRONMENT.parse(source)
        _check_filters(tree)
        return Template(*_names(tree))
    except TemplateSyntaxError as error:
        raise TemplateError(f"line {error.lineno}: {error.message}") from error
    except (RecursionError, ValueError) as error:
        raise TemplateError("it cannot be read: nested too deeply, or a number too long") from error


def _check_filters(tree: nodes.Template) -> None:
    for filter_ in tree.find_all(nodes.Filter):
        if filter_.name not in FILTERS:
            raise TemplateError(
                f"line {filter_.lineno}: unknown filter '{filter_.name}', use one of "
                + ", ".join(FILTERS)
            )


def _names(tree: nodes.Template) -> tuple[frozenset[str], frozenset[str]]:
    used = [name for name in tree.find_all(nodes.Name) if name.ctx == "load"]
    set_here = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    defaulted = {id(f.node) for f in tree.find_all(nodes.Filter) if f.name == "default"}
    return (
        frozenset(name.name for name in used) - set_here,
        frozenset(name.name for name in used if id(name) not in defaulted) - set_here,
    )


def variables(templates: Iterable[Template], fallbacks: Collection[str]) -> Variables:
    """Class the names of one campaign; any fallback, `default()` or system value makes optional."""
    templates = list(templates)
    names = frozenset().union(*(template.names for template in templates))
    undefaulted = frozenset().union(*(template.undefaulted for template in templates))
    required = undefaulted - SYSTEM_VARIABLES - frozenset(fallbacks)
    return Variables(required=sorted(required), optional=sorted(names - required))
