"""The trainings of `multifidelity.py`: digits MLPs and CNNs, and a character language model, of the examples' sizes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from population import SPACE, TRAIN, X, Y, adam, apply, init

import jhpo

sys.path.append(str(Path(__file__).resolve().parent.parent))

ADAM = {"lr": jhpo.Float(1e-4, 1e-1, log=True), "b1": jhpo.Float(0.5, 0.99, scale="reverse_log")}


class Family(NamedTuple):
    """Trainings of any length."""

    space: jhpo.Space
    build: Callable[..., jhpo.Trainable]  # `jhpo.supervised` but for ``steps`` and ``max_steps``


def mlp() -> Family:
    """Digits, 64-32-10."""
    data = {"train": (X[:TRAIN], Y[:TRAIN]), "valid": (X[TRAIN:], Y[TRAIN:])}
    return Family(
        SPACE, functools.partial(jhpo.supervised, (init, apply), adam, "classification", **data, batch_size=64)
    )


def cnn() -> Family:
    """Digits, the two convolutions of examples/hyperband_cnn.py, their dropout tuned too."""
    from examples.hyperband_cnn import CNN

    images = X.reshape(-1, 8, 8, 1)
    data = {"train": (images[:TRAIN], Y[:TRAIN]), "valid": (images[TRAIN:], Y[TRAIN:])}

    def model(hp: dict[str, jax.Array]) -> Any:
        return CNN(hp["dropout"])

    space = jhpo.Space({**ADAM, "dropout": jhpo.Float(0.0, 0.7)})
    return Family(space, functools.partial(jhpo.supervised, model, adam, "classification", **data, batch_size=64))


def char_lm() -> Family:
    """The attention block of examples/char_lm.py on the text of Python's documentation."""
    from examples.char_lm import Block, codes, cut, windows

    data = {"train": windows(codes[:cut], 8192), "valid": windows(codes[cut:], 64)}

    def optimiser(hp: dict[str, jax.Array]) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(hp["clip"]), adam(hp))

    space = jhpo.Space({**ADAM, "clip": jhpo.Float(0.1, 10.0, log=True)})
    return Family(space, functools.partial(jhpo.supervised, Block, optimiser, "classification", **data, batch_size=16))


TASKS = {"mlp": mlp, "cnn": cnn, "char-lm": char_lm}
