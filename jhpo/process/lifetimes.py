"""Compiled programs that are released together with the objects that they were compiled for.

`jax.jit` keeps a program as long as the jitted function lives, and the program keeps the objective and everything that
it closes over. A function in a library is never collected. So here every program has its own jitted function, kept in a
bounded table under a key that refers to the user's objects weakly.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.process.switches import of_programs
from jhpo.values.pytrees import Structure, Tree
from jhpo.values.structure import held, hold, weakly

_GONE = object()
Trace = Callable[[list[Any]], tuple[list[Any], Structure]]  # leaves of arguments to leaves and structure of results
Through = Callable[[Trace, str, Structure, list[Any]], tuple[list[Any], Structure]]  # what a trace goes through


class Executable:
    """A compiled program for arguments of fixed shapes."""

    def __init__(self, compiled: jax.stages.Compiled, output: Callable[[], Tree]) -> None:
        self._compiled, self._output = compiled, output
        self._analysis: Any = _GONE

    def __call__(self, *arguments: Tree) -> Tree:
        """Run the program; arguments as compiled for, without the static ones."""
        return jax.tree.unflatten(self._output(), self._compiled(jax.tree.leaves(arguments)))

    @property
    def output_shardings(self) -> Any:
        """Shardings of the output, a tree like it."""
        return jax.tree.unflatten(self._output(), self._compiled.output_shardings)

    def __getattr__(self, name: str) -> Any:
        """Attributes of `jax.stages.Compiled`, such as ``as_text()``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._compiled, name)

    def memory_analysis(self) -> Any:
        """Memory that the program needs, or None if the backend does not report it."""
        if self._analysis is _GONE:  # it takes 10 ms
            self._analysis = self._compiled.memory_analysis()
        return self._analysis


class _Entry:
    """One program with its own jitted function, so that JAX's caches of it are released with it."""

    def __init__(
        self,
        function: Callable[..., Tree],
        treedef: Structure,
        static: dict[str, Any],
        anchors: list[Any],
        options: dict[str, Any] | None,
        through: Through | None,
    ) -> None:
        self.output: Structure = None
        self.compiled: dict[Any, Executable] = {}
        self._made: list[Any] = []

        def trace(leaves: list[Any]) -> tuple[list[Any], Structure]:
            with weakly() as met:  # JAX also caches structures that it meets during tracing
                args, kwargs = jax.tree.unflatten(treedef, leaves)
                out = function(*args, **kwargs, **{name: held(value) for name, value in static.items()})
                before = len(met)
                flat, output = jax.tree.flatten(out)
                # objects created by the function that nothing else refers to
                known = [reference() for reference in self._watched]
                self._made = [x for x in met[before:] if not any(x is y for y in known)]
            return flat, output

        def alone(leaves: list[Any]) -> list[Any]:
            name = function.__name__
            flat, self.output = through(trace, name, treedef, leaves) if through else trace(leaves)
            return flat

        alone.__name__ = alone.__qualname__ = function.__name__
        self.jitted: Any = jax.jit(alone, compiler_options=options)
        self._watched = [weakref.ref(anchor, self._end) for anchor in anchors]

    def _end(self, _: object) -> None:
        self.jitted, self.compiled = None, {}


