"""Describing callables, finding them again, and refusing what a worker could not or must not call."""

import dataclasses
import functools
import json
import math

import callables_for_tests as given
import pytest

from sisy_redis import callables
from sisy_redis.callables import AllowList, Unroutable, describe, resolve
from sisy_redis.definitions import FuncType
from sisy_redis.errors import CallableError, SisyError

NAME = "callables_for_tests"


@pytest.mark.parametrize(
    ("the_callable", "path", "func_type", "class_name"),
    [
        (given.takes_message, "takes_message", FuncType.FUNCTION, None),
        (given.coroutine, "coroutine", FuncType.FUNCTION, None),
        (given.cached, "cached", FuncType.FUNCTION, None),
        (given.Plain.class_method, "Plain.class_method", FuncType.CLASSMETHOD, "Plain"),
        (given.Plain().class_method, "Plain.class_method", FuncType.CLASSMETHOD, "Plain"),
        (given.Child.class_method, "Child.class_method", FuncType.CLASSMETHOD, "Child"),
        (given.Plain.static_method, "Plain.static_method", FuncType.STATICMETHOD, "Plain"),
        (given.Plain.Inner.deep, "Plain.Inner.deep", FuncType.STATICMETHOD, "Plain.Inner"),
    ],
)
def test_an_object_and_its_path_are_the_same_callable(the_callable, path, func_type, class_name):
    ref = describe(the_callable)
    assert ref == describe(f"{NAME}.{path}")
    assert (ref.path, ref.module_name, ref.func_type) == (f"{NAME}.{path}", NAME, func_type)
    assert (ref.class_name, ref.func_name, ref.model_pk) == (class_name, path.rpartition(".")[2], None)
    assert resolve(ref) == the_callable == callables.func_from_string(ref.path)


def test_a_path_may_lead_to_what_has_no_path_of_its_own():
    assert resolve(describe(f"{NAME}.exported_closure")) is given.exported_closure
    assert describe(f"{NAME}.by_name_only").takes_message


@pytest.mark.parametrize(
    ("the_callable", "text"),
    [
        ("takes_message", "Need full dotted path to task function"),
        ("", "Need full dotted path to task function"),
        ("a..b", "Need full dotted path to task function"),
        ("a.b c", "Need full dotted path to task function"),
        ("a." + "b" * 255, "Need full dotted path to task function"),
        ("no_such_module.f", "Module no_such_module not found"),
        ("email.no_such_module.f", "Module email.no_such_module not found"),
        (f"{NAME}.nope", f"nope is not a member of {NAME}"),
        (f"{NAME}.Plain.nope", f"nope is not a member of {NAME}.Plain"),
        (f"{NAME}.Nope.f", f"Nope is not a member of {NAME}"),
        ("os.path", "Cannot call module directly"),
        ("email.mime", "Cannot call module directly"),
        (math, "Cannot call module directly"),
        (f"{NAME}.Plain", "Cannot call class directly"),
        (f"{NAME}.Plain.Inner", "Cannot call class directly"),
        (given.Plain, "Cannot call class directly"),
        (f"{NAME}.CONSTANT", f"{NAME}.CONSTANT is not a callable object"),
        (3, "3 is not a callable object"),
        (None, "None is not a callable object"),
        (lambda message: None, "lambda or closure"),
        (given.by_name_only, "lambda or closure"),
        (given.exported_closure, "lambda or closure"),
        (functools.partial(given.takes_message), "has no dotted path"),
        ([].append, "has no dotted path"),
        (given.Plain.method, "is an instance method"),
        (given.Plain().method, "is an instance method"),
        (f"{NAME}.Plain.method", "is an instance method"),
        (given.generator, "is a generator"),
        (given._wrapper, "is another object than the one given"),
        ("__main__.f", "__main__.f belongs to a script, which a worker cannot import"),
        (f"{NAME}.subprocess.run", f"run is not a member of {NAME}.subprocess"),
        (f"{NAME}.takes_message.__globals__", "is not a member of"),
        ("builtins.min", "does not tell its parameters"),
    ],
)
def test_what_a_worker_could_not_call_is_refused(the_callable, text):
    with pytest.raises(CallableError) as caught:
        describe(the_callable)
    assert text in str(caught.value)
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, SisyError)


