"""optax's schedules with traced arguments: peaks, lengths, boundaries and rates that are hyperparameters.

optax's own schedules branch on their arguments in Python, which fails for tracers. These have the same names, arguments
and values, and are differentiable with respect to every argument on which they depend smoothly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from optax import constant_schedule as constant_schedule

from jhpo.errors import invalid, is_concrete
from jhpo.kernels.trees import Number
from jhpo.training.binding import relaxed

Schedule = Callable[[Number], Number]
# boundaries and scales: a dict, or pairs, as a tracer cannot be a dictionary key
Boundaries = Mapping[Any, Number] | Iterable[tuple[Number, Number]]


def _not_zero(x: Number) -> jax.Array:
    return jnp.where(x == 0, jnp.ones_like(x), x)


def _positive(name: str, value: Number) -> None:
    if is_concrete(value) and not value > 0:
        raise invalid(name, "a number above 0", value)


def polynomial_schedule(
    init_value: Number,
    end_value: Number,
    power: Number,
    transition_steps: Number,
    transition_begin: Number = 0,
) -> Schedule:
    """See `optax.polynomial_schedule`; constant at ``init_value`` if ``transition_steps`` is not positive.

    >>> rate = jax.jit(lambda steps: polynomial_schedule(1.0, 0.0, 2, steps)(5))
    >>> float(rate(10)), float(rate(0))
    (0.25, 1.0)
    """

    @relaxed
    def schedule(count: Number) -> jax.Array:
        steps = jnp.asarray(transition_steps)
        length = jnp.where(steps > 0, steps, jnp.ones_like(steps))
        passed = jnp.clip(count - jnp.maximum(transition_begin, 0), 0, length)
        value = (init_value - end_value) * (1 - passed / length) ** power + end_value
        return jnp.where(steps > 0, value, init_value)

    return schedule


def linear_schedule(
    init_value: Number, end_value: Number, transition_steps: Number, transition_begin: Number = 0
) -> Schedule:
    """See `optax.linear_schedule`."""
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def exponential_decay(
    init_value: Number,
    transition_steps: Number,
    decay_rate: Number,
    transition_begin: Number = 0,
    staircase: bool = False,
    end_value: Number | None = None,
) -> Schedule:
    """See `optax.exponential_decay`; constant if ``transition_steps`` is not positive or ``decay_rate`` is zero.

    >>> rate = jax.jit(lambda d: exponential_decay(1.0, 10, d)(20))
    >>> float(rate(0.5)), float(rate(0.0))
    (0.25, 1.0)
    """

    @relaxed
    def schedule(count: Number) -> jax.Array:
        steps, rate = jnp.asarray(transition_steps), jnp.asarray(decay_rate)
        passed = count - jnp.maximum(transition_begin, 0)
        share = passed / jnp.where(steps > 0, steps, jnp.ones_like(steps))
        share = jnp.floor(share) if staircase else share
        # not a power of a negative share: where that is infinite, its gradient is NaN though it is not taken
        power = jnp.power(_not_zero(rate), jnp.maximum(share, 0))
        value = jnp.where(passed <= 0, init_value, init_value * power)
        if end_value is not None:
            value = jnp.where(rate < 1, jnp.maximum(value, end_value), jnp.minimum(value, end_value))
        return jnp.where((steps > 0) & (rate != 0), value, init_value)

    return schedule


def cosine_decay_schedule(
    init_value: Number, decay_steps: Number, alpha: Number = 0.0, exponent: Number = 1.0
) -> Schedule:
    """See `optax.cosine_decay_schedule`; a traced ``decay_steps`` that is not positive counts as 1.

    Raises:
      InvalidArgument: ``decay_steps`` is a number that is not positive.
    """
    _positive("decay_steps", decay_steps)

    @relaxed
    def schedule(count: Number) -> Number:
        steps = jnp.asarray(decay_steps, jnp.result_type(float))
        steps = jnp.where(steps > 0, steps, jnp.ones_like(steps))
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(count, steps) / steps))
        return init_value * ((1 - alpha) * cosine**exponent + alpha)

    return schedule


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[Number]) -> Schedule:
    """See `optax.join_schedules`.

    >>> rate = jax.jit(lambda at: join_schedules([lambda t: 1.0, lambda t: 0.1 * t], [at])(5))
    >>> float(rate(6)), round(float(rate(3)), 2)
    (1.0, 0.2)
    """

    @relaxed
    def schedule(step: Number) -> Number:
        output = schedules[0](step)
        for boundary, following in zip(boundaries, schedules[1:]):
            output = jnp.where(step < boundary, output, following(step - boundary))
        return output

    return schedule


def warmup_constant_schedule(init_value: Number, peak_value: Number, warmup_steps: Number) -> Schedule:
    """See `optax.warmup_constant_schedule`."""
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: Number,
    decay_steps: Number,
    end_value: Number = 0.0,
    exponent: Number = 1.0,
) -> Schedule:
    """See `optax.warmup_cosine_decay_schedule`.

    >>> rate = jax.jit(lambda peak, warm: warmup_cosine_decay_schedule(0.0, peak, warm, 200)(20))
    >>> round(float(rate(0.5, 20)), 3), round(float(rate(0.5, 40)), 3)
    (0.5, 0.25)
    """
    if is_concrete(decay_steps) and is_concrete(warmup_steps):
        _positive("decay_steps - warmup_steps", decay_steps - warmup_steps)

    @relaxed
    def schedule(count: Number) -> Number:
        peak = jnp.asarray(peak_value)
        alpha = jnp.where(peak == 0, 0.0, end_value / _not_zero(peak))
        decay = cosine_decay_schedule(peak, jnp.asarray(decay_steps - warmup_steps), alpha, exponent)
        return join_schedules([linear_schedule(init_value, peak, warmup_steps), decay], [warmup_steps])(count)

    return schedule


def warmup_exponential_decay_schedule(
    init_value: Number,
    peak_value: Number,
    warmup_steps: Number,
    transition_steps: Number,
    decay_rate: Number,
    transition_begin: Number = 0,
    staircase: bool = False,
    end_value: Number | None = None,
) -> Schedule:
    """See `optax.warmup_exponential_decay_schedule`."""
    decay = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return join_schedules([linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps])


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """See `optax.sgdr_schedule`: cycles of `warmup_cosine_decay_schedule`, whose lengths may be traced."""
    cycles, ends, end = [], [], 0
    for cycle in cosine_kwargs:
        cycles.append(warmup_cosine_decay_schedule(**cycle))
        end = end + cycle["decay_steps"]
        ends.append(end)
    if not cycles:
        raise invalid("cosine_kwargs", "arguments of at least one cycle", cycles)
    return join_schedules(cycles, ends[:-1])


def _pairs(given: Boundaries | None) -> list[tuple[Number, Number]]:
    """Boundaries and scales as pairs, from a dict or from pairs, whose boundaries may be traced."""
    pairs = list(given.items() if isinstance(given, Mapping) else given or ())
    for _, scale in pairs:
        if is_concrete(scale) and scale < 0:
            raise invalid("boundaries_and_scales", "scales >= 0", scale)
    return pairs


def piecewise_constant_schedule(init_value: Number, boundaries_and_scales: Boundaries | None = None) -> Schedule:
    """See `optax.piecewise_constant_schedule`; pass traced boundaries as pairs ``[(boundary, scale), ...]``.

    >>> rate = jax.jit(lambda at: piecewise_constant_schedule(1.0, [(at, 0.1)])(5))
    >>> float(rate(6)), round(float(rate(5)), 2)
    (1.0, 0.1)
    """
    pairs = _pairs(boundaries_and_scales)

    @relaxed
    def schedule(count: Number) -> Number:
        value = init_value
        for boundary, scale in pairs:
            value = jnp.where(count < boundary, value, scale * value)
        return value

    return schedule


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: Number, boundaries_and_scales: Boundaries | None = None
) -> Schedule:
    """See `optax.piecewise_interpolate_schedule`; pass traced boundaries as pairs ``[(boundary, scale), ...]``."""
    if interpolate_type not in ("linear", "cosine"):
        raise invalid("interpolate_type", "'linear' or 'cosine'", interpolate_type)
    pairs = _pairs(boundaries_and_scales)

    @relaxed
    def schedule(count: Number) -> jax.Array:
        bounds = jnp.stack([jnp.asarray(0.0), *(jnp.asarray(b, jnp.result_type(float)) for b, _ in pairs)])
        scales = jnp.stack([jnp.asarray(1.0), *(jnp.asarray(s, jnp.result_type(float)) for _, s in pairs)])
        order = jnp.concatenate([jnp.zeros(1, jnp.int32), 1 + jnp.argsort(bounds[1:]).astype(jnp.int32)])
        bounds, values = bounds[order], init_value * jnp.cumprod(scales[order])
        share = (count - bounds[:-1]) / jnp.maximum(bounds[1:] - bounds[:-1], 1)
        within = (bounds[:-1] <= count) & (count < bounds[1:])
        share = jnp.where(within, share, jnp.zeros_like(share))
        share = share if interpolate_type == "linear" else (1 - jnp.cos(jnp.pi * share)) / 2
        between = values[:-1] + (values[1:] - values[:-1]) * share
        last = jnp.where(bounds[-1] <= count, values[-1], jnp.zeros_like(values[-1]))
        return jnp.sum(jnp.where(within, between, jnp.zeros_like(between))) + last

    return schedule


def _whole(x: Number) -> Number:
    return int(x) if is_concrete(x) else jnp.floor(x)


def linear_onecycle_schedule(
    transition_steps: Number,
    peak_value: Number,
    pct_start: Number = 0.3,
    pct_final: Number = 0.85,
    div_factor: Number = 25.0,
    final_div_factor: Number = 1e4,
) -> Schedule:
    """See `optax.linear_onecycle_schedule`."""
    _positive("transition_steps", transition_steps)
    pairs = [
        (_whole(pct_start * transition_steps), div_factor),
        (_whole(pct_final * transition_steps), 1.0 / div_factor),
        (transition_steps, 1.0 / final_div_factor),
    ]
    return piecewise_interpolate_schedule("linear", peak_value / div_factor, pairs)


def cosine_onecycle_schedule(
    transition_steps: Number,
    peak_value: Number,
    pct_start: Number = 0.3,
    div_factor: Number = 25.0,
    final_div_factor: Number = 1e4,
) -> Schedule:
    """See `optax.cosine_onecycle_schedule`."""
    _positive("transition_steps", transition_steps)
    pairs = [
        (_whole(pct_start * transition_steps), div_factor),
        (_whole(transition_steps), 1.0 / (div_factor * final_div_factor)),
    ]
    return piecewise_interpolate_schedule("cosine", peak_value / div_factor, pairs)
