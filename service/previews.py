"""Previews: what a contact would be told by a template."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service import sms, templates
from service.filters import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A template, and a contact to try it with."""

    template: str
    variables: Mapping[str, Value | None] = field(default_factory=dict)
    fallback_values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The published two keys, then what else helps to write a template."""

    success: bool = True
    rendered_template: str
    template_variables: templates.Variables
    used_variables: list[str]
    missing_variables: list[str]
    sms: sms.Size


def of(sample: Sample) -> Preview:
    """Render a template for its contact.

    Raises:
        templates.TemplateError: it is none.
        templates.ValueRefused: a value is too long, or of no type that can be said.
    """
    template = templates.parse(sample.template)
    rendered = template.render(sample.variables, sample.fallback_values)
    given = template.given_by(sample.variables)
    variables = templates.variables([sample.template], sample.fallback_values)
    return Preview(
        rendered_template=rendered,
        template_variables=variables,
        used_variables=sorted(template.names),
        missing_variables=[name for name in variables.required if name not in given],
        sms=sms.size(rendered),
    )
