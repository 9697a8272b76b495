"""A Django project on SQLite, with everything sisy-redis needs in its own settings: what its worker makes of model methods."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SETTINGS = """
from pathlib import Path
BASE = Path(__file__).resolve().parent.parent
SECRET_KEY = "test"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": BASE / "db.sqlite3"}}}}
INSTALLED_APPS = ["shop", "sisy_redis.contrib.django"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SISY_REDIS_URL = "{url}"
SISY_NAMESPACE = "{namespace}"
"""
MODELS = """
import uuid
from django.db import models

class Base(models.Model):
    note = models.TextField(default="")

    class Meta:
        abstract = True

    def visit(self, message):
        self.note = f"visited by run {message['message']['attempt']}"
        self.save()

    async def visit_later(self, message):
        self.note = "visited by a coroutine"
        await self.asave()

class Order(Base):
    pass

class Country(Base):
    code = models.CharField(max_length=2, primary_key=True)

class Parcel(Base):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

class Ticket(Base):
    pass
"""
SEED = """
import json, sys
from shop.models import Country, Order, Parcel, Ticket
from sisy_redis.models import Task, task_with_callable

rows = [Order.objects.create(), Country.objects.create(code="de"), Parcel.objects.create(), Ticket.objects.create()]
Task.run_once(rows[0].visit)
by_path = task_with_callable("shop.models.Country.visit", pk_override="de", schedule="@once")
by_path.save()
Task.run_once(rows[2].visit)
Task.run_once(rows[3].visit_later)
gone = Order.objects.create()
lost = task_with_callable(gone.visit, schedule="@once")
lost.save()
gone.delete()
print(json.dumps({"gone": lost.id, "funcinfo": by_path.funcinfo}))
"""
SHOW = """
import json
from shop.models import Country, Order, Parcel, Ticket
print(json.dumps([model.objects.get().note for model in (Order, Country, Parcel, Ticket)]))
"""
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
PRELOAD = "import django; django.setup()\n"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(redis_url: str, namespace: str, tmp_path: Path) -> Run:
    """A migrated project; the fixture runs Python in it, told nothing of Redis but what its settings say."""
    for package in ("project", "shop"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "project" / "settings.py").write_text(SETTINGS.format(url=redis_url, namespace=namespace))
    (tmp_path / "shop" / "models.py").write_text(MODELS)
    (tmp_path / "manage.py").write_text(MANAGE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SISY_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "SISY_HOME": str(tmp_path / "home"),
    }

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=60,
        )

    for command in (["makemigrations", "shop"], ["migrate"]):
        made = run("manage.py", *command)
        assert made.returncode == 0, made.stderr
    return run


def in_project(run: Run, code: str) -> Any:
    done = run("-c", PRELOAD + code, DJANGO_SETTINGS_MODULE="project.settings")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sisy(run: Run, *arguments: str) -> Any:
    done = run("-m", "sisy_redis", *arguments, "--json", DJANGO_SETTINGS_MODULE="project.settings")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "command",
    [("manage.py", "sisy_worker", "--burst"), ("-m", "sisy_redis.worker", "--burst")],
    ids=["manage.py", "-m sisy_redis.worker"],
)
def test_a_worker_runs_model_methods_by_int_str_and_uuid_pk(project: Run, command: tuple[str, ...]) -> None:
    seeded = in_project(project, SEED)
    assert seeded["funcinfo"]["func_type"] == "instancemethod" and seeded["funcinfo"]["model_pk"] == "de"
    worked = project(*command, DJANGO_SETTINGS_MODULE="project.settings")
    assert worked.returncode == 0, worked.stderr
    assert "EMBEDDED" not in worked.stderr
    assert in_project(project, SHOW) == ["visited by run 1"] * 3 + ["visited by a coroutine"]
    (failed,) = [row for row in sisy(project, "history", seeded["gone"]) if row["kind"] == "run"]
    assert failed["what"] == "failed" and "RowGone" in failed["error"]


def test_several_processes_serve_the_server_that_djangos_settings_name(project: Run) -> None:
    in_project(project, SEED)
    worked = project("manage.py", "sisy_worker", "--burst", "--processes", "2")
    assert worked.returncode == 0, worked.stderr
    assert "EMBEDDED" not in worked.stderr
    assert in_project(project, SHOW)[0] == "visited by run 1"


def test_in_kubernetes_djangos_settings_name_the_server_too(project: Run) -> None:
    worked = project("manage.py", "sisy_worker", "--burst", KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert worked.returncode == 0, worked.stderr


def test_a_project_that_cannot_be_loaded_is_one_line(project: Run) -> None:
    for command in (("-m", "sisy_redis.worker"), ("-m", "sisy_redis", "list")):
        done = project(*command, DJANGO_SETTINGS_MODULE="project.nowhere")
        assert done.returncode == 2
        assert "project.nowhere" in done.stderr and len(done.stderr.splitlines()) == 1
