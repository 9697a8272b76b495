"""Callables by their dotted path: describing them when a task is made, finding and binding them when it runs."""

import importlib
import inspect
import logging
import os
import sys
import types
from collections.abc import Callable, Mapping, Set
from typing import Any
from uuid import UUID

from sisy_redis.definitions import CallableRef, FuncType
from sisy_redis.errors import CallableError, SettingsError, SisyError

__all__ = [
    "AllowList",
    "RowGone",
    "Unroutable",
    "bind_instance",
    "describe",
    "func_from_string",
    "funcinfo",
    "funcinfo_from_string",
    "funcinfo_to_wire",
    "path_of",
    "ref_from_funcinfo",
    "resolve",
]

log = logging.getLogger(__name__)

_LONGEST_PATH = 255
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Unroutable(SisyError):
    """This process cannot call the callable; another worker may."""


class RowGone(SisyError):
    """The model instance a task was made for no longer exists."""


class _ImportFailed(CallableError):
    """A module is there, but importing it raised."""


def describe(
    the_callable: object, *, pk_override: Any = None, userdata: Mapping[str, Any] | None = None
) -> CallableRef:
    """The stored form of a callable or of a dotted path to one.

    A callable that needs nothing but ``message`` is called with it; every other one with ``**userdata``, which must fit
    its signature. Raises CallableError (a ValueError) for everything a worker could not call later, with the reason.
    """
    ref, signature = _describe(the_callable, pk_override)
    if not ref.takes_message:
        _check_fit(ref.path, signature, userdata or {})
    return ref


def path_of(the_callable: object) -> str:
    """The dotted path of a callable, not looked up: a decorator runs before its function's name exists.

    Raises CallableError for what has no path of its own (a lambda, a closure, a partial, anything in ``__main__``).
    """
    if inspect.ismodule(the_callable):
        raise CallableError(f"Cannot call module directly: {the_callable.__name__}")
    if inspect.isclass(the_callable):
        raise CallableError(f"Cannot call class directly: {the_callable.__qualname__}")
    if not callable(the_callable):
        raise CallableError(f"{the_callable!r} is not a callable object")
    named: Any = getattr(the_callable, "__func__", the_callable)
    module, name = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise CallableError(f"{the_callable!r} has no dotted path; give a function, or its path")
    if "<lambda>" in name or "<locals>" in name:
        raise CallableError(f"{name} is a lambda or closure, which a worker cannot import; move it to a module")
    if inspect.ismethod(the_callable):
        owner = the_callable.__self__ if inspect.isclass(the_callable.__self__) else type(the_callable.__self__)
        module, name = owner.__module__, f"{owner.__qualname__}.{the_callable.__name__}"
    return _importable(f"{module}.{name}")


