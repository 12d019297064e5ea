"""Settings of the service: environment over file over default, checked before anything starts."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from marshmallow import RAISE, Schema, ValidationError, validate
from marshmallow import fields as typed
from yarl import URL

import service

DEFAULT_FILE = service.HOME / "config" / "service.toml"


class SettingsError(Exception):
    """A setting is unknown or wrong; the text names it, never its value."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Units are in the names; `config/service.toml` says what each one is for."""

    http_host: str = "127.0.0.1"
    http_port: int = 8080
    processes: int = 1
    http_body_timeout_seconds: float = 10.0
    http_header_timeout_seconds: float = 10.0
    http_header_bytes: int = 16384
    http_answer_timeout_seconds: float = 10.0
    http_idle_seconds: float = 75.0
    http_connections: int = 1000
    http_concurrent_requests: int = 200
    organization_concurrent_requests: int = 200
    key_requests_per_second: float = 0.0
    key_requests_burst: int = 200
    organization_creates_per_second: float = 0.0
    organization_creates_burst: int = 200
    database_url: str = field(default="postgresql://localhost/campaigns", repr=False)
    database_pool_size: int = 10
    database_timeout_seconds: float = 5.0
    relay_database_url: str = field(default="", repr=False)
    key_cache_seconds: float = 5.0
    idempotency_hours: float = 24.0
    deleted_days: float = 30.0
    require_if_match: bool = False
    amqp_url: str = field(default="amqp://localhost/", repr=False)
    amqp_timeout_seconds: float = 10.0
    amqp_check_seconds: float = 5.0
    assistants_url: str = field(default="", repr=False)
    assistants_timeout_seconds: float = 1.0
    assistants_cache_seconds: float = 60.0
    assistants_unreachable: str = "refuse"
    outbox_events: int = 1_000_000
    relay_batch_size: int = 200
    relay_poll_seconds: float = 0.2
    shutdown_seconds: float = 5.0
    log_level: str = "info"
    log_format: str = "auto"

    @property
    def idempotency_kept(self) -> timedelta:
        return timedelta(hours=self.idempotency_hours)

    @property
    def deleted_kept(self) -> timedelta:
        return timedelta(days=self.deleted_days)


# The usual spelling in environments is LOG_LEVEL=INFO.
_ANY_CASE = ("log_level", "log_format")

SETTINGS: web.AppKey[Settings] = web.AppKey("SETTINGS")


