"""Objectives that are not JAX programs: run in threads or processes, failures kept as values."""

from jhpo.evaluation.executors.host import HostObjective as HostObjective
from jhpo.evaluation.executors.host import host as host