def set_up_project() -> None:
    """Makes the project one stands in importable, and loads the Django project that ``DJANGO_SETTINGS_MODULE`` names.

    Before any setting is read: Django's settings may name the server. Raises SettingsError when it cannot be loaded.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = os.environ.get("DJANGO_SETTINGS_MODULE")
    if module:
        try:
            importlib.import_module("django").setup()
        except Exception as error:  # an import runs a user's code: the edge
            raise SettingsError(f"DJANGO_SETTINGS_MODULE names {module!r}, which cannot be loaded: {error}") from error


def resolve(ref: CallableRef) -> Callable[..., Any]:
    """The callable, imported; of a model instance method the plain function, for ``bind_instance``.

    Raises Unroutable with the reason when this process cannot call it as the task was saved.
    """
    try:
        module, class_name, func = _find(ref.path)
        func_type = _func_type(_class_in(module, class_name), ref.path)
        changed = (module.__name__, class_name, func_type) != (ref.module_name, ref.class_name, ref.func_type)
        takes_message = _takes_message(_signature(func, func_type, ref.path))
    except CallableError as error:
        if isinstance(error, _ImportFailed):
            log.warning("%s cannot be imported", ref.path, exc_info=True)
        raise Unroutable(str(error)) from error
    if changed or takes_message is not ref.takes_message:
        raise Unroutable(f"{ref.path} is not called here as when its task was saved; save the task again")
    return func


def bind_instance(ref: CallableRef, func: Callable[..., Any]) -> Callable[..., Any]:
    """``func`` bound to the model instance the task was made for, loaded now; it blocks, so call it off the event loop.

    Raises RowGone when the row no longer exists; errors of the database are passed on.
    """
    model: Any = _class_in(importlib.import_module(ref.module_name), ref.class_name)
    if model is None:
        raise Unroutable(f"{ref.class_name} is not a member of {ref.module_name}")
    database = sys.modules.get("django.db")
    if database is not None:
        # Nothing else ends a connection that outlived its database in a thread that lives as long as the worker.
        database.close_old_connections()
    try:
        # Not the default manager: it may hide rows, and a hidden row is not gone.
        instance = model._base_manager.get(pk=ref.model_pk)
    except model.DoesNotExist as error:
        raise RowGone(f"{ref.class_name} with pk {ref.model_pk!r} no longer exists") from error
    return types.MethodType(func, instance)


def funcinfo(ref: CallableRef) -> dict[str, Any]:
    """sisy's description of a callable: the keys that apply."""
    info: dict[str, Any] = {
        "func_type": str(ref.func_type),
        "module_name": ref.module_name,
        "func_name": ref.func_name,
        "func_path": ref.path,
    }
    if ref.class_name:
        info["class_name"] = ref.class_name
        info["class_path"] = f"{ref.module_name}.{ref.class_name}"
    if ref.model_pk is not None:
        info["model_pk"] = ref.model_pk
    return info


def funcinfo_to_wire(ref: CallableRef) -> dict[str, Any]:
    """``funcinfo`` and ``takes_message``, with a model's key in a form that survives JSON."""
    info = funcinfo(ref) | {"takes_message": ref.takes_message}
    if isinstance(ref.model_pk, UUID):
        info["model_pk"] = {"uuid": ref.model_pk.hex}
    return info


def ref_from_funcinfo(info: Mapping[str, Any]) -> CallableRef:
    """The callable that ``funcinfo`` or ``funcinfo_to_wire`` described.

    Without ``takes_message`` the callable is imported to see. Raises CallableError when that fails, or for a
    description that is not complete.
    """
    try:
        pk, takes_message = info.get("model_pk"), info.get("takes_message")
        model_pk = UUID(pk["uuid"]) if isinstance(pk, Mapping) else pk
        if takes_message is None:
            takes_message = _describe(info["func_path"], model_pk)[0].takes_message
        return CallableRef(
            path=info["func_path"],
            func_type=FuncType(info["func_type"]),
            module_name=info["module_name"],
            func_name=info["func_name"],
            class_name=info.get("class_name"),
            model_pk=model_pk,
            takes_message=takes_message,
        )
    except KeyError as error:
        raise CallableError(f"the description of a callable has no {error}") from error


def func_from_string(path: str) -> Callable[..., Any]:
    """The callable at a dotted path. Raises CallableError."""
    return _find(path)[2]


def funcinfo_from_string(path: str, pk_override: Any = None) -> dict[str, Any]:
    """sisy's description of the callable at a dotted path. Raises CallableError."""
    return funcinfo(_describe(path, pk_override)[0])


class AllowList:
    """Which callables a worker runs.

    Without prefixes: those that take ``message``, and registered ones. With prefixes: registered ones, and paths under
    a prefix, which matches whole components.
    """

    def __init__(self, registered: Set[str], prefixes: tuple[str, ...] = ()) -> None:
        self._registered, self._prefixes = registered, tuple(prefix.rstrip(".") for prefix in prefixes)

    def reason_to_refuse(self, ref: CallableRef, func: Callable[..., Any] | None = None) -> str | None:
        """Why this worker does not run the callable; None when it does.

        Asked again with the resolved ``func``, it also refuses what a module under a prefix only imported from outside
        of them (``from os import system``).
        """
        if ref.path in self._registered:
            return None
        if self._prefixes:
            if not self._covers(ref.path):
                return "is not registered here and under none of the allowed prefixes"
            home = ref.module_name if func is None else _home(ref, func)
            if home != ref.module_name and not self._covers(home):
                return f"is defined in {home}, which is under none of the allowed prefixes"
            return None
        if ref.takes_message:
            return None
        return "takes no message argument and is not registered here; register it or use --allow"

    def _covers(self, path: str) -> bool:
        return any(path == prefix or path.startswith(prefix + ".") for prefix in self._prefixes)


