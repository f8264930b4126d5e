"""The downloader against a server that cuts, drips, lies, redirects and vanishes."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pantry.core.errors import DownloadError, NotFoundError, StorageError, UsageError, VerificationError
from pantry.core.locks import locked
from pantry.core.refs import Digest
from pantry.repository import _partial, _plan
from pantry.repository._http import Interrupted
from pantry.repository.address import Address, network_of
from pantry.repository.fetch import DownloadTarget, Fetcher, Tries
from pantry.repository.limits import Limits
from tests.repository.servers import LAST_MODIFIED, Faults, FileServer, serving

QUICK = Limits(
    connect_timeout=2, read_timeout=2, header_timeout=0.4, slow_window=0.4, minimum_rate=1000, attempts=3, back_off=0.01
)
SIZE = 3_000_000
CONTENT = random.Random(1).randbytes(SIZE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "model.fpk").write_bytes(CONTENT)
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[FileServer]:
    with serving(root) as running:
        yield running


@pytest.fixture
def fetcher(tmp_path: Path) -> Fetcher:
    return Fetcher(tmp_path / "partial", QUICK)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 256 kB, so that small files have many."""
    from pantry.repository import _download

    monkeypatch.setattr(_partial, "CHUNK", 1 << 18)
    monkeypatch.setattr(_download, "CHUNK", 1 << 18)
    monkeypatch.setattr(_download, "_PARALLEL_FROM", 1 << 18)
    monkeypatch.setattr(_download, "_PARALLEL_AFTER", 0.0)


def wanted(server: FileServer, content: bytes = CONTENT, path: str = "/model.fpk") -> DownloadTarget:
    return DownloadTarget(Address.parse(server.url + path), len(content), Digest(hashlib.sha256(content).hexdigest()))


def fetch(fetcher: Fetcher, what: DownloadTarget) -> bytes:
    with fetcher.fetched(what) as file:
        return file.read_bytes()


def left(fetcher: Fetcher) -> list[str]:
    return sorted(file.suffix for file in fetcher.folder.iterdir())


def test_file_arrives_whole_and_leaves_nothing_behind(fetcher: Fetcher, server: FileServer) -> None:
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert left(fetcher) == []
    assert len(server.requests) == 1


def test_empty_file(fetcher: Fetcher, server: FileServer, root: Path) -> None:
    (root / "empty").write_bytes(b"")
    assert fetch(fetcher, wanted(server, b"", "/empty")) == b""


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_connection_cut_is_continued_where_it_broke(fetcher: Fetcher, server: FileServer, part: float) -> None:
    server.faults = Faults(cut_at=int(SIZE * part), cuts=1)
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert server.sent == SIZE
    assert server.requests[1][1] == f"bytes={int(SIZE * part)}-{SIZE - 1}"


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_next_run_continues_after_giving_up(fetcher: Fetcher, server: FileServer, part: float) -> None:
    server.faults = Faults(cut_at=int(SIZE * part))
    with pytest.raises(DownloadError, match="3 tries"):
        fetch(fetcher, wanted(server))
    assert left(fetcher) == [".json", ".part"]
    server.faults = Faults()
    server.requests.clear()
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert server.requests == [("/model.fpk", f"bytes={int(SIZE * part)}-{SIZE - 1}")]


def test_complete_file_that_was_not_used_is_not_fetched_again(fetcher: Fetcher, server: FileServer) -> None:
    with pytest.raises(KeyboardInterrupt), fetcher.fetched(wanted(server)):
        raise KeyboardInterrupt
    server.requests.clear()
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert server.requests == []


