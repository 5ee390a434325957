"""Executors for objectives outside JAX, in threads or processes; failures become values."""

from jhpo.evaluation.executors.host import HostObjective as HostObjective
from jhpo.evaluation.executors.host import host as host