def _describe(the_callable: object, pk_override: Any) -> tuple[CallableRef, inspect.Signature]:
    path = the_callable if isinstance(the_callable, str) else path_of(the_callable)
    module, class_name, func = _find(path)
    if not isinstance(the_callable, str) and _plain(func) is not _plain(the_callable):
        raise CallableError(f"{path} is another object than the one given, and workers would call that one")
    func_name = path.rpartition(".")[2]
    func_type = _func_type(_class_in(module, class_name), path)
    signature = _signature(func, func_type, path)
    ref = CallableRef(
        path=path,
        func_type=func_type,
        module_name=module.__name__,
        func_name=func_name,
        class_name=class_name,
        model_pk=_model_pk(the_callable, func_type, path, pk_override),
        takes_message=_takes_message(signature),
    )
    return ref, signature


def _importable(path: str) -> str:
    if path.startswith("__main__."):
        raise CallableError(f"{path} belongs to a script, which a worker cannot import; move it to a module")
    return path


def _find(path: str) -> tuple[types.ModuleType, str | None, Callable[..., Any]]:
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts) or len(path) > _LONGEST_PATH:
        raise CallableError(f"Need full dotted path to task function, got {path[:_LONGEST_PATH]!r}")
    module, rest = _import_longest(_importable(path).split("."))
    found: Any = module
    for i, name in enumerate(rest):
        owner = ".".join([module.__name__, *rest[:i]])
        # Walking on through what a module imported would lead out of the prefixes that a worker allows.
        if i and not inspect.isclass(found):
            raise CallableError(f"{name} is not a member of {owner}, which is neither module nor class there")
        if not hasattr(found, name):
            absent = f"{name} is not a member of {owner}"
            raise CallableError(f"Module {owner}.{name} not found: {absent}" if i == 0 and len(rest) > 1 else absent)
        found = getattr(found, name)
    if inspect.ismodule(found):
        raise CallableError(f"Cannot call module directly: {path}")
    if inspect.isclass(found):
        raise CallableError(f"Cannot call class directly: {path}")
    if not callable(found):
        raise CallableError(f"{path} is not a callable object")
    return module, ".".join(rest[:-1]) or None, found


def _import_longest(parts: list[str]) -> tuple[types.ModuleType, list[str]]:
    """The module that the path goes through furthest, and what is left to look up in it: at least the last part."""
    module = _import(parts[0])
    if module is None:
        raise CallableError(f"Module {parts[0]} not found")
    for i in range(1, len(parts) - 1):
        deeper = _import(".".join(parts[: i + 1]))
        if deeper is None:
            return module, parts[i:]
        module = deeper
    if not hasattr(module, parts[-1]) and hasattr(module, "__path__") and _import(".".join(parts)):
        raise CallableError(f"Cannot call module directly: {'.'.join(parts)}")
    return module, parts[-1:]


