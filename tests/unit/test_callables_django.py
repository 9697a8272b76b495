"""Methods of Django model instances as callables, on a real Django with SQLite."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django")
SCRIPT = Path(__file__).with_name("django_callables.py")
PREFIX = "django_models_for_tests"


@pytest.fixture(scope="module")
def done():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(
    ("kind", "model", "pk", "name"),
    [
        ("int", "ByInt", ["int", "1"], "one"),
        ("str", "ByStr", ["str", "a-1"], "two"),
        ("uuid", "ByUuid", ["UUID", "00000000-0000-0000-0000-000000000005"], "three"),
    ],
)
def test_a_method_of_a_saved_object_runs_on_its_row_loaded_anew(done, kind, model, pk, name):
    assert done[kind] == {
        "func_type": "instancemethod",
        "path": f"{PREFIX}.{model}.report",
        "same": True,
        "pk": pk,
        "result": [model, name, "hello"],
    }


def test_a_row_that_the_default_manager_hides_is_not_gone(done):
    assert done["hidden"]["result"] == ["Hidden", "four", "hello"]


def test_coroutine_methods_methods_with_userdata_and_classmethods_work(done):
    assert done["coroutine"] == ["ByInt", "one", "hello"]
    assert done["userdata"] == [False, 1]
    assert done["classmethod"] == "ByInt"


def test_a_row_that_is_gone_is_told_as_that(done):
    assert done["errors"]["gone"] == "RowGone: ByInt with pk 1 no longer exists"


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("unsaved", "is a method of an object without a pk; save the object first"),
        ("unsaved uuid", "is a method of an object without a pk; save the object first"),
        ("unbound", "is an instance method"),
        ("no pk", "is an unbound instance method"),
        ("abstract", "is an instance method"),
        ("classmethod", "pk_override is only for model instance methods"),
        ("two pks", "is bound to the object with pk 1, but pk_override is 2"),
        ("float pk", "a primary key must be an int, str or UUID, not float"),
        ("bool pk", "a primary key must be an int, str or UUID, not bool"),
        ("huge pk", "does not fit into 64 bits"),
        ("signature", "cannot be called with the userdata (z)"),
    ],
)
def test_what_names_no_row_is_refused(done, case, text):
    assert done["errors"][case].startswith("CallableError: ")
    assert text in done["errors"][case]


def test_the_app_offers_the_worker_as_a_command(done):
    assert done["app"] == ["sisy_redis.contrib.django", "sisy_redis.contrib.django"]
