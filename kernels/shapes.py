"""Words for the shapes of arrays in annotations: ``Float[Array, "n d"]`` is a floating array of n rows and d columns.

Equal letters within a signature are equal lengths, ``""`` is a scalar, ``"..."`` any shape. To Python and to type
checkers such an annotation is a `jax.Array` with a remark. While the tests run, `tests/shapes.py` reads the remarks
and checks every call of a kernel against them, with jaxtyping; users of the package need no jaxtyping and pay nothing.
"""

from __future__ import annotations

from typing import Annotated as Bool
from typing import Annotated as Float
from typing import Annotated as Int
from typing import Annotated as Key
from typing import Annotated as UInt

from jax import Array

__all__ = ["Array", "Bool", "Float", "Int", "Key", "UInt"]
