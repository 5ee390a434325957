"""What is used of JAX beyond its promises still means what it meant; each test says what of jhpo breaks otherwise."""

from __future__ import annotations

import ast
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from jhpo.kernels import internals
from jhpo.kernels.programs import equations, replaced
from jhpo.kernels.singular import FORWARD_RULES, REVERSE_RULES
from jhpo.process import forks

pytestmark = pytest.mark.quick
ROOT = Path(__file__).parents[2]
INTERNAL = (
    *("jax._src", "jax.extend", "jax.interpreters", "jax.core"),
    *("jax.experimental.xla_metadata", "jax.experimental.compilation_cache"),
)


def names(function, *args) -> list[str]:
    """The operations of a function's traced program, those of inner programs as well."""
    return [e.primitive.name for e in equations(jax.make_jaxpr(function)(*args).jaxpr)]


def test_internals_are_used_in_one_file() -> None:
    """Otherwise a release of JAX breaks something that no test here names."""
    used = []
    for path in (p for top in ("jhpo", "kernels") for p in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [ast.unparse(node)] if isinstance(node, ast.Attribute) else []
            used += [path.name for f in found if f.startswith(INTERNAL)]
    assert set(used) == {"internals.py"}


def test_the_choice_of_a_compilation_cache_is_made_again(tmp_path: Path) -> None:
    """Otherwise `jhpo.use_compilation_cache` does nothing in a process that has compiled something."""
    jax.jit(lambda x: x * 7 - 3)(2.0)
    now: Any = jax.config
    before = now.jax_compilation_cache_dir, now.jax_persistent_cache_min_compile_time_secs
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        internals.forget_cache_choice()
        jax.jit(lambda x: x * 9 - 5)(2.0)
    finally:
        jax.config.update("jax_compilation_cache_dir", before[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])
        internals.forget_cache_choice()
    assert list(tmp_path.glob("*-cache"))


def test_traced_values_are_told_from_numbers() -> None:
    """Breaks the checks of values that are skipped inside `jit`: data with NaN, bounds, labels, keys."""
    seen = []
    jax.jit(lambda x: seen.append(internals.is_traced(x)))(jnp.zeros(2))
    jax.vmap(lambda x: seen.append(internals.is_traced(x)))(jnp.zeros(2))
    assert seen == [True, True] and not internals.is_traced(jnp.zeros(2)) and not internals.is_traced(1.0)


def test_a_trace_is_known_from_within() -> None:
    """Breaks `jhpo.run` and `jhpo.hypergrad` inside `jit`: a part of a program cannot have compiler options."""
    seen = []

    def f(x: jax.Array) -> jax.Array:
        seen.append(internals.within_a_trace())
        return x

    jax.jit(f)(1.0)
    jax.grad(f)(1.0)
    assert seen == [True, True] and not internals.within_a_trace()


def test_programs_run_as_functions() -> None:
    """Breaks `mixed_grad`, `wide_sums` and `defined_at_zeros`: the steps of every hypergradient."""
    program = jax.make_jaxpr(lambda x, y: (x + y, jnp.float32(2) * y))(1.0, 2.0)
    assert [float(v) for v in jax.jit(internals.runnable(program))(1.0, 2.0)] == [3.0, 4.0]
    row = jnp.arange(2.0)
    other = internals.with_constants(jax.make_jaxpr(lambda x: x + row)(1.0), [jnp.ones(2)])
    assert internals.runnable(other)(1.0)[0].tolist() == [2.0, 2.0]


def test_equations_are_exchanged_in_programs() -> None:
    """Breaks `jhpo.kernels.programs.replaced`, on which `wide_sums` and `defined_at_zeros` stand."""
    program = jax.make_jaxpr(jax.jit(jnp.sin))(0.0)
    assert isinstance(program, core.ClosedJaxpr) and isinstance(program.jaxpr, core.Jaxpr)
    assert all(isinstance(e, core.JaxprEqn) for e in equations(program.jaxpr))
    changed = replaced(program, lambda e: jnp.cos if e.primitive.name == "sin" else None)
    assert internals.runnable(changed)(0.0)[0] == 1.0


def test_an_equation_runs_by_itself() -> None:
    """Without: no batches of factorisations one after another, and searches that hang on two cores."""

    @jax.custom_jvp
    def doubled(x: jax.Array, y: float) -> jax.Array:
        return 2.0 * x + y

    doubled.defjvp(lambda primals, tangents: (doubled(*primals), 7.0 * tangents[0]))
    (equation,) = jax.make_jaxpr(lambda x: doubled(x, 3.0))(1.0).eqns
    value, slope = jax.value_and_grad(lambda x: internals.alone(equation)(x, 3.0)[0])(jnp.float32(2.0))
    assert (float(value), float(slope)) == (7.0, 7.0)


def test_literals_are_told_from_variables() -> None:
    """Breaks `defined_at_zeros`, which leaves constant divisors alone, and the memory that reverse mode expects."""
    (division,) = jax.make_jaxpr(lambda x: x / 2.0)(1.0).jaxpr.eqns
    assert [internals.is_literal(v) for v in division.invars] == [False, True]
    assert internals.shape_of(division.outvars[0]) == jax.ShapeDtypeStruct((), jnp.float32)


def test_inputs_nobody_needs_are_found() -> None:
    """Breaks `jhpo.gradients.dependence`: which hyperparameters reach the result, hence `hypergrad`'s errors."""

    def loop(x, y, z):
        return jax.lax.scan(lambda c, _: (c * x, c + y), x, length=3)

    program = jax.make_jaxpr(loop)(1.0, 2.0, 3.0).jaxpr
    assert internals.needed(program, [True, False]) == [True, False, False]
    assert internals.needed(program, [False, True]) == [True, True, False]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="marks code for the CPU alone")
