"""Errors of objectives during tracing, with helpful messages."""

from __future__ import annotations

import re
import traceback
from types import TracebackType

import jax

from jhpo.errors import LIBRARIES, InvalidArgument, JhpoError, line_of, of_meshes
from jhpo.kernels.internals import strings_refused
from jhpo.words.lookups import names_there

ONE_DICT = '; the first argument is the dict of all of them: hp["name"]'


class objective_errors:
    """Context for tracing an objective: exceptions become an `InvalidArgument` with advice.

    A comparison of a traced choice with a string is one of them: it would be False for every member.
    """

    def __enter__(self) -> None:
        self._strings = strings_refused(LIBRARIES)
        self._strings.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._strings.__exit__(None, None, None)
        if error is None or isinstance(error, JhpoError) or not isinstance(error, Exception):
            return
        if isinstance(error, (jax.errors.JaxRuntimeError, MemoryError)):
            return  # not the objective's fault
        hint = ""
        if isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
            hint = _remedy(error)
        if isinstance(error, jax.errors.TracerIntegerConversionError) or _HASHED.search(str(error)):
            hint = _LOOK_UP
        for words, advice in _SAID.items():
            if words in str(error):
                hint = advice
        if isinstance(error, TypeError) and re.search("'dict'(?!>)", str(error)):
            hint = ONE_DICT
        if isinstance(error, AttributeError) and not hint and (entry := _ENTRY.search(str(error))):
            asks = entry[1].startswith(("suggest_", "report", "should_prune"))
            hint = _OPTUNA if asks else f'; hyperparameters are entries of a dict: hp["{entry[1]}"]'
        if isinstance(error, TypeError) and _METHOD.search(str(error)):
            hint = "; the methods of a training are init(hp, key), step(hp, state, t) and evaluate(hp, state)"
        if isinstance(error, TypeError) and "compared with a string" in str(error):
            hint = _STRING
        if isinstance(error, TypeError) and "does not support string indexing" in str(error):
            hint = "; the hyperparameters are the first argument, a random key the second: objective(hp, key)"
        if any(words in str(error) for words in _OF_SIZES):
            hint = _SIZE
        if not hint and ("Explicit" in str(error) or type(error).__name__ == "ShardingTypeError"):
            hint = _MESH
        if not hint and "Tracer" in str(error):  # what others say who were given one: scikit-learn, pandas, NumPy, ...
            hint = _HOST
        lines = str(error).split("\n")
        if "carry input and carry output" in lines[0]:  # of the user's loop, or of the training itself
            lines[0] = f"{lines[0]} {' '.join(line for line in lines[1:] if line and not line.startswith('Revise'))}"
            hint = "; a training's step returns a state with the structure, shapes and dtypes of its argument"
        hint = of_meshes(error) or hint
        text = lines[0][:500] + line_of(error, LIBRARIES) + names_there(error, LIBRARIES)
        raise InvalidArgument(
            f"objective: expected a function that JAX can trace, got {type(error).__name__}: {text}{hint}"
        ) from error


_HOST = "; a function that is not written in JAX goes through jhpo.host"
_OPTUNA = "; hyperparameters are declared in a Space; jhpo.interop.optuna.run runs functions that suggest"
_STRING = (
    '; a choice is its index here: jhpo.switch(hp["name"], {...}) takes what belongs to it, hp["name"] == 0 compares '
    f"the index, and with static=True in the space it is the string itself{_HOST}"
)
_OF_SIZES = "concrete values of integer type", "Slice entries must be static", "must have static start/stop/step"
_SIZE = (
    "; a size that is tuned is a Python number with jhpo.Choice([...], static=True), or layers of jhpo.linen, jhpo.nnx "
    "and jhpo.masked_mlp have the largest size, of which live= units count"
)
_METHOD = re.compile(r"\b(init|step|evaluate)\(\) (takes|missing|got)")
_MESH = (
    "; arrays that were made under jax.set_mesh with explicit axes belong to its mesh, and members to another; "
    "give an objective its data as NumPy arrays (numpy.asarray)"
)
_ENTRY = re.compile(r"^'dict' object has no attribute '(\w+)'")
_HASHED = re.compile(r"unhashable type: '\w*Tracer'")
_LOOK_UP = (
    "; a hyperparameter that is traced cannot be looked up in a dictionary or a list, nor be a length: take "
    f"jhpo.switch(hp[...], {{...}}) for a choice, and static=True in the space for a length or a depth{_HOST}"
)


# advice by what JAX and optax say of code that cannot be used directly
_SAID = {
    "Reverse-mode differentiation does not work for": (
        "; jhpo.hypergrad(..., method='forward') differentiates through such loops, in time that grows with the "
        "hyperparameters; strategies that follow gradients need loops of a fixed length, such as jax.lax.scan"
    ),
    "has no attribute 'fast'": (
        "; optax.lookahead wants pairs of parameters: jhpo.optimisers.lookahead takes those of a model"
    ),
    "expects `grads` to have a batch dimension": (
        "; a differentially private optimiser wants the gradient of every example, which jhpo.supervised does not "
        "form: write a trainable whose step takes jax.vmap(jax.grad(...))"
    ),
}


def _remedy(error: BaseException) -> str:
    """Advice about code that needs a concrete value but gets a tracer."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if module.startswith("flax.") and type(frame.f_locals.get("self")).__name__ == "Dropout":
            kind = "nnx" if ".nnx" in module else "linen"
            return f"; a dropout rate that is tuned needs jhpo.{kind}.Dropout"
        if module.startswith("optax."):
            from jhpo.training import decays

            name = frame.f_code.co_name
            if hasattr(decays, name):
                return f"; optax.{name} compares its numbers in Python: jhpo.schedules.{name} takes traced ones"
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return f"; jnp.where, jnp.logical_and and jnp.maximum take the place of if, and, max{_HOST}"
    if isinstance(error, jax.errors.ConcretizationTypeError) and "int32" in str(error):
        return f"{_SIZE}; loops of a traced length are jax.lax.fori_loop and while_loop"
    return f"; jnp takes the place of np, math and float(){_HOST}"
