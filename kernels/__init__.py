"""Pure array functions, arrays in and arrays out: they import jax alone. Imported as ``jhpo.kernels``."""

if __name__ != "jhpo.kernels":
    raise ImportError(f"import this package as 'jhpo.kernels', not {__name__!r}: that name belongs to others")
