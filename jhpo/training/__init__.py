"""Objectives: trainables, plain functions, supervised training of a model, schedules and augmentation.

May import `space`, the base modules and kernels.
"""