def test_marked_calls_are_not_fused() -> None:
    """Breaks `jhpo.kernels.loops.apart`: swarms become several times slower, and differ in the last bits."""
    inner = jax.jit(lambda x: x * 2)
    marked = jax.jit(lambda x: internals.unfused(inner(x)) + 1)
    assert 'inlineable = "false"' in marked.lower(jnp.zeros(3)).as_text()
    assert marked(jnp.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_precision_is_set_in_one_thread() -> None:
    """Breaks BayesOpt in studies, which runs in float64 while the objective keeps its float32."""
    outside: list[str] = []
    with internals.float_precision(double=True):
        thread = threading.Thread(target=lambda: outside.append(str(jnp.ones(()).dtype)))
        thread.start()
        thread.join()
        with internals.float_precision(double=False):
            assert jnp.ones(()).dtype == jnp.float32
        assert jnp.ones(()).dtype == jnp.float64
    assert outside == ["float32"]


def test_sums_and_saved_names_keep_their_names() -> None:
    """Breaks `wide_sums` (slower hypergradients) and the memory that `levels` of rematerialisation are chosen by."""
    assert internals.SUM in names(jnp.sum, jnp.zeros(3))
    (saved,) = [e for e in jax.make_jaxpr(lambda x: checkpoint_name(x, "kept"))(1.0).jaxpr.eqns]
    assert saved.primitive.name == internals.SAVED_NAME and saved.params["name"] == "kept"


def test_backward_rules_are_seen_in_forward_mode() -> None:
    """Breaks `hypergrad(method="auto")` for steps with `jax.custom_vjp`: it would choose forward mode, and fail."""
    own = jax.custom_vjp(jnp.sin)
    own.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g,))
    assert internals.NO_FORWARD in names(lambda x: jax.jvp(own, (x,), (x,)), 1.0)
    assert internals.NO_FORWARD not in names(lambda x: jax.jvp(jnp.sin, (x,), (x,)), 1.0)


def test_loops_and_calls_keep_their_names() -> None:
    """Breaks `replaced`: equations within loops, branches and calls would be left as they are."""
    found = set()
    found |= set(names(lambda x: jax.lax.scan(lambda c, _: (c + 1, None), x, length=3)[0], 1.0))
    found |= set(names(lambda x: jax.lax.while_loop(lambda c: c < 3, lambda c: c + 1, x), 1.0))
    found |= set(names(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x), 1.0))
    found |= set(names(jax.jit(lambda x: x + 1), 1.0))
    found |= set(names(jax.grad(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))), 1.0))
    found |= set(names(lambda b: jax.lax.custom_linear_solve(lambda x: x, b, lambda _, b: b, symmetric=True), 1.0))
    assert {"scan", "while", "cond", "custom_linear_solve"} <= found
    assert found & {"jit", "pjit"} and found & {"checkpoint", "remat2"}
    assert {"scan", "while", "cond", "custom_linear_solve"} <= set(internals.TRANSPARENT)


