"""Evaluation of whole populations by one compiled program for a chunk of members, on one or several devices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jhpo.errors import check_integer, invalid
from jhpo.evaluation.chunks import IDLE, LAUNCH_BOUND, Chunks, Program, joined, logger
from jhpo.evaluation.described import NO_STATIC, Described, StaticValues, check_same, describe
from jhpo.evaluation.members import NOTHING_MORE, evaluate_program
from jhpo.evaluation.retraining import Members, trained_again, warn_of_others
from jhpo.keys import check_key
from jhpo.process.lifetimes import Executable
from jhpo.process.switches import in_own_program, own_program, warn_of_switches
from jhpo.programs.devices import AXIS, check_float64, member_mesh, moved, own_device, placing
from jhpo.space.given import check_space
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request
from jhpo.training.crossvalidation import in_folds
from jhpo.training.objective import Objective, as_trainable, check_arguments
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import State, Trainable, Wanted
from jhpo.training.values import release
from jhpo.words.advice import advised


@advised
class Population:
    """Evaluates populations of any size with one compiled program of a fixed size (one per static group).

    A member's result depends only on its unit row, its id and the root key. The chunk, the other members, their order
    and the number of devices change it only by rounding in differently shaped products: about 1e-6 relative on a short
    training, growing with the number of steps.

    Args:
      trainable: a `Trainable` or a plain objective.
      space: converts unit rows to hyperparameters.
      replicates: evaluations per member, each with its own key.
      folds: parts in which the data of the trainable are cut, for a cross-validation of each member.
      fold_by_fold: one fold after the other instead of all side by side, see `jhpo.minimize`.
      chunk: members evaluated at once on each device. None chooses by the size of a member's state and the device's
        memory; "measure" also times neighbouring sizes on the first generation. An integer fixes it, which makes
        results reproducible bit for bit on the same device.
      devices: JAX devices to use; all local ones if None. With `jax.distributed`, ``jax.devices()`` are those of all
        processes, which then have to make the same calls and get the same results.
      metric: which metric to minimise if the evaluation returns several, or the objectives if there are several.
      memory: bytes that a device may use; its free memory if None.

    Raises:
      InvalidArgument: an argument out of range; at the first `evaluate`, before anything is compiled, an objective
        that cannot be traced or does not return a real scalar.
      OutOfMemory: not even one member fits. Larger chunks that do not fit are halved, with a warning.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 2.0)})
    >>> population = Population(lambda hp: hp["x"] ** 2, space)
    >>> population.evaluate(np.array([[0.5], [1.0]]), np.arange(2), jax.random.key(0)).value.tolist()
    [1.0, 4.0]
    """

    def __init__(
        self,
        trainable: Trainable | Callable[..., Any],
        space: Space,
        *,
        replicates: int = 1,
        folds: int = 1,
        fold_by_fold: bool = False,
        chunk: int | str | None = None,
        devices: Sequence[jax.Device] | None = None,
        metric: Wanted = None,
        memory: int | None = None,
    ) -> None:
        check_space(space)
        self.trainable, self.space, self.metric = as_trainable(in_folds(trainable, folds, fold_by_fold)), space, metric
        check_arguments(self.trainable, space)
        self.replicates, self.folds = check_integer("replicates", replicates), folds
        self.mesh = member_mesh(devices)
        if jnp.result_type(float) == jnp.float64:
            instead = "train in float32 (jax_enable_x64=False), or on devices=jax.devices('cpu')"
            check_float64(own_device(self.mesh), "jax_enable_x64", instead)
        self.chunks = Chunks(chunk, self.mesh, self.replicates, memory)
        self._placed: Trainable | None = None
        self._remarks: list[str] = []
        self._looked = False
        self._warned = False

    @property
    def layout(self) -> dict[str, int | None]:
        """The chunk size (None before the first generation) and the number of devices.

        ``Population(..., chunk=layout["chunk"])`` reproduces the results bit for bit on as many of the same devices.
        """
        return {"chunk": self.chunks.size, "devices": self.mesh.size}

    @functools.cached_property
    def described(self) -> Described:
        """Names of several objectives, and the number of measured constraints; nothing is compiled."""
        return describe(self.trainable, self.space, self.metric)

    @property
    def notices(self) -> tuple[str, ...]:
        """Notices, a sentence each: the chunk was reduced for lack of memory, or a generation leaves a device idle."""
        return (*self.chunks.notices, *self._remarks)

    @property
    def repeats(self) -> int:
        """Values of which a member's is the mean: replicates times folds."""
        return self.replicates * self.folds

    @property
    def compile_seconds(self) -> float:
        """Time spent tracing and compiling so far."""
        return self.chunks.compile_seconds

    def evaluate(
        self, units: ArrayLike, ids: ArrayLike, root: jax.Array, request: Request = NOTHING_MORE
    ) -> Evaluation:
        """Results, as NumPy arrays, of unit rows ``float[n, d]`` whose keys are derived from ids ``uint32[n]``.

        Failed members have NaN or infinite values and do not affect the others.
        """
        units, ids = self.checked(units, ids)
        check_key(root, "root")
        groups = self.groups(units)
        self.chunks.settle(len(units), self.num_groups, lambda: self.member_bytes(units[0]))
        self.remark(units)
        parts = []
        for static, rows in groups:
            parts.append(self.chunks.run(self._program(static, request, root), units[rows], ids[rows]))
        result: Evaluation = joined(parts, [rows for _, rows in groups])
        self.warn(units, result.value)
        return result

    def remark(self, units: np.ndarray) -> None:
        """Warns if the first generation, ``float[n, d]``, leaves an accelerator idle."""
        device = self.mesh.devices.flat[0]
        if self._looked or device.platform == "cpu" or isinstance(self.trainable, Objective):
            return
        self._looked = True
        size = self.member_bytes(units[0])
        as_many = LAUNCH_BOUND // max(size * self.replicates * len(units), 1)
        if as_many >= IDLE:
            self._remarks.append(
                f"a generation of {len(units)} members of {size / 2**10:.1f} KiB leaves {device} idle: training steps "
                f"are bound by kernel launches, and {as_many} times as many members would take the same time; use a "
                "larger population, or devices=jax.devices('cpu')"
            )
            logger.warning(self._remarks[0])

    def warn(self, units: np.ndarray, value: np.ndarray) -> None:
        """Warns once about JAX's debugging flags, for members ``float[n, d]`` and their values ``float[n]``."""
        self._warned = self._warned or warn_of_switches(value, lambda i: self.space.decode(units[i]))

    @in_own_program
    def states(
        self,
        units: ArrayLike,
        ids: ArrayLike,
        root: jax.Array,
        values: ArrayLike | None = None,
        horizons: ArrayLike = 1.0,
    ) -> list[State]:
        """Trained states of a few members, trained again from their keys (replicate 0 of several).

        A search does not keep states, to save memory. The members are trained in a program with the same chunk size as
        they were evaluated with, since products of other shapes round differently and training amplifies that.

        Args:
          units, ids, root: as they were evaluated.
          values: ``float[n]`` as evaluated, NaN where unknown. If training gives another value, the other chunk sizes
            that were used are tried; if none gives it, there is a warning.
          horizons: ``float[]`` or ``float[n]``, fraction of the training after which each was evaluated.

        Returns:
          A list of n states, in the order of the rows.
        """
        units, ids = self.checked(units, ids)
        check_key(root, "root")
        known = self._known(values, units)
        shares = np.asarray(horizons, float)
        if shares.shape not in ((), units.shape[:1]):
            raise invalid("horizons", f"a number, or an array [{len(units)}]", shares.shape)
        shares = np.broadcast_to(shares, len(units))
        out: list[State] = [None] * len(units)
        for static, group in self.groups(units):
            for horizon in np.unique(shares[group]).tolist():
                rows = group[shares[group] == horizon]
                states, found = trained_again(self, Members(units[rows], ids[rows], root, static, horizon), known[rows])
                for i, row in enumerate(rows):
                    out[row] = release(jax.tree.map(lambda x, i=i: x[i], states))
                warn_of_others(known[rows], found)
        return out

    @in_own_program
    def stacked_states(
        self, units: ArrayLike, ids: ArrayLike, root: jax.Array, values: ArrayLike | None = None
    ) -> State:
        """The states of `states`, stacked along a leading axis of every leaf, as an ensemble for `jax.vmap`.

        Raises:
          InvalidArgument: the members belong to several static groups, whose states cannot be stacked.
        """
        units, ids = self.checked(units, ids)
        check_key(root, "root")
        groups = self.groups(units)
        if len(groups) > 1:
            raise invalid("units", "members of one static group", [g.values for g, _ in groups])
        known = self._known(values, units)
        states, found = trained_again(self, Members(units, ids, root, groups[0][0], 1.0), known)
        warn_of_others(known, found)
        return release(states)

    def checked(self, units: ArrayLike, ids: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """``float[n, d]`` and ``uint32[n]``, of the dtypes and shapes that programs take."""
        units = np.asarray(units, jnp.result_type(float))
        if units.ndim != 2 or units.shape[1] != self.space.dim or not len(units):
            raise invalid("units", f"an array [n >= 1, {self.space.dim}]", units.shape)
        ids = np.asarray(ids)
        if ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= 2**32):
            raise invalid("ids", "integers in [0, 2**32)", ids)
        ids = ids.astype(np.uint32)
        if ids.shape != units.shape[:1]:
            raise invalid("ids", f"an array [{len(units)}]", ids.shape)
        return units, ids

    def _known(self, values: ArrayLike | None, units: np.ndarray) -> np.ndarray:
        known = np.full(len(units), np.nan) if values is None else np.asarray(values, units.dtype)
        if known.shape != units.shape[:1]:
            raise invalid("values", f"an array [{len(units)}], or None", known.shape)
        return known

    def groups(self, units: np.ndarray) -> list[tuple[StaticValues, np.ndarray]]:
        """The rows of each combination of static values there is."""
        if not self.space.has_static:
            return [(NO_STATIC, np.arange(len(units)))]
        return [(StaticValues(values), rows) for values, rows in self.space.static_groups(units)]

    @property
    def num_groups(self) -> int:
        """Combinations of static values there may be."""
        return int(np.prod(self.space.cells[self.space.static_mask], dtype=np.int64)) if self.space.has_static else 1

    def member_bytes(self, unit: np.ndarray) -> int:
        """Size of the state of a member with these hyperparameters, ``float[d]``."""
        (static, _), *_ = self.groups(unit[None])

        def state(unit: jax.Array) -> State:
            return self.trainable.init(self.space.from_unit(unit, static.values), jax.random.key(0))

        with objective_errors(), own_program():
            shapes = jax.eval_shape(state, unit)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))

    def check_same(self, static: StaticValues) -> None:
        """See `jhpo.evaluation.described.check_same`."""
        if self.space.has_static:
            check_same(self.described, self.trainable, self.space, self.metric, static)

    def on_devices(self) -> Trainable:
        """The trainable with its arrays replicated on the devices, transferred once."""
        if self._placed is None:
            self._placed = jax.device_put(self.trainable, placing(self.mesh))
        return self._placed

    def on_one_device(self) -> Trainable:
        """The trainable with its arrays on the first device."""
        if self.mesh.size == 1:
            return self.on_devices()
        return jax.device_put(self.trainable, own_device(self.mesh))

    def _program(self, static: StaticValues, request: Request, root: jax.Array) -> Program:
        def place(units: np.ndarray, ids: np.ndarray) -> tuple[Any, ...]:
            return (self.on_devices(), self.space, *self.spread(units, ids), root)

        def compile_it(arguments: tuple[Any, ...], options: dict[str, str] | None) -> Executable:
            self.check_same(static)
            with objective_errors():
                return evaluate_program.compile(
                    *arguments,
                    options=options,
                    request=request,
                    replicates=self.replicates,
                    metric=self.metric,
                    static=static,
                    mesh=self.mesh,
                )

        return Program((static, request), place, compile_it)

    def spread(self, *rows: Any) -> tuple[jax.Array, ...]:
        """Arrays whose rows are members, on the devices that train them."""
        return tuple(moved(x, placing(self.mesh, AXIS)) for x in rows)
