"""Counts of executed kernels: loops of known and of unknown length, one in another, branches, platforms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import jhpo
from benchmarks import launches
from benchmarks.launch_counts import Counts, Loops, as_on, computations, count, hlo_kernels, stablehlo_kernels
from jhpo.strategies.base import Evaluation


def halvings(a: jax.Array) -> jax.Array:
    """Halves a matrix by products until none of its numbers is above one."""
    return jax.lax.while_loop(lambda a: a.max() > 1.0, lambda a: a @ (0.5 * jnp.eye(4)), a)


def test_a_loop_of_known_length() -> None:
    found = count(lambda: (lambda a: jax.lax.fori_loop(0, 5, lambda i, a: a @ a, a), (jnp.eye(4),)))
    assert found.cuda == 5 and found.decisions == 0
    assert 5 <= found.cpu <= 5 * 5  # a product and the loop's own counter, copies
    halved = count(lambda: (lambda a: jax.lax.scan(lambda a, _: (a @ a, None), a, None, 6)[0], (jnp.eye(4),)), steps=2)
    assert halved.cuda == 3


@pytest.mark.parametrize(("size", "trips"), [(0.5, 0), (8.0, 3), (1000.0, 10)])
def test_a_loop_until_a_condition_holds_is_counted_while_it_runs(size: float, trips: int) -> None:
    found = count(lambda: (halvings, (size * jnp.eye(4),)))
    assert found.decisions == trips + 1 and found.cuda == 2 * trips  # a product and the maximum


def test_loops_within_loops() -> None:
    """The inner loop's trips differ from one trip of the outer one to the next: 1 + 2 + 3."""

    def f(a: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda c, size: (c + halvings(size * jnp.eye(4)), None), a, jnp.array([2.0, 4.0, 8.0]))[0]

    found = count(lambda: (f, (jnp.zeros((4, 4)),)))
    assert found.decisions == 6 + 3 and found.cuda == 12


def test_members_side_by_side_wait_for_the_slowest() -> None:
    found = count(lambda: (jax.vmap(lambda s: halvings(s * jnp.eye(4))), (jnp.array([2.0, 16.0]),)))
    assert found.decisions == 4 + 1


def test_a_branch_is_a_decision_unless_it_is_known_beforehand() -> None:
    def f(a: jax.Array) -> jax.Array:
        a = jax.lax.cond(a[0, 0] > 0, lambda a: a @ a, lambda a: a, a)
        return a + jnp.diagonal(a)[None, :]  # JAX chooses between two gathers by a constant

    found = count(lambda: (f, (jnp.eye(4),)))
    assert found.decisions == 1 and found.cuda == 1


def test_each_platform_takes_its_own_branch() -> None:
    def f(a: jax.Array) -> jax.Array:
        loop = lambda a: jax.lax.fori_loop(0, 9, lambda i, a: a @ a, a)  # noqa: E731
        return jax.lax.platform_dependent(a, cpu=loop, default=lambda a: jnp.sort(a @ a))

    found = count(lambda: (f, (jnp.eye(4),)))
    assert found.cuda == 2 and found.cpu >= 9
    with as_on("cuda"):
        assert "sort" in str(jax.make_jaxpr(f)(jnp.eye(4)))
    assert "sort" in str(jax.make_jaxpr(f)(jnp.eye(4))) and "scan" in str(jax.make_jaxpr(f)(jnp.eye(4)))


def test_cmaes_adapts_without_asking_a_host() -> None:
    """A population that never grows; others ask whether their generation is complete."""
    strategy, space = jhpo.CMAES(8, restarts="none"), launches.box(3)
    state, units = strategy.init(space, jax.random.key(0)), jnp.full((8, 3), 0.5)
    with as_on("cuda"):
        traced = jax.jit(strategy.tell).trace(state, units, Evaluation(value=jnp.arange(8.0)))
        module = traced.lower(lowering_platforms=("cuda",)).compiler_ir("stablehlo")
    assert stablehlo_kernels(module, Loops())[1] == 0


HLO = """
HloModule m
%body (p: (s32[])) -> (s32[]) {
  %p = (s32[]) parameter(0)
  %f = f32[4]{0} fusion(%p), kind=kLoop, calls=%fused
  ROOT %c = f32[4]{0} custom-call(%f), custom_call_target="x"
}
%condition (p: (s32[])) -> pred[] {
  %p = (s32[]) parameter(0)
  ROOT %less = pred[] compare(%p, %p), direction=LT
}
%left (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %d = f32[4]{0} dot(%p, %p)
}
%right (p: f32[4]) -> f32[4] {
  ROOT %p = f32[4]{0} parameter(0)
}
ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %w = (s32[]) while(%a), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %x = (s32[]) while(%a), condition=%condition, body=%body, metadata={op_name="jit(f)/counted_loop_7_/while"}
  ROOT %b = f32[4]{0} conditional(%a, %a, %a), branch_computations={%left, %right}
}
"""


def test_the_text_of_a_module() -> None:
    parts, entry = computations(HLO)
    assert entry == "main" and [i.opcode for i in parts["body"]] == ["parameter", "fusion", "custom-call"]
    assert hlo_kernels(HLO, {7: 10}) == 3 * 3 + 10 * 3 + 1


@pytest.mark.slow
def test_tiny_cases() -> None:
    (case,) = launches.cases(tiny=True)["training"]
    with jax.numpy_rank_promotion("allow"):  # of the network, which is written as users write them
        found = count(case.make, case.steps)
    assert isinstance(found, Counts) and found.decisions == 0
    assert 5 <= found.cuda <= found.cpu + 20  # five products of a network with one hidden layer, and sums
