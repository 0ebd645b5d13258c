"""The rule of ``make test-all``: an unexpected skip is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "test_called.py": "def test_it():\n    pytest.skip('called')\n",
    "test_marked.py": "@pytest.mark.skip(reason='marked')\ndef test_it():\n    pass\n",
    "test_fixture.py": (
        "@pytest.fixture\ndef f():\n    pytest.skip('fixture')\n\ndef test_it(f):\n    pass\n"
    ),
    "test_module.py": "pytest.skip('module', allow_module_level=True)\n",
    "test_expected.py": "@pytest.mark.xfail\ndef test_it():\n    raise ValueError\n",
    "test_passing.py": "def test_it():\n    pass\n",
}


def run_pytest(folder: Path, repository: Path, *options: str) -> tuple[int, str]:
    shutil.copy(repository / "tests" / "conftest.py", folder / "conftest.py")
    for name, source in FILES.items():
        (folder / name).write_text(f"import pytest\n\n{source}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), "-c", os.devnull,
         "-p", "no:cacheprovider", "--import-mode=importlib", "--continue-on-collection-errors",
         *options, str(folder)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.slow
def test_every_way_to_skip_fails_when_skips_are_not_allowed(
    tmp_path: Path, repository: Path
) -> None:
    code, out = run_pytest(tmp_path, repository, "--no-skips")
    assert code != 0
    assert all(f"unexpected skip: Skipped: {way}" in out for way in ("called", "fixture"))
    assert "unexpected skip: Skipped: marked" in out
    assert "unexpected skip: Skipped: module" in out
    assert "1 passed, 1 xfailed" in out
    assert "skipped" not in out.splitlines()[-1]


def test_a_skip_is_a_skip_otherwise(tmp_path: Path, repository: Path) -> None:
    code, out = run_pytest(tmp_path, repository)
    assert (code, "1 passed, 4 skipped, 1 xfailed" in out) == (0, True)