class Programs:
    """A jitted function with a bounded number of programs, released with the user's objects in their structure.

    Used like `jax.jit`. Functions, classes and other objects without an equality of their own in the structure of the
    arguments are referred to weakly. The least recently used program is dropped when there are more than ``most``.

    Args:
      function: the function to compile, at the top level of a module, without closure.
      static: names of its static arguments, hashable.
      most: largest number of programs kept.
      options: compiler options, as a function of the structure, shapes and dtypes of the arguments; JAX refuses them
        within a trace.
      through: what a trace goes through, see `jhpo.programs.kept`: a function of the trace, the function's name, and
        the structure and leaves of the arguments, that returns what the trace returns.

    >>> double = Programs(lambda x: 2 * x)
    >>> float(double(3.0))
    6.0
    """

    def __init__(
        self,
        function: Callable[..., Any],
        static: Sequence[str] = (),
        most: int = 64,
        options: Callable[..., dict[str, Any] | None] | None = None,
        through: Through | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function, self._most, self._options, self._through = function, most, options, through
        parameters = list(inspect.signature(function).parameters)
        self._static = {name: parameters.index(name) for name in static}
        self._entries: OrderedDict[Any, _Entry] = OrderedDict()
        self._lock = threading.RLock()

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        """The result of the function, computed by a compiled program."""
        entry, leaves = self._find(args, kwargs)
        jitted = entry.jitted
        out = jitted(leaves)
        return jax.tree.unflatten(entry.output, out)

    def __len__(self) -> int:
        """Number of programs kept."""
        with self._lock:
            self._tidy()
            return len(self._entries)

    def compile(self, *args: Tree, options: dict[str, Any] | None = None, **kwargs: Tree) -> Executable:
        """Compile, without running it, the program for arguments of these shapes (arrays or `jax.ShapeDtypeStruct`)."""
        made = self.compile_unless(lambda: False, *args, options=options, **kwargs)
        assert made is not None
        return made

    def compile_unless(
        self, dropped: Callable[[], bool], *args: Tree, options: dict[str, Any] | None = None, **kwargs: Tree
    ) -> Executable | None:
        """As `compile`, but None if ``dropped()`` is true once the program is traced: compiling cannot be ended."""
        entry, leaves = self._find(args, kwargs)
        jitted = entry.jitted
        placed = tuple(getattr(x, "sharding", None) for x in leaves)
        name = (tuple((options or {}).items()), placed, of_programs())
        if name not in entry.compiled:
            lowered = jitted.trace(leaves).lower()
            if dropped():
                return None
            compiled = lowered.compile(compiler_options=options)
            entry.compiled[name] = Executable(compiled, lambda: entry.output)
        return entry.compiled[name]

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[_Entry, list[Any]]:
        static = {n: args[at] if at < len(args) else kwargs.pop(n) for n, at in self._static.items()}
        args = tuple(a for i, a in enumerate(args) if i not in self._static.values())
        with weakly() as met:
            leaves, treedef = jax.tree.flatten((args, kwargs))
            fixed = {name: hold(value) for name, value in static.items()}
        options = None if self._options is None else self._options(*args, **kwargs)
        chosen = () if options is None else tuple(options.items())
        key = (
            chosen,
            treedef,
            tuple(fixed.items()),
            tuple((np.shape(x), getattr(x, "dtype", type(x))) for x in leaves),
        )
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.jitted is None:
                self._tidy()
                entry = self._entries[key] = _Entry(self._function, treedef, fixed, met, options, self._through)
                while len(self._entries) > self._most:
                    self._entries.popitem(last=False)
            self._entries.move_to_end(key)
            return entry, leaves

    def _tidy(self) -> None:
        for key in [key for key, entry in self._entries.items() if entry.jitted is None]:
            del self._entries[key]


class Remembered:
    """A memoised function that depends only on the structure, shapes and dtypes of its arguments.

    Structure refers to the user's objects weakly, as in `Programs`, so that the cache keeps nothing alive.

    >>> sizes = Remembered(lambda x: x.size)
    >>> sizes(np.zeros(3)), sizes(np.ones(3)), len(sizes)
    (3, 3, 1)
    """

    def __init__(self, function: Callable[..., Any], most: int = 64) -> None:
        functools.update_wrapper(self, function)
        self._function, self._most = function, most
        self._known: OrderedDict[Any, Any] = OrderedDict()

    def __call__(self, *args: Any) -> Any:
        """The result of the function."""
        with weakly():
            leaves, treedef = jax.tree.flatten(args)
        at = (treedef, tuple((np.shape(x), jnp.result_type(x)) for x in leaves), jnp.result_type(float))
        if at not in self._known:
            self._known[at] = self._function(*args)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return self._known[at]

    def __len__(self) -> int:
        """Number of results cached."""
        return len(self._known)
