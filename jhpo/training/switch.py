"""`switch`: the option that a traced choice selects, such as an optimiser, a loss, an activation, a number."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, invalid
from jhpo.kernels.internals import is_traced
from jhpo.space.categories import Known, choices_of
from jhpo.training.optimisers import Chosen
from jhpo.training.values import is_integer, is_number
from jhpo.values.pytrees import Params

if TYPE_CHECKING:
    import optax

Option = TypeVar("Option")
_NUMBERS = (bool, int, float, np.number, np.bool_)


def switch(category: object, options: Mapping[Any, Option] | Sequence[Option]) -> Option:
    """The option that a hyperparameter selects.

    It is ``{"sgd": a, "adam": b}[hp["opt"]]`` for a traced choice, in which members of one program can differ. Under
    `vmap` every option is computed for every member, so the cost is that of all options. With ``static=True`` in the
    space members are grouped instead, and `switch` is an ordinary look-up.

    Args:
      category: the hyperparameter: ``int32[]``, the index of a `Choice` of strings inside jit; the number or bool of a
        `Choice` of numbers or bools, or of an `Int`; or the Python value itself.
      options: a mapping from the choices, in their order (numbers in any order), or a sequence by index (of numbers,
        by those that are 0, 1, ...). The options are optax transformations (any mixture), functions whose results agree
        in shape, or trees of numbers and arrays.

    Returns:
      An optax transformation whose state holds those of all options, a function, or a tree of arrays.

    Raises:
      InvalidArgument: an unknown choice, options in another order than the choices, or of different kinds.

    >>> losses = {"squared": lambda o, t: (o - t) ** 2, "absolute": lambda o, t: abs(o - t)}
    >>> float(jax.jit(lambda i: switch(i, losses)(3.0, 1.0))(1))
    2.0
    >>> round(float(jax.jit(lambda i: switch(i, [0.1, 0.01]))(1)), 4)
    0.01
    """
    if isinstance(options, str) or not (isinstance(options, (Mapping, Sequence)) or np.ndim(options)):
        raise invalid("options", "a dict or a list of what belongs to each choice, after the choice itself", options)
    named = dict(options) if isinstance(options, Mapping) else dict(enumerate(options))
    if not named:
        raise invalid("options", "at least one", options)
    numbers = all(isinstance(key, _NUMBERS) for key in named)
    if not isinstance(category, (jax.Array, np.ndarray)):
        return _look_up(category, named, numbers)
    if category.shape != ():
        raise invalid("category", "a single number; use jax.vmap for several", f"an array of shape {category.shape}")
    by_value = isinstance(options, Mapping) and numbers
    _check_known(category, list(named), isinstance(options, Mapping), numbers)
    places = list(named) if by_value else list(range(len(named)))
    if not is_traced(category) and np.asarray(category).dtype.kind in "iu" and int(category) not in places:
        raise invalid("category", f"one of {places}", int(category))
    return _select(
        _place(jnp.asarray(category), places) if by_value else _index(jnp.asarray(category), len(named)),
        list(named.values()),
    )


def _look_up(category: object, named: dict[Any, Any], numbers: bool) -> Any:
    """The option of a value that is not traced."""
    if isinstance(category, Hashable) and category in named:
        return named[category]
    if isinstance(category, (int, np.integer)) and not numbers and 0 <= category < len(named):
        return list(named.values())[category]
    raise invalid("category", f"one of {list(named)}", category)


def _check_known(category: object, keys: list[Any], by_key: bool, numbers: bool) -> None:
    """Raises unless there is an option for each value of the choice, in their order if that matters."""
    known = choices_of(category)
    if known is None:
        return
    values = isinstance(known, range) or all(isinstance(k, _NUMBERS) for k in known)
    if values and (isinstance(known, range) or not by_key):  # keys and places are values of the hyperparameter
        places: Container[Any] = keys if numbers else range(len(keys))
        if len(known) > len(keys) or any(k not in places for k in known):
            note = "" if by_key else "a list is in the order 0, 1, ...; a dict has the values themselves for keys"
            raise invalid("options", f"one for each value, {_several(known)}", keys, note=note)
        return
    if by_key and numbers and set(known) == set(keys):
        return
    if len(known) != len(keys) or (by_key and any(k is not c and k != c for k, c in zip(keys, known))):
        raise invalid("options", f"the {len(known)} choices {list(known)}, in this order", keys)


def _several(known: Known) -> str:
    return f"{known[0]} to {known[-1]}" if isinstance(known, range) else str(list(known))


def _place(category: jax.Array, keys: list[Any]) -> jax.Array:
    """``int32[]``: index of the number among the keys."""
    table = jnp.asarray(np.asarray(keys).astype(category.dtype))
    if jnp.issubdtype(category.dtype, jnp.floating):
        return jnp.argmin(jnp.abs(table - category)).astype(jnp.int32)
    return jnp.argmax(table == category).astype(jnp.int32)


def _index(category: jax.Array, options: int) -> jax.Array:
    if not jnp.issubdtype(category.dtype, jnp.integer):
        raise invalid("category", "the index of a choice, an integer", f"{category.dtype}[]")
    return jnp.clip(category, 0, options - 1).astype(jnp.int32)


def _select(index: jax.Array, values: list[Any]) -> Any:
    transforms = [hasattr(v, "init") and hasattr(v, "update") for v in values]
    if all(transforms):
        import optax  # late: it takes longer to import than all of jhpo

        return _one_of(index, [optax.with_extra_args_support(v) for v in values])
    functions = [callable(v) for v in values]
    if all(functions) and not any(transforms):
        return lambda *args, **kwargs: _common(index, [functools.partial(v, *args, **kwargs) for v in values])
    if any(transforms) or any(functions):
        kinds = [type(v).__name__ for v in values]
        raise invalid("options", "optax transformations, functions, or numbers: all of one kind", kinds)
    others = [leaf for leaf in jax.tree.leaves(values) if not (is_number(leaf) or is_integer(leaf))]
    if others:
        note = "static=True in the space lets anything be looked up"
        raise invalid("options", "optax transformations, functions, or trees of numbers and arrays", others, note=note)
    return _common(index, [functools.partial(_itself, v) for v in values])


def _itself(value: Option) -> Option:
    return value


def _common(index: jax.Array, branches: list[Callable[[], Any]]) -> Any:
    """`jax.lax.switch` with the results promoted to common dtypes."""
    shapes = [jax.eval_shape(branch) for branch in branches]
    structures = {jax.tree.structure(s) for s in shapes}
    sizes = {tuple(x.shape for x in jax.tree.leaves(s)) for s in shapes}
    if len(structures) > 1 or len(sizes) > 1:
        raise InvalidArgument(f"options: expected values of one structure and shape, got {shapes}")
    with jax.numpy_dtype_promotion("standard"):
        types = [jnp.result_type(*leaves) for leaves in zip(*map(jax.tree.leaves, shapes))]

    def typed(branch: Callable[[], Any]) -> Callable[[], list[jax.Array]]:
        return lambda: [jax.lax.convert_element_type(x, t) for x, t in zip(jax.tree.leaves(branch()), types)]

    leaves = jax.lax.switch(index, [typed(branch) for branch in branches])
    return jax.tree.unflatten(structures.pop(), leaves)


def _one_of(index: jax.Array, options: list[Any]) -> optax.GradientTransformationExtraArgs:
    """The transformation that ``index`` selects; the states of the others stay at their initial values."""
    import optax

    def init(params: Params) -> Chosen:
        return Chosen(index, tuple(option.init(params) for option in options))

    def update(updates: Params, state: Chosen, params: Params = None, **extra: Any) -> tuple[Params, Chosen]:
        def branch(place: int) -> Callable[[], Any]:
            def compute() -> Any:
                with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
                    moved, new = options[place].update(updates, state.states[place], params, **extra)
                like = lambda x, y: jax.lax.convert_element_type(x, jnp.asarray(y).dtype)  # noqa: E731
                new = jax.tree.map(like, new, state.states[place])
                states = (*state.states[:place], new, *state.states[place + 1 :])
                return jax.tree.map(like, moved, updates), states

            return compute

        updates, states = jax.lax.switch(index, [branch(place) for place in range(len(options))])
        return updates, Chosen(state.which, states)

    return optax.GradientTransformationExtraArgs(init, update)
