"""The version of this package."""

import time

__version__ = "0.1.0"
IMPORTED = time.time()  # seconds since 1970, when this process began to import the package
