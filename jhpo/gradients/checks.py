"""Checks of the arguments of `jhpo.hypergrad` before anything is compiled; the errors say what to do instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, check_integer, check_number, invalid
from jhpo.gradients.dependence import names_of
from jhpo.gradients.facts import Facts
from jhpo.gradients.spec import HP, METHODS, SOLVERS, Spec
from jhpo.kernels import trees
from jhpo.kernels.internals import is_traced
from jhpo.training.values import hold, is_integer, is_number, release

_METHODS = ("auto", *(m for m in METHODS if m != "autodiff"))
# The methods that take each option; an option for another method is an error.
_OPTIONS = {
    "levels": ("auto", "reverse", "truncated"),
    "window": ("truncated", "pes", "es_single"),
    "solver": ("auto", "implicit"),
    "iterations": ("auto", "implicit"),
    "damping": ("auto", "implicit"),
    "pairs": ("auto", "pes", "es_single"),
    "sigma": ("auto", "pes", "es_single"),
    "seeds": _METHODS,
}


def checked_options(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a method after checking each of them."""
    if method not in _METHODS:
        raise invalid("method", f"one of {_METHODS}", method)
    for name, value in given.items():
        if method not in _OPTIONS[name]:
            raise invalid(name, f"no value, as method {method!r} has no use for it", value)
    for name, low in (("levels", 0), ("window", 1), ("iterations", 1), ("pairs", 2), ("seeds", 1)):
        if name in given:
            given[name] = check_integer(name, given[name], low=low)
    check_number("damping", given.get("damping", 0.0), 0.0)
    check_number("sigma", given.get("sigma", 1.0), 0.0, open_low=True)
    if given.get("solver", "cg") not in SOLVERS:
        raise invalid("solver", f"one of {SOLVERS}", given["solver"])
    if method == "truncated" and "window" not in given:
        raise invalid("window", "the number of last steps to differentiate, for method 'truncated'", None)
    return given


def checked_hp(hp: HP) -> HP:
    """Hyperparameters with numbers as strongly typed arrays (a weak type would recompile everything).

    Python integers stay; leaves that are not numbers become static.
    """

    def leaf(name: str, x: Any) -> Any:
        if is_integer(x):
            return x
        if not jnp.issubdtype(jnp.result_type(x), jnp.number) and not jnp.issubdtype(jnp.result_type(x), jnp.bool_):
            raise invalid(f"hp: {name}", "numbers in an array (a category by its index)", x)
        if trees.is_float(x) and not is_traced(x) and not np.all(np.isfinite(np.asarray(x, np.float64))):
            raise invalid(f"hp: {name}", "finite numbers", x)
        return x if isinstance(x, jax.Array) and not x.weak_type else jnp.asarray(x, jnp.asarray(x).dtype)

    for name, x in zip(names_of(hp), jax.tree.leaves(hp)):
        if isinstance(x, str) and _reads_as_number(x):
            raise invalid(f"hp: {name}", "a number, or the name of a choice", x)
    hp = hold(hp, lambda x: not is_number(x))
    leaves, treedef = jax.tree.flatten(hp)
    if not leaves:
        raise invalid("hp", "a tree with at least one number", release(hp))
    return jax.tree.unflatten(treedef, [leaf(n, x) for n, x in zip(names_of(hp), leaves)])


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def held_integers(hp: HP, chosen: tuple[bool, ...]) -> tuple[HP, tuple[bool, ...]]:
    """Hyperparameters with Python integers made static, and ``chosen`` for the remaining leaves."""
    left = tuple(c for c, leaf in zip(chosen, jax.tree.leaves(hp)) if not is_integer(leaf))
    return hold(hp, is_integer), left


def chosen_leaves(hp: HP, wrt: Sequence[str] | None) -> tuple[bool, ...]:
    """For each leaf of hp, whether it is differentiated."""
    names, leaves = names_of(hp), jax.tree.leaves(hp)
    if wrt is None:
        wanted = [True] * len(names)
    elif not isinstance(wrt, Iterable):
        raise invalid("wrt", f"some of {names}", wrt)
    else:
        listed = [wrt] if isinstance(wrt, str) else list(wrt)
        wanted = [any(n == w or n.startswith(f"{w}.") for w in listed) for n in names]
        unknown = [w for w in listed if not any(n == w or n.startswith(f"{w}.") for n in names)]
        if unknown or not listed:
            raise invalid("wrt", f"some of {names}", wrt)
    floats = [n for n, leaf in zip(names, leaves) if trees.is_float(leaf)]
    for name, leaf, chosen in zip(names, leaves, wanted):
        if chosen and not trees.is_float(leaf):
            what = f"a floating-point number to differentiate (such as 1.0), or wrt={floats} to hold it fixed"
            raise invalid(f"hp: {name}", what, f"{jnp.asarray(leaf).dtype}{list(jnp.shape(leaf))}")
    return tuple(wanted)


def check_facts(facts: Facts, spec: Spec) -> None:
    """Raises if the jaxpr of the training rules out the method."""
    if spec.method in ("pes", "es_single"):
        if spec.window and facts.steps % spec.window:
            raise invalid("window", f"a divisor of the {facts.steps} steps", spec.window)
        return
    pairs = list(zip(facts.names, facts.used, facts.smooth))
    rough = [name for name, used, smooth in pairs if used and not smooth]
    if rough and len(rough) == sum(facts.used):
        raise InvalidArgument(
            f"metric: expected an evaluation with a derivative, got one that {rough} reach only through operations "
            "without one (an error rate, a rounding, a sign); choose a smooth metric, or method='es_single'"
        )
    if rough:
        rest = [n for n in facts.names if n not in rough]
        raise InvalidArgument(
            f"hp: expected hyperparameters with a derivative, got {rough}, which act only through operations without "
            f"one (such as the sign in optax.lion); hold them fixed with wrt={rest}, or use method='es_single'"
        )
    if spec.method == "implicit":
        if not facts.implicit:
            expected = "a trainable with train_loss(hp, params), params(state) and with_params(state, params)"
            raise invalid("method", f"{expected} for implicit gradients", "one without")
        outside = [n for n, inside in zip(facts.names, facts.in_loss) if not inside]
        if outside:
            raise InvalidArgument(
                f"method: expected hyperparameters of the training loss for implicit gradients, got {outside}, which "
                "act only through the optimiser or the initialisation and do not move the optimum; use "
                "method='reverse' or 'forward', or hold them fixed with wrt"
            )
    if spec.method == "forward" and not facts.forward:
        raise invalid("method", "a method other than 'forward', as jax.custom_vjp has no derivative in it", "forward")
    if spec.method == "truncated" and facts.steps == 0:
        raise invalid("method", "a training of at least 1 step for 'truncated'", 0)
