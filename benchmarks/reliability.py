"""What must survive, as campaigns: kill -9, many processes, lost workers, a million trials.

python benchmarks/reliability.py --kills 200          two hundred kills at random points (about ten minutes)
python benchmarks/reliability.py --only million       a million trials: time to reopen
python benchmarks/reliability.py --only ray-functions --kills 25     kills of actors on a Ray cluster of this machine
python benchmarks/reliability.py --only ray-populations --kills 25   the same, where they train populations
python benchmarks/reliability.py --only postgresql --kills 50        connections to a PostgreSQL server that are cut

The campaigns are those of tests/study/campaigns.py, whose short forms are tests.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.study.campaigns import campaign, claims, lease_campaign, million, one_by_one, tell_many

NAMES = ("kill", "many", "lease", "claims", "million", "single")
ELSEWHERE = ("ray-functions", "ray-populations", "postgresql")  # they need Ray or a server, and take long


def actors(folder: Path, which: str, kills: int) -> dict[str, Any]:
    """Kills of actors; the other campaigns need no Ray."""
    from tests.evaluation import actor_campaign

    with actor_campaign.cluster():
        found: dict[str, Any] = getattr(actor_campaign, which)(folder, kills)
        return found


def connections(cuts: int) -> dict[str, Any]:
    """Lost connections; the other campaigns need no server."""
    from tests.storage import lost_connections, postgres

    why = postgres.missing()
    if why is not None:
        return {"skipped": why}
    with postgres.running() as server:
        return dict(lost_connections.cuts_at_any_moment(server, cuts))


def main() -> None:
    """Run the campaigns and print a JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--tells", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--only", choices=[*NAMES, *ELSEWHERE])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    campaigns = {
        "kill": lambda folder: campaign(folder, options.kills, options.seed),
        "many": lambda folder: tell_many(folder / "many.db", options.processes, options.tells),
        "lease": lambda folder: lease_campaign(folder / "lease.db", 20),
        "claims": lambda folder: claims(folder / "claims.db", 16, options.rounds),
        "million": lambda folder: million(folder, options.trials),
        "single": lambda folder: one_by_one(folder, 2000),
        "ray-functions": lambda folder: actors(folder, "of_functions", options.kills),
        "ray-populations": lambda folder: actors(folder, "of_populations", options.kills),
        "postgresql": lambda folder: connections(options.kills),
    }
    for name, run in campaigns.items():
        if name == options.only or (options.only is None and name not in ELSEWHERE):
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps({"campaign": name} | run(Path(folder))), flush=True)


if __name__ == "__main__":
    main()
