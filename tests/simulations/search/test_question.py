from __future__ import annotations

import tomllib

import pytest

from common.errors import ConfigError
from simulations.search.question import read_question
from tests.simulations.search.conftest import AXIS, asked


def test_nested_and_dotted_keys_are_the_same() -> None:
    search = asked(
        "[set]\nprivacy.target_epsilon = 3.0\n"
        "[[axis]]\npoints = [{federation.rounds = 2, federation.local_lr = 0.5}]\n"
        '[[axis]]\npoints = [{"federation.rounds" = 2, "federation.local_lr" = 0.1}]\n'
        '[[axis]]\nkey = "model.item_side"\nvalues = ["head", "lora"]\n',
        'seeds = 3\ngrid = false\nnote = """\nTwo\nlines"""\ntargets = "all"',
    )
    assert search.settings == {"privacy.target_epsilon": 3.0}
    assert search.axes == (
        ({"federation.rounds": 2, "federation.local_lr": 0.5},),
        ({"federation.rounds": 2, "federation.local_lr": 0.1},),
        ({"model.item_side": "head"}, {"model.item_side": "lora"}),
    )
    assert search.keys == ("federation.rounds", "federation.local_lr", "model.item_side")
    assert (search.seeds, search.note, search.targets) == (3, "Two lines", "all")
    assert read_question("toy", search.to_document()) == search


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "search toy has no axis; add one"),
        ("axis = []", "search toy has no axis; add one"),
        ("axis = 3", "axis must be tables that begin with [[axis]] in search toy, got 3"),
        ("seed = 2\n" + AXIS, "unknown key seed in search toy; did you mean seeds?"),
        ("seeds = 0\n" + AXIS, "seeds must be a whole number of at least 1"),
        ("seeds = true\n" + AXIS, "seeds must be a whole number of at least 1"),
        ("grid = 1\n" + AXIS, "grid must be true or false"),
        ('[[axis]]\nkey = "federation.rounds"', "must hold key and values, or points, got key;"),
        ('[[axis]]\nkey = "federation.rounds"\nvalues = []', "has no values, got []"),
        ("[[axis]]\npoints = []", "has no points, got []"),
        ("[[axis]]\npoints = [3]", "must be a table of keys, got 3"),
        ("[[axis]]\npoints = [{}]", "changes no key"),
        ('[[axis]]\nkey = "federation.rounds"\nvalues = [[1]]', "must have plain values"),
        ('[[axis]]\nkey = "federation.round"\nvalues = [1]', "did you mean federation.rounds?"),
        ('[[axis]]\nkey = "evaluation.every"\nvalues = [1]', "evaluation.every cannot be search"),
        ('[[axis]]\nkey = "data.seed"\nvalues = [1]', "it goes up with the seeds"),
        ('[[axis]]\nkey = "federation.seed"\nvalues = [1]', "it goes up with the seeds"),
        ('[[axis]]\nkey = "data.split"\nvalues = ["last_fifth"]', "what points are judged on"),
        ('[[axis]]\nkey = "privacy.target_epsilon"\nvalues = [1.0]', "is what is claimed"),
        ('[[axis]]\nkey = "engine.threads"\nvalues = [1]', "changes nothing but rounding"),
        ("[set]\nevaluation.lab = true\n" + AXIS, "a search looks at validation alone"),
        ("[set]\nevaluation.companions = ''\n" + AXIS, "a search looks at validation alone"),
        ("[set]\nmodel.head_itms = 3\n" + AXIS, "did you mean model.head_items?"),
        ("grid = true\n" + AXIS + AXIS, "federation.local_lr is on two axes of search toy"),
    ],
)
def test_a_mistake_is_one_fault(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_question("toy", tomllib.loads(f'scenario = "toy"\n{text}'))
    (fault,) = caught.value.faults
    assert said in fault
    assert "\n" not in fault


def test_a_search_names_its_scenario() -> None:
    with pytest.raises(ConfigError, match="search toy names no scenario"):
        read_question("toy", tomllib.loads(AXIS))
