"""Ways to look at trials: data frames, figures, importance of parameters, a page.

May import the base modules alone.
"""
