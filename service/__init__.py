"""The campaign service: stores drafts and tells the bus, both or neither."""
