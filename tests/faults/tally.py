"""A ledger for events that are too many to be kept: it only counts those with a mark."""

from tests.faults.ledger import Arrival, Ledger


class Tally(Ledger):
    """Counts, in each queue, the events that have this mark in their bodies."""

    def __init__(self, organization: int, mark: bytes) -> None:
        super().__init__(organization)
        self._mark = mark
        self._counted: dict[str, set[str]] = {name: set() for name in self.arrivals}

    def take(self, queue: str, arrival: Arrival) -> None:
        if self._mark in arrival.body:
            self._counted[queue].add(arrival.message_id)
        else:
            super().take(queue, arrival)

    @property
    def counted(self) -> dict[str, int]:
        """How many different ones each queue was given."""
        return {name: len(ids) for name, ids in self._counted.items()}

    @property
    def fewest(self) -> int:
        return min(self.counted.values())