class _Integer(typed.Integer):
    """Reads the text of an environment variable, but no fraction that would be cut off."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if isinstance(value, float):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


# host, host:port or [address]:port
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(:\d{1,5})?")


def _url(*schemes: str, example: str, optional: bool = False) -> typed.String:
    def check(value: str) -> None:
        if optional and not value:
            return
        scheme, _, rest = value.partition("://")
        # Several hosts stand for a primary and its standbys. Whatever follows an "@" or a "/" that
        # should have been encoded looks like a bad host, and is not repeated to the log.
        hosts = re.split("[/?#]", rest)[0].rpartition("@")[2].split(",")
        nowhere = scheme.startswith("amqp") and not all(hosts)
        if scheme not in schemes or nowhere or not all(map(_HOST.fullmatch, hosts)):
            raise ValidationError(f"Must be a URL like {example}, its password percent-encoded.")

    return typed.String(validate=check)


def _database_url(*, optional: bool = False) -> typed.String:
    example = "postgresql://user:password@host:5432/database"
    return _url("postgresql", "postgres", example=example, optional=optional)


def _assistants_url(value: str) -> None:
    """Refuse a URL that the client cannot read, or that does not say whose assistant is meant."""
    places, sent = ("{organization_id}", "{assistant_id}"), value.partition("#")[0]
    try:
        url = URL(value)
        # Also what a look-up of the host would stumble over.
        is_web = url.scheme in ("http", "https") and bool((url.host or "").encode("idna"))
    except ValueError:
        is_web = False
    if value and not (is_web and all(place in sent for place in places)):
        example = f"http://user:password@host/organizations/{places[0]}/assistants/{places[1]}"
        raise ValidationError(f"Must be a URL like {example}, its password percent-encoded.")


def _seconds() -> typed.Float:
    return typed.Float(validate=validate.Range(min=0, min_inclusive=False, max=3600))


def _rate() -> typed.Float:
    def check(value: float) -> None:
        if value and not 0.001 <= value <= 100_000:
            raise ValidationError("Must be 0, or from 0.001 to 100000.")

    return typed.Float(validate=check)


def _burst() -> _Integer:
    return _Integer(validate=validate.Range(1, 1_000_000))


class _SettingsSchema(Schema):
    class Meta:
        unknown = RAISE

    http_host = typed.String(validate=validate.Length(min=1))
    http_port = _Integer(validate=validate.Range(1, 65535))
    processes = _Integer(validate=validate.Range(1, 64))
    http_body_timeout_seconds = _seconds()
    http_header_timeout_seconds = _seconds()
    http_header_bytes = _Integer(validate=validate.Range(1024, 1024 * 1024))
    http_answer_timeout_seconds = _seconds()
    http_idle_seconds = _seconds()
    http_connections = _Integer(validate=validate.Range(10, 100_000))
    http_concurrent_requests = _Integer(validate=validate.Range(1, 10_000))
    organization_concurrent_requests = _Integer(validate=validate.Range(1, 10_000))
    key_requests_per_second = _rate()
    key_requests_burst = _burst()
    organization_creates_per_second = _rate()
    organization_creates_burst = _burst()
    database_url = _database_url()
    relay_database_url = _database_url(optional=True)
    database_pool_size = _Integer(validate=validate.Range(2, 1000))
    database_timeout_seconds = _seconds()
    key_cache_seconds = typed.Float(validate=validate.Range(0, 60, min_inclusive=False))
    idempotency_hours = typed.Float(validate=validate.Range(0, 24 * 365, min_inclusive=False))
    deleted_days = typed.Float(validate=validate.Range(1, 3650))
    require_if_match = typed.Boolean()
    amqp_url = _url("amqp", "amqps", example="amqp://user:password@host:5672/")
    amqp_timeout_seconds = _seconds()
    amqp_check_seconds = _seconds()
    assistants_url = typed.String(validate=_assistants_url)
    assistants_timeout_seconds = _seconds()
    assistants_cache_seconds = _seconds()
    assistants_unreachable = typed.String(validate=validate.OneOf(["refuse", "accept"]))
    outbox_events = _Integer(validate=validate.Range(1, 10_000_000))
    relay_batch_size = _Integer(validate=validate.Range(1, 1000))
    relay_poll_seconds = _seconds()
    shutdown_seconds = _seconds()
    log_level = typed.String(validate=validate.OneOf(["debug", "info", "warning", "error"]))
    log_format = typed.String(validate=validate.OneOf(["auto", "json", "text"]))


def load(environment: Mapping[str, str]) -> Settings:
    """Read the settings of a process that was started with this environment.

    Raises:
        SettingsError: naming every setting that is wrong.
    """
    named = environment.get("CONFIG_FILE")
    values = _read(Path(named) if named else DEFAULT_FILE, required=bool(named))
    for setting in fields(Settings):
        if text := environment.get(setting.name.upper()):
            values[setting.name] = text.lower() if setting.name in _ANY_CASE else text
    try:
        return Settings(**_SettingsSchema().load(values))
    except ValidationError as error:
        problems = [f"{name}: {' '.join(texts)}" for name, texts in error.messages_dict.items()]
        raise SettingsError("; ".join(problems)) from None


def _read(file: Path, *, required: bool) -> dict[str, Any]:
    if not required and not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"the settings file {file} cannot be read: {error}") from None
