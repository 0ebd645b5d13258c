from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import atomic_files
from common.atomic_files import (
    append_json_lines,
    read_json,
    read_json_lines,
    write_bytes,
    write_json,
    write_text,
)
from common.errors import RunFolderError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def refuse(code: int) -> Any:
    def raising(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return raising


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old and longer")
    write_text(path, "näw")
    assert path.read_text(encoding="utf-8") == "näw"
    assert names_in(tmp_path) == {"file"}


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_bytes(tmp_path / "file", b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "file")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("existed", [True, False])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, existed: bool
) -> None:
    path = tmp_path / "metrics.json"
    if existed:
        write_text(path, "old")
    if call == "fsync":
        monkeypatch.setattr(atomic_files.os, "fsync", refuse(errno.ENOSPC))
    elif call == "replace":
        monkeypatch.setattr(Path, "replace", refuse(errno.ENOSPC))
    else:
        monkeypatch.setattr(Path, "open", refuse(errno.ENOSPC))
    with pytest.raises(RunFolderError) as caught:
        write_text(path, "new")
    monkeypatch.undo()
    assert str(caught.value) == (
        f"cannot write {path}: no space left on device; free some space on that disk and run again"
    )
    assert names_in(tmp_path) == ({"metrics.json"} if existed else set())
    assert not existed or path.read_text(encoding="utf-8") == "old"


def test_ctrl_c_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic_files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "file", "new")
    assert names_in(tmp_path) == set()


def test_a_missing_folder_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no such file or directory; check the path"):
        write_text(tmp_path / "no" / "file", "x")


@given(content=json_values)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    path = tmp_path_factory.mktemp("json") / "file.json"
    write_json(path, content)
    assert read_json(path) == content


@pytest.mark.parametrize("content", [float("nan"), {"epsilon": float("inf")}, {"x": object()}])
def test_what_is_no_strict_json_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(RunFolderError, match="give plain, finite values"):
        write_json(tmp_path / "file.json", content)
    assert names_in(tmp_path) == set()


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"file\.json is damaged"):
        read_json(tmp_path / "file.json")


@given(
    batches=st.lists(
        st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=3), max_size=4
    )
)
def test_log_round_trip(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[dict[str, object]]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "rounds.jsonl"
    for batch in batches:
        append_json_lines(path, batch)
    assert read_json_lines(path) == [record for batch in batches for record in batch]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_json_lines(tmp_path / "rounds.jsonl") == []


@given(data=st.data())
def test_a_log_cut_anywhere_keeps_its_whole_lines_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("log") / "rounds.jsonl"
    records = [{"round": number, "text": "é\n" * number} for number in range(4)]
    append_json_lines(path, records)
    content = path.read_bytes()
    cut = data.draw(st.integers(min_value=0, max_value=len(content)))
    path.write_bytes(content[:cut])
    whole = records[: content[:cut].count(b"\n")]
    assert read_json_lines(path) == whole
    append_json_lines(path, [{"round": 9}])
    assert read_json_lines(path) == [*whole, {"round": 9}]


def test_a_long_partial_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": "' + b"x" * 200_000)
    append_json_lines(path, [{"c": 3}])
    assert path.read_bytes() == b'{"a": 1}\n{"c": 3}\n'


@pytest.mark.parametrize("line", ["[1]", "{", ""])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rounds.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"b": 2}}\n', encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"rounds\.jsonl is damaged: line 2"):
        read_json_lines(path)


def test_a_full_disk_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rounds.jsonl"
    append_json_lines(path, [{"a": 1}])
    written = []

    def write_half(descriptor: int, content: memoryview) -> int:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(len(content) // 2)
        return real_write(descriptor, content[: len(content) // 2])

    real_write = os.write
    monkeypatch.setattr(atomic_files.os, "write", write_half)
    with pytest.raises(RunFolderError, match=r"cannot append to .* no space left on device"):
        append_json_lines(path, [{"b": 2}, {"c": 3}])
    assert written
    assert path.read_bytes() == b'{"a": 1}\n'


def test_a_real_limit_on_file_sizes_leaves_no_half(tmp_path: Path) -> None:
    """The kernel itself refuses to write on, in the middle of a file and of a line."""
    script = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from common.atomic_files import append_json_lines, write_bytes
        from common.errors import RunFolderError

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        folder = Path(sys.argv[1])
        append_json_lines(folder / "log.jsonl", [{"a": 1}])
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for write in (
            lambda: write_bytes(folder / "file", bytes(10_000)),
            lambda: append_json_lines(folder / "log.jsonl", [{"b": "x" * 10_000}]),
        ):
            try:
                write()
            except RunFolderError as error:
                print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(atomic_files.__file__).parent.parent)},
    )
    assert done.stdout.splitlines() == [
        f"cannot write {tmp_path / 'file'}: file too large; "
        "raise the limit on file sizes (ulimit -f) and run again",
        f"cannot append to {tmp_path / 'log.jsonl'}: file too large; "
        "raise the limit on file sizes (ulimit -f) and run again",
    ]
    assert names_in(tmp_path) == {"log.jsonl"}
    assert json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8")) == {"a": 1}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
