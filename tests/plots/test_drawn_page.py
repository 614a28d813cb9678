"""Pictures and formulas on a page, seen through a real browser: light and dark, narrow and wide."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from pictures import PICTURES, html_of
from playwright.sync_api import sync_playwright

from nbanalyzer.formulas.formula import parse
from nbanalyzer.report.analysis import page as page_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = "no chromium: install it to run the browser tests"
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FORMULAS = ("({seq_len} + 1) / 2 ** {batch_size}", "{hidden_size} + 3", "{num_heads} if {seq_len} > 1 else 2")
WIDTHS = (600, 1000, 1600)

LOOK = """() => {
  const drawings = [...document.querySelectorAll("svg[role=img]")], over = [], hidden = [], sizes = [];
  for (const drawing of drawings) {
    const texts = [...drawing.querySelectorAll("text")].map(text => [text, text.getBoundingClientRect()]);
    const scale = drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width;
    texts.forEach(([one, a], at) => {
      sizes.push(parseFloat(getComputedStyle(one).fontSize) * scale);
      for (const [other, b] of texts.slice(at + 1)) {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        // A line of text is higher than its letters.
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) - 0.3 * Math.min(a.height, b.height);
        if (wide > 1 && high > 0) over.push(one.textContent + " / " + other.textContent);
      }
    });
  }
  for (const title of document.querySelectorAll("svg title")) {
    const shape = title.parentNode;
    shape.scrollIntoView({block: "center"});
    const box = shape.getBoundingClientRect();
    // In its middle, or near one of its sides if others lie over that.
    const places = [[0.5, 0.5], [0.1, 0.5], [0.9, 0.5], [0.5, 0.1], [0.5, 0.9]];
    const said = places.map(([x, y]) => {
      const top = document.elementFromPoint(box.x + x * box.width, box.y + y * box.height);
      return top && top.querySelector("title") ? top.querySelector("title").textContent : "";
    });
    const name = title.textContent.split(": ")[0];
    const isSaid = said.some(one => one.includes(name) || / and \\d+ more$/.test(one));
    if (box.width > 3 && !isSaid) hidden.push(title.textContent + " / " + said[0]);
  }
  const wide = drawings.filter(one => one.getBoundingClientRect().right > innerWidth);
  return {over, hidden, least: Math.min(...sizes), count: sizes.length, wide: wide.length,
          scrolled: document.documentElement.scrollWidth};
}"""


@pytest.fixture(scope="module", params=["light", "dark"])
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open a page of all pictures and some formulas."""
    formulas = "".join(f"<p>{parse(text).mathml()}</p>" for text in FORMULAS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        found = browser.new_page(color_scheme=request.param)
        found.set_content(page_of("pictures", "".join(map(html_of, PICTURES)) + formulas))
        yield found
        browser.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_all_is_seen_and_said(page: Page, width: int) -> None:
    """No text lies on another, nothing is cut off or too small, and the pointer finds what every shape says."""
    page.set_viewport_size({"width": width, "height": 900})
    found: dict[str, Any] = page.evaluate(LOOK)
    assert found["count"] > 200
    assert found["over"] == []
    assert found["hidden"] == []
    assert (found["wide"], found["scrolled"]) == (0, width)
    assert found["least"] >= (9 if width == 600 else 11)


def test_no_rule_is_broken(page: Page) -> None:
    """Of WCAG 2.2, A and AA, with everything unfolded."""
    page.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")
    for width in WIDTHS[:2]:
        page.set_viewport_size({"width": width, "height": 900})
        found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
        assert [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]] == []


def test_the_browser_sets_formulas(page: Page) -> None:
    """A fraction is two lines high, and what is for pages without tags takes no room."""
    heights = page.evaluate(
        "() => [...document.querySelectorAll('math')].map(one => one.getBoundingClientRect().height)"
    )
    assert heights[0] > 1.5 * heights[1]
    unseen = page.evaluate(
        "() => [...document.querySelectorAll('mtext')].filter(one => one.style.display == 'none')"
        ".every(one => one.getBoundingClientRect().width == 0)"
    )
    assert unseen
