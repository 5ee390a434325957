"""Equinox modules as models: partitioned parameters, BatchNorm state, keys for dropout."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any

import jax

from jhpo.errors import InvalidArgument, invalid
from jhpo.training.data import count
from jhpo.training.live import batch_mask
from jhpo.training.trainable import HP
from jhpo.values.pytrees import Params, State, Tree
from jhpo.values.structure import structured

_SWITCHES = ("train", "training", "is_training", "deterministic", "inference")

Extra = Any  # a pytree of whatever else is carried, besides parameters
Module = Any  # of equinox


class Same:
    """A static object that is equal only to itself, so that arrays in it are never compared."""

    def __init__(self, value: Module) -> None:
        self.value = value


@functools.partial(structured, meta=["source", "takes"])
@dataclasses.dataclass(frozen=True)
class EquinoxModel:
    """An equinox module (every member starts from its weights), or a function of ``key`` that returns one.

    The module is constructed again wherever it is applied, and its arrays are replaced at once: the floating-point ones
    by the trained parameters, the others and those of `equinox.nn.State` by what is carried.
    """

    source: Same | Callable[..., Module]
    takes: str  # "" for a module, "key" or "hp, key" for a function

    def _parts(self, hp: HP, key: jax.Array) -> tuple[Any, Any, Any, Any]:
        """Trained arrays, other arrays (None elsewhere), static leaves, and the state or None."""
        import equinox as eqx

        if isinstance(self.source, Same):
            made = self.source.value
        else:
            made = self.source(hp, key=key) if self.takes == "hp, key" else self.source(key=key)
        module, state = made if isinstance(made, tuple) else (made, None)
        if not isinstance(module, eqx.Module) or not (state is None or isinstance(state, eqx.nn.State)):
            others = "an nnx module is returned by a function of hp and rngs, a flax linen module by one of hp"
            expected = f"an equinox module, or a pair (module, state) of equinox.nn.make_with_state ({others})"
            raise invalid("model", f"a function of key that returns {expected}", made)
        if state is None and _has_state(module):
            raise InvalidArgument(
                "model: expected a pair (module, state) for a module with BatchNorm or another stateful layer, got the "
                "module alone; equinox.nn.make_with_state(Class)(..., key=key) makes the pair"
            )
        params, rest = eqx.partition(module, _but_rates(module, eqx.is_inexact_array))
        others, static = eqx.partition(rest, _but_rates(rest, eqx.is_array))
        return params, others, static, state

    def init(self, hp: HP, key: jax.Array, x: jax.Array) -> tuple[Params, Extra]:
        """See `Model.init`; the parameters are the module with None for leaves that are not trained."""
        params, others, _, state = self._parts(hp, key)
        carried = {"others": jax.tree.leaves(others), "state": jax.tree.leaves(state)}
        return params, {name: leaves for name, leaves in carried.items() if leaves}

    def _whole(self, hp: HP, key: jax.Array, params: Params, extra: Extra) -> tuple[Any, Any]:
        import equinox as eqx

        _, others, static, state = self._parts(hp, key)
        # a new State each time: equinox does not allow reading one that has been updated
        others, state = (
            jax.tree.unflatten(jax.tree.structure(tree), extra.get(name, []))
            for name, tree in (("others", others), ("state", state))
        )
        return eqx.combine(params, others, static), state

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """See `Model.apply`; the module takes one example and is vmapped over the batch."""
        import equinox as eqx

        module, state = self._whole(hp, key, params, extra)
        module = eqx.nn.inference_mode(module, value=not train)
        if train and batch_mask(jax.tree.leaves(x)[0]) is not None and _layers(module, eqx.nn.BatchNorm):
            raise invalid("batch_size", "an integer for a module with equinox's BatchNorm", "a function")
        names = inspect.signature(type(module).__call__).parameters
        flags = {n: train == n.startswith(("train", "is_")) for n in _SWITCHES if n in names}
        takes_key = "key" in names
        keys = jax.random.split(key, count(x)) if takes_key else None

        def one(x: jax.Array, key: jax.Array | None, state: State) -> tuple[jax.Array, State]:
            given = flags | ({"key": key} if takes_key else {}) | ({} if state is None else {"state": state})
            out = module(x, **given)
            if state is not None:
                return out
            return out, None

        over = jax.vmap(one, in_axes=(0, 0 if takes_key else None, None), out_axes=(0, None), axis_name=_axis(module))
        outputs, state = over(x, keys, state)
        if not train or state is None:
            return outputs, extra
        return outputs, {**extra, "state": jax.tree.leaves(state)}

    def trained(self, hp: HP, params: Params, extra: Extra) -> Any:
        """The trained module of one example in inference mode; the pair (module, state) if it has a state."""
        import equinox as eqx

        module, state = self._whole(hp, jax.random.key(0), params, extra)
        module = eqx.nn.inference_mode(module)
        return module if state is None else (module, state)


def _but_rates(module: Module, chosen: Callable[[object], bool]) -> Tree:
    """Which leaves are chosen; never a Dropout rate, which is constructed again with the module."""
    import equinox as eqx

    rates = lambda x: isinstance(x, eqx.nn.Dropout)  # noqa: E731
    return jax.tree.map(lambda x: not rates(x) and chosen(x), module, is_leaf=rates)


def _layers(module: Module, kind: type) -> list[Module]:
    leaves = jax.tree.leaves(module, is_leaf=lambda x: isinstance(x, kind))
    return [x for x in leaves if isinstance(x, kind)]


def _has_state(module: Module) -> bool:
    import equinox as eqx

    return bool(_layers(module, eqx.nn.StateIndex))


def _axis(module: Module) -> Hashable:
    """The batch axis name of the module's BatchNorm layers, "batch" without any."""
    import equinox as eqx

    names = {layer.axis_name for layer in _layers(module, eqx.nn.BatchNorm)}
    if len(names) > 1:
        raise InvalidArgument(f"model: expected one axis_name in all BatchNorm layers, got {sorted(map(str, names))}")
    return names.pop() if names else "batch"
