"""The pure loop: ask, evaluate, tell in one `lax.scan`; a whole study is one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jhpo.errors import InvalidArgument, JhpoError, check_integer, in_words, invalid, of_searches
from jhpo.evaluation.paused import check_continuable
from jhpo.kernels.internals import is_traced
from jhpo.keys import typed_key
from jhpo.objectives import Directions, Objectives, read_directions
from jhpo.process.switches import switches_off, warn_inside_a_program
from jhpo.programs.compilation import programs
from jhpo.search.keep import Keep, check_keep
from jhpo.search.run_evolving import run_evolving
from jhpo.search.run_generations import run_generations
from jhpo.search.run_rungs import run_rungs
from jhpo.search.run_thawing import run_thawing
from jhpo.search.starts import read_starts
from jhpo.search.trace import Trace as Trace
from jhpo.space.given import check_space
from jhpo.space.space import Space
from jhpo.strategies import as_strategy, for_objectives
from jhpo.strategies.base import Strategy
from jhpo.strategies.early_stop import check_fold_by_fold
from jhpo.training.crossvalidation import in_folds
from jhpo.training.metrics import check_direction, check_directions
from jhpo.training.objective import as_trainable, check_arguments
from jhpo.training.trainable import Trainable, max_steps
from jhpo.words.advice import advised


@advised
def run(
    strategy: Strategy | str,
    objective: Trainable | Callable[..., Any],
    space: Space,
    generations: int,
    key: jax.Array,
    *,
    replicates: int = 1,
    folds: int = 1,
    fold_by_fold: bool = False,
    start: Sequence[Any] | dict[str, Any] | None = None,
    keep: Keep = "all",
    directions: Directions | None = None,
) -> tuple[Any, Trace | tuple[Trace, ...]]:
    """A study as a pure function: the same arguments give the same trace, on the host or inside other programs.

    It can be jitted, vmapped over keys, over the strategy's coefficients and over the arrays inside a trainable,
    scanned and sharded. Called directly it compiles once; other keys and equal strategies and spaces reuse the
    program. Trial ``i`` is evaluated with ``fold_in(key, i)``, as in a `Study` of that root key.

    Args:
      strategy: proposes the points: an instance, or a name.
      objective: a trainable, or a function ``objective(hp)`` or ``objective(hp, key)`` to minimise.
      space: where to search; no static parameters (they need the host: `minimize` or `Study`).
      generations: how many times the strategy is asked.
      key: root key of the study.
      replicates: evaluations of every member with different keys; the strategy sees mean and variance.
      folds, fold_by_fold: parts of the data on which every member is trained and measured, see `jhpo.minimize`.
      start: points to evaluate first, which the strategy then learns from: dicts of host values, all or some of them;
        the strategy chooses the others. Their trials have the first ids.
      keep: what the trace holds: "all"; "values", without the points; "best", only the best trial of each generation,
        so that a billion evaluations need the memory of one generation.
      directions: of several objectives, see `jhpo.minimize`; cannot be combined with ``keep="best"``.

    Returns:
      The strategy's last state, and the trace. A strategy with several phases (a chain) gives a tuple of traces, one
      per phase; with ``start`` it is a tuple whose first trace, of one generation, holds the starting points. A
      strategy that pauses members gives one trace per rung: generation g belongs to rung ``g % len(rungs)``, and
      ``ids`` are the trials of its rows. Survivors are gathered from the rung before, so that time is saved inside a
      program too. Starting points are then its first members. A strategy whose members take over from one another
      (`jhpo.PopulationBasedTraining`) gives one trace of all generations, with ``parents``.

    Raises:
      InvalidArgument: generations or replicates below 1, a space with static parameters, an objective that does
        not return a scalar; a `jax.shard_map` around it without ``check_vma=False``,
        keys along explicit axes of a mesh without `jax.shard_map`.

    >>> import jax, jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})
    >>> state, trace = jhpo.run(jhpo.PSO(16), lambda hp: hp["x"] ** 2, space, 20, jax.random.key(0))
    >>> trace.value.shape, bool(trace.value.min() < 1e-4)
    ((20, 16), True)
    """
    if isinstance(objective, Space):  # the order of minimize
        raise invalid("strategy", "the first of run(strategy, objective, space, generations, key)", strategy)
    check_integer("generations", generations)
    check_integer("replicates", replicates)
    check_space(space)
    strategy, key = as_strategy(strategy), typed_key(key)
    if space.has_static:
        named = [n for n, p in zip(space.names, space.parameters) if p.static]
        raise invalid("space", "no static parameters inside run (use minimize or Study, which group by them)", named)
    starts = read_starts(space, start)
    given = None if starts is None else starts.units
    trainable = as_trainable(in_folds(objective, folds, fold_by_fold))
    check_arguments(trainable, space)
    objectives = read_directions(directions)
    if objectives is None:
        check_direction(trainable, None, "minimize")
    else:
        check_directions(trainable, objectives)
        if keep == "best":
            raise invalid("keep", "'all' or 'values' with several objectives", keep)
    strategy = for_objectives(strategy, objectives)
    if strategy.early_stop is not None:
        instead = "one that stops nobody while it runs (SuccessiveHalving and Hyperband stop members between rungs)"
        raise invalid("strategy", instead, type(strategy).__name__)
    check_fold_by_fold(strategy, fold_by_fold)
    if strategy.continues:
        strategy = strategy.lasting(check_continuable(trainable))
    if is_traced(key):
        warn_inside_a_program("run")
    try:
        with switches_off():
            return _run(
                strategy, trainable, space, key, given,
                generations=generations, replicates=replicates, keep=check_keep(keep), objectives=objectives,
                gaps=() if starts is None else starts.gaps,
            )  # fmt: skip
    except Exception as error:
        if not isinstance(error, JhpoError) and (advice := of_searches(error)):  # of the loop
            text = in_words(error).splitlines()[0]
            raise InvalidArgument(f"run: expected a search that JAX can trace, got {text}{advice}") from error
        raise


@programs("generations", "replicates", "keep", "objectives", "gaps")
def _run(
    strategy: Strategy,
    trainable: Trainable,
    space: Space,
    key: jax.Array,
    given: jax.Array | None,
    *,
    generations: int,
    replicates: int,
    keep: Keep,
    objectives: Objectives | None,
    gaps: tuple[int, ...],
) -> tuple[Any, Trace | tuple[Trace, ...]]:
    if strategy.pauses:
        rungs = strategy.rungs(max_steps(trainable))
        if given is not None and given.shape[0] > rungs[0].size:
            raise invalid("start", f"at most {rungs[0].size} points, the first members", given.shape[0])
        cycle = [rungs[g % len(rungs)] for g in range(generations)]
        strategy = strategy.prepare(sum(rung.size for rung in cycle if not rung.start))
        through: Any = run_evolving if strategy.evolves else run_rungs
        pair: tuple[Any, Trace | tuple[Trace, ...]] = through(
            strategy, trainable, space, key, given,
            rungs=rungs, generations=generations, replicates=replicates, keep=keep,
        )  # fmt: skip
        return pair

    if strategy.thaws:
        strategy = strategy.prepare(generations * strategy.population)
        thawed: tuple[Any, Trace] = run_thawing(
            strategy, trainable, space, key, given, generations=generations, replicates=replicates, keep=keep
        )
        return thawed

    return run_generations(
        strategy, trainable, space, key, given,
        generations=generations, replicates=replicates, keep=keep, objectives=objectives, gaps=gaps,
    )  # fmt: skip
