"""jhpo: hyperparameter optimisation in JAX, for whole populations of models.

Public names are imported on first use, so that ``import jhpo`` does not import JAX.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if importlib.util.find_spec("jhpo.kernels") is None:
    raise ImportError(
        "jhpo is not installed: in its repository run `make install` and use .venv/bin/python, or `pip install -e .` "
        "(the folder kernels/ is a part of the package, which only an installation puts into its place)"
    )

from jhpo.process import forks as _forks  # noqa: F401
from jhpo.process.interrupts import interruptible as _interruptible
from jhpo.strategies import REGISTRY as _REGISTRY
from jhpo.version import __version__ as __version__
from jhpo.words.advice import meant as _meant

if TYPE_CHECKING:  # for type checkers and editors
    from jhpo import figures as figures
    from jhpo import linen as linen
    from jhpo import metrics as metrics
    from jhpo import nnx as nnx
    from jhpo import optimisers as optimisers
    from jhpo import schedules as schedules
    from jhpo import sklearn as sklearn
    from jhpo.curves import EarlyStop as EarlyStop
    from jhpo.curves import ForecastStopping as ForecastStopping
    from jhpo.curves import HalvingStopping as HalvingStopping
    from jhpo.curves import MedianStopping as MedianStopping
    from jhpo.curves import PatienceStopping as PatienceStopping
    from jhpo.curves import RacingStopping as RacingStopping
    from jhpo.errors import ChangedSpace as ChangedSpace
    from jhpo.errors import InvalidArgument as InvalidArgument
    from jhpo.errors import InvalidParameters as InvalidParameters
    from jhpo.errors import InvalidSpace as InvalidSpace
    from jhpo.errors import JhpoError as JhpoError
    from jhpo.errors import MissingExtra as MissingExtra
    from jhpo.errors import OutOfMemory as OutOfMemory
    from jhpo.errors import SpaceExhausted as SpaceExhausted
    from jhpo.errors import StorageError as StorageError
    from jhpo.errors import TrialConflict as TrialConflict
    from jhpo.errors import TrialPruned as TrialPruned
    from jhpo.errors import UnknownStrategy as UnknownStrategy
    from jhpo.errors import UnusableGradient as UnusableGradient
    from jhpo.evaluation.ensemble import Ensemble as Ensemble
    from jhpo.evaluation.executors.host import host as host
    from jhpo.evaluation.population import Population as Population
    from jhpo.gradients import Hypergradient as Hypergradient
    from jhpo.gradients import OnlineTuning as OnlineTuning
    from jhpo.gradients import hypergrad as hypergrad
    from jhpo.gradients import online_tune as online_tune
    from jhpo.programs.compilation import use_compilation_cache as use_compilation_cache
    from jhpo.programs.devices import RayActors as RayActors
    from jhpo.search.minimize import maximize as maximize
    from jhpo.search.minimize import minimize as minimize
    from jhpo.search.progress import ProgressBar as ProgressBar
    from jhpo.search.result import Result as Result
    from jhpo.search.run import Trace as Trace
    from jhpo.search.run import run as run
    from jhpo.search.stopping import StopRules as StopRules
    from jhpo.space import Choice as Choice
    from jhpo.space import Float as Float
    from jhpo.space import Int as Int
    from jhpo.space import Ordinal as Ordinal
    from jhpo.space import Space as Space
    from jhpo.strategies import make_strategy as make_strategy
    from jhpo.strategies import strategy_class as strategy_class
    from jhpo.strategies.asha import ASHA as ASHA
    from jhpo.strategies.base import Evaluation as Evaluation
    from jhpo.strategies.base import Request as Request
    from jhpo.strategies.base import Strategy as Strategy
    from jhpo.strategies.base import static_field as static_field
    from jhpo.strategies.base import strategy as strategy
    from jhpo.strategies.bayes.strategy import BayesOpt as BayesOpt
    from jhpo.strategies.chain import Chain as Chain
    from jhpo.strategies.cmaes import CMAES as CMAES
    from jhpo.strategies.differential import DifferentialEvolution as DifferentialEvolution
    from jhpo.strategies.freeze_thaw import FreezeThaw as FreezeThaw
    from jhpo.strategies.greedy import Greedy as Greedy
    from jhpo.strategies.grid import GridSearch as GridSearch
    from jhpo.strategies.halving import Hyperband as Hyperband
    from jhpo.strategies.halving import SuccessiveHalving as SuccessiveHalving
    from jhpo.strategies.hypergradient.strategy import HyperGradient as HyperGradient
    from jhpo.strategies.nsga2 import NSGA2 as NSGA2
    from jhpo.strategies.nsga3 import NSGA3 as NSGA3
    from jhpo.strategies.pbt import PopulationBasedTraining as PopulationBasedTraining
    from jhpo.strategies.pso import PSO as PSO
    from jhpo.strategies.random import RandomSearch as RandomSearch
    from jhpo.strategies.sobol import SobolSearch as SobolSearch
    from jhpo.study.study import Study as Study
    from jhpo.study.tuning import Tuning as Tuning
    from jhpo.training.augment import add_noise as add_noise
    from jhpo.training.augment import augmented as augmented
    from jhpo.training.augment import shift_images as shift_images
    from jhpo.training.checkpoint import load_states as load_states
    from jhpo.training.checkpoint import save_states as save_states
    from jhpo.training.folds import k_folds as k_folds
    from jhpo.training.layers import dropout as dropout
    from jhpo.training.live import live_init as live_init
    from jhpo.training.live import mask_block as mask_block
    from jhpo.training.live import mask_units as mask_units
    from jhpo.training.masked import masked_mlp as masked_mlp
    from jhpo.training.objective import as_trainable as as_trainable
    from jhpo.training.replay import Schedule as Schedule
    from jhpo.training.replay import replay as replay
    from jhpo.training.schedules import example_weights as example_weights
    from jhpo.training.schedules import indexed as indexed
    from jhpo.training.schedules import knots as knots
    from jhpo.training.schedules import layer_names as layer_names
    from jhpo.training.schedules import per_layer as per_layer
    from jhpo.training.schedules import scheduled as scheduled
    from jhpo.training.supervised import supervised as supervised
    from jhpo.training.switch import switch as switch
    from jhpo.training.trainable import Trainable as Trainable
    from jhpo.trial import Trial as Trial

_MODULES: dict[str, tuple[str, ...]] = {
    "jhpo.programs.compilation": ("use_compilation_cache",),
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
        "TrialPruned",
        "OutOfMemory",
        "UnknownStrategy",
        "UnusableGradient",
        "MissingExtra",
    ),
    "jhpo.programs.devices": ("RayActors",),
    "jhpo.curves": (
        "EarlyStop",
        "MedianStopping",
        "PatienceStopping",
        "HalvingStopping",
        "ForecastStopping",
        "RacingStopping",
    ),
    "jhpo.trial": ("Trial",),
    "jhpo.strategies": ("make_strategy", "strategy_class"),
    "jhpo.strategies.base": ("Evaluation", "Request", "Strategy", "static_field", "strategy"),
    "jhpo.search.run": ("run", "Trace"),
    "jhpo.search.minimize": ("minimize", "maximize"),
    "jhpo.search.result": ("Result",),
    "jhpo.search.stopping": ("StopRules",),
    "jhpo.search.progress": ("ProgressBar",),
    "jhpo.training.trainable": ("Trainable",),
    "jhpo.training.objective": ("as_trainable",),
    "jhpo.training.supervised": ("supervised",),
    "jhpo.training.masked": ("masked_mlp",),
    "jhpo.training.live": ("mask_units", "live_init", "mask_block"),
    "jhpo.training.layers": ("dropout",),
    "jhpo.training.folds": ("k_folds",),
    "jhpo.training.checkpoint": ("load_states", "save_states"),
    "jhpo.training.switch": ("switch",),
    "jhpo.training.augment": ("augmented", "add_noise", "shift_images"),
    "jhpo.training.replay": ("Schedule", "replay"),
    "jhpo.evaluation.population": ("Population",),
    "jhpo.evaluation.ensemble": ("Ensemble",),
    "jhpo.evaluation.executors.host": ("host",),
    "jhpo.study.study": ("Study",),
    "jhpo.study.tuning": ("Tuning",),
    "jhpo.gradients": ("hypergrad", "Hypergradient", "online_tune", "OnlineTuning"),
    "jhpo.training.schedules": ("knots", "scheduled", "per_layer", "layer_names", "indexed", "example_weights"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_HOME |= {cls: module for module, cls, _ in _REGISTRY.values()}
_PUBLIC_MODULES = ("figures", "metrics", "schedules", "optimisers", "linen", "nnx", "sklearn")


if not TYPE_CHECKING:  # otherwise a type checker would accept any name

    def __getattr__(name: str) -> Any:
        home = f"jhpo.{name}" if name in _PUBLIC_MODULES else _HOME.get(name)
        if home is None:
            raise AttributeError(f"module 'jhpo' has no attribute {name!r}{_meant(name, __dir__())}")
        with _interruptible():
            module = importlib.import_module(home)
        value = module if name in _PUBLIC_MODULES else getattr(module, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*_HOME, *_PUBLIC_MODULES, "__version__"])
