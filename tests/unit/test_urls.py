"""What a Redis URL names."""

import pytest

from sisy_redis.errors import SettingsError
from sisy_redis.transport.urls import Address, Kind, check_url, target_of
from sisy_redis.worker.logs import mask_password


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    target = target_of("redis+cluster://me:p%40ss@one:7000,two,[::1]:7002")
    assert target.kind is Kind.CLUSTER
    assert target.seeds == (Address("one", 7000), Address("two", 6379), Address("::1", 7002))
    assert target.options == {"username": "me", "password": "p@ss"}


def test_a_service_is_named_by_its_sentinels() -> None:
    target = target_of(
        "redis+sentinel://me:pw@one,two:7001/crew/3?sentinel_username=s&sentinel_password=q%2F&health_check_interval=30"
    )
    assert (target.kind, target.service) == (Kind.SENTINEL, "crew")
    assert target.seeds == (Address("one", 26379), Address("two", 7001))
    assert target.options == {"username": "me", "password": "pw", "db": 3, "health_check_interval": 30}
    assert target.sentinel_options == {"username": "s", "password": "q/"}


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
def test_tls_counts_for_every_node(kind: str) -> None:
    target = target_of(f"rediss+{kind}://one/{'crew' if kind == 'sentinel' else ''}?ssl_ca_certs=/ca.pem")
    assert target.options["ssl"] is True and target.options["ssl_ca_certs"] == "/ca.pem"
    if kind == "sentinel":
        assert target.sentinel_options == {"ssl": True, "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://one", "use redis://"),
        ("redis+other://one", "use redis://"),
        ("unix+cluster:///tmp/x", "use redis://"),
        ("redis+cluster://", "names no host"),
        ("redis+cluster://one/2", "only the database 0"),
        ("redis+cluster://one/crew", "path is wrong"),
        ("redis+sentinel://one", "names no service"),
        ("redis+sentinel://one/crew/x", "path is wrong"),
        ("redis+sentinel://one/crew/1/2", "path is wrong"),
        ("redis+cluster://one:12,two:secret", "port is no number"),
        ("redis://me:sec/ret@one", "port is no number"),
        ("redis+cluster://one?socket_timeout=x", "bad option"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_quoting_it(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        check_url(url)
    assert "secret" not in str(refused.value) and "sec/ret" not in str(refused.value)


def test_no_password_is_shown() -> None:
    url = "redis+sentinel://me:secret@one,two/crew?sentinel_password=secret&password=secret"
    assert "secret" not in mask_password(url)
    assert "secret" not in repr(target_of(url))
