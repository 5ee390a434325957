"""Adapters for models: linen, nnx, equinox, or a pair of functions, behind ``init`` and ``apply``."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.training.equinox import EquinoxModel, Same
from jhpo.training.live import batch_mask
from jhpo.training.makers import KEYS, maker, parameters_of
from jhpo.training.pairs import pair_model
from jhpo.training.trainable import HP
from jhpo.values.pytrees import Params as Params
from jhpo.values.structure import structured

_TRAIN_FLAGS = ("train", "training", "is_training")
_EVAL_FLAGS = ("deterministic", "use_running_average", "inference")
# Folded into a member's key for all other RNG streams.
_OTHER_STREAMS = 0x0DD5


Extra = Any  # a pytree of whatever else is carried, such as batch statistics
Module = Any  # of flax or equinox
AnyModel = Any  # an argument of `as_model`: a module of three libraries, a function that makes one, a pair of functions


class Model(Protocol):
    """The interface of a model for `jhpo.supervised`."""

    def init(self, hp: HP, key: jax.Array, x: jax.Array) -> tuple[Params, Extra]:
        """Trained parameters and everything else that is carried (batch statistics)."""
        ...

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """Outputs for a batch, and the new ``extra``."""
        ...


def call_flags(module: Module, train: bool) -> dict[str, bool]:
    """The train and eval flags in the signature of the module's call, with their values."""
    names = inspect.signature(type(module).__call__).parameters
    return {n: train for n in _TRAIN_FLAGS if n in names} | {n: not train for n in _EVAL_FLAGS if n in names}


class Adapted:
    """Base of models that `as_model` returns as they are."""


@dataclasses.dataclass(frozen=True)
class Around(Adapted):
    """Base of models around another one that change how it is applied in training."""

    model: Model

    def init(self, hp: HP, key: jax.Array, x: jax.Array) -> tuple[Params, Extra]:
        """See `Model.init`."""
        return self.model.init(hp, key, x)

    @property
    def trained(self) -> Callable[..., Any] | None:
        """What makes the trained model, which is the other one."""
        return getattr(self.model, "trained", None)


@functools.partial(structured, meta=["source", "from_hp"])
@dataclasses.dataclass(frozen=True)
class LinenModel:
    """A linen module, or a function of the hyperparameters that returns one."""

    source: Module | Callable[[HP], Module]
    from_hp: bool

    def _module(self, hp: HP) -> Module:
        if not self.from_hp:
            return self.source
        from flax import linen

        module = self.source(hp)
        if not isinstance(module, linen.Module):
            others = "an nnx module is returned by a function of hp and rngs, an equinox module by one of hp and key"
            raise invalid("model", f"a function of hp that returns a flax linen module ({others})", module)
        return module

    def init(self, hp: HP, key: jax.Array, x: jax.Array) -> tuple[Params, Extra]:
        """See `Model.init`."""
        module = self._module(hp)
        streams = dict(zip(("params", "dropout"), jax.random.split(key)))
        variables = dict(module.init(streams, x, **call_flags(module, False)))
        return variables.pop("params", {}), variables

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """See `Model.apply`."""
        module = self._module(hp)
        call = functools.partial(module.apply, {"params": params, **extra}, x, **call_flags(module, train))
        # linen derives every other stream, such as a sampler's "noise", from "params"
        rngs = {"dropout": key, "params": jax.random.fold_in(key, jnp.uint32(_OTHER_STREAMS))}
        if not train or not extra:
            return call(rngs=rngs), extra
        from flax import linen

        with linen.intercept_methods(_over_live_rows):
            outputs, changed = call(rngs=rngs, mutable=list(extra))
        return outputs, {**extra, **changed}

    def trained(self, hp: HP, params: Params, extra: Extra) -> Module:
        """The module bound to its variables: call ``bound(x)``, or ``bound(x, train=False)`` if it has the flag."""
        return self._module(hp).bind({"params": params, **extra})


def _over_live_rows(call: Callable[..., Any], args: Any, options: dict[str, Any], context: Any) -> Any:
    """Calls a method of a linen module; statistics of a batch leave out its padding."""
    from flax import linen

    if isinstance(context.module, linen.BatchNorm) and context.method_name == "__call__":
        rows = batch_mask(args[0] if args else options["x"])
        if rows is not None and options.get("mask") is None:
            options = {**options, "mask": rows}
    return call(*args, **options)


