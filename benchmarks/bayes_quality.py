"""Bayesian optimisation beside its peers on the development problems: rank, regret and stuck runs after 20, 30 and 50.

    python benchmarks/bayes_quality.py --yahpo DIR --results mine.jsonl          # ours, beside the stored runs of peers
    python benchmarks/bayes_quality.py ... --label jhpo:none --set warp=none     # a variant
    python benchmarks/bayes_quality.py ... --run none --choose jhpo jhpo:none    # one family left out, and seed by seed
    python benchmarks/bayes_quality.py ... --run none --factors LRN      # a factorial, see `bayes_factors`
    python benchmarks/bayes_quality.py ... --run optuna_gp --peers DIR --peers-python PYTHON   # more runs of a peer
    python benchmarks/bayes_quality.py ... --batch 8 --budget 96 --at 48 96      # batches, against peers that batch

Surrogates need `pip install onnx`. What is in a results file is not run again; new lines go to the first file. Runs
of peers are stored in `runs/`: a change of ours needs only our own. The families are those of `bayes_problems`, and a
choice counts if it helps on families that had no part in it. Two seeds decide nothing: the error of a mean over 22
problems is then larger than what most choices are worth. `--choose` prints differences, over the seeds that labels
share, with their errors."""

from __future__ import annotations

import argparse
from pathlib import Path

import bayes_problems
import comparison
from bayes_factors import factorial
from bayes_report import Table, leave_one_out, paired, report
from bayes_runs import Line, Peers, random_search, run_jhpo

import jhpo
from jhpo.cli.arguments import strategy_options

_HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yahpo", type=Path, help="folder of the YAHPO Gym data")
    parser.add_argument("--results", type=Path, nargs="+", required=True, help="JSON lines; the first is appended")
    parser.add_argument("--families", nargs="+", default=list(bayes_problems.FAMILIES), help="all by default")
    parser.add_argument("--problems", nargs="+", help="some problems of them only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--run", nargs="+", default=["jhpo"], help="jhpo, random, a name that peers.py knows, or none")
    parser.add_argument("--peers", type=Path, help="folder of peers.py")
    parser.add_argument("--peers-python", help="interpreter in which the peers are installed")
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--at", type=int, nargs="+", default=[20, 30, 50])
    parser.add_argument("--label", default="jhpo", help="name of jhpo's lines: jhpo, jhpo:variant")
    parser.add_argument("--set", nargs="+", default=[], metavar="OPTION=VALUE", help="options of jhpo.BayesOpt")
    parser.add_argument("--choose", nargs="+", metavar="LABEL", help="choose among these, leaving one family out")
    parser.add_argument("--factors", help="letters: what each is worth in runs labelled jhpo:LETTERS, or jhpo:-")
    options = parser.parse_args()
    comparison.fix_threads()
    families = {f: bayes_problems.FAMILIES[f] for f in options.families}
    problems = [n for names in families.values() for n in names if options.problems is None or n in options.problems]
    problems = list(comparison.surrogates.available(tuple(problems), options.yahpo))
    options.results[0].touch()
    lines = comparison.load([*options.results, *sorted((_HERE / "runs").glob("*.jsonl"))])
    lines = [x for x in lines if "peer" in x and (x.get("q", 1) == options.batch or x["peer"] == "random")]
    strategy = jhpo.BayesOpt(batch=options.batch, **strategy_options(options.set))
    peers: Peers | None = None

    def run(method: str, name: str, seed: int) -> Line:
        nonlocal peers
        task = bayes_problems.get(name, options.yahpo)
        if method == "jhpo":
            return run_jhpo(options.label, strategy, task, options.budget, seed)
        if method == "random":
            return random_search(task, options.budget, seed)
        if peers is None:
            script = options.peers / "peers.py" if options.batch == 1 else _HERE / "batch_peers.py"
            peers = Peers(options.peers_python, script, options.batch)
        return peers.run(method, task, options.budget, seed)

    for method in options.run if options.run != ["none"] else ():
        label = options.label if method == "jhpo" else method
        done = {(x["problem"], x["seed"]) for x in lines if x["peer"] == label and x["n"] >= options.budget}
        for seed in options.seeds:
            for name in problems:
                if (name, seed) not in done:
                    lines.append(run(method, name, seed))
                    comparison.append(options.results[0], lines[-1])
    if peers is not None:
        peers.close()
    lowest = {name: bayes_problems.lowest(name) for name in problems}
    table = Table(lines, problems, lowest)
    budgets = [b for b in options.at if b <= options.budget]
    if options.factors:
        factorial(table, families, options.factors, budgets)
        return
    report(table, families, budgets)
    if options.choose:
        leave_one_out(table, families, options.choose, budgets)
        paired(table, families, options.choose, budgets)


if __name__ == "__main__":
    main()
