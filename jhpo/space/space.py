"""The search space: a pytree of parameters, and the conversion between unit points and hyperparameters."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jhpo.errors import InvalidSpace, check_integer, invalid
from jhpo.space import codec, described, finite, stored
from jhpo.space import host_codec as host
from jhpo.space import outline as rows
from jhpo.space.layout import Constraint, Layout
from jhpo.space.listed import Choice as Choice
from jhpo.space.listed import Listed
from jhpo.space.listed import Ordinal as Ordinal
from jhpo.space.outline import Outline
from jhpo.space.outlining import exact_outline
from jhpo.space.parameters import Float as Float
from jhpo.space.parameters import Int as Int
from jhpo.space.parameters import Parameter as Parameter
from jhpo.space.tree import checked_constraints, condition_order, read_tree, resolve_conditions
from jhpo.values.pytrees import HP as HP
from jhpo.values.structure import Held
from jhpo.words.markup import table


@jax.tree_util.register_pytree_node_class
class Space(Layout):
    """A search space over any pytree of `Float`, `Int`, `Choice` and `Ordinal`.

    A point of the space is a row of the unit cube, ``float[d]``; `from_unit` converts rows to hyperparameters with the
    structure of the tree. The values of integers, ordinals and choices are cells of the unit interval. A space is
    immutable, equal to any other with the same content, and a static pytree node: it can be a part of a traced state,
    and equal spaces share compiled programs.

    Args:
      tree: nested dicts, lists, tuples (any pytree) with parameters as leaves.
      constraints: functions of the hyperparameters, feasible where every returned number is >= 0.

    Raises:
      InvalidSpace: no parameter, a leaf that is not a parameter, an unknown parent or a cycle of conditions.

    >>> space = Space({"lr": Float(1e-4, 1e-1, log=True), "opt": Choice(["sgd", "adam"]),
    ...                "b2": Float(0.9, 0.999, when={"opt": "adam"})})
    >>> space.dim, space.names
    (3, ('b2', 'lr', 'opt'))
    >>> space.decode(np.array([0.5, 1.0, 0.1]))["opt"]
    'sgd'
    """

    def __init__(self, tree: HP, constraints: Sequence[Constraint] = ()) -> None:
        self.names, self.parameters, self.treedef, self.plainly = read_tree(tree)
        self.constraints = checked_constraints(constraints)
        self.conditions = resolve_conditions(self.names, self.parameters)
        self.order = condition_order(self.names, self.conditions)
        self._layout()
        choices = (c for p in self.parameters if isinstance(p, Listed) for c in p.choices)
        self._has_functions = bool(self.constraints) or any(callable(c) for c in choices)

    def _layout(self) -> None:
        """Sets the coordinates of each parameter in the unit row, and the per-coordinate tables."""
        sizes = [p.size for p in self.parameters]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self.dim = int(starts[-1])
        self.slices = tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(starts))

        def spread(f: Callable[[Parameter], Any], dtype: DTypeLike) -> np.ndarray:
            out = np.array(np.repeat(np.array([f(p) for p in self.parameters]), sizes), dtype)
            out.setflags(write=False)
            return out

        self.cells = spread(lambda p: p.cells, np.int32)
        self.categorical = spread(lambda p: p.categorical, np.bool_)
        self.static_mask = spread(lambda p: p.static, np.bool_)
        self.default = host.default_units(self)
        self.default.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self._content == other._content

    def __hash__(self) -> int:
        return hash((self.names, self.fingerprint(), self.constraints))

    def __repr__(self) -> str:
        inside = ", ".join(f"{n}: {type(p).__name__}" for n, p in zip(self.names, self.parameters))
        return f"Space({inside})"

    def _repr_html_(self) -> str:
        note = f" with {len(self.constraints)} constraint functions" if self.constraints else ""
        return table(described.HEAD, described.rows(self), f"Space of {self.dim} coordinates{note}")

    def tree_flatten(self) -> tuple[tuple[()], Held]:
        """No leaves; equal spaces share programs, except those that hold functions of the user."""
        return (), Held(self, unique=self._has_functions)

    @classmethod
    def tree_unflatten(cls, structure: Held, _: object) -> Space:
        """The same space."""
        return structure()

    # -- structure ------------------------------------------------------------------------------------------

    @property
    def has_static(self) -> bool:
        """Whether some parameter is static: a Python value inside the objective, by which members are grouped."""
        return bool(self.static_mask.any())

    @property
    def has_constraints(self) -> bool:
        """Whether the space has constraint functions."""
        return bool(self.constraints)

    @functools.cached_property
    def outline(self) -> Outline:  # type: ignore[override]
        """The space as NumPy arrays, for traced code."""
        return exact_outline(self)

    @functools.cached_property
    def num_constraints(self) -> int:
        """Number of constraint values of a point."""
        if not self.constraints:
            return 0
        # a new function: JAX caches traces for as long as the function lives
        row = jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))
        shape = jax.eval_shape(lambda unit: self.unit_constraint(unit), row)
        return int(shape.shape[-1])

    @functools.cached_property
    def cardinality(self) -> float:
        """Number of distinct points; conditions and constraints are considered if the space is small."""
        return finite.cardinality(self)

    def enumerate(self) -> np.ndarray:
        """Every distinct feasible point of a finite space, ``float[n, d]``.

        Raises:
          InvalidSpace: the space is continuous or has more than 100,000 cells.
        """
        return finite.points(self)

    # -- unit coordinates (traceable) -----------------------------------------------------------------------

    def index(self, unit: jax.Array) -> jax.Array:
        """Cells ``int32[..., d]`` of rows ``float[..., d]``; 0 where continuous."""
        return codec.batched(lambda u: rows.cell_index(self.outline, u), unit, self.dim)

    def from_index(self, index: jax.Array, dtype: DTypeLike | None = None) -> jax.Array:
        """Centres ``float[..., d]`` of cells ``int32[..., d]``; 0.5 where continuous."""
        dtype = jnp.result_type(float) if dtype is None else dtype
        return codec.batched(lambda i: rows.cell_centre(self.outline, i, dtype), index, self.dim)

    def snap(self, unit: jax.Array) -> jax.Array:
        """Rows ``float[..., d]`` with discrete coordinates at cell centres, continuous ones clipped to [0, 1]."""
        return codec.batched(lambda u: rows.snap(self.outline, u), unit, self.dim)

    def active(self, unit: jax.Array) -> jax.Array:
        """``bool[..., d]``: whether the coordinate is active, that is, whether its conditions hold."""
        return codec.batched(lambda u: rows.active(self.outline, u), unit, self.dim)

    def canonical(self, unit: jax.Array) -> jax.Array:
        """Snapped rows with inactive coordinates at their default: equal hyperparameters have equal rows."""
        return codec.batched(lambda u: rows.canonical(self.outline, u), unit, self.dim)

    def from_unit(self, unit: jax.Array, static: dict[str, Any] | None = None) -> HP:
        """Hyperparameters of unit rows ``float[..., d]``, a tree whose leaves keep the leading dimensions.

        Floats have the unit's dtype, integers and indices of choices are int32. Inactive parameters have their default.

        Args:
          unit: ``float[..., d]``.
          static: values of the static parameters by dotted name.

        Raises:
          InvalidSpace, InvalidArgument: ``static`` lacks a static parameter; rows of another width.
        """
        static = static or {}
        lacking = [n for n, p in zip(self.names, self.parameters) if p.static and n not in static]
        if lacking:
            raise invalid("static", f"values of the static parameters {lacking}", static, InvalidSpace)
        return codec.decode_traced(self, unit, static)

    def to_unit(self, hp: HP) -> jax.Array:
        """Unit rows ``float[..., d]`` of traced hyperparameters (choices as indices or names), see `from_unit`."""
        return codec.encode_traced(self, hp)

    def constraint(self, hp: HP) -> jax.Array:
        """Constraint values ``float[c]`` of one hyperparameter tree, feasible if all are >= 0; c may be 0."""
        return codec.constraint(self, hp)

    def unit_constraint(self, unit: jax.Array) -> jax.Array:
        """Constraint values ``float[..., c]`` of unit rows ``float[..., d]``, with static parameters too."""
        return codec.constraints_of(self, unit)

    def sample_unit(self, key: jax.Array, n: int, dtype: DTypeLike | None = None) -> jax.Array:
        """``float[n, d]`` random unit rows, uniform or from priors; infeasible rows are redrawn at most 64 times."""
        n = check_integer("n", n)
        return codec.sample(self, key, n, jnp.result_type(float) if dtype is None else dtype)

    def sample(self, key: jax.Array, n: int) -> HP:
        """``n`` random hyperparameters, a tree whose leaves have a leading axis of length ``n``."""
        return self.from_unit(self.sample_unit(key, n))

    # -- host values ----------------------------------------------------------------------------------------

    def default_unit(self) -> np.ndarray:
        """The unit row ``float64[d]`` with every parameter at its default."""
        return self.default.copy()

    def static_groups(self, units: np.ndarray) -> list[tuple[dict[str, Any], np.ndarray]]:
        """Rows grouped by the values of the static parameters: ``[(values by name, row numbers), ...]``."""
        return host.static_groups(self, np.asarray(units))

    def decode(self, unit: ArrayLike, exact: Mapping[str, Any] | None = None) -> HP:
        """One unit row as host values: strings and numbers in the tree's shape, inactive parameters absent.

        Args:
          unit: ``float[d]``.
          exact: values by dotted name that replace those of the row, from `exact`: a number that went through a
            logarithm differs in its last digits.
        """
        return host.decode_host(self, unit, exact or {})

    def decode_rows(self, units: np.ndarray) -> list[HP]:
        """Rows ``float[n, d]`` as host values, each as `decode` gives them; faster than one by one."""
        return host.decode_rows(self, units)

    def exact(self, params: HP) -> dict[str, Any]:
        """The values of `Float` parameters by dotted name: floats, or nested lists of them for arrays."""
        return host.exact_values(self, params)

    def encode(self, params: HP, fill: np.ndarray | None = None) -> np.ndarray:
        """Unit row ``float64[d]`` of host values; missing ones are taken from ``fill``, ``float[d]``.

        Raises:
          InvalidParameters: an unknown name, a value outside its parameter, a missing active one without ``fill``.
        """
        return host.encode_host(self, params, fill)

    def encode_some(self, params: HP) -> np.ndarray:
        """Unit row ``float64[d]`` of some host values, NaN where nothing is given.

        Parents of a conditional value are set so that its condition holds.

        Raises:
          InvalidParameters: an unknown name, a value outside its parameter, or one whose condition does not hold.

        >>> space = Space({"x": Float(0.0, 4.0), "y": Float(0.0, 1.0)})
        >>> space.encode_some({"x": 1.0})
        array([0.25,  nan])
        """
        return host.encode_some(self, params)

    def validate(self, params: HP) -> None:
        """Raises `InvalidParameters` unless ``params`` is a complete point of the space that meets its constraints."""
        host.validate_host(self, params)

    def flat(self, params: HP) -> dict[str, Any]:
        """Host values by dotted name."""
        return host.flatten_host(self, params)

    # -- storage --------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The space as JSON text, which studies store and compare."""
        return stored.space_to_json(self)

    @classmethod
    def from_json(cls, text: str, constraints: Sequence[Constraint] = (), *, named: bool = False) -> Space:
        """The space from the text of `to_json`; its constraint functions have to be passed again.

        Args:
          text: from `to_json`.
          constraints: as many functions as the space had.
          named: represent choices that JSON cannot hold (functions, classes) by placeholders with their name.

        Raises:
          InvalidSpace: not such a text, an opaque choice, or another number of constraints.
        """
        return cls(stored.tree_from_json(text, len(constraints), named), constraints)

    def fingerprint(self) -> str:
        """Short digest of `to_json`."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def diff(self, other: Space) -> list[str]:
        """The differences to ``other``, a sentence each; empty if there are none."""
        return stored.differences(self, other)