SINGULAR = {
    "sqrt": (jnp.sqrt, 1.0),
    "cbrt": (jnp.cbrt, 1.0),
    "pow": (jnp.power, 1.0, 0.5),
    "atan2": (jnp.arctan2, 1.0, 1.0),
    "div": (jnp.divide, 1.0, 2.0),
    "log": (jnp.log, 1.0),
    "rsqrt": (jax.lax.rsqrt, 1.0),
    "integer_pow": (lambda x: jax.lax.integer_pow(x, -2), 1.0),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_operations_with_singular_derivatives_keep_their_names(name: str) -> None:
    """Breaks `defined_at_zeros`: derivatives through optimisers become NaN where a second moment is zero."""
    function, *args = SINGULAR[name]
    assert name in names(function, *args)
    assert set(SINGULAR) == set(FORWARD_RULES) | set(REVERSE_RULES)


def test_compiling_is_reported() -> None:
    """Breaks `compile_seconds` of results and progress: it would stay at zero."""
    told: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: told.append(event))
    salt = jnp.zeros(7)
    jax.jit(lambda x: jnp.sin(x) * 0.123 + salt)(jnp.ones(7))
    assert any(event.startswith(internals.COMPILING) for event in told)


def test_compilations_are_counted(count_compilations) -> None:
    """Breaks every test that asserts how often something is compiled: JAX's log of it is read."""
    x = jnp.ones(3)
    with count_compilations() as seen:
        jax.jit(lambda x: x * 0.321)(x)
    assert seen.total == 1


def test_the_type_of_an_array_names_its_mesh() -> None:
    """Otherwise convolutions cannot be trained in folds on several devices (`kernels/convolutions.py`)."""
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("members",))
    placed = jax.device_put(jnp.zeros(2), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    seen: list[bool] = []
    jax.jit(lambda x, y: seen.extend((internals.on_a_mesh(x), internals.on_a_mesh(y))))(placed, jnp.zeros(2))
    assert seen == [True, False] and internals.on_a_mesh(placed)


def test_comparing_a_tracer_with_a_string_is_refused_in_a_context_and_this_thread_alone() -> None:
    """Otherwise an objective with `hp["opt"] == "adam"` is searched as if that were never so."""
    before = jax.core.Tracer.__eq__, jax.core.Tracer.__ne__
    found = []

    def other():
        found.append(jax.eval_shape(lambda x: jnp.asarray(x == "adam"), 1.0).shape)

    with internals.strings_refused(()):
        with internals.strings_refused((__name__.split(".")[0],)):  # of a library: as ever
            other()
        with pytest.raises(TypeError, match="compared with a string: == 'adam'"):
            jax.eval_shape(lambda x: x == "adam", 1.0)
        with pytest.raises(TypeError, match="compared with a string: == 'adam'"):
            jax.jit(lambda x: "adam" == x)(1.0)
        assert jax.jit(lambda x: x == 1.0)(1.0) and not jax.jit(lambda x: x != 1.0)(1.0)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found == [(), ()]
    assert (jax.core.Tracer.__eq__, jax.core.Tracer.__ne__) == before


def test_settings_are_those_of_the_thread() -> None:
    """Otherwise a program kept for one precision is used in another (`jhpo.programs.kept`)."""
    before = internals.settings()
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        changed = {name for name, value in internals.settings().items() if value != before[name]}
    assert changed == {"jax_enable_x64", "jax_default_matmul_precision"} and internals.settings() == before
    assert not any("cache_dir" in name for name in before)


def test_a_lowered_program_is_called_by_another(count_compilations) -> None:
    """Breaks programs kept by `jhpo.use_compilation_cache`: a new process would trace and lower them again."""

    def function(leaves: list[jax.Array]) -> list[jax.Array]:
        x, y, _ = leaves
        return [jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x) + y, x), jnp.where(y > 1, 2, 3).astype(jnp.int32)]

    leaves = [jnp.arange(3.0), jnp.float32(0.5), jnp.zeros(2)]
    program = internals.lowered(function, leaves, "cpu")
    call = jax.jit(lambda leaves: internals.call_lowered(program, leaves))
    with count_compilations() as seen:
        found = call(leaves)
        again = call([found[0], *leaves[1:]])
    assert seen.total == 1 and not found[0].committed, "its results are arguments like any others"
    jax.tree.map(np.testing.assert_array_equal, found, jax.jit(function)(leaves))
    jax.tree.map(np.testing.assert_array_equal, again, jax.jit(function)([found[0], *leaves[1:]]))
    twice = jax.jit(lambda leaves: [internals.call_lowered(program, leaves)[0] for _ in range(2)])(leaves)
    np.testing.assert_array_equal(twice[0], twice[1])
    for wrong in (lambda _: [jax.random.key(0)], lambda _: [jnp.linalg.cholesky(jnp.eye(3))]):
        with pytest.raises(ValueError, match="expected a program without"):
            internals.lowered(wrong, leaves, "cpu")


def test_whether_jax_has_devices_is_known() -> None:
    """Otherwise a search in a fork of a process that has used JAX hangs instead of raising an error."""
    jax.devices()
    assert forks.has_devices()
