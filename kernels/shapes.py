"""Array shapes in annotations: ``Float[Array, "n d"]`` is a floating-point array with n rows and d columns.

Equal names within a signature are equal lengths, ``""`` is a scalar, ``"..."`` any shape. For Python and for type
checkers the annotation is a `jax.Array` with metadata. In the tests `tests/shapes.py` checks every call of a kernel
against it with jaxtyping; users of the package neither need jaxtyping nor pay for the checks.
"""

from __future__ import annotations

from typing import Annotated as Bool
from typing import Annotated as Float
from typing import Annotated as Int
from typing import Annotated as Key
from typing import Annotated as UInt

from jax import Array

__all__ = ["Array", "Bool", "Float", "Int", "Key", "UInt"]
