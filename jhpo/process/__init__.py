"""What surrounds jhpo in a process: Ctrl-C, forks, JAX's flags, how long compiled programs live."""
