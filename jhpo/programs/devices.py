"""The devices that programs run on, and sharding of the population axis over several, without communication."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from jax.typing import ArrayLike

from jhpo.errors import InvalidArgument, check_integer, invalid
from jhpo.kernels.internals import float_precision
from jhpo.process.switches import config, with_transfers

AXIS = "members"
MEMINFO = Path("/proc/meminfo")
# JAX platforms that are known to support float64, even if slowly; others are probed.
_FLOAT64 = ("cpu", "gpu", "cuda", "rocm", "tpu")


@dataclasses.dataclass(frozen=True)
class RayActors:
    """Actors on a Ray cluster in the place of devices: ``devices=jhpo.RayActors(4, {"num_gpus": 1})``.

    Each actor trains a part of every generation on the devices that Ray gives it. The members of an actor that is lost
    are handed on to another, and each result counts once. Without `ray.init` by the caller Ray's own rules apply
    (``RAY_ADDRESS``, or else a cluster on this machine).

    Args:
        workers: number of actors: one for each accelerator, say. Those that find no place on the cluster are not
            waited for.
        resources: of each: options of a Ray actor, such as ``{"num_gpus": 1}``; one CPU by default.

    Raises:
        InvalidArgument: an invalid number of actors.
    """

    workers: int
    resources: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_integer("workers", self.workers)


Devices = Sequence[jax.Device] | RayActors  # where the members of a population train


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
    return _mesh_of(*chosen)


@functools.lru_cache(maxsize=64)
def _mesh_of(*devices: jax.Device) -> Mesh:
    # programs are known by their mesh: the next search on these devices finds those of the last one
    return Mesh(np.array(devices), (AXIS,))


def own_device(mesh: Mesh) -> jax.Device:
    """The first device of the mesh that belongs to this process.

    Raises:
      InvalidArgument: none does.
    """
    own = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    if not own:
        raise invalid("devices", "some of this process among them, such as jax.devices()", list(mesh.devices.flat))
    return own[0]


def check_clock(seconds: float | None, devices: Devices | None) -> None:
    """Refuses a stop rule that depends on the clock where several processes have to stop together.

    Raises:
      InvalidArgument: ``seconds`` beside devices of other processes.
    """
    if seconds is None or jax.process_count() == 1 or isinstance(devices, RayActors):
        return
    if any(d.process_index != jax.process_index() for d in member_mesh(devices).devices.flat):
        raise invalid("seconds", "None on devices of several processes, whose clocks differ", seconds)


@with_transfers
def fetched(x: ArrayLike) -> np.ndarray:
    """An array on the host, with the rows of the other processes that it is spread over.

    All processes have to ask for it, in the same order.
    """
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def placing(mesh: Mesh, *axes: str) -> Sharding:
    """Where arrays of a mesh lie: whole on all of its devices, or with their rows over ``axes``.

    On a mesh of one device the types of arrays do not name it, as for other arrays.
    """
    if mesh.size == 1:
        return SingleDeviceSharding(mesh.devices.flat[0])
    return NamedSharding(mesh, PartitionSpec(*axes))


def moved(x: ArrayLike, to: Sharding) -> jax.Array:
    """An array with another sharding; arrays of other processes too, which `jax.device_put` does not move.

    Raises:
      InvalidArgument: the processes of the devices give different arrays.
    """
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        same: jax.Array = x if x.sharding == to else jax.jit(_same, out_shardings=to)(x)
        return same
    try:
        return jax.device_put(x, to)
    except AssertionError as error:  # JAX compares what the processes give
        expected = "the same search in all processes (objective, space, strategy, seed, budget)"
        raise InvalidArgument(f"devices: expected {expected}, got other numbers in one of them") from error


def readable(x: Any, mesh: Mesh) -> Any:
    """An array that this process can read: on all devices of the mesh if it is spread over several processes."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return x
    return moved(x, placing(mesh))


def _same(x: jax.Array) -> jax.Array:
    return x


def from_first(data: bytes | None) -> bytes:
    """The bytes that process 0 gives, in all processes of `jax.distributed`; the others give None."""
    if jax.process_count() == 1:
        assert data is not None
        return data
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.int32(0 if data is None else len(data))))
    mine = np.zeros(size, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(mine)).astype(np.uint8).tobytes()


def over_devices(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """``function(data, root, units, ids)`` with ``units`` and ``ids`` sharded by rows over the mesh."""
    if mesh.size == 1:
        return function
    everywhere, rows = PartitionSpec(), PartitionSpec(AXIS)
    # there is no communication to check, and the check does not support every primitive
    return jax.shard_map(
        function, mesh=mesh, in_specs=(everywhere, everywhere, rows, rows), out_specs=rows, check_vma=False
    )


def least_memory(mesh: Mesh) -> int:
    """The free bytes of the device of a mesh that has the least; processes agree on it."""
    own = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    least = min(free_memory(d) for d in own)
    if len(own) == mesh.size:
        return least
    from jax.experimental import multihost_utils

    # MiB: an integer of 32 bits holds them
    return int(np.min(multihost_utils.process_allgather(np.int32(least >> 20)))) << 20


def free_memory(device: jax.Device) -> int:
    """Free bytes on a device as it reports them, otherwise half of the free memory of the host."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    return host_memory() // 2


def host_memory() -> int:
    """Bytes of main memory that programs can have, if the operating system reports them, otherwise 4 GiB.

    On Linux these are more than the free ones: what it keeps of files that were read makes room for programs.
    """
    import os

    with contextlib.suppress(OSError):
        if found := re.search(r"^MemAvailable: *(\d+) kB", MEMINFO.read_text(), re.MULTILINE):
            return int(found[1]) * 2**10
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    pages = next((n for n in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if n in names), None)
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") if pages else 4 * 2**30
