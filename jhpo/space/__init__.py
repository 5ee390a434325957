"""What is tuned: parameters, their scales and conditions, and the conversion between units and values.

May import the base modules (`errors`, `keys`) and kernels, nothing else of jhpo.
"""

from jhpo.space.space import Choice as Choice
from jhpo.space.space import Float as Float
from jhpo.space.space import Int as Int
from jhpo.space.space import Ordinal as Ordinal
from jhpo.space.space import Space as Space