def test_server_without_ranges_is_asked_from_the_start(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(cut_at=SIZE // 2, cuts=1, ignore_ranges=True)
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert server.sent >= SIZE + SIZE // 2


def test_server_without_ranges_that_always_breaks_is_given_up(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(cut_at=SIZE // 2, ignore_ranges=True)
    with pytest.raises(DownloadError):
        fetch(fetcher, wanted(server))
    assert len(server.requests) < 20


def test_file_that_changes_between_two_tries_is_fetched_anew(fetcher: Fetcher, server: FileServer, root: Path) -> None:
    server.faults = Faults(cut_at=SIZE // 2)
    without_digest = replace(wanted(server), digest=None)
    with pytest.raises(DownloadError):
        fetch(fetcher, without_digest)
    server.faults = Faults()
    new = CONTENT[::-1]
    (root / "model.fpk").write_bytes(new)
    os.utime(root / "model.fpk", (1, 1))
    assert fetch(fetcher, without_digest) == new


@pytest.mark.parametrize(
    ("etag", "condition"), [('"one"', '"one"'), ('W/"one"', None), ("", LAST_MODIFIED)], ids=["strong", "weak", "none"]
)
def test_the_rest_is_asked_for_on_condition_that_the_file_is_the_same(
    fetcher: Fetcher, server: FileServer, etag: str, condition: str | None
) -> None:
    """A weak validator says too little: two files that it calls equal may differ in bytes (RFC 9110, 13.1.5)."""
    server.faults = Faults(cut_at=SIZE // 2, cuts=1, etag=etag)
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert server.conditions == [None, condition]


def test_another_server_is_not_asked_by_the_validator_of_the_first(
    fetcher: Fetcher, server: FileServer, root: Path
) -> None:
    server.faults = Faults(cut_at=SIZE // 2, etag='"one"')
    with pytest.raises(DownloadError):
        fetch(fetcher, wanted(server))
    assert set(server.conditions[1:]) == {'"one"'}
    with serving(root) as mirror:
        assert fetch(fetcher, wanted(mirror)) == CONTENT
        assert (mirror.conditions, mirror.requests[0][1]) == ([None], f"bytes={SIZE // 2}-{SIZE - 1}")


def test_file_that_became_shorter_is_told_with_its_length(fetcher: Fetcher, server: FileServer, root: Path) -> None:
    server.faults = Faults(cut_at=SIZE // 2)
    with pytest.raises(DownloadError):
        fetch(fetcher, wanted(server))
    server.faults = Faults()
    (root / "model.fpk").write_bytes(CONTENT[:100])
    os.utime(root / "model.fpk", (1, 1))
    server.answers["/model.fpk"] = (416, {}, b"")
    with pytest.raises(DownloadError, match="has become shorter"):
        fetch(fetcher, wanted(server))
    del server.answers["/model.fpk"]
    with pytest.raises(DownloadError, match="is 100 bytes of application/octet-stream long"):
        fetch(fetcher, wanted(server))


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (206, {"Content-Range": f"bytes 100-{SIZE + 99}/{SIZE + 100}"}, "another part than asked for"),
        (206, {"Content-Range": "bytes */3000000"}, "another part than asked for"),
        (206, {}, "another part than asked for"),
        (200, {"Content-Encoding": "gzip"}, "comes encoded"),
        (204, {}, "status 204"),
    ],
)
def test_answer_that_was_not_asked_for_is_refused(
    fetcher: Fetcher, server: FileServer, status: int, headers: dict[str, str], said: str
) -> None:
    server.answers["/model.fpk"] = (status, headers, CONTENT)
    with pytest.raises(DownloadError, match=said):
        fetch(fetcher, wanted(server))
    assert len(server.requests) == 1


def test_link_in_the_place_of_the_partial_file_is_not_written_through(
    fetcher: Fetcher, server: FileServer, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    fetcher.folder.mkdir()
    (fetcher.folder / f"{wanted(server).key}.part").symlink_to(precious)
    with pytest.raises(StorageError):
        fetch(fetcher, wanted(server))
    assert precious.read_text() == "mine"


class Waits(threading.Event):
    """Does not wait, and remembers for how many seconds it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return False


def test_tries_wait_longer_each_time_and_as_long_as_the_server_asks() -> None:
    tries, waits = Tries(Limits(attempts=8, back_off=1.0, longest_back_off=10.0)), Waits()
    address = Address.parse("http://a.example/x")
    for asked in (None, None, None, None, None, 5.0, 1e9):
        tries.failed(Interrupted("broken", asked), address, waits)
    for waited, planned in zip(waits.seconds, [1, 2, 4, 8, 10, 10, 10], strict=True):
        assert 0.75 * planned <= waited <= 1.25 * planned
    with pytest.raises(DownloadError, match="8 tries"):
        tries.failed(Interrupted("broken"), address, waits)
    tries.got_on()
    tries.failed(Interrupted("busy", 5.0), address, waits)
    assert 3.75 <= waits.seconds[-1] <= 6.25


def test_damaged_partial_file_is_found_and_fetched_anew(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(cut_at=SIZE // 2)
    with pytest.raises(DownloadError):
        fetch(fetcher, wanted(server))
    server.faults = Faults()
    part = next(fetcher.folder.glob("*.part"))
    with part.open("r+b") as file:
        file.write(b"damage")
    assert fetch(fetcher, wanted(server)) == CONTENT


@pytest.mark.parametrize("journal", [b"", b"{", b"[]", b'{"have": [99999999999]}', b'{"have": "x", "length": 3000000}'])
def test_damaged_journal_begins_anew(fetcher: Fetcher, server: FileServer, journal: bytes) -> None:
    server.faults = Faults(cut_at=SIZE // 2)
    with pytest.raises(DownloadError):
        fetch(fetcher, wanted(server))
    server.faults = Faults()
    next(fetcher.folder.glob("*.json")).write_bytes(journal)
    assert fetch(fetcher, wanted(server)) == CONTENT


def test_wrong_content_is_refused_and_not_kept(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(garbage=True)
    with pytest.raises(VerificationError, match="has the digest"):
        fetch(fetcher, wanted(server))
    assert left(fetcher) == []


def test_passing_failures_are_tried_again(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(fail_first=2)
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert len(server.requests) == 3


def test_lasting_failure_is_told_with_the_number_of_tries(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(fail_first=99)
    with pytest.raises(DownloadError, match=r"answered 503 .*3 tries"):
        fetch(fetcher, wanted(server))


def test_missing_file_is_not_tried_again(fetcher: Fetcher, server: FileServer) -> None:
    with pytest.raises(NotFoundError, match="is not there"):
        fetch(fetcher, wanted(server, path="/none.fpk"))
    assert len(server.requests) == 1


def test_server_that_is_gone(fetcher: Fetcher, root: Path) -> None:
    with serving(root) as server:
        what = wanted(server)
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(fetcher, what)


def test_slow_loris_body_is_given_up(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(drip=0.02)
    start = time.monotonic()
    with pytest.raises(DownloadError, match="less than 1000 bytes a second"):
        fetch(fetcher, wanted(server))
    assert time.monotonic() - start < 5


def test_slow_loris_head_is_given_up(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(drip=0.02, drip_head=True)
    start = time.monotonic()
    with pytest.raises(DownloadError, match="no proper answer"):
        fetch(fetcher, wanted(server))
    assert time.monotonic() - start < 5


def test_slow_loris_in_the_length_of_a_chunk_is_given_up(fetcher: Fetcher) -> None:
    """Each byte keeps the socket's own timeout from ending, and none of them is a byte of the file."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            for _ in range(QUICK.attempts):
                with contextlib.suppress(ConnectionError), listening.accept()[0] as client:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
                    for _ in range(1000):
                        client.sendall(b"a")
                        time.sleep(0.02)

        thread = threading.Thread(target=drip)
        thread.start()
        start = time.monotonic()
        with pytest.raises(DownloadError, match="no answer in time"):
            fetch(fetcher, DownloadTarget(Address.parse(f"http://127.0.0.1:{listening.getsockname()[1]}/x"), 10))
        assert time.monotonic() - start < 10
        thread.join()


def test_endless_data_end_at_the_length_that_is_known(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(endless=True)
    with pytest.raises(VerificationError):
        fetch(fetcher, wanted(server))
    assert server.sent < 50 * SIZE


def test_unknown_length_is_asked_for(fetcher: Fetcher, server: FileServer) -> None:
    assert fetch(fetcher, DownloadTarget(wanted(server).url)) == CONTENT


def test_server_that_tells_no_length_is_refused(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(content_length=False, ignore_ranges=True)
    with pytest.raises(DownloadError, match="does not say how long"):
        fetch(fetcher, DownloadTarget(wanted(server).url))


def test_too_long_a_file_is_refused_before_it_is_fetched(tmp_path: Path, server: FileServer) -> None:
    fetcher = Fetcher(tmp_path / "partial", replace(QUICK, max_length=1000))
    with pytest.raises(DownloadError, match=r"at most 1\.0 kB"):
        fetch(fetcher, DownloadTarget(wanted(server).url))


def test_login_page_in_place_of_the_file(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(html=True)
    with pytest.raises(DownloadError, match="26 bytes of text/html") as caught:
        fetch(fetcher, wanted(server))
    assert "proxy" in (caught.value.hint or "")


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://x/", "data:,x"])
def test_redirect_to_another_scheme_is_refused(fetcher: Fetcher, server: FileServer, target: str) -> None:
    server.faults = Faults(redirect=target)
    with pytest.raises(DownloadError, match="redirects to an address that is refused"):
        fetch(fetcher, wanted(server))


def test_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(DownloadError, match="from https to http"):
        Address.parse("https://a.example/x").redirected("http://a.example/x")


@pytest.mark.parametrize("origin", ["public", "local network", "link"])
def test_redirect_to_a_private_address_is_refused(
    fetcher: Fetcher, server: FileServer, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    """The first host counts as one of that network here; where it redirects to is really this machine."""
    from pantry.repository import _http

    networks = iter([origin])
    monkeypatch.setattr(_http, "network_of", lambda address: next(networks, None) or network_of(address))
    server.faults = Faults(redirect=f"{server.url}/model.fpk")
    with pytest.raises(DownloadError, match="private address"):
        fetch(fetcher, wanted(server))
    assert len(server.requests) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "10.0.0.1", "169.254.169.254", "nas.local", "[::1]"])
def test_redirect_to_a_private_name_behind_a_proxy_is_refused(
    fetcher: Fetcher, server: FileServer, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    server.faults = Faults(redirect=f"http://{host}/model.fpk")
    with pytest.raises(DownloadError, match="private address"):
        fetch(fetcher, replace(wanted(server), url=Address.parse("http://models.example/model.fpk")))
    assert server.paths() == ["http://models.example/model.fpk"]


def test_redirects_without_end_are_refused(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(redirect="/model.fpk")
    with pytest.raises(DownloadError, match="more than 5 redirects"):
        fetch(fetcher, wanted(server))


def test_token_does_not_follow_a_redirect_to_another_host(fetcher: Fetcher, server: FileServer, root: Path) -> None:
    with serving(root) as other:
        server.faults = Faults(redirect=f"{other.url}/model.fpk")
        what = replace(wanted(server), headers={"Authorization": "Bearer secret"})
        assert fetch(fetcher, what) == CONTENT
        assert server.authorised == ["Bearer secret"]
        assert other.authorised == [None]


@pytest.mark.parametrize(
    "text", ["ftp://a/b", "a/b", "https://", "https://u:p@a/b", "http://a b/", "http://a/b\r\nX: 1", "https://a:99999/"]
)
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)


@pytest.mark.parametrize("text", ["ftp://u:word@a/b?word", "https://u:word@a:99999/", "http://u:word@?word#word"])
def test_a_refusal_of_an_address_does_not_say_the_secrets_in_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address.parse(text)
    assert "word" not in caught.value.message.replace("password", "")


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("127.0.0.1", "this machine"), ("::1", "this machine"), ("::ffff:127.0.0.1", "this machine"),
        ("0.0.0.0", "this machine"), ("localhost", "this machine"), ("a.localhost.", "this machine"),
        ("10.1.2.3", "local network"), ("192.168.1.1", "local network"), ("100.64.0.1", "local network"),
        ("fd00::1", "local network"), ("nas.local", "local network"),
        ("169.254.169.254", "link"), ("fe80::1%eth0", "link"),
        ("8.8.8.8", "public"), ("2606:4700::1", "public"), ("a.example", "public"),
    ],
)  # fmt: skip
def test_networks_of_hosts_are_known(host: str, network: str) -> None:
    assert Address("https", host, 443, "/").network == network


@pytest.mark.usefixtures("small_chunks")
def test_large_file_comes_in_parts_over_several_connections(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(pause=0.05)
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert len(server.requests) >= 3


@pytest.mark.usefixtures("small_chunks")
def test_parts_survive_cuts_in_every_connection(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(pause=0.01, cut_at=SIZE // 2, cuts=2)
    assert fetch(fetcher, wanted(server)) == CONTENT


@pytest.mark.usefixtures("small_chunks")
def test_server_without_ranges_gets_one_connection_in_the_end(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(pause=0.02, ignore_ranges=True)
    assert fetch(fetcher, wanted(server)) == CONTENT


def test_bandwidth_limit_is_kept(tmp_path: Path, server: FileServer) -> None:
    fetcher = Fetcher(tmp_path / "partial", replace(QUICK, bandwidth=3_000_000))
    start = time.monotonic()
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert time.monotonic() - start > 0.8  # a busy machine may take longer


def test_progress_reaches_the_end(fetcher: Fetcher, server: FileServer) -> None:
    seen: list[tuple[int, int]] = []
    with fetcher.fetched(wanted(server), lambda done, total: seen.append((done, total))):
        pass
    assert seen[-1] == (SIZE, SIZE)


def test_too_small_a_disk_is_told_before_anything_is_fetched(
    fetcher: Fetcher, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_partial, "SPARE_SPACE", 1 << 60)
    with pytest.raises(StorageError, match="are needed"):
        fetch(fetcher, wanted(server))
    assert server.requests == []


def test_unwritable_folder_is_a_clear_error(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        fetch(Fetcher(tmp_path / "file", QUICK), wanted(server))


def test_proxy_of_the_environment_is_used(
    fetcher: Fetcher, server: FileServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy gets the whole address in the request line; our file server ignores the host in it."""
    monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    what = replace(wanted(server), url=Address.parse("http://models.example/model.fpk"))
    (root / "http:").mkdir()
    (root / "http:" / "models.example").mkdir()
    (root / "http:" / "models.example" / "model.fpk").write_bytes(CONTENT)
    assert fetch(fetcher, what) == CONTENT
    assert server.requests[0][0] == "http://models.example/model.fpk"


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
def test_proxy_is_passed_by_for_the_hosts_that_no_proxy_names(
    fetcher: Fetcher, server: FileServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(DownloadError, match=f"the proxy 127.0.0.1:{port} cannot be reached"):
        fetch(fetcher, wanted(server))
    monkeypatch.setenv("no_proxy", "other.example,127.0.0.1")
    assert fetch(fetcher, wanted(server)) == CONTENT


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(encoding, form, serialization.NoEncryption())
    file.write_bytes(private + made.public_bytes(encoding))
    return file


def test_https_with_a_certificate_that_is_trusted(
    fetcher: Fetcher, root: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(root, Faults(cut_at=SIZE // 2, cuts=1), certificate) as server:
        assert fetch(fetcher, wanted(server)) == CONTENT
        assert len(server.requests) == 2
        with serving(root) as plain:
            server.faults = Faults(redirect=f"{plain.url}/model.fpk")
            with pytest.raises(DownloadError, match="from https to http"):
                fetch(fetcher, wanted(server))


def test_https_with_a_certificate_that_is_not_trusted(fetcher: Fetcher, root: Path, certificate: Path) -> None:
    with serving(root, certificate=certificate) as server:
        with pytest.raises(DownloadError, match="shows a bad certificate"):
            fetch(fetcher, wanted(server))
        assert server.requests == []


def test_https_through_a_proxy(
    fetcher: Fetcher, root: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CONNECT proxy that carries bytes both ways."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    asked: list[bytes] = []
    with serving(root, certificate=certificate) as server, socket.create_server(("127.0.0.1", 0)) as listening:

        def carry(source: socket.socket, target: socket.socket) -> None:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

        def proxy() -> None:
            client, _ = listening.accept()
            with client, socket.create_connection(("127.0.0.1", server.port)) as target:
                asked.append(client.recv(65536))
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=carry, args=(target, client), daemon=True)
                back.start()
                with contextlib.suppress(OSError):
                    carry(client, target)
                back.join(5)

        thread = threading.Thread(target=proxy, daemon=True)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://user:word@127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        assert fetch(fetcher, wanted(server)) == CONTENT
        thread.join(10)
    assert asked[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk" in asked[0]


def _fetch_once(folder: Path, url: str, held: Event, waits: Event, results: multiprocessing.Queue[bool]) -> None:
    """Fetch the file and hold it until the other process waits for it, or wait while the other holds it."""
    waited = False

    def waiting() -> None:
        nonlocal waited
        waited = True
        waits.set()

    what = DownloadTarget(Address.parse(url), SIZE, Digest(hashlib.sha256(CONTENT).hexdigest()))
    with Fetcher(folder, QUICK).fetched(what, waiting=waiting) as file:
        assert file.stat().st_size == SIZE
        held.set()
        assert waits.wait(60)
    results.put(waited)


def test_two_processes_do_not_fetch_one_file_at_the_same_time(fetcher: Fetcher, server: FileServer) -> None:
    context = multiprocessing.get_context("spawn")
    held, waits, results = context.Event(), context.Event(), context.Queue()
    arguments = (fetcher.folder, f"{server.url}/model.fpk", held, waits, results)
    workers = [context.Process(target=_fetch_once, args=arguments) for _ in range(2)]
    workers[0].start()
    assert held.wait(60)
    workers[1].start()
    found = sorted(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert found == [False, True]


KILLED = """
import sys
from pathlib import Path
from pantry.core.refs import Digest
from pantry.repository._http import Interrupted
from pantry.repository.address import Address, network_of
from pantry.repository.fetch import Fetcher, Tries, DownloadTarget
folder, url, size, digest = sys.argv[1:]
def tell(done, total):
    print(done, flush=True)
with Fetcher(Path(folder)).fetched(DownloadTarget(Address.parse(url), int(size), Digest(digest)), tell):
    print("whole", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99, 1.0])
def test_killed_download_is_continued(fetcher: Fetcher, server: FileServer, part: float) -> None:
    """SIGKILL at that part of the file, and at 1.0 between the last byte and its use."""
    server.faults = Faults(pause=0.05)
    what = wanted(server)
    assert what.digest
    command = [sys.executable, "-c", KILLED, str(fetcher.folder), str(what.url), str(SIZE), what.digest.hex]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line == "whole\n" or (part < 1 and int(line) >= part * SIZE):
                break
        process.send_signal(signal.SIGKILL)
    server.faults = Faults()
    sent = server.sent
    assert fetch(fetcher, what) == CONTENT
    again = server.sent - sent
    assert again == 0 if part == 1 else again < SIZE * (1 - part) + 1.0 / 0.05 * 65536
    assert left(fetcher) == []


def test_old_partial_files_are_cleaned_young_and_locked_ones_stay(fetcher: Fetcher) -> None:
    fetcher.folder.mkdir()
    for name in ("old.part", "old.json", "young.part", "held.part"):
        (fetcher.folder / name).write_bytes(b"x" * 5000)
    (fetcher.folder / "mine.txt").write_text("not of ours")
    os.utime(fetcher.folder / "old.part", (0, 0))
    os.utime(fetcher.folder / "old.json", (0, 0))
    os.utime(fetcher.folder / "held.part", (0, 0))
    with locked(fetcher.folder / "held.lock"):
        assert fetcher.clean(3600) >= 10000
        names = {file.name for file in fetcher.folder.iterdir()}
    assert names == {"young.part", "held.part", "held.lock", "mine.txt"}


def test_what_a_killed_process_left_of_the_same_files_goes_first(fetcher: Fetcher) -> None:
    digest, other = Digest("a" * 64), Digest("b" * 64)
    fetcher.folder.mkdir()
    for name in (
        "unbox-aaaaaaaaaaaaaaaa-00000001",
        "unbox-aaaaaaaaaaaaaaaa-00000002",
        "unbox-bbbbbbbbbbbbbbbb-00000003",
    ):
        (fetcher.folder / name / "files").mkdir(parents=True)
    with locked(fetcher.folder / "unbox-aaaaaaaaaaaaaaaa-00000002.lock"), fetcher.folder_for(digest) as files:
        folders = {file.name for file in fetcher.folder.iterdir() if file.is_dir()}
        assert {"unbox-aaaaaaaaaaaaaaaa-00000002", "unbox-bbbbbbbbbbbbbbbb-00000003", files.parent.name} == folders
    with fetcher.folder_for(other):
        assert not (fetcher.folder / "unbox-bbbbbbbbbbbbbbbb-00000003").exists()


def test_stop_by_the_user_keeps_what_has_come(fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(pause=0.01)

    def stop(done: int, total: int) -> None:
        if done > SIZE // 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), fetcher.fetched(wanted(server), stop):
        pass
    journal = json.loads(next(fetcher.folder.glob("*.json")).read_text())
    assert sum(journal["have"]) > SIZE // 4
    assert threading.active_count() < 10


def test_connection_that_is_accepted_and_silent_is_given_up(fetcher: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        what = DownloadTarget(Address.parse(f"http://127.0.0.1:{silent.getsockname()[1]}/x"), 10)
        with pytest.raises(DownloadError, match="no proper answer"):
            fetch(fetcher, what)


@pytest.mark.usefixtures("small_chunks")
def test_no_connection_gives_up_the_chunk_of_another(
    fetcher: Fetcher, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ran into a chunk taken by another once released it; two then wrote the same chunk."""
    owners: dict[int, int] = {}
    strangers: list[int] = []
    claim, claim_next, release = _plan.Plan.claim, _plan.Plan.claim_next, _plan.Plan.release

    def claimed(plan: _plan.Plan) -> tuple[int, int] | None:
        found = claim(plan)
        if found is not None:
            owners[found[0]] = threading.get_ident()
        return found

    def claimed_next(plan: _plan.Plan, chunk: int) -> bool:
        if taken := claim_next(plan, chunk):
            owners[chunk] = threading.get_ident()
        return taken

    def released(plan: _plan.Plan, chunk: int) -> None:
        if owners.get(chunk) != threading.get_ident():
            strangers.append(chunk)
        release(plan, chunk)

    monkeypatch.setattr(_plan.Plan, "claim", claimed)
    monkeypatch.setattr(_plan.Plan, "claim_next", claimed_next)
    monkeypatch.setattr(_plan.Plan, "release", released)
    server.faults = Faults(pause=0.02)
    assert fetch(fetcher, wanted(server)) == CONTENT
    assert len(set(owners.values())) > 1
    assert strangers == []
