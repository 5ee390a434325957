"""Studies in a PostgreSQL database: what holds for SQLite files, and connections that are lost."""

from __future__ import annotations

import inspect
import signal
import threading
import time

import pytest

import jhpo
from jhpo.errors import StorageError
from jhpo.storage import open_log
from jhpo.study import events
from tests.storage import postgres, test_log
from tests.storage.lost_connections import cuts_at_any_moment
from tests.study import campaigns, test_sharing, test_study_storage
from tests.study.studies import GREEDY, SPACE, assert_same, assert_same_state, database, objective

_why = postgres.missing()
pytestmark = pytest.mark.skipif(_why is not None, reason=_why or "")


@pytest.fixture(scope="module")
def server():
    with postgres.running() as made:
        yield made


def test_a_resumed_study_equals_one_in_memory_and_lost_connections_cost_nothing(server):
    url = server.database()
    alone = jhpo.Study(SPACE, GREEDY, seed=3)
    with jhpo.Study(SPACE, GREEDY, url, seed=3) as study:
        study.optimize(objective, budget=20)
        assert server.hang_up(url) >= 1  # between two calls: nobody notices
        study.optimize(objective, budget=44)
    assert postgres.PASSWORD not in str(database(study).url)
    with jhpo.Study.load(url) as again:
        assert server.hang_up(url) >= 1
        again.refresh()
        again.optimize(objective, budget=72)
        alone.optimize(objective, budget=72)
        assert_same(again, alone)
        assert_same_state(again, alone)
        with pytest.raises(StorageError, match="holds a study already"):
            jhpo.Study(SPACE, GREEDY, url)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_connection_lost_in_the_middle_of_a_transaction(server, moment):
    url = server.database()
    with jhpo.Study(SPACE, jhpo.RandomSearch(4), url, seed=1) as study:
        first, second = study.ask(2)
        study.tell(first, 1.0)
        before = len(database(study).read()), study.evaluations
        with pytest.raises(StorageError, match=r"Everything acknowledged before is safe; the next call connects again"):
            with study.ledger.transaction() as append:
                if moment == "before":
                    server.hang_up(url)
                append(events.Requeue([second.id], False, time.time()))
                server.hang_up(url)
        assert (len(database(study).read()), study.evaluations) == before
        study.tell(second, 2.0)
        assert study.evaluations == 2
    with jhpo.Study.load(url) as again:
        assert [again[i].value for i in range(2)] == [1.0, 2.0] and len(again) == 2


def test_a_ctrl_c_that_waits_for_another_writer_ends_as_one(server):
    psycopg = pytest.importorskip("psycopg")
    url = server.database()
    with jhpo.Study(SPACE, jhpo.RandomSearch(4), url, seed=1) as study, psycopg.connect(url) as writer:
        study.ask()
        writer.execute("SELECT * FROM jhpo_meta FOR UPDATE")
        timer = threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            study.ask()
        writer.rollback()
        assert [trial.id for trial in study.ask()] == [1]


def test_readers_see_one_state_while_another_writes(server):
    url = server.database()
    log, end = test_log.filled(url), threading.Event()
    reader = open_log(log, create=False)

    def write():
        other = open_log(url, create=False)
        while not end.is_set():
            with other.write():
                other.read()
                other.append("tell", {"k": other.seq})
        other.close()

    writer = threading.Thread(target=write)
    writer.start()
    found: list[int] = []
    until = time.monotonic() + 60.0
    try:
        while len(found) < 20 and time.monotonic() < until:
            found += [entry.body["k"] for entry in reader.read()]
    finally:
        end.set()
        writer.join()
    assert found == list(range(len(found))) and len(found) >= 20
    reader.close()


