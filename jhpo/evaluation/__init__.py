"""Evaluation of whole generations: populations in chunks on devices, host objectives, and outcomes.

May import `strategies`, `gradients` and the layers below them.
"""
