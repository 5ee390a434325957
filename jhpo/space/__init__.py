"""Search spaces: parameters, their scales and conditions, and the conversion between unit points and values.

May import the base modules (`errors`, `keys`) and kernels, nothing else of jhpo.

How a hyperparameter travels. `Space` flattens the user's tree (`tree`) and gives every parameter columns of the unit
cube, by name (`layout`). Strategies and kernels see rows of that cube alone, ``float[n, d]``: a strategy returns them
from `ask`, and kernels that have to know which columns are discrete or conditional get the `Outline`, the space as
arrays. On the way to an objective in JAX a row goes through `from_unit` (`codec`): scales, cells of discrete values,
indices of choices, inactive parameters at their default, the user's tree again. On the way to a host function or a
user's eyes it goes through `decode` (`host_codec`, NumPy): Python numbers and options, inactive parameters absent.
Back come `to_unit` (traced) and `encode` (host values, checked), for points that users give. What is stored is the row;
numbers that a user gave are stored beside it as they were (`exact`). `decode` and `from_unit` agree to rounding.
"""

from jhpo.space.listed import Choice as Choice
from jhpo.space.listed import Ordinal as Ordinal
from jhpo.space.parameters import Float as Float
from jhpo.space.parameters import Int as Int
from jhpo.space.space import Space as Space
