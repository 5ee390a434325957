"""One study by BoTorch on the sphere of accelerator_speed.py: python accelerator_botorch.py TRIALS SECONDS.

Prints the trials it got through within the seconds, and what they took. Four Sobol points, then for each trial a fit
of SingleTaskGP and a maximisation of LogEI, in float64 on the CPU.
"""

from __future__ import annotations

import sys
import time
import warnings

import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood

warnings.filterwarnings("ignore")
trials, limit = int(sys.argv[1]), float(sys.argv[2])
x = torch.quasirandom.SobolEngine(4, scramble=True, seed=0).draw(4).double()
bounds = torch.stack([torch.zeros(4), torch.ones(4)]).double()
start = time.perf_counter()
while len(x) < trials and time.perf_counter() - start < limit:
    y = -((10 * x - 5.3) ** 2).sum(dim=1, keepdim=True)
    model = SingleTaskGP(x, y, outcome_transform=Standardize(1))
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    new, _ = optimize_acqf(LogExpectedImprovement(model, best_f=y.max()), bounds, q=1, num_restarts=10, raw_samples=512)
    x = torch.cat([x, new])
print(len(x), round(time.perf_counter() - start, 2))
