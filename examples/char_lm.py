"""A small character language model on the English of Python's own documentation, written with Flax nnx.

    jhpo tune examples/char_lm.py --storage lm.db
    python examples/char_lm.py               # tunes, then writes a few lines of its own

One block of causal attention predicts every next character of a window of 32; two dozen of them train side by side.
Members share their minibatches, so that they are compared on the same text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jhpo

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
WINDOW, WIDTH, STEPS = 32, 32, (5 if FAST else 300)


class Block(nnx.Module):
    """Embedding, causal attention, a hidden layer, logits."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(len(ALPHABET), WIDTH, rngs=rngs)
        self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (WINDOW, WIDTH)))
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, WIDTH, decode=False, rngs=rngs)
        self.last_norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.hidden = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.logits = nnx.Linear(4 * WIDTH, len(ALPHABET), rngs=rngs)

    def __call__(self, text: jax.Array) -> jax.Array:
        """``float[batch, window, characters]`` from ``int32[batch, window]``."""
        x = self.embed(text) + self.place[...][None]
        x = x + self.attention(self.norm(x), mask=nnx.make_causal_mask(text))
        return self.logits(nnx.gelu(self.hidden(self.last_norm(x))))


def optimiser(hp: dict) -> optax.GradientTransformation:
    """AdamW with a warm-up whose length is tuned, a linear decay, and a clip on the gradient's norm."""

    def rate(step: jax.Array) -> jax.Array:
        done = (step + 1) / STEPS
        return hp["learning_rate"] * jnp.minimum(done / hp["warmup"], (1.0 - done) / (1.0 - hp["warmup"]))

    decayed = optax.adamw(rate, b2=hp["b2"], weight_decay=hp["weight_decay"])
    return optax.chain(optax.clip_by_global_norm(hp["clip"]), decayed)


# the language reference, wrapped lines joined, letters small: about 60 different characters
text = re.sub(r"\s+", " ", " ".join(topics[k] for k in sorted(topics))).lower()
ALPHABET = "".join(c for c in sorted(set(text)) if text.count(c) > 100)
codes = np.array([ALPHABET.index(c) for c in text if c in ALPHABET], np.int32)


def windows(part: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` windows of text, and the targets: the same windows shifted by one character."""
    starts = np.linspace(0, len(part) - WINDOW - 1, count).astype(int)[:, None] + np.arange(WINDOW)
    return part[starts], part[starts + 1]


cut = int(0.9 * len(codes))


def task(optimiser: Callable[[dict], optax.GradientTransformation]) -> jhpo.Trainable:
    """The training of one model."""
    return jhpo.supervised(
        Block,
        optimiser,
        "classification",
        train=windows(codes[:cut], 256 if FAST else 8192),
        valid=windows(codes[cut:], 64 if FAST else 256),
        batch_size=16,
        steps=STEPS,
    )


space = jhpo.Space(
    {
        "learning_rate": jhpo.Float(1e-4, 1e-1, log=True),
        "warmup": jhpo.Float(0.02, 0.5, log=True),
        "b2": jhpo.Float(0.8, 0.999, scale="reverse_log"),
        "weight_decay": jhpo.Float(1e-4, 1.0, log=True),
        "clip": jhpo.Float(0.1, 10.0, log=True),
    }
)
trainable = task(optimiser)
tuning = jhpo.Tuning(trainable, space, jhpo.PSO(4 if FAST else 24), budget=4 if FAST else 72)


def main() -> None:
    """Tune, and let the best model write."""
    result = tuning.run(seed=0)
    print(f"{result.value / np.log(2):.2f} bits a character with {result.best}")
    state = result.top(1)[0].state
    written = windows(codes[cut:], 1)[0][0].tolist()
    predict = jax.jit(lambda text: trainable.predict(result.best, state, text)[0, -1])
    key = jax.random.key(0)
    for t in range(20 if FAST else 200):
        logits = predict(jnp.asarray(written[-WINDOW:], jnp.int32)[None])
        written.append(int(jax.random.categorical(jax.random.fold_in(key, t), logits / 0.7)))
    print("".join(ALPHABET[c] for c in written))


if __name__ == "__main__":
    main()
