"""Other tools' formats; each module needs its tool installed."""
