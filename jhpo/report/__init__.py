"""Ways to look at trials: data frames, figures, importance of parameters, a page.

May import `space`, `trial` and the other base modules.
"""
