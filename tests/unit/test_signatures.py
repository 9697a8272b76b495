"""What a signature covers, what a key rotation needs, and that keys never show."""

import copy
import logging
import pickle
import traceback
from dataclasses import asdict, replace
from typing import Any

import pytest

from sisy_redis import codec, settings
from sisy_redis.definitions import CallableRef, Definition, FuncType, Misfire, Overlap, Pool, RetryPolicy, Seal
from sisy_redis.errors import SettingsError
from sisy_redis.signing import Keyring, Signer

NEW, OLD, OTHER = "new-" + "n" * 32, "old-" + "o" * 32, "oth-" + "x" * 32
SIGNER = Signer(Keyring([NEW]), "crew")
FUNCTION = CallableRef(path="app.tasks.work", module_name="app.tasks", func_name="work")
PLAIN = Definition(id="a", label="a label", callable=FUNCTION, userdata={"n": 1})


def record(definition: Definition, signer: Signer | None = SIGNER, **header: str) -> bytes:
    """The bytes as ``save`` composes them, with fields of the line of text replaced."""
    encoded = codec.encode(definition, signer)
    fields = {
        "version": "1",
        "generation": "5",
        "edition": "6",
        "op": "=",
        "created": "17-x",
        "queue": definition.queue,
    }
    fields |= {"policy": encoded.policy, "path": definition.callable.path, "label": definition.label} | header
    return " ".join(fields.values()).encode() + b"\n" + encoded.body


def seal(raw: bytes, signer: Signer | None = SIGNER, task_id: str = "a") -> Seal:
    return codec.decode(task_id, raw, signer).seal


def test_a_signed_record_verifies_and_reads_as_it_was_written() -> None:
    stored = codec.decode("a", record(PLAIN), SIGNER)
    assert (stored.definition, stored.seal, codec.distrust(stored)) == (PLAIN, Seal.CURRENT, None)


def test_a_reader_without_a_key_reads_signed_records_and_trusts_them() -> None:
    stored = codec.decode("a", record(PLAIN))
    assert (stored.definition, stored.seal, codec.distrust(stored)) == (PLAIN, Seal.UNCHECKED, None)


def test_a_reader_with_a_key_distrusts_an_unsigned_record() -> None:
    stored = codec.decode("a", record(PLAIN, None), SIGNER)
    assert stored.seal is Seal.MISSING and "not signed" in str(codec.distrust(stored))


@pytest.mark.parametrize(
    "changes",
    [
        {"callable": replace(FUNCTION, path="os.system", module_name="os", func_name="system")},
        {"callable": replace(FUNCTION, func_type=FuncType.STATICMETHOD, path="app.tasks.C.work", class_name="C")},
        {"callable": replace(FUNCTION, model_pk=7)},
        {"callable": replace(FUNCTION, takes_message=False)},
        {"label": "another"},
        {"queue": "another"},
        {"schedule": "@every 1"},
        {"tz": "Europe/Berlin"},
        {"start_ms": 7},
        {"end_ms": 7},
        {"enabled": False},
        {"iterations": 7},
        {"overlap": Overlap.SKIP},
        {"misfire": Misfire.ALL},
        {"misfire_grace_ms": 7},
        {"catchup_window_ms": 7},
        {"max_catchup": 7},
        {"jitter_ms": 7},
        {"min_gap_ms": 7},
        {"retry": RetryPolicy(attempts=7)},
        {"timeout_ms": 7},
        {"pool": Pool.PROCESS},
        {"userdata": {"n": 2}},
        {"userdata": {"n": True}},
    ],
)
def test_every_field_that_decides_what_runs_is_covered(changes: dict[str, Any]) -> None:
    signed, forged = codec.encode(PLAIN, SIGNER).body, replace(PLAIN, **changes)
    size = len(signed) - len(codec.encode(PLAIN).body)
    line, _, body = record(forged, None).partition(b"\n")
    assert seal(line + b"\n" + signed[:size] + body) is Seal.WRONG


@pytest.mark.parametrize(
    ("field", "value"),
    [("queue", "mail"), ("policy", "overlap=skip"), ("path", "os.system"), ("label", "b")],
)
def test_an_altered_line_of_text_alone_is_noticed(field: str, value: str) -> None:
    assert seal(record(PLAIN, **{field: value})) is Seal.WRONG


def test_a_record_moved_to_another_id_or_namespace_is_noticed() -> None:
    assert seal(record(PLAIN), task_id="b") is Seal.WRONG
    assert seal(record(PLAIN), Signer(Keyring([NEW]), "other")) is Seal.WRONG


def test_no_byte_of_a_signed_body_can_be_changed() -> None:
    raw = record(PLAIN)
    start = raw.index(b"\n") + 1
    for i in range(start, len(raw)):
        forged = raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :]
        try:
            assert seal(forged) in (Seal.WRONG, Seal.MISSING), i
        except codec.CorruptRecord:
            continue


def test_what_the_server_assigns_is_not_covered() -> None:
    assert seal(record(PLAIN, generation="9", edition="9", op="18-y", created="18-z")) is Seal.CURRENT


def test_in_a_rotation_the_first_key_signs_and_all_verify() -> None:
    old, both = Signer(Keyring([OLD]), "crew"), Signer(Keyring([NEW, OLD]), "crew")
    assert seal(record(PLAIN, both)) is Seal.CURRENT
    assert seal(record(PLAIN, old), both) is Seal.FORMER
    assert codec.distrust(codec.decode("a", record(PLAIN, old), both)) is None
    assert seal(record(PLAIN, both), old) is Seal.WRONG
    assert seal(record(PLAIN, Signer(Keyring([OTHER]), "crew")), both) is Seal.WRONG


def test_the_setting_takes_several_keys_and_ignores_spaces_around_them() -> None:
    found = settings.Settings(secret_key=f" {NEW} , {OLD} ").secret_key  # type: ignore[arg-type]
    assert found == Keyring([NEW, OLD])
    assert settings.Settings(secret_key=found).secret_key is found


def test_keys_show_in_no_repr_and_cannot_be_stored() -> None:
    keyring = Keyring([NEW, OLD])
    held = settings.Settings(secret_key=keyring)
    for shown in map(repr, (held, keyring, Signer(keyring, "crew"), asdict(held), copy.copy(keyring), [keyring])):
        assert NEW not in shown and OLD not in shown
    with pytest.raises(TypeError):
        pickle.dumps(keyring)


@pytest.mark.parametrize("bad", ["hunter2", f"{NEW},hunter2", b"hunter2-hunter2-hunter2", f"{NEW}\x1bhunter2"])
def test_a_refused_key_shows_in_no_error_or_log(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingsError) as raised:
        settings.configure(secret_key=bad)
    logging.getLogger("test").error("refused", exc_info=raised.value)
    for shown in ("".join(traceback.format_exception(raised.value)), caplog.text):
        assert "hunter2" not in shown.replace("hunter2-test", "") and NEW not in shown
