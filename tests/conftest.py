"""What all tests share: a quiet environment of their own, and no skip without a reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from common.config import RunConfig
from common.process_environment import quiet_third_parties

if TYPE_CHECKING:
    from tests.browser import Browser

# Before any test module imports flwr, ray or transformers.
quiet_third_parties()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips", action="store_true", help="count a skipped test or module as failed"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that make real users of this machine are root's alone."""
    if os.geteuid() == 0 and shutil.which("useradd"):
        return
    left_out = [item for item in items if item.get_closest_marker("root")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    is_expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not is_expected_failure and item.config.getoption("--no-skips"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and collector.config.getoption("--no-skips"):
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"unexpected skip: {reason}"


@pytest.fixture(scope="session", autouse=True)
def own_flower_home(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Keep what Flower writes out of the user's home."""
    home = tmp_path_factory.mktemp("flwr-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLWR_HOME", str(home))
        yield home


@pytest.fixture(scope="session", autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Keep the anchors of tests' sites out of the user's home."""
    state = tmp_path_factory.mktemp("fedrec-state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDREC_STATE", str(state))
        yield state


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser]:
    """A headless Chromium; skips where its packages are missing."""
    from tests.browser import PACKAGES, missing_programs, open_browser

    if missing_programs():
        pytest.skip(f"{' and '.join(missing_programs())} not found: install {PACKAGES}")
    with open_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def write_scenario(tmp_path: Path) -> Callable[[str], Path]:
    """Write TOML text as a scenario file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "scenario.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def default_config() -> RunConfig:
    """The configuration that nobody has changed."""
    return RunConfig()
