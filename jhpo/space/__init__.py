"""Search spaces: parameters, their scales and conditions, and the conversion between unit points and values.

May import the base modules (`errors`, `keys`) and kernels, nothing else of jhpo.
How a hyperparameter travels from a point to an objective and back: the docstring of `Layout`.
"""

from jhpo.space.listed import Choice as Choice
from jhpo.space.listed import Ordinal as Ordinal
from jhpo.space.parameters import Float as Float
from jhpo.space.parameters import Int as Int
from jhpo.space.space import Space as Space
