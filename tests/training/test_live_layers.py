"""Layers of which some units are live equal flax's smaller layers: outputs, gradients, batch statistics, training."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jhpo
from tests.selection import slow_except

X = np.random.default_rng(0).normal(size=(12, 5, 3)).astype(np.float32)
Y = np.arange(12, dtype=np.int32) % 2
FULL, HEADS = 6, 3  # padded channels; padded heads, of two channels each
SIZES = ((4, 2), (6, 3))  # the first is compared
PLAIN = types.SimpleNamespace(
    Conv=nn.Conv, BatchNorm=nn.BatchNorm, LayerNorm=nn.LayerNorm, RMSNorm=nn.RMSNorm, Dense=nn.Dense,
    MultiHeadAttention=nn.MultiHeadDotProductAttention,
)  # fmt: skip


class Linen(nn.Module):
    """Every layer; live sizes if `live`, else flax's layers of these sizes."""

    width: object
    heads: object
    live: bool

    @nn.compact
    def __call__(self, x, train: bool = True):
        some = lambda **sizes: sizes if self.live else {}  # noqa: E731
        at, w, h = (jhpo.linen, FULL, HEADS) if self.live else (PLAIN, self.width, self.heads)
        x = at.Conv(w, (3,), name="conv", **some(live=self.width))(x)
        x = nn.relu(at.BatchNorm(use_running_average=not train, momentum=0.5, name="bn", **some(live=self.width))(x))
        sizes = some(live=self.width, live_inputs=self.width, live_heads=self.heads)
        x = x + at.MultiHeadAttention(h, qkv_features=2 * h, out_features=w, name="mha", **sizes)(x)
        x = at.RMSNorm(name="rms", **some(live=self.width))(at.LayerNorm(name="ln", **some(live=self.width))(x))
        x = nn.gelu(at.Dense(w, name="dense", **some(live=self.width, live_inputs=self.width))(x))
        return at.Dense(2, name="last", **some(live_inputs=self.width))(x.mean(axis=1))


class Nnx(nnx.Module):
    """The same in nnx."""

    def __init__(self, width, heads, live, rngs):
        some = lambda **sizes: sizes if live else {}  # noqa: E731
        at, w, h = (jhpo.nnx, FULL, HEADS) if live else (nnx, width, heads)
        self.conv = at.Conv(3, w, (3,), rngs=rngs, **some(live=width))
        self.bn = at.BatchNorm(w, momentum=0.5, rngs=rngs, **some(live=width))
        sizes = some(live=width, live_inputs=width, live_heads=heads)
        self.mha = at.MultiHeadAttention(h, w, 2 * h, decode=False, rngs=rngs, **sizes)
        self.ln = at.LayerNorm(w, rngs=rngs, **some(live=width))
        self.rms = at.RMSNorm(w, rngs=rngs, **some(live=width))
        self.dense = at.Linear(w, w, rngs=rngs, **some(live=width, live_inputs=width))
        self.last = at.Linear(w, 2, rngs=rngs, **some(live_inputs=width))

    def __call__(self, x):
        x = nnx.relu(self.bn(self.conv(x)))
        x = self.rms(self.ln(x + self.mha(x)))
        return self.last(nnx.gelu(self.dense(x)).mean(axis=1))


LIVE = {
    "linen": lambda hp: Linen(hp["width"], hp["heads"], True),
    "nnx": lambda hp, rngs: Nnx(hp["width"], hp["heads"], True, rngs),
}
SMALL = {
    "linen": lambda w, h: Linen(w, h, False),
    "nnx": lambda w, h: lambda rngs: Nnx(w, h, False, rngs),
}


def task(model):
    return jhpo.supervised(
        model,
        lambda hp: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)),
        train=(X, Y),
        valid=(X, Y),
        batch_size=4,
        steps=5,
    )


def corner(tree, like):
    """The first entries along each axis, as many as there are in the smaller tree."""
    return jax.tree.map(lambda x, y: x[tuple(slice(0, n) for n in y.shape)], tree, like)


@pytest.mark.parametrize("library", slow_except({"linen"}, ["linen", "nnx"]))
def test_a_member_of_live_units_is_the_smaller_model(library) -> None:
    live = task(LIVE[library])
    smaller = {size: task(SMALL[library](*size)) for size in SIZES[:1]}
    key = jax.random.key(0)

    def trained(one, hp, state):
        state = one.step(hp, state, jnp.int32(0))
        return state, one.evaluate(hp, state)["loss"]

    @jax.jit
    def both(widths, heads):
        def member(width, heads):
            hp = {"width": width, "heads": heads}
            state = live.init(hp, key)
            return state, *trained(live, hp, state)

        first, *members = jax.vmap(member)(widths, heads)
        plain = []
        for k, one in enumerate(smaller.values()):
            blank = one.init({}, key)
            begun = jax.tree.map(lambda x, k=k: x[k], first)
            state = blank._replace(
                params=corner(begun.params, blank.params), extra=corner(begun.extra, blank.extra), key=begun.key
            )
            plain.append(trained(one, {}, state))
        return first, members, plain

    first, (states, losses), plain = both(*(jnp.asarray(s, jnp.int32) for s in zip(*SIZES)))
    for k, (state, loss) in enumerate(plain):
        # a step: forward, gradients, batch statistics
        np.testing.assert_allclose(losses[k], loss, rtol=2e-4)
        mine = jax.tree.map(lambda x, k=k: x[k], states)
        for part in ("params", "extra"):
            pairs = (corner(getattr(mine, part), getattr(state, part)), getattr(state, part))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), *pairs)
        # nothing else has ever moved, or weighs anything in a norm
        total = lambda t: sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(t))  # noqa: E731
        np.testing.assert_allclose(total(mine.params), total(state.params), rtol=1e-4)
        moved = jax.tree.map(lambda a, b, k=k: float(jnp.abs(a - b[k]).max()), mine.params, first.params)
        assert sum(change > 1e-4 for change in jax.tree.leaves(moved)) > 8
    assert not np.allclose(losses[0], losses[1])