@functools.partial(structured, meta=["source", "takes_hp"])
@dataclasses.dataclass(frozen=True)
class NnxModel:
    """A function or class that makes an nnx module from ``rngs``, and from the hyperparameters if it takes them.

    The module is constructed again wherever it is applied and its parameters are replaced at once; the compiler removes
    the unused initialisation.
    """

    source: Callable[..., Module]
    takes_hp: bool

    def _module(self, hp: HP, key: jax.Array) -> Module:
        from flax import nnx

        params, dropout = jax.random.split(key)
        others = jax.random.fold_in(key, jnp.uint32(_OTHER_STREAMS))
        rngs = nnx.Rngs(others, params=params, dropout=dropout)
        module = self.source(hp, rngs=rngs) if self.takes_hp else self.source(rngs=rngs)
        if not isinstance(module, nnx.Module):
            raise invalid("model", "a function or class of rngs that returns an nnx module", module)
        return module

    def _parts(self, module: Module) -> tuple[Params, Extra]:
        from flax import nnx

        from jhpo.training.nnx import Given

        # keys and values from the hyperparameters are constructed again with the module
        _, params, _, extra = nnx.split(module, nnx.Param, (nnx.RngState, Given), ...)
        return params, extra

    def init(self, hp: HP, key: jax.Array, x: jax.Array) -> tuple[Params, Extra]:
        """See `Model.init`."""
        from flax import nnx

        params, extra = self._parts(self._module(hp, key))
        return nnx.to_pure_dict(params), nnx.to_pure_dict(extra)

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """See `Model.apply`."""
        from flax import nnx

        module = self._filled(self._module(hp, key), params, extra)
        module.train() if train else module.eval()
        if train and batch_mask(jax.tree.leaves(x)[0]) is not None:
            _check_norms(module)
        outputs = module(x)
        return outputs, nnx.to_pure_dict(self._parts(module)[1])

    def _filled(self, module: Module, params: Params, extra: Extra) -> Module:
        from flax import nnx

        for part, values in zip(self._parts(module), (params, extra)):
            nnx.replace_by_pure_dict(part, values)
            nnx.update(module, part)
        return module

    def trained(self, hp: HP, params: Params, extra: Extra) -> Module:
        """The nnx module with its trained values, in evaluation mode."""
        module = self._filled(self._module(hp, jax.random.key(0)), params, extra)
        module.eval()
        return module


def _check_norms(module: Module) -> None:
    """Raises for layers whose statistics would count the padding of a batch.

    Raises:
      InvalidArgument: flax's own BatchNorm.
    """
    from flax import nnx

    from jhpo.training.nnx import BatchNorm

    for _, layer in nnx.iter_graph(module):
        if isinstance(layer, nnx.BatchNorm) and not isinstance(layer, BatchNorm):
            note = "jhpo.nnx.BatchNorm leaves out the padding of a batch whose size is a hyperparameter"
            raise invalid("batch_size", "an integer for a module with flax.nnx.BatchNorm", "a function", note=note)


def as_model(model: AnyModel) -> Model:
    """The adapter for a user's model.

    Raises:
      InvalidArgument: not a model that can be initialised for each member.
    """
    expected = (
        "a flax linen module, a function of hp that returns one, a function or class of rngs that returns an nnx "
        "module, an equinox module or a function of key that returns one, or a pair of functions (init, apply)"
    )
    equinox = sys.modules.get("equinox")  # imported already if the model is one of its modules
    if equinox is not None:
        parts = model if isinstance(model, tuple) else (model,)
        if isinstance(parts[0], equinox.Module) and all(isinstance(s, equinox.nn.State) for s in parts[1:]):
            return EquinoxModel(Same(parts if len(parts) > 1 else model), "")
    if isinstance(model, tuple):
        if len(model) != 2 or not all(callable(f) for f in model):
            raise invalid("model", expected, model)
        return pair_model(*model)
    if isinstance(model, Adapted):
        return cast(Model, model)
    from flax import linen, nnx  # late: plain functions do not need it

    if isinstance(model, linen.Module):
        return LinenModel(model, False)
    if isinstance(model, nnx.Module):
        raise invalid("model", "a function or class of rngs, since every member is initialised anew", model)
    if isinstance(model, type) and issubclass(model, linen.Module):
        raise invalid("model", "a linen module, not its class", model, note=f"write {model.__name__}(...)")
    if not callable(model):
        raise invalid("model", expected, model)
    parameters = parameters_of(model)
    signature = f"({', '.join(map(str, parameters))})"
    kinds = {p.kind for p in parameters}
    others = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if equinox is not None and kinds and kinds <= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return EquinoxModel(model, "key")  # what make_with_state returns hides the signature of its class
    for kind, names in (("rngs", ("rngs",)), ("key", KEYS)):
        random = next((p for p in parameters if p.name in names), None)
        if random is None:
            continue
        others = [p for p in others if p is not random and p.kind is not p.VAR_POSITIONAL]
        if len(others) > 1:
            raise invalid("model", f"a function of {kind}, or of hp and {kind}", signature)
        source = maker(model, random, others, kind)
        if kind == "rngs":
            return NnxModel(source, bool(others))
        return EquinoxModel(source, "hp, key" if others else "key")
    if len(others) != 1:
        raise invalid("model", expected, signature)
    return LinenModel(maker(model, None, others), True)
