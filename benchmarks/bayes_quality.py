"""Bayesian optimisation beside its peers: normalised regret and mean rank after 20, 30 and 50 evaluations.

    python benchmarks/bayes_quality.py --yahpo DIR --peers DIR --peers-python PYTHON --results runs.jsonl
    python benchmarks/bayes_quality.py --yahpo DIR --results runs.jsonl more.jsonl --only jhpo   # measured peers reused
    python benchmarks/bayes_quality.py ... --batch 8 --budget 96 --at 48 96   # against peers that batch
    python benchmarks/bayes_quality.py ... --only believer --label believer --set fantasies=1   # an ablation

What is already in a results file is not run again; new lines go to the first file. The peers run in a Python of
their own and share the thread setting printed above the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import comparison
import surrogates

import jhpo
from jhpo.cli.commands import _options as parse_options

PEERS = ("random", "optuna_tpe", "optuna_gp", "botorch", "smac", "hyperoptax")
BATCH_PEERS = ("random", "optuna_tpe", "optuna_gp", "botorch")
# Not on the development list: their ranks say whether the result holds elsewhere.
HELD_OUT = ("lcbench:3945", "lcbench:34539", "lcbench:168868", "rbv2_rpart:1486", "rbv2_rpart:54")
MANY_DIMENSIONS = ("levy40", "ackley40", "rosen30", "hartmann6_30")
LISTS = {"held-out": HELD_OUT, "many-dimensions": MANY_DIMENSIONS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yahpo", type=Path, help="folder of the YAHPO Gym data")
    parser.add_argument("--peers", type=Path, help="folder of peers.py and problems.py")
    parser.add_argument("--peers-python", help="interpreter in which the peers are installed")
    parser.add_argument(
        "--results", type=Path, nargs="+", required=True, help="JSON lines, read; the first is appended"
    )
    parser.add_argument("--problems", nargs="+", help="default: the development list; or held-out, or many-dimensions")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--peer-seeds", type=int, default=5, help="number of seeds of a peer")
    parser.add_argument(
        "--only", nargs="+", default=None, help="run these methods alone; all that is there is reported"
    )
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--at", type=int, nargs="+", default=None)
    parser.add_argument("--label", default="jhpo", help="name of jhpo's lines, to compare two versions")
    parser.add_argument("--set", nargs="+", default=[], metavar="OPTION=VALUE", help="options of jhpo.BayesOpt")
    options = parser.parse_args()
    comparison.fix_threads()
    settings = parse_options(options.set)
    asked = options.problems or surrogates.PROBLEMS
    chosen = LISTS.get(asked[0], tuple(asked))
    names = surrogates.available(chosen, options.yahpo)
    budgets = options.at or [b for b in (20, 30, 50) if b <= options.budget]
    peers = PEERS if options.batch == 1 else BATCH_PEERS
    first = options.results[0]
    first.touch()
    lines = comparison.load(options.results)
    here = Path(__file__).parent

    def wanted(method: str, name: str, seed: int) -> bool:
        same = [
            x
            for x in lines
            if (x["peer"], x["problem"], x["seed"], x.get("q", 1)) == (method, name, seed, options.batch)
        ]
        return (options.only is None or method in options.only) and not any(x["n"] >= options.budget for x in same)

    for index, seed in enumerate(options.seeds):
        for name in names:
            if wanted(options.label, name, seed):
                strategy = jhpo.BayesOpt(batch=options.batch, **settings)
                line = comparison.run_jhpo(options.label, strategy, name, options.yahpo, options.budget, seed)
                comparison.append(first, line)
                lines.append(line)
            for peer in peers if options.peers and options.peers_python and index < options.peer_seeds else ():
                if wanted(peer, name, seed):
                    arguments = [peer, name, str(options.budget), str(seed)]
                    script = str(
                        ((here / "batch_peers.py") if options.batch > 1 else (options.peers / "peers.py")).resolve()
                    )
                    extra = [] if options.batch == 1 else [str(options.batch)]
                    command = [options.peers_python, "-W", "ignore", "-B", script, *arguments, *extra]
                    line = comparison.run_peer(command, options.peers, options.yahpo)[-1]
                    comparison.append(first, line)
                    lines.append(line)
    lines = [x for x in lines if x.get("q", 1) == options.batch and x["problem"] in names]
    comparison.report(lines, names, budgets, options.yahpo)


if __name__ == "__main__":
    main()
