"""A short form of benchmarks.reliability: a few kills, and bad inputs that need no process.

Settings are tested in test_validation.py, and faults that appear during collection in
test_collect.py.
"""

import pytest

from benchmarks.reliability import bad_inputs, kills, results

IN_THIS_PROCESS = {
    f"{group}: {case.name}": case
    for group, cases in bad_inputs.GROUPS.items()
    for case in cases
    if case.environment is None and not case.works and group != "Settings"
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for compiled programs and bytecode."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a finished run."""
    return bad_inputs.finished_run(tmp_path_factory.mktemp("finished"))


def test_a_run_that_is_killed_again_and_again_loses_nothing(tmp_path, cache):
    aimed = ["collect", "checkpoint", "evaluate"]
    found = kills.trial(0, 0, tmp_path, cache, phases=aimed, count=1)
    assert found["kills"] and not found["lost"] and not found["faults"], found


def test_a_difference_of_one_bit_is_found(finished):
    one = results.contents(finished)
    assert not results.differences(one, results.contents(finished))
    shard = max(finished.glob("histories/*array_record*"), key=lambda p: p.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    try:
        assert results.differences(one, results.contents(finished)) == [f"histories/{shard.name}"]
    finally:
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)


@pytest.mark.parametrize("name", IN_THIS_PROCESS)
def test_bad_input_gets_one_clear_line_before_any_work(name, finished, tmp_path):
    found = bad_inputs.try_case(IN_THIS_PROCESS[name], finished, tmp_path)
    assert not found["faults"], found


def test_there_are_at_least_eighty():
    names = [case.name for cases in bad_inputs.GROUPS.values() for case in cases]
    assert len(set(names)) == len(names) >= 80
