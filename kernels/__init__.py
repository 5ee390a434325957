"""Pure functions of arrays that import only JAX and NumPy. Import this package as ``jhpo.kernels``."""

if __name__ != "jhpo.kernels":
    raise ImportError(f"import this package as 'jhpo.kernels', not {__name__!r}: that name belongs to others")
