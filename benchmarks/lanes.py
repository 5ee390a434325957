"""How long studies in lockstep wait for the slowest: iterations of BayesOpt's L-BFGS loops, alone and side by side.

Under `vmap` a loop goes on until the last study has ended. Studies of one space and different objectives count what
each of their suggestions would take alone; in lockstep all take what the slowest takes.

    python benchmarks/lanes.py
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from typing import Any

import jax
import numpy as np

import jhpo
from jhpo.kernels import lbfgs

SPACE = jhpo.Space(
    {
        "rate": jhpo.Float(1e-4, 1.0, log=True),
        "momentum": jhpo.Float(0.0, 1.0),
        "width": jhpo.Int(1, 20),
        "kind": jhpo.Choice(["a", "b", "c"]),
    }
)


def objective(params: dict[str, Any], study: int) -> float:
    """A bowl whose place depends on the study."""
    bowl = (params["momentum"] - 0.1 * study) ** 2 + (np.log10(params["rate"]) + 2) ** 2 / 4
    return float(bowl + ((params["width"] - 7) / 10) ** 2 + 0.3 * (params["kind"] != "b"))


def counted(plain: Any, seen: list[tuple[int, int]]) -> Any:
    """A loop of `lbfgs` that tells its limit and its iterations, those of the slowest start."""

    def minimize(*args: Any, iterations: int, **options: Any) -> lbfgs.LBFGSResult:
        loop = jax.lax.while_loop

        def told(condition: Any, body: Any, carry: Any) -> Any:
            out = loop(condition, body, carry)
            jax.debug.callback(lambda count: seen.append((iterations, int(count))), out[0])
            return out

        jax.lax.while_loop = told
        try:
            return plain(*args, iterations=iterations, **options)
        finally:
            jax.lax.while_loop = loop

    return minimize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=8)
    parser.add_argument("--trials", type=int, default=28)
    args = parser.parse_args()
    seen: list[tuple[int, int]] = []
    # before anything is compiled
    lbfgs.minimize, lbfgs.minimize_each = (counted(f, seen) for f in (lbfgs.minimize, lbfgs.minimize_each))
    taken: dict[tuple[int, int], list[int]] = defaultdict(list)  # by limit and turn, one number a study
    for number in range(args.studies):
        study = jhpo.Study(SPACE, jhpo.BayesOpt(), seed=number)
        for turn in range(args.trials):
            seen.clear()
            (trial,) = study.ask()
            jax.effects_barrier()
            study.tell(trial, objective(trial.params, number))
            for limit in {limit for limit, _ in seen}:
                taken[limit, turn].append(max(count for other, count in seen if other == limit))
    for limit in sorted({limit for limit, _ in taken}):
        full = [counts for (other, _), counts in taken.items() if other == limit and len(counts) == args.studies]
        alone, together = np.mean([np.mean(c) for c in full]), np.mean([max(c) for c in full])
        line = {"limit": limit + 1, "turns": len(full), "alone": alone, f"slowest of {args.studies}": together}
        print(json.dumps({key: round(float(value), 2) for key, value in line.items()}), flush=True)


if __name__ == "__main__":
    main()
