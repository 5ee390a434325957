"""Reading traced programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

from jhpo.kernels import trees


def equations(jaxpr: Any) -> Iterator[Any]:
    """All equations of a traced program, those of the programs within it as well."""
    for eqn in jaxpr.eqns:
        yield eqn
        inner = jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr"))
        for program in (getattr(x, "jaxpr", x) for x in inner):
            if hasattr(program, "eqns"):
                yield from equations(program)


def named_bytes(jaxpr: Any, name: str) -> int:
    """Bytes of what `jax.ad_checkpoint.checkpoint_name` calls by a name.

    >>> import jax, jax.numpy as jnp
    >>> from jax.ad_checkpoint import checkpoint_name
    >>> program = jax.make_jaxpr(lambda x: checkpoint_name(x, "rows") + 1)(jnp.zeros(3, jnp.int32))
    >>> named_bytes(program.jaxpr, "rows"), named_bytes(program.jaxpr, "columns")
    (12, 0)
    """
    named = (e for e in equations(jaxpr) if e.primitive.name == "name" and e.params["name"] == name)
    return trees.num_bytes([v.aval for e in named for v in e.outvars])
