"""The benchmark of searches with a host runs."""

from __future__ import annotations

import sys

import pytest

from benchmarks import search_speed


@pytest.mark.slow
def test_rates_and_memory(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search_speed.py", "--tiny"])
    search_speed.main()
    said = capsys.readouterr().out
    assert "8 particles, 20 generations: run" in said and "in a SQLite file, 5 generations of 40" in said


@pytest.mark.slow
def test_memory_does_not_grow_with_what_is_not_kept(capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["search_speed.py", "--memory", "--tiny"])
    search_speed.main()
    assert "keep='best'" in capfd.readouterr().out
