"""Seconds a suggestion of a peer that knows many trials: python speed_peers.py PEER KNOWN TURNS.

Started by bayes_speed.py in the peers' Python; prints one JSON line.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
DIM = 8


def objective(x):
    """A quadratic with its minimum at 0.3."""
    return float(((np.asarray(x) - 0.3) ** 2).sum())


def run_botorch(points, turns):
    """SingleTaskGP, LogEI, as in a study: one fit and one optimisation a suggestion."""
    import torch
    from botorch.acquisition import LogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.tensor(points).double()
    bounds = torch.stack([torch.zeros(DIM), torch.ones(DIM)]).double()
    seconds = []
    for _ in range(turns + 1):  # the first one warms up
        start = time.perf_counter()
        y = -torch.tensor([objective(p) for p in x.numpy()]).double().unsqueeze(-1)
        model = SingleTaskGP(x, y, outcome_transform=Standardize(1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        acquisition = LogExpectedImprovement(model, best_f=y.max())
        new, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=10, raw_samples=512)
        seconds.append(time.perf_counter() - start)
        x = torch.cat([x, new])
    return seconds[1:]


def run_optuna_gp(points, turns):
    """GPSampler with its defaults, the known trials added beforehand."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=0))
    names = [f"x{i}" for i in range(DIM)]
    ranges = {n: optuna.distributions.FloatDistribution(0.0, 1.0) for n in names}
    for p in points:
        known = dict(zip(names, map(float, p)))
        study.add_trial(optuna.trial.create_trial(params=known, distributions=ranges, value=objective(p)))
    seconds = []
    for _ in range(turns + 1):
        start = time.perf_counter()
        trial = study.ask(ranges)
        seconds.append(time.perf_counter() - start)
        study.tell(trial, objective([trial.params[n] for n in names]))
    return seconds[1:]


if __name__ == "__main__":
    peer, known, turns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    points = np.random.default_rng(0).random((known, DIM))
    runs = {"botorch": run_botorch, "optuna_gp": run_optuna_gp}
    seconds = runs[peer](points, turns)
    print(json.dumps({"peer": peer, "known": known, "seconds": float(np.mean(seconds))}))
