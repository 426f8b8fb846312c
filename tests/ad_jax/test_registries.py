import sys

import pytest

from ad_jax import registries
from ad_jax.errors import UserError

REGISTRY = {"one": 1}


def find(name):
    return registries.find("key", name, REGISTRY, "a number", lambda x: isinstance(x, int))


def test_an_entry_of_the_registry():
    assert find("one") == 1


def test_something_of_another_module():
    assert find("sys:maxsize") == sys.maxsize
    assert registries.short("sys:maxsize") == "maxsize" and registries.short("one") == "one"


@pytest.mark.parametrize(
    "name, message",
    [
        ("two", r"^key='two': choose one of \['one'\], or give 'module:name'"),
        ("nowhere_at_all:x", "can't be imported .*No module named 'nowhere_at_all'"),
        ("sys:nothing", "can't be imported .*no attribute 'nothing'"),
        (":x", "can't be imported"),
        ("sys:", "can't be imported"),
        ("sys:path", "'sys:path' is list: give a number"),
    ],
)
def test_what_is_not_there_is_one_clear_line(name, message):
    with pytest.raises(UserError, match=message) as error:
        find(name)
    assert "\n" not in str(error.value)


def test_a_module_that_fails_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "failing_module.py").write_text("raise RuntimeError('two\\nlines')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"\(RuntimeError: two lines\)"):
        find("failing_module:x")
