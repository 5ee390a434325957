"""Implicit hypergradients at an optimum, and linear solvers: conjugate gradients, Neumann series, Nystrom.

Notation: L(hp, w) the training loss, w its minimiser, E(hp, w) the evaluation, H = d2L/dw2 (+ damping), v = dE/dw.
dE/dhp = E_hp - L_{hp,w} H^-1 v (implicit function theorem).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.kernels import trees
from jhpo.kernels.shapes import Array, Bool, Float, Int, Key

Tree = Any
Product = Callable[[Tree], Tree]


class Solution(NamedTuple):
    """An approximate solution x of H x = v."""

    x: Tree
    residual: Float[Array, ""]  # |H x - v| / |v|
    negative: Bool[Array, ""]  # negative curvature was found: H is not the Hessian at a minimum
    products: Int[Array, ""]  # Hessian products spent


def conjugate_gradient(
    product: Product,
    v: Tree,
    iterations: int,
    damping: Float[Array, ""] | float = 0.0,
    tolerance: Float[Array, ""] | float = 0.0,
) -> Solution:
    """Solves H x = v by conjugate gradients: exact after n iterations in exact arithmetic, for positive definite H.

    x stops changing at negative curvature (flagged), at the relative ``tolerance`` and when the residual is zero.
    Source: Hestenes and Stiefel (1952).

    >>> import jax.numpy as jnp
    >>> A = jnp.array([[4.0, 1.0], [1.0, 3.0]])
    >>> [round(float(x), 4) for x in conjugate_gradient(lambda x: A @ x, jnp.array([1.0, 2.0]), 2).x]
    [0.0909, 0.6364]
    """
    size = trees.norm(v)
    limit = (jnp.asarray(tolerance, size.dtype) * size) ** 2
    damped = lambda p: trees.axpy(damping, p, product(p))  # noqa: E731

    def turn(carry: Any, _: None) -> tuple[Any, None]:
        x, r, p, rr, negative, spent, done = carry
        hp = damped(p)
        curvature = trees.dot(p, hp)
        negative = negative | (~done & (curvature <= 0) & (rr > 0))
        stop = done | negative
        a = jnp.where(stop, jnp.zeros_like(rr), rr / jnp.where(stop, jnp.ones_like(rr), curvature))
        x, r = trees.axpy(a, p, x), trees.axpy(-a, hp, r)
        new = trees.dot(r, r)
        b = jnp.where(rr > 0, new / jnp.where(rr > 0, rr, jnp.ones_like(rr)), jnp.zeros_like(rr))
        p = trees.axpy(b, p, r)
        spent = spent + jnp.where(done, 0, 1).astype(jnp.int32)
        return (x, r, p, new, negative, spent, stop | (new <= limit)), None

    rr = trees.dot(v, v)
    zero = jax.tree.map(jnp.zeros_like, v)
    start = (zero, v, v, rr, jnp.zeros((), bool), jnp.zeros((), jnp.int32), rr <= 0)
    (x, _, _, _, negative, spent, _), _ = lax.scan(turn, start, None, length=iterations)
    return Solution(x, _residual(damped, x, v), negative, spent + jnp.int32(1))


def neumann(
    product: Product,
    v: Tree,
    iterations: int,
    rate: Float[Array, ""] | float,
    damping: Float[Array, ""] | float = 0.0,
) -> Solution:
    """x = a sum_{i=0}^{K} (I - a H)^i v, whose error is (I - a H)^{K+1} H^-1 v; K = ``iterations`` products.

    Converges for 0 < a < 2 / lambda_max; at the optimum it equals differentiating K + 1 unrolled steps of gradient
    descent.
    Source: Lorraine, Vicol, Duvenaud, "Optimizing millions of hyperparameters by implicit differentiation" (2020).
    """
    damped = lambda p: trees.axpy(damping, p, product(p))  # noqa: E731

    def turn(carry: tuple[Tree, Tree, jax.Array], _: None) -> tuple[tuple[Tree, Tree, jax.Array], None]:
        term, total, negative = carry
        h = damped(term)
        negative = negative | (trees.dot(term, h) < 0)
        term = trees.axpy(-jnp.asarray(rate), h, term)
        return (term, jax.tree.map(jnp.add, total, term), negative), None

    (_, total, negative), _ = lax.scan(turn, (v, v, jnp.zeros((), bool)), None, length=iterations)
    x = trees.scaled(rate, total)
    return Solution(x, _residual(damped, x, v), negative, jnp.int32(iterations + 1))


def nystrom(product: Product, v: Tree, key: Key[Array, ""], rank: int, damping: Float[Array, ""] | float) -> Solution:
    """(H + damping)^-1 v with H replaced by its best approximation in the range of H times ``rank`` random vectors.

    Exact when H has that rank. Two passes of ``rank`` products. Absolute values of the eigenvalues are used, so that
    negative curvature does not break the solve. Memory: ``rank`` vectors.
    Source: Hataya and Yamada, "Nystrom method for accurate and scalable implicit differentiation" (2023), with a
    Gaussian sketch and a Rayleigh-Ritz step instead of sampled columns (Halko, Martinsson, Tropp 2011, algorithm 5.3).
    """
    flat, back = trees.flatten_floats(v)
    rank = min(rank, flat.shape[0])
    apply = lambda columns: lax.map(lambda c: trees.flatten_floats(product(back(c)))[0], columns.T).T  # noqa: E731
    sketch = jax.random.normal(key, (flat.shape[0], rank), flat.dtype)
    basis, _ = jnp.linalg.qr(apply(jnp.linalg.qr(sketch)[0]))
    small = basis.T @ apply(basis)
    values, rotation = jnp.linalg.eigh((small + small.T) / 2)
    vectors = basis @ rotation
    along = vectors.T @ flat
    rho = jnp.asarray(damping, flat.dtype)
    x = vectors @ (along / (jnp.abs(values) + rho))
    if rank < flat.shape[0]:  # outside the span of the basis the only curvature is the damping
        x = x + (flat - vectors @ along) / rho
    noise = jnp.finfo(flat.dtype).eps * rank * jnp.max(jnp.abs(values))
    damped = lambda p: trees.axpy(damping, p, product(p))  # noqa: E731
    solution = back(x)
    return Solution(solution, _residual(damped, solution, v), jnp.min(values) < -noise, jnp.int32(2 * rank + 1))


def largest_eigenvalue(product: Product, like: Tree, key: Key[Array, ""], iterations: int = 20) -> Float[Array, ""]:
    """Lower bound of the largest |eigenvalue| of a symmetric operator, by power iteration."""
    floats, rebuild = trees.split_floats(like)

    def turn(x: list[jax.Array], _: None) -> tuple[list[jax.Array], jax.Array]:
        y = trees.split_floats(product(rebuild(x)))[0]
        size = trees.norm(y)
        return trees.scaled(1 / jnp.where(size > 0, size, jnp.ones_like(size)), y), size

    start = trees.normal_like(key, floats)
    start = trees.scaled(1 / trees.norm(start), start)
    return lax.scan(turn, start, None, length=iterations)[1][-1]


def _residual(product: Product, x: Tree, v: Tree) -> Float[Array, ""]:
    size = trees.norm(v)
    return trees.norm(jax.tree.map(jnp.subtract, product(x), v)) / jnp.where(size > 0, size, jnp.ones_like(size))


def implicit_value_and_grad(
    train_loss: Callable[[Tree, Tree], jax.Array],
    evaluate: Callable[[Tree, Tree], jax.Array],
    hp: Tree,
    params: Tree,
    solve: Callable[[Product, Tree], Solution],
) -> tuple[Float[Array, ""], Tree, Solution]:
    """E and dE/dhp = E_hp - L_{hp,w} H^-1 E_w at ``params``, assuming they minimise ``train_loss(hp, .)``.

    Args:
      train_loss, evaluate: scalar functions of (hp, params). A hyperparameter that enters neither gets a zero gradient,
        even if it matters elsewhere (a learning rate): the caller has to reject it.
      hp: leaves that are not floats are held fixed.
      solve: ``solve(product, v)``, one of this module's solvers.

    >>> import jax.numpy as jnp, functools
    >>> loss = lambda hp, w: (w - 1.0) ** 2 / 2 + hp * w**2 / 2         # minimiser 1 / (1 + hp)
    >>> solve = functools.partial(conjugate_gradient, iterations=1)
    >>> float(implicit_value_and_grad(loss, lambda hp, w: w, jnp.float32(1.0), jnp.float32(0.5), solve)[1])
    -0.25
    """
    floats, rebuild = trees.split_floats(hp)
    value, (direct, v) = jax.value_and_grad(lambda f, w: evaluate(rebuild(f), w), argnums=(0, 1))(floats, params)
    _, product = jax.linearize(jax.grad(lambda w: train_loss(rebuild(floats), w)), params)
    solution = solve(product, v)

    def along(f: list[jax.Array]) -> jax.Array:
        return jax.jvp(lambda w: train_loss(rebuild(f), w), (params,), (solution.x,))[1]

    cross = jax.grad(along)(floats)
    return value, trees.gradient_like(hp, jax.tree.map(jnp.subtract, direct, cross)), solution
