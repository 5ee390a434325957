"""Sharding of the population axis over devices, without communication."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jhpo.errors import invalid

AXIS = "members"


def member_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh of the given devices, or of all local ones.

    Raises:
      InvalidArgument: no device, a duplicate, or something that is not a JAX device.
    """
    if isinstance(devices, jax.Device):
        devices = [devices]
    if devices is not None and (isinstance(devices, str) or not isinstance(devices, Iterable)):
        raise invalid("devices", "distinct JAX devices, such as jax.local_devices()[:2]", devices)
    chosen = list(jax.local_devices()) if devices is None else list(devices)
    if not chosen or len(set(chosen)) < len(chosen) or not all(isinstance(d, jax.Device) for d in chosen):
        raise invalid("devices", "distinct JAX devices, such as jax.local_devices()", devices)
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
