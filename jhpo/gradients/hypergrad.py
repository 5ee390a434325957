"""`hypergrad`: the gradient of a training's result with respect to its hyperparameters, with the right method."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.devices import free_memory
from jhpo.errors import InvalidArgument, UnusableGradient, check_integer, check_number
from jhpo.gradients.checks import check_facts, checked_hp, checked_key, checked_options, chosen_leaves, held_integers
from jhpo.gradients.dependence import names_of
from jhpo.gradients.estimators import Estimate, Spec, estimate_program, probe_program
from jhpo.gradients.plan import CONVERGED, LEVELS, Choice, Facts, choose, expected_bytes, facts_of, trusted_steps
from jhpo.gradients.report import Diagnostics, Hypergradient, in_units
from jhpo.kernels import trees
from jhpo.kernels.chaos import TRUSTED
from jhpo.switches import without_switches
from jhpo.training.objective import as_trainable, objective_errors
from jhpo.training.values import Releasing, without

HP = Any


@without_switches
def hypergrad(
    trainable: Any,
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

    With E the evaluation, w_T the state after T steps of ``step`` from ``init``, the gradient is dE(hp, w_T(hp))/dhp.
    It is exact for every optax transformation that is built from ``hp`` inside the step (as `jhpo.supervised` does).

    Methods, their time in trainings, and memory (S the bytes of a state, k how many hyperparameters):

    - "forward": 1 + (1..2) k; (1 + k) S, at most nine states. Exact. For one or two hyperparameters.
    - "reverse": about 3 with one level, 1 more for each further one; T gradients and 2 T^(1/2) S with ``levels=1`` (T S
      where the step does not use `mixed_grad`), about L T^(1/L) S with L, T (S + residuals) with ``levels=0``.
    - "truncated": the last ``window`` steps alone. Cheap and biased towards small rates.
    - "implicit": at the optimum of ``train_loss``; no unroll is kept. Only for hyperparameters of the loss.
    - "pes", "es_single": 2 ``pairs`` trainings; a gradient of the smoothed loss, also where training is chaotic.
    - "auto" measures the chaos exponent Lambda first (about two trainings' time). Implicit if all hyperparameters act
      through the loss and training has converged; otherwise, with Lambda at most 5, forward mode for k <= 2 and
      reverse mode with the fewest levels that fit ``memory`` beyond; up to Lambda 15 the same over 8 seeds, clipped to
      the median norm and averaged; then "pes" (or, for more than 64 hyperparameters, "truncated").

    Args:
      trainable: a trainable or plain objective (see `jhpo.as_trainable`).
      hp: a pytree of numbers and arrays. Names, functions, True and False in it, and integers that ``wrt`` leaves out,
        reach the trainable as they are.
      key: ``key[]``, from which everything random follows.
      method: one of the above.
      wrt: names of the leaves to differentiate, such as ``["lr", "schedule"]`` (dotted for nested trees); the others
        are held fixed and get zeros (None if they are no numbers). None for all numbers.
      memory: bytes of temporary memory the program may use; what the device reports as free if None.
      horizon: share of the training, in (0, 1].
      metric: which metric to differentiate if the evaluation returns several.
      check: measure the chaos exponent also for a method that was asked for. False saves about two trainings.
      levels: of rematerialisation; the fewest that fit if None.
      window: steps; has to divide the training's steps for "pes" and "es_single" (default there: all steps).
      solver: "cg" (default), "neumann" or "nystrom".
      iterations: Hessian products of cg (20) and neumann, rank of nystrom.
      damping: added to the Hessian's diagonal.
      pairs: antithetic pairs (32).
      sigma: standard deviation of the perturbations relative to each hyperparameter (0.02; absolute where it is 0).
      seeds: gradients of so many keys are clipped and averaged; the value is that of ``key``.

    Returns:
      A `Hypergradient`: value ``float[]``, grad (a tree like hp), diagnostics (print them).

    Raises:
      InvalidArgument: before anything runs: an integer leaf or one without a derivative, an evaluation that is no
        scalar or has no derivative, implicit gradients of hyperparameters that act only through the optimiser or the
        initialisation (they are named), options that do not belong to the method, a limit that nothing fits.
      UnusableGradient: training became NaN, or the gradient did.

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
    hp, key = checked_hp(hp), checked_key(key)
    hp, chosen = held_integers(hp, chosen_leaves(hp, wrt))
    limit = free_memory(jax.devices()[0]) if memory is None else check_integer("memory", memory)
    spec = Spec(method=method, horizon=horizon, metric=metric, wrt=chosen, **options)
    check_number("horizon", horizon, 0.0, 1.0, open_low=True)
    facts = facts_of(trainable, hp, key, spec)
    check_facts(facts, spec)
    return _Attempt(trainable, hp, key, facts, limit, levels, check or method == "auto").run(spec)


class _Attempt:
    """One call: the arguments, and what has been found out on the way."""

    def __init__(self, trainable: Any, hp: HP, key: Any, facts: Facts, limit: int, levels: Any, check: bool) -> None:
        self.trainable, self.hp, self.key, self.facts = trainable, hp, key, facts
        self.limit, self.levels = limit, levels
        self.notes: list[str] = []
        self.exponent: float | None = None
        self.growth: np.ndarray | None = None
        self.stationary: float | None = None
        self.broken: int | None = None
        self.check = check

    def run(self, spec: Spec) -> Hypergradient:
        """The estimate, by the method asked for or chosen."""
        if self.check and self.facts.forward_step:
            self._probe(spec)
        if spec.method != "auto":
            return self._finish(Choice(spec, "asked for"), warn=True)
        skip: tuple[str, ...] = ()
        choice = self._choose(spec, skip)
        if choice.spec.method == "implicit":
            found = self._finish(choice, warn=False)
            if not found.diagnostics.notes:
                return found
            self.notes = [f"implicit gradients were tried in vain: {found.diagnostics.notes[-1]}"]
            choice = self._choose(spec, ("implicit",))
        measured = self.exponent is not None
        found = self._finish(choice, warn=False)
        if measured or self.exponent is None or self.exponent <= TRUSTED:
            return found
        return self._finish(self._choose(spec, skip), warn=False)

    def _choose(self, spec: Spec, skip: tuple[str, ...]) -> Choice:
        if self.exponent is None:
            # norms of dE/dw_t, which reverse mode finds on its way, will stand in for the exponent
            return Choice(spec._replace(method="reverse"), "steps with jax.custom_vjp have no other derivative")
        stationary = np.inf if self.stationary is None else self.stationary
        growth = np.zeros(0) if self.growth is None else self.growth
        return choose(self.facts, spec, self.exponent, growth, stationary, skip)

    def _probe(self, spec: Spec) -> None:
        """Chaos exponent and convergence; refuses trainings that fail."""
        with objective_errors():
            found = probe_program(self.trainable, self.hp, self.key, Spec(**_only_what_a_probe_reads(spec)))
        self.exponent, self.growth = float(found.exponent), np.asarray(found.growth)
        self.stationary = float(found.stationary) if self.facts.implicit else None
        failed = np.flatnonzero(~np.isfinite(self.growth) & (self.growth > 0))
        if not np.isfinite(found.value):
            when = f" from about step {failed[0] + 1} on" if failed.size else ""
            raise UnusableGradient(
                f"training: expected a finite value, got {float(found.value)}: the state is not finite{when}; try a "
                "smaller learning rate, clipped gradients, or a shorter horizon"
            )
        if failed.size and spec.method == "auto":
            raise UnusableGradient(_no_derivative(f"from step {failed[0] + 1} on"))
        # a method that was asked for may get around it: reverse mode where the bad part has no weight
        self.broken = int(failed[0]) + 1 if failed.size else None

    def _finish(self, choice: Choice, warn: bool) -> Hypergradient:
        spec, why = choice
        spec = spec._replace(norms=spec.method in ("reverse", "truncated", "forward") and self.facts.steps > 0)
        spec, why, measured = self._fit(spec, why)
        with objective_errors():
            arguments = (self.trainable, self.hp, self.key)
            out = estimate_program.compile(*arguments, spec)(*arguments)
        if self.exponent is None and out.norms is not None and spec.method == "reverse" and self.check:
            sizes = np.asarray(out.norms)
            self.exponent = float(np.log(np.max(sizes) / sizes[-1])) if sizes[-1] > 0 else 0.0
        self._check_result(out, spec)
        notes = tuple([*self.notes, *self._doubts(out, spec)])
        if warn:
            for note in notes:
                warnings.warn(f"hypergrad: {note}", stacklevel=5)
        return Hypergradient(out.value, without(out.grad), self._report(out, spec, why, measured, notes))

    def _fit(self, spec: Spec, why: str) -> tuple[Spec, str, int | None]:
        """The fewest levels whose program fits the memory; compiles it, and what fits is not compiled again."""
        open_levels = spec.method in ("reverse", "truncated") and self.levels is None and self.facts.steps > 0
        tried: list[tuple[int, str]] = []
        # with `mixed_grad` in the steps, one level costs less memory than none and no more time
        candidates = LEVELS[1:] if self.facts.gradients else LEVELS
        for levels in candidates if open_levels else (spec.levels,):
            spec = spec._replace(levels=levels)
            expected = expected_bytes(self.facts, spec)
            if open_levels and expected > self.limit:
                tried.append((expected, f"{levels}: {in_units(expected)} expected"))
                continue
            with objective_errors():
                analysis = estimate_program.compile(self.trainable, self.hp, self.key, spec).memory_analysis()
            measured = None if analysis is None else int(analysis.temp_size_in_bytes)
            if measured is None or measured <= self.limit:
                if tried:
                    why += f"; fewest levels in {in_units(self.limit)} ({', '.join(text for _, text in tried)})"
                return spec, why, measured
            tried.append((measured, f"{levels}: {in_units(measured)} measured"))
        least, _ = min(tried)
        every = f" ({', '.join(text for _, text in tried)})" if open_levels else ""
        raise InvalidArgument(
            f"memory: expected at least {least} bytes for method {spec.method!r}{every}, got {self.limit}; "
            "forward mode (method='forward') keeps few states, a smaller batch makes steps need less"
        )

    def _check_result(self, out: Estimate, spec: Spec) -> None:
        if not np.isfinite(out.value):
            raise UnusableGradient(
                f"training: expected a finite value, got {float(out.value)}; try a smaller learning rate, clipped "
                "gradients, or a shorter horizon"
            )
        bad = [n for n, g in zip(names_of(self.hp), jax.tree.leaves(out.grad)) if not bool(jnp.all(jnp.isfinite(g)))]
        if not bad:
            return
        if spec.method in ("pes", "es_single"):
            raise UnusableGradient(f"gradient of {bad}: every perturbed training failed; try a smaller sigma")
        if self.broken is None and self.exponent is not None and self.exponent > TRUSTED:
            raise UnusableGradient(
                f"gradient of {bad}: training is chaotic (exponent {self.exponent:.3g}) and its derivative overflowed; "
                f"use method='pes'{self._shorter()}"
            )
        raise UnusableGradient(_no_derivative(f"for {bad}"))

    def _doubts(self, out: Estimate, spec: Spec) -> list[str]:
        """Why the estimate may not be what was wanted."""
        notes = []
        unused = [n for n, used in zip(self.facts.names, self.facts.used) if not used]
        if unused:
            notes.append(f"{unused} do not reach the result: their gradient is zero")
        unrolled = spec.method in ("reverse", "forward")
        if unrolled and self.broken is not None:
            notes.append(_no_derivative(f"in parts from step {self.broken} on"))
        elif unrolled and self.exponent is not None and self.exponent > TRUSTED:
            note = f"training is chaotic (exponent {self.exponent:.3g} > {TRUSTED:g})"
            notes.append(f"{note}; use method='pes'{self._shorter()}")
        if spec.method == "truncated" and spec.window < self.facts.steps:
            notes.append(f"a derivative of the last {spec.window} of {self.facts.steps} steps prefers small rates")
        if spec.method == "implicit":
            if self.stationary is not None and self.stationary > CONVERGED:
                notes.append(
                    f"training has not converged (gradient of the training loss fell to {self.stationary:.1e} of its "
                    "start): train for longer, or use method='reverse'"
                )
            if out.negative is not None and bool(out.negative):
                notes.append("negative curvature: not at a minimum; use damping or solver='nystrom', or 'reverse'")
            elif out.residual is not None and float(out.residual) > 0.1:
                notes.append(
                    f"the linear solve has a residual of {float(out.residual):.1e}: more iterations, or damping"
                )
        if spec.method in ("pes", "es_single"):
            noise = float(trees.norm(trees.split_floats(out.error)[0]))
            size = float(trees.norm(trees.split_floats(out.grad)[0]))
            if noise > size:
                notes.append(f"the standard error ({noise:.2g}) exceeds the gradient ({size:.2g}): use more pairs")
        if out.agreement is not None and float(out.agreement) < 0.5:
            notes.append(f"the seeds disagree in direction ({float(out.agreement):.2f} of 1): use method='pes'")
        return notes

    def _shorter(self) -> str:
        """The share of the training up to which it is sound, as advice."""
        steps = 0 if self.growth is None else trusted_steps(self.growth, last=False)
        return f" or horizon={steps / self.facts.steps:.3g}" if 0 < steps < self.facts.steps else ""

    def _report(self, out: Estimate, spec: Spec, why: str, measured: Any, notes: tuple[str, ...]) -> Diagnostics:
        leveled = spec.method in ("reverse", "truncated")
        windowed = spec.method in ("truncated", "pes", "es_single") and spec.window
        optional = lambda x, kind: None if x is None else kind(x)  # noqa: E731
        return Diagnostics(
            method=spec.method,
            why=why,
            levels=spec.levels if leveled else None,
            window=spec.window if windowed else None,
            seeds=spec.seeds,
            names=self.facts.names,
            size=self.facts.size,
            steps=self.facts.steps,
            exponent=self.exponent,
            growth=self.growth,
            stationary=self.stationary,
            norms=optional(out.norms, np.asarray),
            error=out.error,
            residual=optional(out.residual, float),
            negative=optional(out.negative, bool),
            agreement=optional(out.agreement, float),
            state_bytes=self.facts.state,
            memory_expected=expected_bytes(self.facts, spec),
            memory_measured=measured,
            memory_limit=self.limit,
            notes=notes,
        )


def _only_what_a_probe_reads(spec: Spec) -> dict[str, Any]:
    return {"horizon": spec.horizon, "metric": spec.metric, "wrt": spec.wrt}


def _no_derivative(where: str) -> str:
    return (
        f"gradient: not finite {where}, although training is: a square root or a division at exactly zero of "
        "something that the hyperparameters move (keep it away from zero: in an optimiser by eps_root=1e-8, else by "
        "adding a small number); or use method='es_single'"
    )
