"""The mutants fit the code, and the self-test sees what survives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import PrivacyError
from simulations.audit import named_checks
from simulations.audit.mutants.fourteen import MUTANTS
from simulations.audit.mutants.mutant import PACKAGES, Mutant
from simulations.audit.self_test import UNMUTATED, self_test, table

ROOT = Path(__file__).resolve().parents[3]


def test_there_are_fourteen_and_each_fits_the_code_once(tmp_path: Path) -> None:
    assert len({mutant.name for mutant in MUTANTS}) == 14
    for mutant in MUTANTS:
        assert mutant.room in named_checks.ROOMS
        assert mutant.file.split("/")[0] in PACKAGES
        copy = tmp_path / mutant.name.replace("/", " ") / mutant.file
        copy.parent.mkdir(parents=True)
        copy.write_text((ROOT / mutant.file).read_text(encoding="utf-8"), encoding="utf-8")
        mutant.planted(tmp_path / mutant.name.replace("/", " "))
        compile(copy.read_text(encoding="utf-8"), str(copy), "exec")


def test_a_mutant_of_other_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "sampling.py").write_text("return 1\nreturn 1\n", encoding="utf-8")
    for old, times in (("return 1", 2), ("return 2", 0)):
        mutant = Mutant("m", "client/sampling.py", old, "return 3", "sampler", "sampler")
        with pytest.raises(PrivacyError, match=f"stands {times} times"):
            mutant.planted(tmp_path)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_every_mutant_is_killed_by_its_named_check_and_the_build_by_none() -> None:
    outcomes = list(self_test())
    assert [each.mutant for each in outcomes if not each.as_it_should_be] == []
    assert len(outcomes) == 15
    assert sum("killed" in line for line in table(outcomes)) == 14


@pytest.mark.slow
@pytest.mark.e2e
def test_a_harmless_change_survives_and_so_does_one_that_breaks_its_check() -> None:
    step = next(each for each in MUTANTS if each.room == "bounded_step")
    harmless = replace(step, name="harmless", new=step.old + "        # a remark\n")
    broken = replace(step, name="broken", new="raise SystemError\n")
    outcomes = {each.mutant: each for each in self_test([harmless, broken])}
    assert outcomes[UNMUTATED].as_it_should_be
    for name in ("harmless", "broken"):
        assert not outcomes[name].killed
        assert not outcomes[name].as_it_should_be
    assert "SystemError" in outcomes["broken"].reason
