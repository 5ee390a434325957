"""Callbacks for TensorBoard, Weights & Biases and MLflow, read back with the real libraries."""

from __future__ import annotations

import struct

import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument
from jhpo.interop import loggers

SPACE = jhpo.Space({"x": jhpo.Float(-1.0, 1.0, shape=(2,)), "kind": jhpo.Choice(["a", None])})


class Heard(loggers.Logger):
    def __init__(self, study=None):
        super().__init__(study)
        self.steps, self.trials = [], {}

    def progress(self, values, step):
        self.steps.append((step, values))

    def trial(self, trial, parameters, values):
        assert trial.id not in self.trials
        self.trials[trial.id] = parameters, values


def on_host(params):
    return float("nan") if params["kind"] is None else float(np.sum(params["x"] ** 2))


def made():
    """A study with two trials that finished before anybody listened."""
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4), seed=2)
    study.optimize(jhpo.host(on_host), budget=2)
    study.note({"commit": "5f3a", "long [1]=": ["x" * 6000]}, trial=1)
    return study


def test_every_finished_trial_is_heard_of_once_and_several_callbacks_are_called():
    study, counts = made(), []
    log = Heard(study)
    for budget in (5, 9):
        study.optimize(jhpo.host(on_host), budget, callback=[log, lambda evaluations, best: counts.append(evaluations)])
    assert sorted(log.trials) == list(range(9)) and [step for step, _ in log.steps] == counts
    for i, (parameters, values) in log.trials.items():
        trial = study[i]
        assert parameters == {"x[0]": trial.params["x"][0], "x[1]": trial.params["x"][1], "kind": trial.params["kind"]}
        assert values == ({} if trial.reason else {"value": trial.value})
    alone = Heard()
    result = jhpo.minimize(lambda hp: jnp.sum(hp["x"] ** 2), SPACE, jhpo.RandomSearch(4), 8, callback=(alone,))
    assert alone.steps[-1][0] == 8 and alone.steps[-1][1]["best"] == result.value and not alone.trials
    with pytest.raises(InvalidArgument, match="study: expected a"):
        loggers.TensorBoard(None, "study.db")
    with pytest.raises(InvalidArgument, match="callback: expected a function"):
        study.optimize(jhpo.host(on_host), 20, callback=[log, 3])


def test_names_of_several_objectives():
    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random", directions={"a": "minimize", "b": "maximize"})
    log = Heard(study)
    study.optimize(jhpo.host(lambda p: {"a": p["x"], "b": 1.0}), 3, callback=log)
    assert {tuple(values) for _, values in log.trials.values()} == {("a", "b")}


def test_a_choice_among_tuples_is_one_hyperparameter():
    space = jhpo.Space({"net": jhpo.Choice([(8, 8), ()], static=True), "w": jhpo.Float(0.0, 1.0, shape=(2,))})
    study = jhpo.Study(space, jhpo.RandomSearch(4))
    log = Heard(study)
    study.optimize(jhpo.host(lambda p: 1.0), 8, callback=log)
    assert {tuple(parameters) for parameters, _ in log.trials.values()} == {("net", "w[0]", "w[1]")}
    assert {parameters["net"] for parameters, _ in log.trials.values()} == {(8, 8), ()}


def points_of(path, tag):
    """Steps and values of a scalar, or of a text, in an event file: records of length, checksum, event, checksum."""
    from tensorboardX.proto import event_pb2

    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        event = event_pb2.Event.FromString(data[12 : 12 + size])
        for value in event.summary.value:
            if value.tag.removesuffix("/text_summary") == tag:
                found.append((event.step, [*value.tensor.string_val, value.simple_value][0]))
        data = data[16 + size :]
    return found


def test_tensorboard(tmp_path):
    writers = pytest.importorskip("tensorboardX")
    study = made()
    with writers.SummaryWriter(str(tmp_path)) as writer:
        study.optimize(jhpo.host(on_host), 6, callback=loggers.TensorBoard(writer, study))
    (events,) = tmp_path.glob("events.*")
    best = points_of(events, "search/best")
    assert best[-1] == (6, pytest.approx(study.best.value))
    assert {step for step, _ in points_of(events, "trial/value")} == {t.id for t in study.top(9)}
    assert points_of(events, "note/commit") == [(1, b"5f3a")]
    assert sum(1 for path in tmp_path.iterdir() if path.is_dir() and "trial-" in path.name) == 6


def test_the_writer_of_pytorch_has_another_name_for_a_run():
    class Writer:
        def __init__(self):
            self.rows = []

        def add_scalar(self, tag, value, global_step=None):
            pass

        def add_text(self, tag, text, global_step=None):
            pass

        def add_hparams(self, hparam_dict, metric_dict, hparam_domain_discrete=None, run_name=None, global_step=None):
            assert hparam_domain_discrete is None
            self.rows.append(run_name)

    study, writer = made(), Writer()
    study.optimize(jhpo.host(on_host), 6, callback=loggers.TensorBoard(writer, study))
    assert writer.rows == [f"trial-{number}" for number in range(6)]


@pytest.mark.slow
def test_weights_and_biases(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    study = made()
    with wandb.init(mode="offline", dir=str(tmp_path), project="jhpo") as run:
        study.optimize(jhpo.host(on_host), 6, callback=loggers.WandB(run, study))
        summary = dict(run.summary)
    assert summary["search/evaluations"] == 6 and summary["search/best"] == pytest.approx(study.best.value)
    assert summary["trial/id"] == 5 and "param/x[0]" in summary and summary["trial/status"] in ("complete", "failed")
    assert summary["note/commit"] == "5f3a" and len(summary["note/long [1]="][0]) == 6000
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'runs.db'}")
    study = made()
    with mlflow.start_run() as parent:
        study.optimize(jhpo.host(on_host), 6, callback=loggers.MLflow(study))
    client = mlflow.MlflowClient()
    history = client.get_metric_history(parent.info.run_id, "best")
    assert history[-1].step == 6 and history[-1].value == pytest.approx(study.best.value)
    runs = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert len(runs) == 6
    for run in runs:
        trial = study[int(run.info.run_name.removeprefix("trial-"))]
        assert run.data.params["x.0"] == str(trial.params["x"][0]) and run.data.params["kind"] == str(
            trial.params["kind"]
        )
        assert run.data.metrics == ({} if trial.reason else {"value": pytest.approx(trial.value)})
        assert run.data.tags["status"] == trial.status.name.lower()
        assert run.data.tags.get("note.commit") == ("5f3a" if trial.id == 1 else None)
        assert len(run.data.tags.get("note.long .1_", "")) == (5000 if trial.id == 1 else 0)
