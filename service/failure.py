"""Failure: what a command of `campaigns` cannot do."""


class Failure(Exception):
    """A command cannot do its work; the text says why, and what to do."""
