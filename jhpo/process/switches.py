"""JAX's debugging flags do not apply to jhpo's programs: those for NaN, infinity, jit and transfers.

A failed member is NaN or infinite, and infinity stands for "no value yet", so the NaN and infinity checks would stop a
healthy search; without jit a program of a second would take hours; and what a search moves between host and device it
moves on purpose. Code that the user calls directly obeys the flags.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

P = ParamSpec("P")
Out = TypeVar("Out")
config: Any = jax.config  # its stubs lack the flags
# contexts of one thread that change programs, their results, or what stops them
_OF_A_THREAD: dict[str, Callable[[Any], contextlib.AbstractContextManager[Any]]] = {
    "jax_enable_x64": jax.enable_x64,
    "jax_disable_jit": jax.disable_jit,
    "jax_debug_nans": jax.debug_nans,
    "jax_debug_infs": jax.debug_infs,
    "jax_default_device": jax.default_device,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_default_prng_impl": jax.default_prng_impl,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
    "jax_threefry_partitionable": jax.threefry_partitionable,
    "jax_transfer_guard_host_to_device": jax.transfer_guard_host_to_device,
    "jax_transfer_guard_device_to_host": jax.transfer_guard_device_to_host,
    "jax_transfer_guard_device_to_device": jax.transfer_guard_device_to_device,
}
# of these, what JAX's programs compute there depends on
OF_RESULTS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
    "jax_threefry_partitionable",
)
_NO_MESH = jax.sharding.AbstractMesh((), ())


def _any_on() -> bool:
    return bool(config.jax_disable_jit or config.jax_debug_nans or config.jax_debug_infs)


def transfers_allowed() -> contextlib.AbstractContextManager[Any]:
    """A context in which `jax.transfer_guard` neither stops nor logs anything, in this thread only.

    >>> with jax.transfer_guard("disallow"), transfers_allowed():
    ...     float(jax.numpy.asarray(np.ones(2)).sum())
    2.0
    """
    levels = (  # jax_transfer_guard itself can only be set
        config.jax_transfer_guard_host_to_device,
        config.jax_transfer_guard_device_to_host,
        config.jax_transfer_guard_device_to_device,
    )
    if all(level in (None, "allow") for level in levels):
        return contextlib.nullcontext()
    return jax.transfer_guard("allow")


def switches_off() -> contextlib.AbstractContextManager[Any]:
    """A context in which the flags are off, in this thread only.

    >>> with jax.debug_nans(True), jax.transfer_guard("disallow"), switches_off():
    ...     float(jax.numpy.log(-1.0))
    nan
    """
    if not _any_on():
        return transfers_allowed()
    stack = contextlib.ExitStack()
    for switch in (jax.disable_jit, jax.debug_nans, jax.debug_infs):
        stack.enter_context(switch(False))
    stack.enter_context(transfers_allowed())
    return stack


def own_program() -> contextlib.AbstractContextManager[Any]:
    """A context for programs of the host, which have a mesh of their own: without the flags and the caller's mesh.

    `jax.shard_map` refuses another mesh than that of `jax.set_mesh`.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> with jax.set_mesh(mesh), own_program():
    ...     jax.sharding.get_abstract_mesh().empty
    True
    """
    if jax.sharding.get_abstract_mesh().empty:
        return switches_off()
    stack = contextlib.ExitStack()
    stack.enter_context(switches_off())
    try:
        stack.enter_context(jax.set_mesh(None))
    except ValueError:  # within a trace, such as that of an objective: its mesh is an abstract one
        stack.enter_context(jax.sharding.use_abstract_mesh(_NO_MESH))
    return stack


def within(context: Callable[[], contextlib.AbstractContextManager[Any]], f: Callable[P, Out]) -> Callable[P, Out]:
    """``f``, each call of which is in a context of its own."""

    @functools.wraps(f)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Out:
        with context():
            return f(*args, **kwargs)

    return wrapper


def in_own_program(f: Callable[P, Out]) -> Callable[P, Out]:
    """``f`` in a context of `own_program`."""
    return within(own_program, f)


def with_transfers(f: Callable[P, Out]) -> Callable[P, Out]:
    """``f`` in a context of `transfers_allowed`: a function of the host that moves data, or may."""
    return within(transfers_allowed, f)


def as_in_this_thread(f: Callable[P, Out]) -> Callable[P, Out]:
    """``f`` for other threads, which do not know the contexts of this one, such as `jax.enable_x64`.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with jax.enable_x64(True), ThreadPoolExecutor() as pool:
    ...     pool.submit(as_in_this_thread(lambda: jax.numpy.ones(()).dtype)).result()
    dtype('float64')
    """
    here = {name: getattr(config, name) for name in _OF_A_THREAD}

    def context() -> contextlib.AbstractContextManager[Any]:
        stack = contextlib.ExitStack()
        for name, value in here.items():
            if getattr(config, name) != value:
                stack.enter_context(_OF_A_THREAD[name](value))
        return stack

    return within(context, f)


def settings_here(names: Iterable[str] = _OF_A_THREAD) -> dict[str, Any]:
    """JAX's settings as they are in this thread, for another process, see `set_here`; no device, which is its own.

    >>> with jax.enable_x64(True):
    ...     settings_here(OF_RESULTS)["jax_enable_x64"]
    True
    """
    return {name: getattr(config, name) for name in names if name != "jax_default_device"}


def of_programs() -> tuple[Any, ...]:
    """What a compiled program depends on beside its arguments, in this thread: `OF_RESULTS`, and the device."""
    return (*settings_here(OF_RESULTS).values(), config.jax_default_device)


def set_here(settings: Mapping[str, Any]) -> None:
    """Give this process, which is one of jhpo, what `settings_here` returned in the one that started it."""
    for name, value in settings.items():
        if getattr(config, name) != value:
            jax.config.update(name, value)


def without_switches(f: Callable[P, Out]) -> Callable[P, Out]:
    """``f`` in a context of `switches_off`."""
    return within(switches_off, f)


def warn_of_switches(values: np.ndarray, describe: Callable[[int], Any]) -> bool:
    """Warns about the effect of a flag that is on; returns whether it did.

    Args:
        values: float[n], of the members. describe: returns the hyperparameters of member i.
    """
    if config.jax_disable_jit:
        _warn(
            "jax_disable_jit is on: a population is compiled all the same; to step through your objective, call it "
            f"yourself, with {describe(0)} for instance"
        )
        return True
    bad = np.zeros(len(values), bool)
    if config.jax_debug_nans:
        bad |= np.isnan(values)
    if config.jax_debug_infs:
        bad |= np.isinf(values)
    if not bad.any():
        return False
    _warn(
        f"{bad.sum()} of {len(values)} members are NaN or infinite and count as failed; to see where that comes from, "
        f"call your objective yourself with {describe(int(bad.argmax()))} while the switch is on"
    )
    return True


def warn_inside_a_program(what: str) -> None:
    """Warns that a program of the user obeys the flags, although jhpo's part of it may hold NaN and infinity."""
    if config.jax_debug_nans or config.jax_debug_infs:
        _warn(
            f"{what}: its results may hold NaN (a failed member) and infinity (nothing seen yet), at which a jit of "
            "your own stops under jax_debug_nans or jax_debug_infs: return what is finite, or turn the switch off"
        )


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)
