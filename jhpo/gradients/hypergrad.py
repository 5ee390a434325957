"""`hypergrad`: the gradient of the result of a training with respect to its hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jhpo.errors import check_flag, check_integer, check_number, warn_caller
from jhpo.gradients.attempt import Call, asked, automatic
from jhpo.gradients.checks import check_facts, checked_hp, checked_options, chosen_leaves, held_integers
from jhpo.gradients.facts import known
from jhpo.gradients.inside import inside
from jhpo.gradients.report import Hypergradient
from jhpo.gradients.spec import HP, Spec
from jhpo.kernels.internals import is_traced
from jhpo.keys import typed_key
from jhpo.process.switches import without_switches
from jhpo.programs.devices import default_devices, free_memory
from jhpo.training.metrics import check_metric
from jhpo.training.objective import as_trainable
from jhpo.training.trainable import Trainable
from jhpo.training.values import Releasing
from jhpo.words.advice import advised


@without_switches
@advised
def hypergrad(
    trainable: Trainable | Callable[..., Any],
    hp: HP,
    key: jax.Array,
    method: str = "auto",
    *,
    wrt: Sequence[str] | None = None,
    memory: int | None = None,
    horizon: float = 1.0,
    metric: str | None = None,
    check: bool = True,
    levels: int | None = None,
    window: int | None = None,
    solver: str | None = None,
    iterations: int | None = None,
    damping: float | None = None,
    pairs: int | None = None,
    sigma: float | None = None,
    seeds: int | None = None,
) -> Hypergradient:
    """Value of a training and its gradient with respect to the hyperparameters.

    With E the evaluation and w_T the state after T steps of ``step`` from ``init``, the gradient is
    dE(hp, w_T(hp))/dhp. It is exact for every optax transformation that is built from ``hp`` inside the step (as
    `jhpo.supervised` does).

    Methods (the guide on hypergradients has their time and memory):

    - "forward": exact; for one or two scalars.
    - "reverse": exact; for any number. Steps are rematerialised.
    - "truncated": only the last ``window`` steps. Cheap, and biased towards small learning rates.
    - "implicit": at the optimum of ``train_loss``, without an unroll. Only for hyperparameters of the loss.
    - "pes", "es_single": the gradient of a smoothed loss, from 2 ``pairs`` trainings; also for chaotic training.
    - "auto": implicit if all hyperparameters act through the loss and training has converged; otherwise forward mode
      for at most two scalars, and reverse mode for more. If training is chaotic, several seeds, "pes" or "truncated".

    Inside jit, scan or vmap "auto" decides by shapes: forward mode for at most two scalars, else reverse mode. A failed
    training then gives NaN instead of an error.

    Args:
      trainable: a trainable or plain objective (see `jhpo.as_trainable`).
      hp: a pytree of numbers and arrays. Strings, functions, bools, and Python integers that ``wrt`` leaves out, are
        static: the trainable gets them as they are.
      key: ``key[]``, which determines everything random.
      method: one of the above.
      wrt: names of the leaves to differentiate, such as ``["lr", "schedule"]`` (dotted for nested trees); the others
        are held fixed and get zeros (None if they are not numbers). None for all numbers.
      memory: bytes of temporary memory that the program may use; the device's free memory if None.
      horizon: fraction of the training steps to run, in (0, 1].
      metric: which metric to differentiate if the evaluation returns several.
      check: train once more if the norms are suspicious, for a requested method too.
      levels: of rematerialisation; 0 saves all residuals; the fewest that fit ``memory`` if None.
      window: number of steps; has to divide the training's steps for "pes" and "es_single" (default there: all steps).
      solver: "cg" (default), "neumann" or "nystrom".
      iterations: Hessian products of cg (20) and neumann, rank of nystrom.
      damping: added to the Hessian's diagonal.
      pairs: antithetic pairs (32).
      sigma: standard deviation of the perturbations relative to each hyperparameter (0.02; absolute where it is 0).
      seeds: number of keys whose gradients are clipped and averaged; the value is that of ``key``.

    Returns:
      A `Hypergradient`: value ``float[]``, grad (a tree like hp), diagnostics (print them).

    Raises:
      InvalidArgument: before anything runs: an integer leaf or one without a derivative, an evaluation that is not a
        scalar or has no derivative, implicit gradients of hyperparameters that act only through the optimiser or the
        initialisation (they are named), options of another method, a memory limit that cannot be met.
      UnusableGradient: the training or the gradient is not finite.

    Sources: Griewank (1992) and Chen et al. (2016) for rematerialisation; Kemaev et al. (2025) for mixed mode;
    Franceschi et al. (2017) for forward mode; Lorraine, Vicol, Duvenaud (2020) for implicit gradients; Vicol, Metz,
    Sohl-Dickstein (2021) for PES; Metz, Freeman, Schoenholz, Kachman, "Gradients are not all you need" (2021) for
    chaos.

    >>> import jax, jhpo
    >>> class Descent:                     # 10 steps of gradient descent on (w - 1)^2 / 2
    ...     steps = 10
    ...     def init(self, hp, key): return jax.numpy.zeros(())
    ...     def step(self, hp, w, t): return w - hp["lr"] * (w - 1.0)
    ...     def evaluate(self, hp, w): return (w - 1.0) ** 2
    >>> value, grad, diagnostics = jhpo.hypergrad(Descent(), {"lr": 0.1}, jax.random.key(0))
    >>> round(float(value), 4), round(float(grad["lr"]), 4), diagnostics.method
    (0.1216, -2.7017, 'forward')
    """
    given: dict[str, Any] = {"levels": levels, "window": window, "solver": solver, "iterations": iterations}
    given |= {"damping": damping, "pairs": pairs, "sigma": sigma, "seeds": seeds}
    options = checked_options(method, {name: value for name, value in given.items() if value is not None})
    trainable = Releasing(as_trainable(trainable))
    hp, key = checked_hp(hp), typed_key(key)
    hp, chosen = held_integers(hp, chosen_leaves(hp, wrt))
    check_flag("check", check)
    check_metric(metric)
    limit = free_memory(default_devices()[0]) if memory is None else check_integer("memory", memory, of="bytes")
    spec = Spec(method=method, horizon=horizon, metric=metric, wrt=chosen, **options)
    check_number("horizon", horizon, 0.0, 1.0, open_low=True)
    facts, experience = known(trainable, hp, key, spec)
    check_facts(facts, spec)
    call = Call(trainable, hp, key, facts, experience, limit, levels, check or method == "auto")
    if any(is_traced(x) for x in jax.tree.leaves((trainable, hp, key))):
        found = inside(call, spec)
    else:
        found = automatic(call, spec) if method == "auto" else asked(call, spec)
    if method != "auto":
        for note in found.diagnostics.notes:
            warn_caller(f"hypergrad: {note}")
    return found