def test_a_function_of_a_script_is_refused(monkeypatch):
    monkeypatch.setattr(given.takes_message, "__module__", "__main__")
    with pytest.raises(CallableError, match="move it to a module"):
        describe(given.takes_message)


@pytest.mark.parametrize("path", [given.takes_message, f"{NAME}.Plain.class_method", given.Plain.static_method])
def test_pk_override_without_an_instance_method_is_refused(path):
    with pytest.raises(CallableError, match="pk_override is only for model instance methods"):
        describe(path, pk_override=1)


@pytest.mark.parametrize(
    ("name", "userdata", "takes_message"),
    [
        ("takes_message", {"x": 1}, True),
        ("takes_message_and_options", {}, True),
        ("coroutine", {}, True),
        ("takes_message_and_more", {"message": 1, "more": 2}, False),
        ("takes_x", {"x": 1}, False),
        ("takes_x", {"x": 1, "y": 2}, False),
        ("takes_any", {"whatever": 1}, False),
        ("takes_nothing", None, False),
    ],
)
def test_only_what_needs_nothing_but_message_is_called_with_it(name, userdata, takes_message):
    assert describe(f"{NAME}.{name}", userdata=userdata).takes_message is takes_message


@pytest.mark.parametrize(
    ("name", "userdata", "text"),
    [
        ("takes_x", None, "'x'"),
        ("takes_x", {"x": 1, "z": 2}, "'z'"),
        ("takes_nothing", {"x": 1}, "'x'"),
        ("takes_message_and_more", {"more": 1}, "'message'"),
        ("takes_positional_message", {}, "'message'"),
    ],
)
def test_userdata_that_does_not_fit_the_signature_is_refused_by_name(name, userdata, text):
    with pytest.raises(CallableError, match=text):
        describe(f"{NAME}.{name}", userdata=userdata)


@pytest.mark.parametrize(
    "body", ["import no_such_dependency", "raise RuntimeError('boom')", "import sys; sys.exit(3)", "def f(:"]
)
def test_a_module_that_fails_to_import_is_unroutable_and_not_fatal(tmp_path, monkeypatch, body):
    (tmp_path / "failing_for_tests.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    ref = dataclasses.replace(
        describe(given.takes_message), path="failing_for_tests.f", module_name="failing_for_tests", func_name="f"
    )
    with pytest.raises(Unroutable, match="importing failing_for_tests failed"):
        resolve(ref)
    with pytest.raises(CallableError, match="importing failing_for_tests failed"):
        describe("failing_for_tests.f")


def test_a_missing_module_or_member_is_unroutable_with_the_reason():
    ref = describe(given.takes_message)
    with pytest.raises(Unroutable, match="Module no_such_module not found"):
        resolve(dataclasses.replace(ref, path="no_such_module.f", module_name="no_such_module"))
    with pytest.raises(Unroutable, match="nope is not a member of"):
        resolve(dataclasses.replace(ref, path=f"{NAME}.nope", func_name="nope"))


@pytest.mark.parametrize(
    "change",
    [{"takes_message": False}, {"func_type": FuncType.STATICMETHOD}, {"class_name": "Plain"}, {"module_name": "os"}],
)
def test_a_record_that_contradicts_the_code_is_not_called(change):
    with pytest.raises(Unroutable):
        resolve(dataclasses.replace(describe(given.takes_message), **change))


def test_a_record_cannot_pass_a_function_off_as_taking_message():
    forged = dataclasses.replace(describe("os.system", userdata={"command": "true"}), takes_message=True)
    assert AllowList(set()).reason_to_refuse(forged) is None
    with pytest.raises(Unroutable):
        resolve(forged)