def _import(name: str) -> types.ModuleType | None:
    """The module; None when there is none of that name. Raises _ImportFailed when its own code raised."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise _ImportFailed(f"importing {name} failed: {error}") from error
    # SystemExit: a script without a main guard must not end whoever looks at it.
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import runs a user's code: the edge
        raise _ImportFailed(f"importing {name} failed: {type(error).__name__}: {error}") from error


def _plain(func: object) -> object:
    return getattr(func, "__func__", func)


def _class_in(module: types.ModuleType, class_name: str | None) -> type | None:
    found: Any = module
    for part in class_name.split(".") if class_name else ():
        found = getattr(found, part, None)
    return found if inspect.isclass(found) else None


def _is_model(cls: type) -> bool:
    # By its shape, so that Django is never imported for those who do not use it.
    return hasattr(cls, "_base_manager") and not getattr(getattr(cls, "_meta", None), "abstract", True)


def _func_type(cls: type | None, path: str) -> FuncType:
    if cls is None:
        return FuncType.FUNCTION
    name = path.rpartition(".")[2]
    if getattr(getattr(cls, name), "__self__", None) is cls:
        return FuncType.CLASSMETHOD
    static = inspect.getattr_static(cls, name)
    if isinstance(static, staticmethod) or not inspect.isroutine(static):
        return FuncType.STATICMETHOD
    if not _is_model(cls):
        raise CallableError(
            f"{path} is an instance method, and a worker can load the objects of Django models only; "
            "make it a classmethod, a staticmethod or a function"
        )
    return FuncType.INSTANCEMETHOD


def _home(ref: CallableRef, func: Callable[..., Any]) -> str:
    """The module that defines the callable, or the class it is reached through."""
    module = sys.modules.get(ref.module_name)
    owner = _class_in(module, ref.class_name) if module is not None else None
    return getattr(owner or func, "__module__", None) or ""


def _model_pk(the_callable: object, func_type: FuncType, path: str, pk_override: Any) -> int | str | UUID | None:
    if func_type is not FuncType.INSTANCEMETHOD:
        if pk_override is not None:
            raise CallableError(f"pk_override is only for model instance methods, and {path} is a {func_type}")
        return None
    owner = getattr(the_callable, "__self__", None)
    own_pk = getattr(owner, "pk", None)
    if owner is not None:
        # A UUID key has a value before its row exists.
        if own_pk is None or getattr(getattr(owner, "_state", None), "adding", False):
            raise CallableError(f"{path} is a method of an object without a pk; save the object first")
        if pk_override not in (None, own_pk):
            raise CallableError(f"{path} is bound to the object with pk {own_pk!r}, but pk_override is {pk_override!r}")
    pk = own_pk if owner is not None else pk_override
    if pk is None:
        raise CallableError(f"{path} is an unbound instance method; give the method of a saved object, or pk_override")
    if isinstance(pk, bool) or not isinstance(pk, int | str | UUID):
        raise CallableError(f"{path}: a primary key must be an int, str or UUID, not {type(pk).__name__}")
    if isinstance(pk, int) and not -(2**63) <= pk < 2**63:
        raise CallableError(f"{path}: the primary key {pk} does not fit into 64 bits")
    return pk if isinstance(pk, UUID) else int(pk) if isinstance(pk, int) else str(pk)


def _signature(func: Callable[..., Any], func_type: FuncType, path: str) -> inspect.Signature:
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise CallableError(f"{path} is a generator, and calling one runs nothing; make it a function or coroutine")
    try:
        signature = inspect.signature(func)
    except (ValueError, TypeError) as error:
        raise CallableError(f"{path} does not tell its parameters ({error}); wrap it in a function") from error
    bound = list(signature.parameters.values())[1 if func_type is FuncType.INSTANCEMETHOD else 0 :]
    return signature.replace(parameters=bound)


def _takes_message(signature: inspect.Signature) -> bool:
    message = signature.parameters.get("message")
    required = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in _VARIADIC]
    if message is None or message.kind in (*_VARIADIC, inspect.Parameter.POSITIONAL_ONLY):
        return False
    return set(required) <= {"message"}


def _check_fit(path: str, signature: inspect.Signature, userdata: Mapping[str, Any]) -> None:
    try:
        signature.bind(**userdata)
    except TypeError as error:
        raise CallableError(
            f"{path}{signature} cannot be called with the userdata ({', '.join(userdata)}): {error}; "
            "give it one parameter named message, or userdata that fits its parameters"
        ) from error
