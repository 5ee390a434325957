"""The registry of search strategies: one line adds one."""
