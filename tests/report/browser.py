"""Headless Chromium, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM: str | None = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


def dumped(address: str, profile: Path, milliseconds: int = 20_000) -> str:
    """The document of a page as it is after so much of its time.

    Args:
        address: of the page.
        profile: a folder for the browser.
        milliseconds: that pass for the page; the browser skips what it would wait.
    """
    arguments = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,2400"]
    arguments += [f"--user-data-dir={profile}", f"--virtual-time-budget={milliseconds}", "--dump-dom", address]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert done.stdout, done.stderr[-2000:]
    return done.stdout
