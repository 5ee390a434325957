"""Compiled programs: their options, their caches on disk, the devices that they run on."""
