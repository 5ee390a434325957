"""Searches of several objectives by other libraries: python pareto_peers.py PEER PROBLEM BUDGET SEED [SEED ...]

Started by pareto_bayes.py with a Python that has them, and with the repository on its path. Prints one line of JSON a
seed: the values of all evaluations, constraints after the objectives, and the processor seconds of the suggestions. The
problems of pareto_surrogates.py need YAHPO, the folder of their data, in the environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
from pareto_problems import Problem  # noqa: E402
from pareto_unseen import BY_NAME  # noqa: E402

Rows = tuple[list[list[float]], float]


def values_of(problem: Problem, x: Any) -> list[float]:
    """Values and constraints as plain numbers."""
    return [float(v) for v in problem.values(np.asarray(x, np.float64), np)]


def problem_of(name: str) -> Problem:
    """The problem of that name."""
    if name in BY_NAME:
        return BY_NAME[name]
    import pareto_surrogates

    return pareto_surrogates.problems(Path(os.environ["YAHPO"]))[name]


def suggested(trial: Any, problem: Problem) -> Any:
    """The point of the unit cube that an Optuna trial suggests, parameter by parameter."""
    if problem.space is None:
        return [trial.suggest_float(f"x{k}", 0.0, 1.0) for k in range(problem.dim)]
    import jhpo

    found = {}
    for name, parameter in zip(problem.space.names, problem.space.parameters):
        if isinstance(parameter, jhpo.Int):
            found[name] = trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log)
        else:
            found[name] = trial.suggest_float(name, parameter.low, parameter.high, log=parameter.scale == "log")
    return problem.space.encode_some(found)


def optuna(sampler: str) -> Any:
    """A search by one of Optuna's samplers."""

    def search(problem: Problem, budget: int, seed: int) -> Rows:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        m, limits = problem.objectives, {}
        if len(values_of(problem, np.full(problem.dim, 0.5))) > m:
            limits = {"constraints_func": lambda trial: trial.user_attrs["limits"]}
        if sampler == "gp":
            made: Any = optuna.samplers.GPSampler(seed=seed, **limits)
        elif sampler == "tpe":
            made = optuna.samplers.TPESampler(seed=seed, multivariate=True, **limits)
        else:
            made = optuna.samplers.NSGAIISampler(seed=seed, population_size=10, **limits)
        study = optuna.create_study(directions=["minimize"] * m, sampler=made)
        rows, spent = [], 0.0
        while len(rows) < budget:
            start = time.process_time()
            trial = study.ask()
            x = suggested(trial, problem)
            spent += time.process_time() - start
            found = values_of(problem, x)
            rows.append(found)
            trial.set_user_attr("limits", [-c for c in found[m:]])
            study.tell(trial, found[:m])
        return rows, spent

    return search


def botorch(problem: Problem, budget: int, seed: int) -> Rows:
    """qLogNEHVI with the problem's reference point, as in BoTorch's tutorial."""
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.mlls import SumMarginalLogLikelihood

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    m, d = problem.objectives, problem.dim
    x = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed).draw(2 * (d + 1)).double()
    rows, spent = [values_of(problem, row) for row in x], 0.0
    bounds = torch.stack([torch.zeros(d), torch.ones(d)]).double()
    while len(rows) < budget:
        start = time.process_time()
        y = -torch.tensor(rows, dtype=torch.float64)  # maximised; constraints: feasible where <= 0
        model = ModelListGP(
            *(SingleTaskGP(x, y[:, k : k + 1], outcome_transform=Standardize(1)) for k in range(len(y[0])))
        )
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        limits = [lambda z, k=k: z[..., k] for k in range(m, y.shape[1])]
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=[-r for r in problem.reference],
            X_baseline=x,
            sampler=SobolQMCNormalSampler(torch.Size([128])),
            prune_baseline=True,
            objective=IdentityMCMultiOutputObjective(outcomes=list(range(m))),
            constraints=limits or None,
        )
        options = {"batch_limit": 5, "maxiter": 200}
        new, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=10, raw_samples=512, options=options)
        spent += time.process_time() - start
        x = torch.cat([x, new])
        rows.append(values_of(problem, new[0]))
    return rows[:budget], spent


def pymoo(problem: Problem, budget: int, seed: int) -> Rows:
    """NSGA-II with a population of 10, as the others have it."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize

    rows: list[list[float]] = []
    m, limits = problem.objectives, len(values_of(problem, np.full(problem.dim, 0.5))) - problem.objectives

    class Mine(ElementwiseProblem):  # type: ignore[misc,unused-ignore]
        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            found = values_of(problem, x)
            rows.append(found)
            out["F"] = found[:m]
            if limits:
                out["G"] = [-c for c in found[m:]]

    start = time.process_time()
    minimize(
        Mine(n_var=problem.dim, n_obj=m, n_ieq_constr=limits, xl=0.0, xu=1.0),
        NSGA2(pop_size=10), ("n_eval", budget), seed=seed,
    )  # fmt: skip
    return rows[:budget], time.process_time() - start


PEERS = {
    "botorch": botorch,
    "optuna_gp": optuna("gp"),
    "optuna_tpe": optuna("tpe"),
    "optuna_nsga2": optuna("nsga2"),
    "pymoo_nsga2": pymoo,
}

if __name__ == "__main__":
    peer, name, budget = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for seed in map(int, sys.argv[4:]):
        rows, spent = PEERS[peer](problem_of(name), budget, seed)
        short = [[float(f"{v:.7g}") for v in row] for row in rows]
        line = {"who": peer, "problem": name, "seed": seed, "seconds": round(spent, 2), "rows": short}
        print(json.dumps(line), flush=True)