def test_a_submodule_does_not_hide_a_function_of_the_same_name(tmp_path, monkeypatch):
    package = tmp_path / "same_name_for_tests"
    package.mkdir()
    (package / "job.py").write_text("def job(message): return message\ndef other(message): return message\n")
    (package / "__init__.py").write_text("from same_name_for_tests.job import job\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert describe("same_name_for_tests.job").module_name == "same_name_for_tests"
    assert describe("same_name_for_tests.job.other").module_name == "same_name_for_tests.job"


def test_funcinfo_has_the_keys_that_apply_and_leads_back():
    ref = describe(given.Plain.class_method)
    assert callables.funcinfo(ref) == {
        "func_type": "classmethod",
        "module_name": NAME,
        "class_name": "Plain",
        "class_path": f"{NAME}.Plain",
        "func_name": "class_method",
        "func_path": f"{NAME}.Plain.class_method",
    }
    assert callables.ref_from_funcinfo(callables.funcinfo(ref)) == ref
    assert set(callables.funcinfo(describe(given.takes_message))) == {
        "func_type",
        "module_name",
        "func_name",
        "func_path",
    }


@pytest.mark.parametrize("name", ["takes_x", "takes_message"])
def test_funcinfo_of_a_path_does_not_ask_for_userdata(name):
    info = callables.funcinfo_from_string(f"{NAME}.{name}")
    ref = callables.ref_from_funcinfo(info)
    assert ref.takes_message is (name == "takes_message")
    assert callables.ref_from_funcinfo(json.loads(json.dumps(callables.funcinfo_to_wire(ref)))) == ref


def test_an_incomplete_funcinfo_is_refused():
    with pytest.raises(CallableError, match="func_type"):
        callables.ref_from_funcinfo({"func_path": f"{NAME}.takes_message"})


class TestAllowList:
    def test_without_prefixes_only_message_callables_and_registered_ones_run(self):
        allow = AllowList({f"{NAME}.takes_nothing"})
        assert allow.reason_to_refuse(describe(given.takes_message)) is None
        assert allow.reason_to_refuse(describe(given.takes_nothing)) is None
        assert "register" in str(allow.reason_to_refuse(describe(given.takes_any)))
        assert "register" in str(allow.reason_to_refuse(describe("os.system", userdata={"command": "true"})))

    def test_with_prefixes_only_those_and_registered_ones_run(self):
        allow = AllowList({f"{NAME}.takes_nothing"}, ("other.tasks",))
        assert allow.reason_to_refuse(describe(given.takes_nothing)) is None
        assert allow.reason_to_refuse(describe(given.takes_message)) is not None

    @pytest.mark.parametrize(
        ("prefix", "allowed"),
        [
            (NAME, True),
            (f"{NAME}.", True),
            (f"{NAME}.takes_x", True),
            (f"{NAME}.takes", False),
            (NAME[:-1], False),
            ("", False),
        ],
    )
    def test_a_prefix_matches_whole_components(self, prefix, allowed):
        ref = describe(given.takes_x, userdata={"x": 1})
        allow = AllowList(set(), (prefix,))
        assert (allow.reason_to_refuse(ref) is None) is allowed
        assert (allow.reason_to_refuse(ref, given.takes_x) is None) is allowed

    def test_what_an_allowed_module_only_imported_is_refused(self):
        ref = describe(f"{NAME}.system", userdata={"command": "true"})
        assert "is defined in posix" in str(AllowList(set(), (NAME,)).reason_to_refuse(ref, resolve(ref)))
        assert AllowList(set(), (NAME, "posix")).reason_to_refuse(ref, resolve(ref)) is None

    def test_an_inherited_method_belongs_to_the_class_it_is_reached_through(self):
        ref = describe(given.Child.class_method)
        assert AllowList(set(), (f"{NAME}.Child",)).reason_to_refuse(ref, resolve(ref)) is None
