"""Interoperability with other tools; each module needs its tool installed."""
