"""Arguments: what values of the command line may be."""

import argparse
from collections.abc import Callable
from datetime import datetime

from service import listings


def positive(text: str) -> int:
    number = int(text)
    if not 0 < number < 2**63:
        raise argparse.ArgumentTypeError("give a number from 1 to 9223372036854775807")
    return number


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
