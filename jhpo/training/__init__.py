"""Objectives: trainables, plain functions, supervised training of a model, schedules and augmentation.

May import `space`, the base modules and kernels.
"""

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
from jhpo.training.supervised import supervised as supervised
from jhpo.training.switch import switch as switch
from jhpo.training.trainable import Trainable as Trainable
