"""`make screenshots`: the pages of a few studies in Chromium, at the widths of a desk and of a phone.

docs/images/ gets what README and the documentation show; out/figures/ gets every figure of every page, to be looked at.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

import jhpo

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
SHOWN = "mixed"  # the page of which docs/images/ has pictures
ROOT = Path(__file__).resolve().parents[1]
IMAGES, FIGURES = ROOT / "docs" / "images", ROOT / "out" / "figures"

MIXED = jhpo.Space(
    {
        "lr": jhpo.Float(1e-5, 1e-1, log=True),
        "momentum": jhpo.Float(0.5, 0.999, scale="reverse_log"),
        "dropout": jhpo.Float(0.01, 0.9, scale="logit"),
        "width": jhpo.Int(8, 256, log=True),
        "opt": jhpo.Choice(["sgd", "adam", "lion"]),
        "b2": jhpo.Float(0.9, 0.999, when={"opt": "adam"}),
    }
)


def loss(params: dict) -> float:
    """Like a training: the rate matters most, large ones diverge."""
    if params["lr"] * 100 > params["dropout"] + 2.0:
        return float("nan")
    kind = {"sgd": 0.08, "adam": 0.0, "lion": 0.03}[params["opt"]]
    far = 0.1 * (np.log10(params["lr"]) + 3.0) ** 2 + 0.05 * abs(np.log2(params["width"] / 64.0))
    return float(0.12 + far + 0.2 * (params["dropout"] - 0.3) ** 2 + kind)


class Descent:
    """A noisy quadratic, whose best rate falls while it is trained."""

    steps = 40

    def init(self, hp, key):
        return {"w": jnp.ones(4), "key": key}

    def step(self, hp, state, t):
        noise = 0.3 * jnp.sin(7.0 * t + jnp.arange(4.0) + 3.0 * hp["lr"])
        return state | {"w": state["w"] - hp["lr"] * (state["w"] + noise)}

    def evaluate(self, hp, state):
        return (state["w"] ** 2).mean() + 0.01 * hp["l2"]


def studies() -> Iterator[tuple[str, jhpo.Study]]:
    """Studies whose pages together have every figure."""
    study = jhpo.Study(MIXED, jhpo.PSO(20), "digits.db", seed=3)
    study.optimize(jhpo.host(loss), budget=240)
    yield "mixed", study
    rates = jhpo.Space({"lr": jhpo.Float(1e-3, 1.5, log=True), "l2": jhpo.Float(1e-4, 1.0, log=True)})
    study = jhpo.Study(rates, jhpo.PopulationBasedTraining(24, exchange=5), "pbt.db", seed=1)
    study.optimize(Descent(), budget=24)
    yield "population", study
    ways = {"error": "minimize", "params": "minimize"}
    study = jhpo.Study(MIXED, jhpo.NSGA2(24), "front.db", seed=1, directions=ways)
    study.optimize(jhpo.host(lambda p: {"error": loss(p) + 2.0 / p["width"], "params": p["width"] ** 2}), budget=192)
    yield "front", study
    study = jhpo.Study(rates, jhpo.HyperGradient(4), "gradients.db", seed=1)
    study.optimize(Descent(), budget=80)
    yield "gradients", study
    study = jhpo.Study(MIXED, jhpo.BayesOpt(), "bayes.db", seed=1)
    study.optimize(jhpo.host(loss), budget=40)
    yield "bayes", study
    study = jhpo.Study(rates, jhpo.SuccessiveHalving(32, min_steps=5), "rungs.db", seed=1)
    study.optimize(Descent(), budget=32)
    yield "rungs", study


def shoot(browser: Browser, name: str, path: Path) -> list[str]:
    """Pictures of a page; returns what a reader would stumble over."""
    found: list[str] = []
    for device, (width, height) in WIDTHS.items():
        page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
        page.on("console", lambda m: found.append(f"{name}: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda e: found.append(f"{name}: {e}"))
        page.goto(path.as_uri())
        if name == SHOWN:
            page.screenshot(path=IMAGES / f"report-{device}.png")
        for place, section in enumerate(page.query_selector_all("section[id]")):
            if name == SHOWN and section.query_selector("h2").inner_text() == "Slices":
                section.screenshot(path=IMAGES / f"slices-{device}.png")
            section.screenshot(path=FIGURES / f"{name}-{device}-{place:02d}-{section.get_attribute('id')}.png")
        page.close()
    return found


def main() -> None:
    """Writes all pictures."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no Chromium here: apt-get install chromium")
    for folder in (IMAGES, FIGURES):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, study in studies():
            path = study.report(f"{name}.html").resolve()
            for problem in shoot(browser, name, path):
                print(problem)
        browser.close()


if __name__ == "__main__":
    main()
