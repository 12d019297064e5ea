"""Normal traffic: what goes on while somebody attacks, and must not be harmed."""

import threading

import requests

from tests.hostile import SHORTEST
from tests.processes import until
from tests.targets import Target


class NormalTraffic:
    """Somebody who creates campaigns all the while, over new connections and over one that is kept.

    Nothing is tried again: `requests` looks whether a kept connection was closed before it uses it,
    as every client has to, and this one is used so often that it never is the one idle longest.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._create, daemon=True)
        self._created = 0
        self._failures: list[str] = []
        self._most_files = 0

    def __enter__(self) -> "NormalTraffic":
        self._thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()
        assert not self._failures, self._failures
        limits = self._target.owner
        # Besides connections, those to the database, and some 20 of a process that does nothing.
        assert self._most_files <= limits.http_connections + limits.database_pool_size + 40

    def goes_on(self) -> None:
        """Return when some more campaigns were created."""
        enough = self._created + 10
        until(lambda: self._created >= enough or bool(self._failures), 60, lambda: "no traffic")

    def _create(self) -> None:
        with requests.Session() as kept:
            while not (self._over.is_set() or self._failures):
                with requests.Session() as new:
                    self._create_over(new)
                self._create_over(kept)
                self._most_files = max(self._most_files, self._target.open_files())

    def _create_over(self, session: requests.Session) -> None:
        try:
            answer = session.post(
                f"http://{self._target.address}/api/v1/campaigns",
                json=SHORTEST,
                headers={"Authorization": f"Bearer {self._target.api_key}"},
                timeout=30,
            )
        except requests.RequestException as error:
            self._failures.append(str(error))
        else:
            if answer.status_code != 201:
                self._failures.append(answer.text)
            self._created += 1
