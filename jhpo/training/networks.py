"""Models of every kind behind two functions: initialise, and apply. Flax linen, Flax nnx, or a pair of functions."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any, Protocol, cast

import jax

from jhpo.errors import invalid

_TRAIN_FLAGS = ("train", "training", "is_training")
_EVAL_FLAGS = ("deterministic", "use_running_average")


class Model(Protocol):
    """What `jhpo.supervised` needs of a model."""

    def init(self, hp: Any, key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        """Trained parameters and everything else that is carried (batch statistics)."""
        ...

    def apply(self, hp: Any, params: Any, extra: Any, x: jax.Array, key: jax.Array, train: bool) -> tuple[Any, Any]:
        """Outputs for a batch, and what is carried on."""
        ...


class Adapted:
    """Base of what `as_model` takes as it is: models of our own, and adapters around others."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LinenModel:
    """A linen module, or a function of the hyperparameters that returns one."""

    source: Any
    from_hp: bool

    def _module(self, hp: Any) -> Any:
        return self.source(hp) if self.from_hp else self.source

    def _flags(self, module: Any, train: bool) -> dict[str, bool]:
        names = inspect.signature(type(module).__call__).parameters
        return {n: train for n in _TRAIN_FLAGS if n in names} | {n: not train for n in _EVAL_FLAGS if n in names}

    def init(self, hp: Any, key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        """See `Model.init`."""
        module = self._module(hp)
        streams = dict(zip(("params", "dropout"), jax.random.split(key)))
        variables = dict(module.init(streams, x, **self._flags(module, False)))
        return variables.pop("params", {}), variables

    def apply(self, hp: Any, params: Any, extra: Any, x: jax.Array, key: jax.Array, train: bool) -> tuple[Any, Any]:
        """See `Model.apply`."""
        module = self._module(hp)
        call = functools.partial(module.apply, {"params": params, **extra}, x, **self._flags(module, train))
        if not train:
            return call(), extra
        if not extra:
            return call(rngs={"dropout": key}), extra
        outputs, changed = call(rngs={"dropout": key}, mutable=list(extra))
        return outputs, {**extra, **changed}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class NnxModel:
    """A function or class that makes an nnx module from ``rngs``, and from the hyperparameters if it takes them.

    The module is made again wherever it is applied; its fresh parameters are replaced at once, and the compiler
    drops the computation of what is never read.
    """

    source: Any
    takes_hp: bool

    def _module(self, hp: Any, key: jax.Array) -> Any:
        from flax import nnx

        params, dropout = jax.random.split(key)
        rngs = nnx.Rngs(params=params, dropout=dropout)
        return self.source(hp, rngs=rngs) if self.takes_hp else self.source(rngs=rngs)

    def _parts(self, module: Any) -> tuple[Any, Any]:
        from flax import nnx

        _, params, _, extra = nnx.split(module, nnx.Param, nnx.RngState, ...)
        return params, extra

    def init(self, hp: Any, key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        """See `Model.init`."""
        from flax import nnx

        params, extra = self._parts(self._module(hp, key))
        return nnx.to_pure_dict(params), nnx.to_pure_dict(extra)

    def apply(self, hp: Any, params: Any, extra: Any, x: jax.Array, key: jax.Array, train: bool) -> tuple[Any, Any]:
        """See `Model.apply`."""
        from flax import nnx

        module = self._module(hp, key)
        for part, values in zip(self._parts(module), (params, extra)):
            nnx.replace_by_pure_dict(part, values)
            nnx.update(module, part)
        module.train() if train else module.eval()
        outputs = module(x)
        return outputs, nnx.to_pure_dict(self._parts(module)[1])


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class FunctionModel:
    """``init(key, x) -> params`` and ``apply(params, x) -> outputs``."""

    make: Any
    call: Any

    def init(self, hp: Any, key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        """See `Model.init`."""
        return self.make(key, x), {}

    def apply(self, hp: Any, params: Any, extra: Any, x: jax.Array, key: jax.Array, train: bool) -> tuple[Any, Any]:
        """See `Model.apply`."""
        return self.call(params, x), extra


def as_model(model: Any) -> Model:
    """The adapter for what a user handed over.

    Raises:
      InvalidArgument: nothing that can be initialised for every member anew.
    """
    expected = (
        "a flax linen module, a function of hp that returns one, a function or class of rngs that returns an nnx "
        "module, or a pair of functions (init, apply)"
    )
    if isinstance(model, tuple):
        if len(model) != 2 or not all(callable(f) for f in model):
            raise invalid("model", expected, model)
        return FunctionModel(*model)
    if isinstance(model, Adapted):
        return cast(Model, model)
    from flax import linen, nnx  # only now: models that are plain functions start sooner without it

    if isinstance(model, linen.Module):
        return LinenModel(model, False)
    if isinstance(model, nnx.Module):
        raise invalid("model", "a function or class of rngs, since every member is initialised anew", model)
    if not callable(model) or (isinstance(model, type) and issubclass(model, linen.Module)):
        raise invalid("model", expected, model)
    # a class of nnx hides the signature of its constructor behind its metaclass
    made: Any = model
    signature = inspect.signature(functools.partial(made.__init__, None) if isinstance(model, type) else model)
    parameters = signature.parameters.values()
    others = [p for p in parameters if p.name != "rngs" and p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if any(p.name == "rngs" for p in parameters):
        if len(others) > 1:
            raise invalid("model", "a function of rngs, or of hp and rngs", str(signature))
        return NnxModel(model, bool(others))
    if len(others) != 1:
        raise invalid("model", expected, str(signature))
    return LinenModel(model, True)
