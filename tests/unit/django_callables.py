"""Run in a process of its own, so that no other test sees a configured Django; prints what happened as JSON."""

import asyncio
import json
import sys
import uuid

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["sisy_redis.contrib.django"],
    USE_TZ=True,
)
django.setup()

import django_models_for_tests as given  # noqa: E402
from django.apps import apps  # noqa: E402
from django.core.management import get_commands  # noqa: E402
from django.db import connection  # noqa: E402

from sisy_redis import callables  # noqa: E402

PREFIX = "django_models_for_tests"


def ref_through_json(ref):
    return callables.ref_from_funcinfo(json.loads(json.dumps(callables.funcinfo_to_wire(ref))))


def run(ref):
    ref = ref_through_json(ref)
    return callables.bind_instance(ref, callables.resolve(ref))("hello")


def error_of(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except (callables.CallableError, callables.RowGone, callables.Unroutable) as error:
        return f"{type(error).__name__}: {error}"
    return None


def main():
    with connection.schema_editor() as editor:
        for model in (given.ByInt, given.ByStr, given.ByUuid, given.Hidden):
            editor.create_model(model)
    rows = {
        "int": given.ByInt.objects.create(name="one"),
        "str": given.ByStr.objects.create(code="a-1", name="two"),
        "uuid": given.ByUuid.objects.create(id=uuid.UUID(int=5), name="three"),
        "hidden": given.Hidden.objects.create(name="four"),
    }
    done = {}
    for kind, row in rows.items():
        ref = callables.describe(row.report)
        by_path = callables.describe(f"{PREFIX}.{type(row).__name__}.report", pk_override=row.pk)
        done[kind] = {
            "func_type": str(ref.func_type),
            "path": ref.path,
            "same": ref == by_path == ref_through_json(ref) == callables.ref_from_funcinfo(callables.funcinfo(ref)),
            "pk": [type(ref.model_pk).__name__, str(ref.model_pk)],
            "result": run(ref),
        }
    row = rows["int"]
    later = callables.describe(row.report_later)
    done["coroutine"] = asyncio.run(callables.bind_instance(later, callables.resolve(later))("hello"))
    add = callables.describe(row.add, userdata={"x": 1})
    done["userdata"] = [add.takes_message, callables.bind_instance(add, callables.resolve(add))(x=1)]
    done["classmethod"] = callables.resolve(callables.describe(given.ByInt.everything))("hello")
    path = f"{PREFIX}.ByInt.report"
    done["errors"] = {
        "unsaved": error_of(callables.describe, given.ByInt().report),
        "unsaved uuid": error_of(callables.describe, given.ByUuid().report),
        "unbound": error_of(callables.describe, given.ByInt.report),
        "no pk": error_of(callables.describe, path),
        "abstract": error_of(callables.describe, f"{PREFIX}.Base.report", pk_override=1),
        "classmethod": error_of(callables.describe, f"{PREFIX}.ByInt.everything", pk_override=1),
        "two pks": error_of(callables.describe, row.report, pk_override=row.pk + 1),
        "float pk": error_of(callables.describe, path, pk_override=1.5),
        "bool pk": error_of(callables.describe, path, pk_override=True),
        "huge pk": error_of(callables.describe, path, pk_override=2**63),
        "signature": error_of(callables.describe, row.add, userdata={"z": 1}),
    }
    gone = callables.describe(row.report)
    row.delete()
    done["errors"]["gone"] = error_of(run, gone)
    done["app"] = [apps.get_app_config("sisy_redis").name, get_commands().get("sisy_worker")]
    json.dump(done, sys.stdout)


main()
