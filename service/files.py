"""Files: how many a process may have open; each of its connections is one."""

import resource

from service.failure import Failure
from service.settings import Settings

# What is open besides: the listening sockets, the log, the broker, the relay's connections to the
# database, a look-up of a host, the event loop's own, and a new connection until another has made
# room for it.
_OTHERS = 100


def claim(settings: Settings) -> None:
    """Let this process open as many files as its connections need.

    Raises:
        Failure: the system does not allow it.
    """
    needed = settings.http_connections + settings.database_pool_size + _OTHERS
    if settings.assistants_url:
        needed += settings.http_concurrent_requests
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _is_below(hard, needed):
        raise Failure(
            f"http_connections = {settings.http_connections} needs {needed} open files, but the "
            f"process may have {hard}: set HTTP_CONNECTIONS lower, or raise that limit (ulimit -Hn)"
        )
    if _is_below(soft, needed):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _is_below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed
