"""Where settings come from, which source wins, and what is refused with which message."""

import dataclasses
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest

from sisy_redis.errors import SettingsError
from sisy_redis.settings import Settings, configure, current, origin
from sisy_redis.signing import Keyring

FIELDS = [each.name for each in dataclasses.fields(Settings)]


def _give_back_everything() -> None:
    configure(
        redis_url=None,
        namespace=None,
        default_schedule=None,
        time_zone=None,
        heartbeat_frequency=None,
        partitions=None,
        secret_key=None,
        wait_replicas=None,
    )


@pytest.fixture(autouse=True)
def pristine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in FIELDS:
        monkeypatch.delenv(f"SISY_{name.upper()}", raising=False)
    monkeypatch.delitem(sys.modules, "django.conf", raising=False)
    _give_back_everything()
    yield
    _give_back_everything()


def pretend_django(monkeypatch: pytest.MonkeyPatch, *, configured: bool = True, **values: object) -> None:
    module = types.ModuleType("django.conf")
    module.settings = types.SimpleNamespace(configured=configured, **values)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django.conf", module)


def test_defaults() -> None:
    assert current() == Settings(
        redis_url=None,
        namespace="sisy",
        default_schedule="* * * * *",
        time_zone="UTC",
        heartbeat_frequency=None,
        partitions=1,
        wait_replicas=0,
    )


def test_every_field_states_its_unit_bound_and_reason() -> None:
    for each in dataclasses.fields(Settings):
        assert all(each.metadata[what] for what in ("unit", "bound", "reason")), each.name


def test_the_environment_sets_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISY_REDIS_URL", "redis://127.0.0.1:6379/0")
    monkeypatch.setenv("SISY_NAMESPACE", "shop-1.eu_x")
    monkeypatch.setenv("SISY_DEFAULT_SCHEDULE", "0 * * * *")
    monkeypatch.setenv("SISY_TIME_ZONE", "Europe/Berlin")
    monkeypatch.setenv("SISY_HEARTBEAT_FREQUENCY", "0.5")
    monkeypatch.setenv("SISY_PARTITIONS", "48")
    monkeypatch.setenv("SISY_SECRET_KEY", f"{'n' * 16},{'o' * 16}")
    keys = Keyring(["n" * 16, "o" * 16])
    assert current() == Settings("redis://127.0.0.1:6379/0", "shop-1.eu_x", "0 * * * *", "Europe/Berlin", 0.5, 48, keys)


def test_the_secret_key_comes_from_each_source(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_django(monkeypatch, SISY_SECRET_KEY="d" * 16)
    assert current().secret_key == Keyring(["d" * 16])
    configure(secret_key="c" * 16)
    assert current().secret_key == Keyring(["c" * 16])


def test_configure_wins_over_environment_over_django_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_django(monkeypatch, SISY_NAMESPACE="django", SISY_PARTITIONS=3)
    assert (current().namespace, current().partitions) == ("django", 3)
    monkeypatch.setenv("SISY_NAMESPACE", "environment")
    assert (current().namespace, current().partitions) == ("environment", 3)
    configure(namespace="configured")
    assert (current().namespace, current().partitions) == ("configured", 3)
    configure(namespace=None)
    assert current().namespace == "environment"


def test_the_origin_of_a_value_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin("namespace") == "default"
    pretend_django(monkeypatch, SISY_NAMESPACE="django")
    assert origin("namespace") == "SISY_NAMESPACE (from Django's settings)"
    monkeypatch.setenv("SISY_NAMESPACE", "environment")
    assert origin("namespace") == "SISY_NAMESPACE (from the environment)"
    configure(namespace="configured")
    assert origin("namespace") == "namespace (from configure)"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISY_REDIS_URL", "")
    assert current().redis_url is None


def test_unconfigured_django_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_django(monkeypatch, configured=False, SISY_NAMESPACE="django")
    assert current().namespace == "sisy"


def test_a_django_that_is_still_being_imported_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django.conf", types.ModuleType("django.conf"))
    assert current().namespace == "sisy"


def test_reading_settings_never_imports_django() -> None:
    code = "import sys; from sisy_redis.settings import current; current(); assert 'django' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.parametrize(
    ("variable", "bad", "advice"),
    [
        ("SISY_REDIS_URL", "127.0.0.1:6379", "redis://"),
        ("SISY_REDIS_URL", "http://127.0.0.1", "redis://"),
        ("SISY_NAMESPACE", "a:b", "no braces or colons"),
        ("SISY_NAMESPACE", "{a}", "no braces or colons"),
        ("SISY_NAMESPACE", "a\n", "1 to 64"),
        ("SISY_NAMESPACE", "a" * 65, "1 to 64"),
        ("SISY_DEFAULT_SCHEDULE", "  ", "cron expression"),
        ("SISY_DEFAULT_SCHEDULE", "1," * 200, "at most 256"),
        ("SISY_TIME_ZONE", "Mars/Olympus", "IANA name"),
        ("SISY_TIME_ZONE", "../etc/passwd", "IANA name"),
        ("SISY_HEARTBEAT_FREQUENCY", "often", "number of seconds"),
        ("SISY_HEARTBEAT_FREQUENCY", "0", "above 0"),
        ("SISY_HEARTBEAT_FREQUENCY", "nan", "above 0"),
        ("SISY_HEARTBEAT_FREQUENCY", "inf", "above 0"),
        ("SISY_PARTITIONS", "0", "from 1 to"),
        ("SISY_SECRET_KEY", "short", "16 to 512"),
        ("SISY_SECRET_KEY", "a" * 16 + ",", "16 to 512"),
        ("SISY_SECRET_KEY", ",".join("a" * 16 for _ in range(9)), "at most 8"),
        ("SISY_SECRET_KEY", "a" * 16 + "\x1b", "cannot be printed"),
        ("SISY_PARTITIONS", "1.5", "whole number"),
        ("SISY_PARTITIONS", "1025", "from 1 to 1024"),
        ("SISY_WAIT_REPLICAS", "-1", "from 0 to"),
        ("SISY_WAIT_REPLICAS", "101", "from 0 to 100"),
    ],
)
def test_a_bad_variable_is_named_with_its_source_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, variable: str, bad: str, advice: str
) -> None:
    monkeypatch.setenv(variable, bad)
    with pytest.raises(SettingsError) as refused:
        current()
    assert str(refused.value).startswith(f"{variable} (from the environment)")
    assert advice in str(refused.value)


def test_a_bad_django_setting_is_named_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_django(monkeypatch, SISY_PARTITIONS=True)
    with pytest.raises(SettingsError, match=r"SISY_PARTITIONS \(from Django's settings\) is True"):
        current()


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(SettingsError) as refused:
        configure(redis_url="tcp://user:hunter2@127.0.0.1")
    assert "hunter2" not in str(refused.value)


def test_configure_refuses_unknown_names_and_changes_nothing() -> None:
    with pytest.raises(SettingsError, match="Unknown setting 'SISY_NAMESPACE'.*namespace"):
        configure(namespace="changed", SISY_NAMESPACE="x")  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="partitions"):
        configure(namespace="changed", partitions=0)
    assert current().namespace == "sisy"


def test_a_variant_made_with_replace_is_checked() -> None:
    assert dataclasses.replace(current(), namespace="other").namespace == "other"
    with pytest.raises(SettingsError, match="namespace"):
        dataclasses.replace(current(), namespace="a:b")
    with pytest.raises(SettingsError, match="namespace"):
        Settings(namespace=None)  # type: ignore[arg-type]
