"""Reports on trials: data frames, figures, importance of parameters, an HTML page.

May import `space`, `trial` and the other base modules.
"""
