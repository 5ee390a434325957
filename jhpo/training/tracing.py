"""Errors of objectives during tracing, with helpful messages."""

from __future__ import annotations

import re
import traceback
from types import TracebackType

import jax

from jhpo.errors import InvalidArgument, JhpoError, line_of

ONE_DICT = '; the first argument is the dict of all of them: hp["name"]'


class objective_errors:
    """Context for tracing an objective: exceptions become an `InvalidArgument` with advice."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, JhpoError) or not isinstance(error, Exception):
            return
        if isinstance(error, (jax.errors.JaxRuntimeError, MemoryError)):
            return  # not the objective's fault
        hint = ""
        if isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
            hint = _remedy(error)
        if isinstance(error, jax.errors.TracerIntegerConversionError) or _HASHED.search(str(error)):
            hint = _LOOK_UP
        for words, advice in _OF_OPTIMISERS.items():
            if words in str(error):
                hint = advice
        if isinstance(error, TypeError) and "'dict'" in str(error):
            hint = ONE_DICT
        text = str(error).split("\n")[0][:500] + line_of(error, _LIBRARIES)
        raise InvalidArgument(
            f"objective: expected a function that JAX can trace, got {type(error).__name__}: {text}{hint}"
        ) from error


_HASHED = re.compile(r"unhashable type: '\w*Tracer'")
_LOOK_UP = (
    "; a hyperparameter that is traced cannot be looked up in a dictionary or a list, nor be a length: take "
    "jhpo.switch(hp[...], {...}) for a choice, and static=True in the space for a length or a depth"
)


# advice for optax optimisers that cannot be used directly, by their error messages
_OF_OPTIMISERS = {
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
    return "; a function that is not written in JAX goes through jhpo.host"


# libraries skipped when looking for the user's line that raised
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "jhpo", "equinox", "contextlib", "functools")
