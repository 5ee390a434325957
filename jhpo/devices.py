"""The devices that programs run on, and sharding of the population axis over several, without communication."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jhpo.errors import InvalidArgument, invalid
from jhpo.kernels.internals import float_precision
from jhpo.switches import config

AXIS = "members"
# JAX platforms that are known to support float64, even if slowly; others are probed.
_FLOAT64 = ("cpu", "gpu", "cuda", "rocm", "tpu")


def default_devices() -> list[jax.Device]:
    """The devices that programs run on by default: that of `jax.default_device`, or all local ones."""
    chosen = config.jax_default_device
    if chosen is None:
        return list(jax.local_devices())
    return [jax.local_devices(backend=chosen)[0] if isinstance(chosen, str) else chosen]


def beside_the_models() -> contextlib.AbstractContextManager[Any]:
    """A context that runs small dependent programs on the CPU if the default device is an accelerator.

    Does nothing if `jax.default_device` is set, or without a CPU backend (``JAX_PLATFORMS=cuda``).
    """
    if config.jax_default_device is not None or jax.default_backend() == "cpu":
        return contextlib.nullcontext()
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # no CPU backend
        return contextlib.nullcontext()
    return jax.default_device(cpu)


@functools.cache
def has_float64(device: jax.Device) -> bool:
    """Whether programs in float64 compile for a device."""
    if device.platform.lower() in _FLOAT64:
        return True
    try:
        with float_precision(True), jax.default_device(device):
            _probe().block_until_ready()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _probe() -> jax.Array:
    return jax.jit(lambda: jnp.zeros(2, jnp.float64) + 1.0)()


def check_float64(device: jax.Device, what: str, instead: str) -> None:
    """Raises InvalidArgument if a device has no float64; the message has what asked for it and what to do instead."""
    if not has_float64(device):
        raise InvalidArgument(f"devices: expected one with float64 for {what}, got {device}; {instead}")


def member_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh of the given devices, or of those of `default_devices`.

    Raises:
      InvalidArgument: no device, a duplicate, something that is not a JAX device, or devices of several platforms.
    """
    if isinstance(devices, jax.Device):
        devices = [devices]
    if devices is not None and (isinstance(devices, str) or not isinstance(devices, Iterable)):
        raise invalid("devices", "distinct JAX devices, such as jax.local_devices()[:2]", devices)
    chosen = default_devices() if devices is None else list(devices)
    if not chosen or len(set(chosen)) < len(chosen) or not all(isinstance(d, jax.Device) for d in chosen):
        raise invalid("devices", "distinct JAX devices, such as jax.local_devices()", devices)
    if len({d.platform for d in chosen}) > 1:
        raise invalid("devices", "devices of one platform, as one program runs on all of them", devices)
    return Mesh(np.array(chosen), (AXIS,))


def over_devices(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """``function(data, root, units, ids)`` with ``units`` and ``ids`` sharded by rows over the mesh."""
    if mesh.size == 1:
        return function
    everywhere, rows = PartitionSpec(), PartitionSpec(AXIS)
    # there is no communication to check, and the check does not support every primitive
    return jax.shard_map(
        function, mesh=mesh, in_specs=(everywhere, everywhere, rows, rows), out_specs=rows, check_vma=False
    )


def free_memory(device: jax.Device) -> int:
    """Free bytes on a device as it reports them, otherwise half of the free memory of the host."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    return host_memory() // 2


def host_memory() -> int:
    """Free bytes of main memory if the operating system reports them, otherwise 4 GiB."""
    import os

    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    pages = next((n for n in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if n in names), None)
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") if pages else 4 * 2**30