def test_the_scale_is_that_of_the_live_inputs() -> None:
    init = jhpo.live_init(jax.nn.initializers.lecun_normal(), inputs=jnp.int32(100), outputs=50)
    kernel = np.asarray(init(jax.random.key(0), (400, 200)))
    assert not kernel[100:].any() and not kernel[:, 50:].any()
    np.testing.assert_allclose(kernel[:100, :50].std(), 0.1, rtol=0.05)


def test_depth_by_masked_blocks_is_the_shallower_network() -> None:
    weights = jax.random.normal(jax.random.key(0), (3, 4, 4))

    def network(weights, depth, x):
        for i in range(weights.shape[0]):
            x = jhpo.mask_block(x, x + jnp.tanh(x @ weights[i]), i, depth)
        return jnp.square(x).sum()

    x = jnp.ones((2, 4))
    value, grad = jax.jit(jax.vmap(jax.value_and_grad(network), (None, 0, None)))(weights, jnp.arange(4), x)
    for depth in range(4):
        plain, expected = jax.value_and_grad(network)(weights[:depth], depth, x)
        np.testing.assert_allclose(value[depth], plain, rtol=1e-5)
        np.testing.assert_allclose(grad[depth, :depth], expected, rtol=1e-5, atol=1e-6)
        assert not np.asarray(grad[depth, depth:]).any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: jhpo.linen.Conv(4, (3,), feature_group_count=2, live=2), "feature_group_count: expected 1"),
        (lambda: jhpo.nnx.Conv(4, 4, 3, feature_group_count=2, rngs=nnx.Rngs(0)), "feature_group_count: expected 1"),
        (lambda: jhpo.linen.MultiHeadAttention(4, live_heads=2), "qkv_features: expected a multiple of num_heads=4"),
        (lambda: jhpo.nnx.MultiHeadAttention(4, 6, 6, live_heads=2, rngs=nnx.Rngs(0)), "qkv_features: expected a mul"),
    ],
)
def test_layers_that_cannot_be(make, message) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=message):
        make()


def test_without_live_sizes_they_are_flaxs_own() -> None:
    x = jnp.asarray(X)
    for mine, flax in ((jhpo.linen.Dense(4), nn.Dense(4)), (jhpo.linen.LayerNorm(), nn.LayerNorm())):
        a, b = (layer.init_with_output(jax.random.key(0), x) for layer in (mine, flax))
        jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_masked_mlp_trains_in_the_default_float_whatever_the_data(dtype, x64) -> None:
    """Types are strict in tests, so that mixtures are errors."""
    x = np.random.default_rng(0).normal(size=(24, 3)).astype(dtype)
    data = (x, np.arange(24) % 2)
    model = jhpo.masked_mlp(["width", 4], [4, 4], outputs=2)
    task = jhpo.supervised(model, lambda hp: optax.sgd(hp["lr"]), train=data, valid=data, steps=2)
    space = jhpo.Space({"lr": jhpo.Float(0.01, 0.1), "width": jhpo.Int(2, 4)})
    result = jhpo.minimize(task, space, jhpo.RandomSearch(2), budget=2)
    assert np.isfinite(result.value)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(result.top(1)[0].state.params)} == {"float64"}


def test_weights_of_very_wide_layers_do_not_repeat() -> None:
    many, key = 2**16 + 100, jax.random.key(0)
    first = jhpo.masked_mlp([2], [2], 1).init({}, key, jnp.ones((1, many)))[0][0]["w"]
    last = jhpo.masked_mlp([2], [2], many).init({}, key, jnp.ones((1, 3)))[0][1]["w"].T
    for weights in (np.asarray(first), np.asarray(last)):
        assert weights.shape == (many, 2) and np.abs(weights[:100] - weights[2**16 :]).min() > 0.0
    small = jhpo.masked_mlp([2], [2], 2**16).init({}, key, jnp.ones((1, 3)))[0][1]["w"].T
    np.testing.assert_array_equal(last[: 2**16], small)


@pytest.mark.parametrize("parameter", [jhpo.Int(2, 8), jhpo.Choice([2, 8])])
def test_more_live_units_than_there_are_are_refused_not_cut(parameter) -> None:
    space, x, key = jhpo.Space({"n": parameter}), jnp.ones((1, 3)), jax.random.key(0)
    masked = jhpo.masked_mlp(["n"], [4], outputs=2)
    uses = (
        lambda hp: masked.apply(hp, masked.init(hp, key, x)[0], {}, x, key, False)[0].sum(),
        lambda hp: jhpo.linen.Dense(4, live=hp["n"]).init_with_output(key, x)[0].sum(),
        lambda hp: jhpo.nnx.Linear(3, 4, live=hp["n"], rngs=nnx.Rngs(0))(x).sum(),
    )
    for use in uses:
        with pytest.raises(jhpo.InvalidArgument, match="width: expected at most 4, the units that there are, got 8"):
            jhpo.minimize(use, space, jhpo.RandomSearch(2), budget=2)
    with pytest.raises(jhpo.InvalidArgument, match="width: expected at most 4"):
        jhpo.mask_units(jnp.ones(4), 5)
