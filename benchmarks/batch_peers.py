"""Peers that propose batches, run in a Python of their own: python batch_peers.py PEER PROBLEM BUDGET SEED BATCH.

Started by bayes_quality.py with the folder of peers.py and problems.py on its path; prints one line as peers.py does.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")


def run_random(problem, budget, seed, batch):
    """Uniform points: the floor of every table."""
    import peers

    return peers.run_random(problem, budget, seed)


def _optuna(problem, budget, batch, sampler):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, values, spent = optuna.create_study(sampler=sampler), [], 0.0
    while len(values) < budget:
        start, trials = time.perf_counter(), []
        for _ in range(batch):  # asked one after the other, all running until the batch is told
            trial, config = study.ask(), {}
            for d in problem.dims:  # parents first
                if "cond" in d and config.get(d["cond"][0]) not in d["cond"][1]:
                    continue
                if d["kind"] == "cat":
                    config[d["name"]] = trial.suggest_categorical(d["name"], d["choices"])
                else:
                    suggest = trial.suggest_int if d["kind"] == "int" else trial.suggest_float
                    config[d["name"]] = suggest(d["name"], d["low"], d["high"], log=d["log"])
            trials.append((trial, config))
        spent += time.perf_counter() - start
        told = [problem.f(config) for _, config in trials]
        start = time.perf_counter()
        for (trial, _), value in zip(trials, told):
            study.tell(trial, value)
        spent += time.perf_counter() - start
        values += told
    return values[:budget], spent


def run_optuna_tpe(problem, budget, seed, batch):
    """TPE with the constant liar."""
    import optuna

    return _optuna(problem, budget, batch, optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True))


def run_optuna_gp(problem, budget, seed, batch):
    """Optuna's GP sampler, which conditions on running trials by itself."""
    import optuna

    return _optuna(problem, budget, batch, optuna.samplers.GPSampler(seed=seed))


def run_botorch(problem, budget, seed, batch):
    """qLogEI, the batch optimised jointly, as in peers.py otherwise."""
    import peers
    import torch
    from botorch.acquisition import qLogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    d = len(problem.dims)
    start_points = batch * -(-min(2 * d, 10, budget) // batch)
    x = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed).draw(start_points).double()
    values, spent = [problem.f(peers.decode(problem.dims, row.tolist())) for row in x], 0.0
    bounds = torch.stack([torch.zeros(d), torch.ones(d)]).double()
    while len(values) < budget:
        start = time.perf_counter()
        y = -torch.tensor(values).double().unsqueeze(-1)
        model = SingleTaskGP(x, y, outcome_transform=Standardize(1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        acquisition = qLogExpectedImprovement(model, best_f=y.max())
        new, _ = optimize_acqf(acquisition, bounds, q=batch, num_restarts=10, raw_samples=512)
        spent += time.perf_counter() - start
        x = torch.cat([x, new])
        values += [problem.f(peers.decode(problem.dims, row.tolist())) for row in new]
    return values[:budget], spent


RUNS = {"random": run_random, "optuna_tpe": run_optuna_tpe, "optuna_gp": run_optuna_gp, "botorch": run_botorch}

if __name__ == "__main__":
    import problems

    peer, name = sys.argv[1:3]
    budget, seed, batch = (int(a) for a in sys.argv[3:6])
    values, spent = RUNS[peer](problems.get(name), budget, seed, batch)
    values = [round(float(v), 6) for v in values]
    print(json.dumps(dict(peer=peer, problem=name, seed=seed, n=budget, q=batch, ask_s=round(spent, 3), ys=values)))
