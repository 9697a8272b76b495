"""rediss://: the package over TLS, with an authority named in the URL; a certificate of another one is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path

import fleet
import pytest
from producer import Producer
from servers import Running, Server
from tls import Authority, TlsProxy
from waiting import poll

from sisy_redis import Scheduler
from sisy_redis.errors import SettingsError

Start = Callable[..., fleet.Worker]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours", "our authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "other", "another authority")


@pytest.fixture
def tls(server: Server | Running, authority: Authority) -> Iterator[TlsProxy]:
    if not isinstance(server, Server):
        pytest.skip("needs a server of the tests' own")
    proxy = TlsProxy(server.port, authority)
    yield proxy
    proxy.close()


def test_the_scheduler_and_a_worker_work_over_tls(
    tls: TlsProxy, authority: Authority, namespace: str, start: Start, tmp_path: Path
) -> None:
    url = tls.url(authority.ca)
    producer = Producer(url, namespace, tmp_path / "journal")
    with Scheduler(url, namespace) as scheduler:
        scheduler.save(producer.definition("secondly", "counting", schedule="* * * * * *"))
        worker = start(url=url)
        poll(lambda: len(producer.rows("secondly", "saved")) >= 2, 60)
        assert scheduler.history("secondly")[0].what == "ok"
        assert worker.stop() == 0
    producer.transport.close()
    # The worker's calls, its listener for hints, its lease thread; and ours.
    assert tls.served >= 4


def test_a_certificate_of_another_authority_is_a_settings_error(
    tls: TlsProxy, stranger: Authority, namespace: str
) -> None:
    with (
        Scheduler(tls.url(stranger.ca), namespace) as scheduler,
        pytest.raises(SettingsError, match="certificate is not trusted.*ssl_ca_certs"),
    ):
        scheduler.find()
    assert tls.served == 0


def test_a_certificate_nobody_vouches_for_is_refused_without_any_authority_in_the_url(
    tls: TlsProxy, namespace: str
) -> None:
    with (
        Scheduler(f"rediss://127.0.0.1:{tls.port}/0", namespace) as scheduler,
        pytest.raises(SettingsError, match="certificate is not trusted"),
    ):
        scheduler.find()


def test_a_certificate_for_another_name_is_refused(tls: TlsProxy, authority: Authority, namespace: str) -> None:
    with (
        Scheduler(f"rediss://localhost:{tls.port}/0?ssl_ca_certs={authority.ca}", namespace) as scheduler,
        pytest.raises(SettingsError, match="(?i)hostname mismatch"),
    ):
        scheduler.find()


def test_an_authority_file_that_is_not_there_is_a_settings_error(tls: TlsProxy, namespace: str, tmp_path: Path) -> None:
    with (
        Scheduler(tls.url(tmp_path / "missing.pem"), namespace) as scheduler,
        pytest.raises(SettingsError, match="ssl_ca_certs"),
    ):
        scheduler.find()


def test_a_worker_that_does_not_trust_its_server_ends_with_2_and_says_why(
    tls: TlsProxy, stranger: Authority, start: Start
) -> None:
    worker = start(url=tls.url(stranger.ca))
    assert worker.process.wait(60) == 2
    assert "TLS certificate is not trusted" in worker.output and "Traceback" not in worker.output
