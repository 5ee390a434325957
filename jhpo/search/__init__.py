"""Searches: the pure loop `run`, the host loop of `minimize`, and stop rules.

May import `evaluation` and the layers below it.
"""
