"""Pure array functions, arrays in and arrays out: they import jax alone. Imported as ``jhpo.kernels``."""

if __name__ != "jhpo.kernels":
    raise ImportError(f"import this package as 'jhpo.kernels', not as {__name__!r}: the name 'kernels' belongs to others")
