"""jhpo: hyperparameter optimisation in JAX, for whole populations of models.

Public names are listed once, here, and imported when first used: importing jhpo costs no more than JAX.
"""

from __future__ import annotations

import importlib
from typing import Any

from jhpo.strategies import REGISTRY as _REGISTRY

__version__ = "0.1.0"

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
    "jhpo.run": ("run", "Trace"),
    "jhpo.minimize": ("minimize", "maximize", "Result"),
    "jhpo.trainable": ("Trainable",),
    "jhpo.objective": ("as_trainable",),
    "jhpo.supervised": ("supervised",),
    "jhpo.models": ("masked_mlp", "mask_units"),
    "jhpo.population": ("Population",),
    "jhpo.tuning": ("Tuning",),
    "jhpo.study": ("Study",),
    "jhpo.executors": ("host",),
    "jhpo.stopping": ("StopRules",),
    "jhpo.hypergrad": ("hypergrad", "Hypergradient"),
    "jhpo.online": ("online_tune", "OnlineTuning"),
    "jhpo.schedules": ("knots", "scheduled", "per_layer", "layer_names", "indexed", "example_weights"),
    "jhpo.augment": ("augmented", "add_noise", "shift_images"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_HOME |= {cls: module for module, cls, _ in _REGISTRY.values()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jhpo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])


# These modules are named like what they define: imported now, so that the name means the function and stays so.
from jhpo.hypergrad import hypergrad as hypergrad  # noqa: E402
from jhpo.minimize import maximize as maximize  # noqa: E402
from jhpo.minimize import minimize as minimize  # noqa: E402
from jhpo.run import run as run  # noqa: E402
from jhpo.supervised import supervised as supervised  # noqa: E402
