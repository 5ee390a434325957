"""The page of a study: what it says, that it is whole, and how it looks in a browser at two widths."""

from __future__ import annotations

import html
import html.parser
import json
import re
import xml.dom.minidom
from pathlib import Path

import numpy as np
import pytest

import jhpo
from jhpo.report import page
from jhpo.report.summary import sentences
from tests.report.browser import dumped, needs_browser
from tests.report.studies import absorbed, big, mixed

PROBE = (Path(__file__).parent / "probe.js").read_text()
# a window has at least 500 pixels, a frame as few as a phone
FRAME = """<!doctype html><body style="margin: 0">
<iframe src="{page}" style="border: 0; width: {width}px; height: 2400px"></iframe><pre id="probe"></pre>
<script>
addEventListener("message", event => {{ document.getElementById("probe").textContent = event.data; }});
</script>"""


class Checker(html.parser.HTMLParser):
    """Open elements, and every address in attributes."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action", "srcset") and v]

    def handle_startendtag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def probed(path: Path, width: int, action: str = "") -> dict:
    """What the probe saw of a page in headless Chromium, `width` pixels wide."""
    probe = f"<head><script>{PROBE.replace('/* action */', action)}</script>"
    (path.parent / "probed.html").write_text(path.read_text().replace("<head>", probe, 1))
    frame = path.parent / "frame.html"
    frame.write_text(FRAME.format(page="probed.html", width=width))
    done = dumped(frame.as_uri(), path.parent / "profile")
    found = re.search(r'<pre id="probe">(.+?)</pre>', done, re.DOTALL)
    assert found, done[-2000:]
    return dict(json.loads(html.unescape(found[1])))


def test_a_page_is_whole_and_needs_nothing_else(tmp_path):
    study = mixed()
    study.enqueue({"lr": 1e-3, "momentum": 0.9, "dropout": 0.1, "width": 64, "opt": "sgd", "mix": [0.1, 0.2]})
    study.tell(study.ask(1), [None], error="</script><script>alert(1)</script>")
    text = study.report(tmp_path / "study.html").read_text()
    assert len(text) < 1_000_000 and "<script>alert" not in text and "&lt;script&gt;alert" in text
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and all(a.startswith(("#", "data:")) for a in checker.addresses)
    assert "http" not in re.sub(r"http://www.w3.org", "", text)
    for words in (
        "Optimization history",
        "random(",
        "seed",
        "minimize",
        "jax",
        "python 3.",
        "made on",
        "What sets the best tenth",
        "only when",
        "opt is adam",
    ):
        assert words in text, words
    hidden = re.search(r"@media print \{ ([^{}]*) \{ display: none", text)[1].split(", ")
    assert "nav" in hidden and "button" not in hidden, "headings of tables are buttons"
    snippet = re.search(r"params = (\{.*?\n\})", html.unescape(text), re.DOTALL)[1]
    copied = eval(snippet)
    assert study.space.flat(copied).keys() == study.space.flat(study.best.params).keys()
    assert copied["lr"] == study.best.params["lr"], "every digit"


def test_the_summary_says_what_to_try_next():
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "idle": jhpo.Float(0.0, 1.0)})
    words = " ".join(sentences(absorbed(space, lambda hp: -hp["x"], 100).trials))
    assert "best values of x lie at its upper bound, 1" in words and "idle lie" not in words
    depths = jhpo.Space({"depth": jhpo.Int(1, 6), "wide": jhpo.Int(1, 6)})
    words = " ".join(sentences(absorbed(depths, lambda hp: -hp["depth"] + (hp["wide"] - 3) ** 2, 100).trials))
    assert "best values of depth lie at its upper bound, 6" in words and "wide lie" not in words
    words = " ".join(sentences(absorbed(space, lambda hp: -hp["x"], 100).trials))
    assert "x (" in words and "evaluate the best few again" in words
    assert "No trial has succeeded" in sentences(jhpo.Study(space).trials)[0]
    failing = absorbed(space, lambda hp: hp["x"] if hp["idle"] < 0.5 else float("nan"), 40)
    assert any(re.match(r"\d+ of 40 trials failed", s) for s in sentences(failing.trials))


def test_pages_of_empty_and_tiny_studies_and_of_several_objectives(tmp_path):
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    for count in (0, 1, 3):
        study = absorbed(space, lambda hp: hp["x"], count) if count else jhpo.Study(space)
        text = study.report(tmp_path / "p.html").read_text()
        assert "Search space" in text and ("<h2>Slices</h2>" in text) == (count > 0)
        assert ("history, slice, parallel, contour, edf: no successful trial yet" in text) == (count == 0)
    assert jhpo.figures.history(jhpo.Study(space)).words == "The study has no successful trial yet."
    ways = {"near": "minimize", "far": "maximize", "<b>": "minimize"}
    study = absorbed(space, lambda hp: {"near": hp["x"], "far": hp["x"] ** 2, "<b>": 1.0}, 20, directions=ways)
    text = study.report(tmp_path / "p.html").read_text()
    assert "on the front: near from" in text and "<b>" not in text and "&lt;b&gt;" in text
    assert f"Its knee, which balances the objectives, is trial {study.knee().id}:" in text
    snippet = re.search(r"trial (\d+)\nparams = (\{.*?\n\})", html.unescape(text), re.DOTALL)
    assert int(snippet[1]) == study.knee().id and eval(snippet[2]) == study.knee().params


def test_pages_and_figures_are_whole_whatever_the_names(tmp_path):
    """A single surrogate or a control character makes an SVG file invalid, and ended what wrote or read it."""
    odd = "\x00\x0b\x1b[31m\x85<b>&\ud800\ufffe"
    space = jhpo.Space({f"x{odd}": jhpo.Float(0.0, 1.0), f"c{odd}": jhpo.Choice(["a", odd])})
    study = jhpo.Study(space, "random")
    study.optimize(jhpo.host(lambda hp: hp[f"x{odd}"] if hp[f"c{odd}"] == "a" else None), budget=32)
    kinds = ("history", "slice", "parallel", "contour", "rank", "importance", "edf", "model", "failures", "timeline")
    for drawing in map(study.figure, kinds):
        for svg in drawing.to_svg():
            xml.dom.minidom.parseString(svg)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", drawing._repr_html_())
    text = study.report(tmp_path / "odd.html", interactive=True).read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) and r"x\x00" in text and r"\ud800" in text


def test_an_interactive_page_brings_plotly_once(tmp_path):
    text = mixed().report(tmp_path / "i.html", interactive=True).read_text()
    assert len(text) < 5_000_000 and text.count('id="bundle"') == 1 and text.count("data-figure=") > 5


def test_what_jinja_and_the_disk_lack_is_said(tmp_path, monkeypatch):
    import sys

    with pytest.raises(jhpo.StorageError, match="cannot write"):
        mixed(count=8).report(tmp_path / "nowhere" / "p.html")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(jhpo.MissingExtra, match=r"jhpo\[report\]"):
        mixed(count=8).report(tmp_path / "p.html")


@needs_browser
def test_a_page_looks_right_at_two_widths(tmp_path):
    path = mixed().report(tmp_path / "study.html")
    for width in (1280, 390):
        seen = probed(path, width)
        assert seen["inner"] == width and seen["wide"] <= 0, seen
        assert seen["errors"] == seen["requests"] == seen["overlaps"] == seen["small"] == [], seen


@needs_browser
@pytest.mark.slow
def test_ten_thousand_trials_sort_and_become_interactive(tmp_path):
    trials, study = big(10_000), mixed()
    path = page.write_report(trials, study.top(20), tmp_path / "big.html", interactive=True)
    assert path.stat().st_size < 5_000_000
    action = """
      const rows = () => [...document.querySelectorAll("#best tbody tr")].map(r => Number(r.cells[1].textContent));
      document.querySelectorAll("#best th button")[1].click();
      seen.sorted = rows().every((v, i) => !i || rows()[i - 1] <= v);
      const buttons = document.querySelectorAll(".modes button"), begun = performance.now();
      for (const button of buttons) button.click();
      const drawn = () => document.querySelectorAll(".plot .main-svg").length;
      while (drawn() < buttons.length && performance.now() - begun < 15000) await new Promise(r => setTimeout(r, 50));
      seen.plots = drawn();
    """
    seen = probed(path, 1280, action)
    assert seen["sorted"] and seen["plots"] >= 8 and seen["errors"] == [] and seen["requests"] == []
    assert np.isfinite(seen["interactive"])
