"""jhpo: hyperparameter optimisation in JAX, for whole populations of models.

Public names are listed once, here, and imported when first used: importing jhpo costs no more than JAX.
"""

from __future__ import annotations

import importlib
from typing import Any

from jhpo.strategies import REGISTRY as _REGISTRY
from jhpo.version import __version__ as __version__

_MODULES: dict[str, tuple[str, ...]] = {
    "jhpo.space": ("Space", "Float", "Int", "Choice", "Ordinal"),
    "jhpo.errors": (
        "JhpoError",
        "InvalidArgument",
        "InvalidSpace",
        "InvalidParameters",
        "SpaceExhausted",
        "ChangedSpace",
        "StorageError",
        "TrialConflict",
        "OutOfMemory",
        "UnknownStrategy",
        "UnusableGradient",
        "MissingExtra",
    ),
    "jhpo.strategies": ("make_strategy", "strategy_class"),
    "jhpo.strategies.base": ("Evaluation", "Request", "Strategy", "static_field", "strategy"),
    "jhpo.search": ("run", "Trace", "minimize", "maximize", "Result", "StopRules"),
    "jhpo.training": (
        "Trainable",
        "as_trainable",
        "supervised",
        "masked_mlp",
        "mask_units",
        "dropout",
        "switch",
        "augmented",
        "add_noise",
        "shift_images",
    ),
    "jhpo.evaluation": ("Population",),
    "jhpo.evaluation.executors": ("host",),
    "jhpo.study": ("Study", "Tuning"),
    "jhpo.gradients": ("hypergrad", "Hypergradient", "online_tune", "OnlineTuning"),
    "jhpo.training.schedules": ("knots", "scheduled", "per_layer", "layer_names", "indexed", "example_weights"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_HOME |= {cls: module for module, cls, _ in _REGISTRY.values()}
_PUBLIC_MODULES = {
    "schedules": "jhpo.training.schedules",
    "linen": "jhpo.training.linen",
    "nnx": "jhpo.training.nnx",
}  # modules whose names are reached through them


def __getattr__(name: str) -> Any:
    if name in _PUBLIC_MODULES:
        value = importlib.import_module(_PUBLIC_MODULES[name])
        globals()[name] = value
        return value
    if name not in _HOME:
        raise AttributeError(f"module 'jhpo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, *_PUBLIC_MODULES, "__version__"])