def test_bad_input(server):
    url = server.database()
    with pytest.raises(StorageError, match="password authentication failed"):
        jhpo.Study(SPACE, "random", server.url("postgres", "wrong"))
    with pytest.raises(StorageError, match="does not exist"):
        jhpo.Study(SPACE, "random", server.url("nowhere"))
    with pytest.raises(StorageError, match="holds no study"):
        jhpo.Study.load(url)
    with pytest.raises(StorageError, match="refused"):
        jhpo.Study(SPACE, "random", "postgresql://jhpo@127.0.0.1:9/none")
    with pytest.raises(StorageError, match="expected a path or a database URL"):
        jhpo.Study(SPACE, "random", "postgresql://a b@[::1/none")
    server.ask("CREATE TABLE trials (id int)", url.rpartition("/")[2])
    with pytest.raises(StorageError, match=r"not of jhpo \(it holds \['trials'\]\)"):
        jhpo.Study(SPACE, "random", url)


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back(server):
    url = server.database()
    with jhpo.Study(SPACE, jhpo.RandomSearch(4), url, seed=1) as study:
        trials = study.ask(4)
        study.tell(trials[0], 1.0)
        server.stop()
        for _ in range(2):
            with pytest.raises(StorageError, match="cannot write"):
                study.tell(trials[1], 2.0)
        server.start()
        study.tell(trials[1], 2.0)
        assert study.evaluations == 2


@pytest.mark.slow
def test_fifty_lost_connections_lose_and_double_nothing(server):
    found = cuts_at_any_moment(server, 50)
    assert found["cuts"] >= 50 and found["errors"] and found["inside"] > 1
    assert (found["lost"], found["doubled"], found["different"]) == (0, 0, 0)


# what tests of SQLite files promise, with a database in place of each file
SAME = [
    (test, arguments)
    for test, choices in (
        (test_study_storage.test_a_resumed_study_is_the_one_that_never_stopped, [{"name": "pso"}]),
        (test_study_storage.test_ask_and_tell_resumes_with_what_was_pending, [{}]),
        (test_study_storage.test_late_results_and_foreign_ones_fold_to_the_same_state, [{}]),
        (test_study_storage.test_a_changed_space_is_refused_with_the_difference, [{}]),
        (test_study_storage.test_a_space_with_constraints_has_to_be_given_again, [{}]),
        (test_study_storage.test_two_studies_on_one_storage_share_the_work, [{}]),
        (test_study_storage.test_a_lease_that_ran_out_is_handed_on_and_given_up_in_the_end, [{}]),
        (test_sharing.test_processes_that_begin_one_study_together_fill_its_budget_exactly,
         [{"work": test_sharing.OPTIMIZE}, {"work": test_sharing.ASK}]),
        (test_sharing.test_threads_share_the_budget_on_the_host, [{"stored": True}]),
        (test_sharing.test_asking_never_exceeds_a_budget, [{}]),
        (test_sharing.test_a_living_worker_keeps_its_trials_and_one_that_closed_does_not, [{}]),
        (test_sharing.test_a_heartbeat_from_another_machine_renews_the_lease, [{}]),
        (test_log.test_events_come_back_in_order_and_only_once, [{}]),
        (test_log.test_a_failed_transaction_leaves_nothing, [{}]),
    )
    for arguments in choices
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("test", "arguments"), SAME, ids=lambda x: getattr(x, "__name__", None))
def test_the_suite_of_files(server, monkeypatch, test, arguments):
    known = {"tmp_path": postgres.Databases(server), "monkeypatch": monkeypatch}
    wanted = inspect.signature(test).parameters
    test(**{name: known[name] for name in wanted if name in known}, **arguments)


@pytest.mark.slow
def test_kills_many_writers_and_claims(server):
    folder = postgres.Databases(server)
    kills = campaigns.campaign(folder, kills=4, seed=1)
    assert (kills["lost"], kills["duplicates"], kills["different"]) == (0, 0, 0)
    told = campaigns.tell_many(folder / "many", processes=4, tells=50)
    assert told["trials"] == told["complete"] == 200 and told["unique_contiguous"]
    assert campaigns.claims(folder / "claims", workers=8, rounds=20)["wrong"] == 0
    lease = campaigns.lease_campaign(folder / "lease", kills=2)
    assert lease == {"kills": 2, "handed_on": 2, "late_refused": 1}
