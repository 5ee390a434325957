"""Learning curves of trials, what evaluations report while they run, and rules that stop them early."""

from jhpo.curves.rules import EarlyStop as EarlyStop
from jhpo.curves.rules import ForecastStopping as ForecastStopping
from jhpo.curves.rules import HalvingStopping as HalvingStopping
from jhpo.curves.rules import MedianStopping as MedianStopping
from jhpo.curves.rules import PatienceStopping as PatienceStopping
from jhpo.curves.rules import RacingStopping as RacingStopping
from jhpo.curves.table import Curve as Curve
from jhpo.curves.table import CurveTable as CurveTable
