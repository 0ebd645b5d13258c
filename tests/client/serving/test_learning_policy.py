"""A policy that explores, at a real site: what it logs, learns, survives and tells."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from client.cli import main
from client.serving import learning_policy
from client.serving.choice_log import CHOICES_FILE, Choice, ChoiceLog, Place
from client.serving.exploration import Exploration, Pool, inclusion
from client.serving.feedback import Event, FeedbackStore
from client.serving.learning_policy import LearningPolicy, outcomes
from client.serving.log_evaluation import evaluate_log
from client.serving.policy_settings import POLICY_FILE, PolicySettings, policy_settings
from client.serving.recommending import Answer, SiteRecommender, Visitor
from client.serving.served import Served
from common.errors import ConfigError, RunFolderError
from tests.own_process import in_own_process

SETTINGS = PolicySettings(name="epsilon_greedy", start=0.5, half_life=0, settle_seconds=0)


class Site:
    """A recommender over its two databases; `again` is a restart."""

    def __init__(self, served: Served, folder: Path, settings: PolicySettings = SETTINGS) -> None:
        self.feedback, self.log = FeedbackStore(folder), ChoiceLog(folder, settings.kept_lists)
        self.policy = LearningPolicy(settings, self.log, self.feedback)
        self.recommender = SiteRecommender(served, self.feedback, self.policy)

    def list_for(self, user: str) -> Answer:
        return self.recommender.recommend(user, 5)

    def took(self, answer: Answer, user: str, place: int = 0) -> str:
        item = answer.offers[place].item_id
        name = f"{answer.recommendation_id} {place}"
        event = Event(name, user, item, "taken", 0, answer.recommendation_id)
        self.recommender.record(event)
        return item

    def close(self) -> None:
        self.feedback.close()
        self.log.close()


@pytest.fixture
def site_policy(served: Served, tmp_path: Path) -> Iterator[Site]:
    with closing(Site(served, tmp_path)) as site:
        yield site


def known_users(served: Served) -> list[str]:
    return list(served.histories.users)


def test_what_is_answered_is_what_is_logged(site_policy: Site, served: Served) -> None:
    user = known_users(served)[0]
    answers = [site_policy.list_for(user), site_policy.recommender.recommend(Visitor(), 3)]
    logged, damaged = site_policy.log.choices()
    assert damaged == 0
    assert [choice.user for choice in logged] == [user, ""]
    assert [choice.before for choice in logged] == [0, 1]
    for answer, choice in zip(answers, logged, strict=True):
        assert answer.policy == choice.policy == "epsilon_greedy"
        assert answer.recommendation_id == choice.recommendation_id
        assert [offer.item_id for offer in answer.offers] == [p.item_id for p in choice.places]
        chances = SETTINGS.exploration.chances(choice.pool, len(choice.places), choice.before)
        rows = [place.row for place in choice.places]
        for row, (place, offer) in enumerate(zip(choice.places, answer.offers, strict=True)):
            assert offer.propensity == pytest.approx(place.propensity)
            assert place.propensity == pytest.approx(chances[row, rows[row]], abs=1e-6)
            assert place.inclusion == pytest.approx(inclusion(chances)[rows[row]], abs=1e-6)


def test_feedback_moves_an_item_up_and_a_restart_forgets_nothing(
    served: Served, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"name": "ucb", "start": 0.0, "new": 1.0, "known": 1.0})
    users = known_users(served)
    with closing(Site(served, tmp_path, settings)) as site:
        first = site.recommender.recommend(Visitor(), 5)
        liked = first.offers[4].item_id
        for user in users[:20]:
            answer = site.list_for(user)
            for place, offer in enumerate(answer.offers):
                if offer.item_id == liked:
                    site.took(answer, user, place)
        name = Event("v", "visitor-1", liked, "taken", 0, first.recommendation_id)
        site.recommender.record(name)
        before = [offer.item_id for offer in first.offers]
        site.policy.learn()
        after = [offer.item_id for offer in site.recommender.recommend(Visitor(), 5).offers]
        assert after.index(liked) < before.index(liked)
        site.policy.learn()
        learned = site.policy._state
    with closing(Site(served, tmp_path, settings)) as again:
        assert again.log.shown == 22
        state = again.policy._state
        assert learned is not None
        assert state is not None
        assert state.posterior.level == pytest.approx(learned.posterior.level)
        assert state.posterior.level[served.items.places[liked]] > 0.1


def test_outcomes_wait_until_a_list_is_settled() -> None:
    pool = Pool(np.zeros(3), np.zeros(3))
    places = [Place(item, row, 0.5, 1.0, 1.0) for row, item in enumerate("abc")]
    choice = Choice("r", "u", 100, "ucb", 0, places, pool)
    events = [
        Event("1", "u", "a", "taken", 110, "r"),
        Event("2", "u", "a", "dismissed", 120, "r"),
        Event("3", "u", "b", "dismissed", 110, "r"),
        Event("4", "u", "c", "taken", 110, "another list"),
        Event("5", "u", "c", "taken", 110, ""),
    ]
    assert outcomes([choice], events, 150, 60) == [[1.0, 0.0, None]]
    assert outcomes([choice], events, 160, 60) == [[1.0, 0.0, 0.0]]


def test_the_log_keeps_the_newest_lists(tmp_path: Path) -> None:
    pool = Pool(np.zeros(2), np.zeros(2))
    place = Place("a", 0, 0.5, 1.0, 1.0)
    with closing(ChoiceLog(tmp_path, kept=30)) as log:
        for number in range(450):
            log.append(Choice(str(number), "u", number, "ucb", number, [place], pool))
        found, _ = log.choices()
        assert [choice.recommendation_id for choice in found] == [str(n) for n in range(370, 450)]
        assert log.shown == 450
    assert (tmp_path / CHOICES_FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "damage",
    [
        "places = 'no JSON'",
        "places = '[]'",
        "places = '[[\"x\", 99, 0.5, 0.5, 0.5]]'",
        "places = '[[\"x\", 0, 0.5, 0, 0.5]]'",
        "places = '[[\"x\", 0, 0.5, NaN, 0.5]]'",
        "places = '[[1, 0]]'",
        "means = x'00'",
        "means = x'0000c07f'",
    ],
)
def test_a_damaged_row_is_left_out(site_policy: Site, served: Served, damage: str) -> None:
    users = known_users(served)
    for user in users[:3]:
        site_policy.list_for(user)
    where = site_policy.log.choices()[0][1].recommendation_id
    folder = Path(site_policy.log._path).parent
    with closing(sqlite3.connect(folder / CHOICES_FILE)) as database, database:
        database.execute(f"UPDATE lists SET {damage} WHERE recommendation_id = ?", (where,))
    found, damaged = site_policy.log.choices()
    assert (len(found), damaged) == (2, 1)
    site_policy.policy.learn()
    assert len(site_policy.list_for(users[0]).offers) == 5


def test_a_log_that_cannot_be_written_costs_no_list(
    site_policy: Site, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    site_policy.log.close()
    assert len(site_policy.list_for(known_users(served)[0]).offers) == 5
    assert "a list is not logged" in caplog.text


def test_it_learns_beside_answering(
    site_policy: Site, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_policy, "LEARN_S", 0.01)
    user = known_users(served)[0]
    with site_policy.policy:
        site_policy.took(site_policy.list_for(user), user)
        state = site_policy.policy._state
        for _ in range(500):
            if site_policy.policy._state is not state:
                break
            time.sleep(0.01)
        assert site_policy.policy._state is not state


def test_off_policy_from_a_site_s_log(site_policy: Site, served: Served) -> None:
    for number, user in enumerate(known_users(served) * 4):
        answer = site_policy.list_for(user)
        if number % 2:
            site_policy.took(answer, user)
    folder = site_policy.log._path.parent
    own = evaluate_log(folder, SETTINGS.exploration, 0)
    assert own.found.mean_weight == pytest.approx(1, abs=1e-5)
    assert own.found.ips.mean == pytest.approx(own.found.observed.mean, abs=1e-5)
    other = evaluate_log(folder, Exploration("greedy"), 0).found
    assert 0 < other.effective_places < own.found.effective_places
    waiting = evaluate_log(folder, SETTINGS.exploration, 0)
    assert waiting.waiting == 0
    assert waiting.policies == ["epsilon_greedy"]


def test_the_command_tells_estimates_and_too_little_overlap(
    site: Path, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fedrec_site = in_own_process(main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)
    asked = ("off-policy", "--site", site, "--policy", "ucb", "--settle-seconds", "0")
    code, _, err = fedrec_site(*asked)
    assert code == 2
    assert "serve --policy thompson" in err
    (site / "serving").mkdir(mode=0o700)
    with closing(Site(served, site / "serving")) as running:
        for user in known_users(served)[:4]:
            running.list_for(user)
    code, out, err = fedrec_site(*asked)
    assert code == 0, err
    assert "snips" in out
    assert "the overlap is too small" in " ".join(err.split())
    code, out, _ = fedrec_site(*asked, "--json")
    found = json.loads(out)
    assert found["lists"] == 4
    assert found["estimates"]["observed"]["mean"] == 0
    code, _, err = fedrec_site("off-policy", "--site", site, "--policy", "best")
    assert code == 2
    assert "--policy must be one of" in err


def test_settings_come_from_the_file_or_the_name(tmp_path: Path) -> None:
    assert policy_settings(tmp_path, None) is None
    assert policy_settings(tmp_path, "greedy") is None
    named = policy_settings(tmp_path, "ucb")
    assert named is not None
    assert named.exploration.name == "ucb"
    (tmp_path / POLICY_FILE).write_text('name = "thompson"\nstart = 0.25\nhalf_life = 7\n')
    for name in (None, "thompson"):
        found = policy_settings(tmp_path, name)
        assert found is not None
        assert found.exploration == Exploration("thompson", 0.25, 0.0, 7)
    other = policy_settings(tmp_path, "ucb")
    assert other is not None
    assert other.start is None


@pytest.mark.parametrize(
    "text", ['name = "best"', 'name = "ucb"\nalpha = 1', 'name = "ucb"\nstart = nan', "name ="]
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / POLICY_FILE).write_text(text)
    with pytest.raises(ConfigError, match=POLICY_FILE):
        policy_settings(tmp_path, None)


def test_a_chance_above_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / POLICY_FILE).write_text('name = "epsilon_greedy"\nstart = 1.5')
    with pytest.raises(ConfigError, match="at most 1"):
        policy_settings(tmp_path, None)


def test_no_log_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="serve --policy thompson"):
        evaluate_log(tmp_path, Exploration("greedy"), 0)
