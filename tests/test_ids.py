"""Ids: as many as one wants, and nobody else has them."""

import os

from service import ids

MANY = 1000


def test_ids_are_random_uuids_and_all_differ() -> None:
    made = [ids.new() for _ in range(MANY)]
    assert {one.version for one in made} == {4}
    assert len(set(made)) == MANY


def test_a_process_that_was_forked_makes_other_ids_than_its_parent() -> None:
    # So some are left that were made before.
    ids.new()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, ids.new().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 16) not in {ids.new().bytes for _ in range(MANY)}
