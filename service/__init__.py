"""The campaign service: stores drafts and tells the bus, both or neither."""

from pathlib import Path

_PACKAGE = Path(__file__).parent

# An installed package carries schema.sql and config/ inside; a checkout has them beside it.
HOME = _PACKAGE if (_PACKAGE / "schema.sql").exists() else _PACKAGE.parent
