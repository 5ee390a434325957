"""Members that are paused, compacted and continued: equal to trainings in one piece, wherever their states wait."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo import Choice, Float, InvalidArgument, Population, Space
from jhpo.evaluation.continuing import Continuing, Part
from jhpo.evaluation.widths import layout, planned
from jhpo.strategies.base import Rung
from jhpo.strategies.brackets import bracket, hyperband

KEY = jax.random.key(0)
SPACE = Space({"lr": Float(0.01, 0.5), "decay": Float(0.0, 1.0)})
RNG = np.random.default_rng(0)
UNITS = RNG.random((40, 2)).astype(np.float32)
IDS = np.arange(40, dtype=np.uint32)


class Fit:
    """Noisy descent of a few weights; the state holds a typed key, as those of `supervised` do."""

    steps = 12

    def init(self, hp, key):
        return {"w": jax.random.normal(key, (5,)), "key": key, "moment": 0.0}

    def step(self, hp, state, t):
        noise = jax.random.normal(jax.random.fold_in(state["key"], t), (5,))
        grad = jnp.tanh(state["w"]) + 0.1 * noise
        moment = hp["decay"] * state["moment"] + (1.0 - hp["decay"]) * grad.mean()
        return {"w": state["w"] - hp["lr"] * (grad + moment), "key": state["key"], "moment": moment}

    def evaluate(self, hp, state):
        return jnp.sum(state["w"] ** 2)


FIT = Fit()


def continuing(trainable=FIT, space=SPACE, rungs=(), **options) -> Continuing:
    return Continuing(Population(trainable, space, **options), rungs)


@pytest.fixture(scope="module")
def straight() -> np.ndarray:
    return continuing(chunk=16).begin(UNITS, IDS, KEY, 12).value


@pytest.mark.quick
def test_pauses_change_no_bit_in_programs_of_one_width(straight: np.ndarray) -> None:
    members = continuing(chunk=16)
    members.begin(UNITS, IDS, KEY, 5)
    back = np.arange(40)[::-1][8:]  # the 32 members in chunks of 16, in another order
    members.further(back, UNITS[back], 6)
    back = np.arange(32)[::-1]
    np.testing.assert_array_equal(members.further(back, UNITS[:32], 12).value, straight[:32])
    assert members.steps == members.places == 40 * 5 + 32 * 7


def test_a_straight_training_is_the_populations_up_to_rounding(straight: np.ndarray) -> None:
    np.testing.assert_allclose(Population(FIT, SPACE, chunk=16).evaluate(UNITS, IDS, KEY).value, straight, rtol=1e-5)


def test_survivors_are_compacted_and_keep_their_results(straight: np.ndarray) -> None:
    members = continuing(chunk=16)
    members.begin(UNITS, IDS, KEY, 4)
    kept = np.array([39, 3, 17, 30, 8, 9, 2])
    first = members.further(kept, UNITS[kept], 8)
    assert (members.widths == 8).all() and (members.steps, members.places) == (40 * 4 + 7 * 4, 40 * 4 + 8 * 4)
    last = members.further([4, 0], UNITS[kept[[4, 0]]], 12)
    np.testing.assert_allclose(last.value, straight[[8, 39]], rtol=1e-5)
    assert first.value.shape == (7,) and members.states([1])[0]["w"].shape == (5,)


def test_members_are_trained_once_more_to_the_last_bit() -> None:
    members = continuing(chunk=16)
    members.begin(UNITS, IDS, KEY, 4)
    begun, kept = members.widths, np.array([5, 33, 20])
    value = members.further(kept, UNITS[kept], 12).value
    parts = [Part(UNITS[kept], 4, begun[kept]), Part(UNITS[kept], 12, members.widths)]
    np.testing.assert_array_equal(continuing(chunk=16).again(parts, IDS[kept], KEY).value, value)


def test_a_parent_may_have_several_heirs_with_other_hyperparameters() -> None:
    members = continuing()
    members.begin(UNITS[:8], IDS[:8], KEY, 6)
    value = members.further([2, 2, 0], UNITS[[2, 9, 0]], 12).value
    alone = continuing().begin(UNITS[:8], IDS[:8], KEY, 12).value
    np.testing.assert_allclose(value[[0, 2]], alone[[2, 0]], rtol=1e-5)
    assert value[1] != value[0]


def test_replicates_and_states_on_the_host(straight: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = continuing(replicates=2, memory=4_000)
        small.begin(UNITS, IDS, KEY, 4)
    assert any("memory of the host" in notice for notice in small.population.notices)
    kept = np.array([30, 2, 11])
    found = small.further(kept, UNITS[kept], 12)
    whole = Population(FIT, SPACE, replicates=2).evaluate(UNITS, IDS, KEY)
    np.testing.assert_allclose(found.value, whole.value[kept], rtol=1e-5)
    np.testing.assert_allclose(found.variance, whole.variance[kept], rtol=1e-4)
    assert small.states([1])[0]["key"] == jax.random.fold_in(jax.random.fold_in(KEY, 2), 0)


def test_static_groups_keep_states_of_their_own_shapes() -> None:
    class Sized(Fit):
        def init(self, hp, key):
            return super().init(hp, key) | {"w": jax.random.normal(key, (hp["size"],))}

        def step(self, hp, state, t):
            return state | {"w": state["w"] * (1.0 - hp["lr"])}

    space = Space({"lr": Float(0.01, 0.5), "size": Choice([2, 3], static=True)})
    sized = Sized()
    members = continuing(sized, space)
    members.begin(UNITS[:12], IDS[:12], KEY, 6)
    kept = np.array([7, 0, 11, 4])
    found = members.further(kept, UNITS[kept], 12).value
    np.testing.assert_allclose(
        found, Population(sized, space).evaluate(UNITS[:12], IDS[:12], KEY).value[kept], rtol=1e-5
    )
    other = UNITS[kept].copy()
    other[:, 1] = (other[:, 1] + 0.5) % 1.0
    with pytest.raises(InvalidArgument, match="static values with which the members began"):
        members.begin(UNITS[:12], IDS[:12], KEY, 6)
        members.further(kept, other, 12)


def test_own_lengths_end_where_they_end() -> None:
    class Counting:
        max_steps = 12

        def steps(self, hp):
            return 1.0 + 10.0 * hp["decay"]

        def init(self, hp, key):
            return jnp.int32(0)

        def step(self, hp, state, t):
            return state + 1

        def evaluate(self, hp, state):
            return state

    members = continuing(Counting())
    early = members.begin(UNITS, IDS, KEY, 5).value
    late = members.further(np.arange(40), UNITS, 12).value
    expected = np.ceil(1.0 + 10.0 * np.asarray(SPACE.from_unit(jnp.asarray(UNITS))["decay"]))
    np.testing.assert_array_equal(early, np.minimum(expected, 5))
    np.testing.assert_array_equal(late, expected)


def test_one_program_of_a_width_for_all_parts_of_a_training(count_compilations) -> None:
    members = continuing(chunk=16)
    members.begin(UNITS[:16], IDS[:16], KEY, 2)
    members.further(np.arange(16), UNITS[:16], 3)
    with count_compilations() as seen:
        members.further(np.arange(16), UNITS[:16], 9)
        members.begin(UNITS[16:32], IDS[16:32], KEY, 4)
    assert seen.names == []


def test_layouts_hold_every_member_and_few_empty_places() -> None:
    for count in (1, 7, 8, 9, 31, 64, 100, 171, 512):
        for size, devices, threads in ((64, 1, 2), (24, 1, 1), (16, 8, 1), (4, 1, 2)):
            parts = layout(count, size, devices, threads)
            assert sum(members for members, _ in parts) == count
            assert all(members <= width <= devices * size for members, width in parts)
            assert all(width == members for members, width in parts[:-1])
            assert parts[-1][1] < 2 * max(parts[-1][0], 8 * devices)


RUNGS = {
    "halving": bracket(256, (15, 45, 135, 405), 3),
    "hyperband": sum(hyperband(128, (15, 45, 135, 405), 3), ()),
    "small": sum(hyperband(81, (1, 3, 9, 27, 81), 3), ()),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", list(RUNGS))
@pytest.mark.parametrize(("devices", "threads", "overhead"), [(1, 2, 1), (1, 1, 1), (4, 1, 8), (1, 16, 1)])
def test_planned_widths_are_few_and_leave_few_places_empty(name, devices, threads, overhead) -> None:
    rungs = [(rung.size, rung.stop - rung.start) for rung in RUNGS[name]]

    def places(plan: tuple[int, ...]) -> tuple[int, set[int]]:
        parts = [(steps, layout(count, 64, devices, threads, plan)) for count, steps in rungs]
        assert [sum(n for n, _ in each) for _, each in parts] == [count for count, _ in rungs]
        taken = sum(steps * width for steps, each in parts for _, width in each)
        return taken, {width for _, each in parts for _, width in each}

    plan = planned(rungs, 64, devices, threads, overhead)
    assert list(plan) == sorted(plan) and plan[0] >= overhead and plan[-1] <= 64
    (taken, widths), (usual, others) = places(plan), places(())
    assert len(widths) <= len(rungs)
    if devices == 1 and threads <= 2:
        assert sum(count * steps for count, steps in rungs) >= 0.9 * taken and taken < 0.9 * usual
        assert len(widths) <= len(others) + 3


def test_generations_that_are_planned_fill_their_programs() -> None:
    members = continuing(rungs=(Rung(40, 0, 2), Rung(13, 2, 6), Rung(4, 6, 12)))
    first = members.begin(UNITS, IDS, KEY, 2)
    threads = members.population.chunks.threads
    kept = np.argsort(first.value)[:13]
    members.further(kept, UNITS[kept], 6)
    planned_once = members.widths
    assert planned_once.max() < 16 and (threads > 2 or planned_once.max() == -(-13 // threads))
    members.further([0, 3, 2, 1], UNITS[kept[[0, 3, 2, 1]]], 12)
    assert members.steps / members.places >= 0.9
    # with fewer members than planned, programs of the same widths
    again = continuing(rungs=(Rung(40, 0, 2), Rung(13, 2, 6), Rung(4, 6, 12)))
    again.begin(UNITS, IDS, KEY, 2)
    again.further(kept[:12], UNITS[kept[:12]], 6)
    assert set(again.widths.tolist()) <= set(planned_once.tolist())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.further([0], UNITS[:1], 3), "parents: expected rows of a generation before this one"),
        (lambda m: (m.begin(UNITS, IDS, KEY, 4), m.further([40], UNITS[:1], 5)), "parents: expected rows of the 40"),
        (lambda m: (m.begin(UNITS, IDS, KEY, 4), m.further([1], UNITS[:1], 4)), r"stop: expected .*\[5, 12\], got 4"),
        (lambda m: m.begin(UNITS, IDS, KEY, 13), r"stop: expected an integer in \[1, 12\], got 13"),
    ],
)
def test_what_cannot_be_continued_is_refused(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call(continuing(chunk=16))


def test_functions_and_trainings_of_no_step_cannot_be_paused() -> None:
    with pytest.raises(InvalidArgument, match="whose training can be paused and continued"):
        continuing(lambda hp: hp["lr"])

    class Still(Fit):
        steps = 0

    with pytest.raises(InvalidArgument, match="steps: expected at least one step"):
        continuing(Still())
