"""The table of mutations is about lines and scenarios that there are."""

import pytest

from tests.faults.mutations import MUTATIONS, ROOT, Mutation, without


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.line)
def test_each_line_that_is_taken_out_is_there(mutation: Mutation) -> None:
    assert without(mutation) != (ROOT / mutation.file).read_text()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.line)
def test_each_scenario_is_there(mutation: Mutation) -> None:
    file, _, name = mutation.scenario.partition("::")
    text = (ROOT / "tests" / "faults" / file).read_text()
    assert f"def {name.partition('[')[0]}(" in text
