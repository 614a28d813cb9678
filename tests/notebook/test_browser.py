"""The saved page, seen through a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

import nbanalyzer

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = "no chromium: install it to run the browser tests"
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """Open the saved page of Llama 3.1 8B, four levels unfolded; nothing may be requested beside the file."""
    analysis = nbanalyzer.populate("llama-3.1-8b", seq_len=512)
    analysis.depth = 4
    analysis.save(tmp_path / "page.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme=request.param)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        yield page
        assert requests == [(tmp_path / "page.html").as_uri()]
        browser.close()


def edges(page: Page) -> list[list[int]]:
    """Return where the columns of numbers end, of each row that has all of them."""
    found: list[list[int]] = page.locator("tbody tr:visible").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll(':scope > td')]"
        ".map(cell => Math.round(cell.getBoundingClientRect().right)))"
    )
    return [row for row in found if len(row) == len(found[-1])]


def test_columns_stay_aligned_at_every_level(page: Page) -> None:
    found = edges(page)
    assert len(found) > 10
    assert len(found[0]) == 7
    assert all(row == found[0] for row in found)


def test_a_row_unfolds_to_its_derivation(page: Page) -> None:
    derivation = page.locator("text=2 * {batch_size} * {seq_len} * {hidden_size} * {num_heads} * {head_dim}").first
    assert not derivation.is_visible()
    page.locator("summary:visible", has_text="q_proj").click()
    expect(derivation).to_be_visible()
    # 2 * 512 tokens * 4096 * 4096, written out above, 32 times
    expect(page.locator(f"text={2 * 512 * 4096 * 4096:,}").first).to_be_visible()
    expect(page.locator(f"text={2 * 512 * 4096 * 4096 * 32:,}").first).to_be_visible()


def test_a_row_that_is_unfolded_moves_no_column_out_of_line(page: Page) -> None:
    page.locator("summary:visible", has_text="q_proj").click()
    found = edges(page)
    assert all(row == found[0] for row in found)


def test_text_stands_out_from_its_background(page: Page) -> None:
    text, background = page.evaluate(
        "() => { const lum = c => { const [r, g, b] = c.match(/\\d+/g).map(Number);"
        " return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255 };"
        " const canvas = document.createElement('div'); canvas.style.backgroundColor = 'Canvas';"
        " document.body.append(canvas);"
        " return [lum(getComputedStyle(document.querySelector('summary')).color),"
        " lum(getComputedStyle(canvas).backgroundColor)] }"
    )
    assert abs(text - background) > 0.6


def test_a_module_folds_the_rows_inside_it(page: Page) -> None:
    rows = page.locator(".nb-rows > tbody > tr:visible")
    names = [text.strip().split("\n")[0] for text in rows.locator("th").all_inner_texts()]
    block = names.index("layers × 32")
    inside = page.locator("summary:visible", has_text="mlp").first
    inside.click()  # gate, up and down projection, activation, product of gate and up
    assert len(names) - rows.count() == 5
    page.locator("summary:visible", has_text="layers × 32").click()
    folded = [text.strip() for text in rows.locator("th").all_inner_texts()]
    assert folded[: block + 1] == names[: block + 1]
    assert "mlp" not in folded
    assert folded[-1] == "total"
    page.locator("summary:visible", has_text="layers × 32").press("Enter")
    assert len(names) - rows.count() == 5  # what was folded inside still is
    inside.click()
    assert rows.count() == len(names)


def test_without_a_style_sheet_all_rows_are_shown(page: Page) -> None:
    count = page.locator(".nb-rows > tbody > tr:visible").count()
    page.locator("summary:visible", has_text="layers × 32").click()
    page.evaluate("document.querySelectorAll('style').forEach(one => one.remove())")
    assert page.locator(".nb-rows > tbody > tr:visible").count() == count
    marker = "getComputedStyle(document.querySelector('summary.f')).listStyleType"
    assert page.evaluate(marker) == "none"
