"""Logs: one event a line on standard error, as text for people or JSON for machines."""

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import orjson
import structlog

from service.settings import Settings

# Libraries report through `logging`; below these levels they repeat what our own events say.
_LIBRARIES = {"aio_pika": logging.ERROR, "aiormq": logging.ERROR, "asyncio": logging.WARNING}


_NONE: Mapping[str, object] = MappingProxyType({})
_bound: ContextVar[Mapping[str, object]] = ContextVar("_bound", default=_NONE)


def bind(**ids: object) -> None:
    """Have all lines of this task, and of those that it starts, tell these.

    The way of structlog is a variable for each id, and a look at all that there are for each line.
    """
    _bound.set({**_bound.get(), **ids})


def add_bound(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """As a processor of structlog."""
    for name, value in _bound.get().items():
        event.setdefault(name, value)
    return event


class _Lines:
    """Our own lines, straight to their place: `logging` would take twice as long for each."""

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, line: str) -> None:
        # Where nobody hears of a line that cannot be written, there is nobody to tell of it.
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")

    debug = info = warning = error = critical = write


def configure(settings: Settings) -> None:
    """Send the logs of this process, and of its libraries, to standard error."""
    as_text = settings.log_format == "text" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    shared: list[structlog.typing.Processor] = [
        add_bound,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Several processes write to one log.
        *([_with_process_id] if settings.processes > 1 else []),
    ]
    last: list[structlog.typing.Processor] = (
        # Richer tracebacks would show local variables, and keys among them.
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if as_text
        else [structlog.processors.format_exc_info, _as_json]
    )
    level = settings.log_level.upper()
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name, threshold in _LIBRARIES.items():
        logging.getLogger(name).setLevel(threshold)


def _with_process_id(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["process_id"] = os.getpid()
    return event


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    # Dataclasses pass through repr, which leaves secrets out; orjson itself would write them all.
    return orjson.dumps(event, default=repr, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()
