"""Arguments: what values of the command line may be."""

import argparse
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from yarl import URL

from service import listings


def positive(text: str) -> int:
    number = int(text)
    if not 0 < number < 2**63:
        raise argparse.ArgumentTypeError("give a number from 1 to 9223372036854775807")
    return number


def at_most(maximum: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isdecimal() and 1 <= int(text) <= maximum):
            raise argparse.ArgumentTypeError(f"give a number from 1 to {maximum}")
        return int(text)

    return read


def up_to(maximum: float, minimum: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1
        if not minimum <= number <= maximum:
            raise argparse.ArgumentTypeError(f"give a number from {minimum:g} to {maximum:g}")
        return number

    return read


def time(text: str) -> datetime:
    try:
        return listings.moment(text)
    except ValueError as error:
        example = "give a time with its zone, as 2026-11-23T12:00:00Z"
        raise argparse.ArgumentTypeError(example) from error


def words(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("give it some words, in one line")
    return text.strip()


def event_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        example = "give the id of an event, as 114277dd-3431-4d16-a7ad-ed1c2379f804"
        raise argparse.ArgumentTypeError(example) from error


def web_address(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError("give a URL like http://127.0.0.1:8080")
    return url
