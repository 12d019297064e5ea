"""Ids: as many as one wants, and nobody else has them."""

import subprocess
import sys
import uuid
from functools import reduce
from operator import and_, or_

from service import ids
from tests.processes import ROOT

MANY = 1000

# Of version 4 (RFC 9562, 5.4), the bits that are always 1, and those that may be.
SET = uuid.UUID("00000000-0000-4000-8000-000000000000").int
FREE = uuid.UUID("ffffffff-ffff-4fff-bfff-ffffffffffff").int

# One id is made first, so that some are left that were made with it.
FORKING = """
import os
from service import ids
ids.new()
if child := os.fork():
    os.waitpid(child, 0)
print(*(ids.new() for _ in range(100)), flush=True)
"""


def test_ids_are_random_but_for_their_version_and_all_differ() -> None:
    made = [ids.new() for _ in range(MANY)]
    assert len(set(made)) == MANY
    numbers = [one.int for one in made]
    assert (reduce(and_, numbers), reduce(or_, numbers)) == (SET, FREE)


def test_a_process_that_was_forked_makes_other_ids_than_its_parent() -> None:
    made = subprocess.run(
        [sys.executable, "-c", FORKING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert len(made) == len(set(made)) == 200
