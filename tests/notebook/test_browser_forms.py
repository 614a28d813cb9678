"""The what-if form in a real browser: in JupyterLab, and served by Voila. Nothing may leave the machine.

Pictures of every state are kept in build/screens, and the latencies are printed; neither decides whether a test passes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

import nbanalyzer
from nbanalyzer.quantities import count_of, seconds, si

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "whatif.ipynb"
APP = ROOT / "notebooks" / "app"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SCREENS = ROOT / "build" / "screens"
CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = "no chromium: install it to run the browser tests"
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)]
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-dev-shm-usage",
]  # fmt: skip
PATIENCE = 30_000  # ms: a test machine may be slow
expect.set_options(timeout=PATIENCE)
THEME = "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})"
READY = """async () => {
  const context = jupyterapp.shell.currentWidget.context;
  await context.ready; await context.sessionContext.ready; await context.sessionContext.session.kernel.info;
}"""
CONTRAST = """element => {
  const light = color => { const [r, g, b] = color.match(/[\\d.]+/g).map(Number); return (0.2126*r + 0.7152*g + 0.0722*b) / 255; };
  let behind = element, color = '';
  while (behind && (!color || /, 0\\)$/.test(color))) { color = getComputedStyle(behind).backgroundColor; behind = behind.parentElement; }
  return Math.abs(light(getComputedStyle(element).color) - light(color));
}"""

IDLE = "() => jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.status === 'idle'"

INSIDE = """box => [...box.querySelectorAll('*')].every(one =>
  one.getBoundingClientRect().right <= box.getBoundingClientRect().right + 2 || !one.offsetParent)"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def served(words: list[str], url: str, folder: Path) -> Iterator[None]:
    """Run a server until the block is left; its settings are its own, so that nobody's are changed."""
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    env = {**os.environ, **{f"JUPYTER_{name}": str(folder / name.lower()) for name in names}}
    env |= {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    env["IPYTHONDIR"] = str(folder / "ipython")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", *words], env=env, cwd=folder, stdout=log, stderr=log)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None, (folder / "log").read_text()
                    time.sleep(0.1)
            yield
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def open_page(browser: Browser, scheme: Literal["light", "dark"] = "light") -> tuple[Page, list[str]]:
    """Open a page, and the list of the addresses beyond this machine that it asks for, in vain."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    outside: list[str] = []

    def see(route: Any) -> None:
        if re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", route.request.url):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    page.route("**/*", see)
    return page, outside


class Form:
    """A what-if form on a page, as a person sees it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.box = page.locator(".nb-whatif:visible").first

    def figure(self, name: str) -> Locator:
        return self.box.locator(f".nb-figure-{name} .nb-value")

    def wait_for(self, name: str, text: str) -> None:
        expect(self.figure(name)).to_have_text(text)

    def entry(self, name: str) -> Locator:
        return self.box.locator(f".nb-{name} .nb-entry input")

    def handle(self, name: str) -> Locator:
        return self.box.locator(f".nb-{name} .noUi-handle")

    def type(self, name: str, text: str) -> None:
        self.entry(name).fill(text)
        self.entry(name).press("Enter")

    def choose(self, name: str, label: str) -> None:
        """Choose the option whose text begins with a label."""
        texts = self.box.locator(f".nb-{name} select option").all_inner_texts()
        begins = re.compile(rf"{re.escape(label)}\b(?!-)")
        (index,) = [at for at, text in enumerate(texts) if begins.match(text.replace("\xa0", " "))]
        self.box.locator(f".nb-{name} select").select_option(index=index)

    def stands_out(self, part: str) -> None:
        """Wait until a part's text can be told from what is behind it: a theme's colours come a moment after it."""
        found = "([box, part]) => box.querySelector(part)"  # anew each time: figures are written again
        box = self.box.element_handle()
        self.page.wait_for_function(f"given => ({CONTRAST})(({found})(given)) > 0.5", arg=[box, part])

    def keep(self, name: str) -> None:
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.box.scroll_into_view_if_needed()
        self.page.screenshot(path=SCREENS / f"{name}.png")


def violations(form: Form) -> list[str]:
    """Return what breaks the rules of WCAG 2.2, levels A and AA, in the form."""
    form.page.mouse.move(0, 0)
    found = Axe().run(form.page, context=".nb-whatif", options={"runOnly": RULES}).response["violations"]
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]


@pytest.fixture(scope="module")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, list[str]]]:
    """Open JupyterLab on a copy of the notebook and run all its cells."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(NOTEBOOK, folder)
    # JupyterLab's question about news would lie over the form's corner.
    settings = folder / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}', "utf-8")
    port = free_port()
    words = [
        "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None",
        f"--LabApp.user_settings_dir={folder / 'settings'}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--expose-app-in-browser",
    ]  # fmt: skip
    with served(words, f"http://127.0.0.1:{port}/api", folder):
        page, outside = open_page(browser)
        page.goto(f"http://127.0.0.1:{port}/lab/workspaces/test/tree/{NOTEBOOK.name}?reset")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.evaluate(READY)
        page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        page.locator(".nb-whatif").first.wait_for()
        yield page, outside
        page.close()


@pytest.fixture
def form(lab: tuple[Page, list[str]]) -> Form:
    """Give the notebook's first form, set to a state that the tests know."""
    form = Form(lab[0])
    form.page.wait_for_function(IDLE)
    if (unpin := form.box.locator("button.nb-unpin")).is_visible():
        unpin.click()
    form.box.locator(".nb-model input").fill("llama-3.1-8b")
    form.box.locator(".nb-model input").press("Enter")
    form.choose("hardware", "h100-sxm")
    form.box.locator(".nb-phase button", has_text="decode").click()
    form.choose("fusion", "none")
    form.choose("profile", "typical")
    form.type("batch_size", "1")
    form.type("cache_len", "2048")
    form.choose("w_bit", "as stored")
    expect(form.box.locator(".nb-heading")).to_contain_text("Llama-3.1-8B")
    expect(form.box.locator(".nb-heading")).to_contain_text("batch_size 1, seq_len 1, cache_len 2048, w_bit 16,")
    expect(form.box.locator(".nb-memory")).to_contain_text("h100-sxm")
    form.wait_for("kv_cache_bytes", si(131_072 * 2049, "B"))  # Llama-3.1-8B keeps 131,072 bytes per token
    form.page.wait_for_function(IDLE)
    return form


def test_a_slider_by_keyboard(form: Form) -> None:
    times = []
    for tokens in (3072, 4096, 6144, 8192, 12288, 16384):
        start = time.perf_counter()
        form.handle("cache_len").press("ArrowRight")
        form.wait_for("kv_cache_bytes", si(131_072 * (tokens + 1), "B"))
        times.append(1000 * (time.perf_counter() - start))
        expect(form.entry("cache_len")).to_have_value(str(tokens))
    print(f"\nkey to new figures in the browser: median {statistics.median(times):.0f} ms, at most {max(times):.0f} ms")
    form.keep("keyboard")


def test_a_slider_by_mouse(form: Form) -> None:
    handle = form.handle("batch_size")
    handle.scroll_into_view_if_needed()
    circles = form.box.locator(".nb-roofline svg circle")
    place = circles.first.get_attribute("cx")
    box = handle.bounding_box()
    assert box
    assert place
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    form.page.mouse.move(x, y)
    form.page.mouse.down()
    for step in range(1, 41):
        form.page.mouse.move(x + step, y)
    form.page.mouse.up()
    start = time.perf_counter()
    batch, shown = 0, ""
    while not batch or shown != si(131_072 * 2049 * batch, "B"):  # the entry may be ahead of the figures
        assert 1000 * (time.perf_counter() - start) < PATIENCE
        batch, shown = int(form.entry("batch_size").input_value()), form.figure("kv_cache_bytes").inner_text()
    print(f"\na drag of 40 steps settled {1000 * (time.perf_counter() - start):.0f} ms after it was let go")
    assert batch > 1
    expect(circles.first).not_to_have_attribute("cx", place)
    form.keep("mouse")


def test_another_model_and_other_hardware(form: Form) -> None:
    form.box.locator(".nb-model input").fill("deepseek-v3")
    form.box.locator(".nb-model input").press("Enter")
    form.wait_for("kv_cache_bytes", si(70_272 * 2049, "B"))  # 61 layers of (512 + 64) elements in bf16
    form.keep("deepseek")
    form.choose("hardware", "mi300x")
    expect(form.box.locator(".nb-memory")).to_contain_text(si(192 * 2**30, "B"))
    time_on = nbanalyzer.populate("deepseek-v3", seq_len=1, cache_len=2048).on("mi300x").time
    expect(form.figure("time")).to_contain_text(f"{1000 * time_on:.4g}"[:4])


def test_fusion_and_profile(form: Form) -> None:
    form.choose("fusion", "engine")
    fused = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=2048, fusion="engine").on("h100-sxm")
    form.wait_for("time", f"at least {seconds(fused.time)}")
    expect(form.box.locator(".nb-logits select")).to_have_value("last position only")  # follows
    expect(form.box.locator(".nb-causal input")).to_be_checked()
    form.choose("profile", "vllm")
    line = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=2048).on("h100-sxm", profile="vllm").answer
    expect(form.box.locator(".nb-first")).to_have_text(line)
    form.keep("engine")
    form.choose("fusion", "none")
    expect(form.box.locator(".nb-headline")).to_contain_text("no bound, for fused kernels move less")
    expect(form.box.locator(".nb-logits select")).to_have_value("all positions")


def test_several_devices(form: Form) -> None:
    form.page.set_viewport_size({"width": 1000, "height": 1000})
    try:
        form.box.locator("button.nb-devices").click()
        form.type("tp", "8")
        form.wait_for("parameters", count_of(1_004_015_616, 4))  # of a rank
        form.wait_for("payload_bytes", si(65 * 4096 * 2 + 128_256 * 2, "B"))  # the stream of one token, and its logits
        expect(form.box.locator(".nb-heading")).to_contain_text("the busiest of 8 devices (tp 8)")
        expect(form.box.locator("button.nb-devices")).to_have_text("▾ devices: tp=8")
        form.type("nodes", "2")
        rank = nbanalyzer.populate("llama-3.1-8b", seq_len=1, cache_len=2048, tp=8)
        form.wait_for("time", seconds(rank.on("h100-sxm", nodes=2).time))
        form.page.wait_for_function(INSIDE, arg=form.box.locator(".nb-mesh").element_handle())
        form.keep("devices")
        form.type("tp", "5")
        expect(form.box.locator(".nb-error")).to_contain_text("tp=5 does not divide num_heads = 32 into equal parts")
    finally:
        form.type("nodes", "1")
        form.type("tp", "1")
        expect(form.box.locator(".nb-error")).to_have_text("")
        form.box.locator("button.nb-devices").click()
        form.page.set_viewport_size({"width": 1280, "height": 1000})


def test_drafts_and_images_are_asked_of_models_that_have_them(form: Form) -> None:
    expect(form.box.locator("button.nb-beside")).to_be_hidden()
    form.box.locator(".nb-model input").fill("deepseek-v3")
    form.box.locator(".nb-model input").press("Enter")
    expect(form.box.locator(".nb-heading")).to_contain_text("DeepSeek-V3")
    form.box.locator("button.nb-beside").click()
    form.type("mtp", "1")
    drafting = nbanalyzer.populate("deepseek-v3", seq_len=1, cache_len=2048, mtp=1)
    form.wait_for("kv_cache_bytes", si(drafting.state_bytes, "B"))
    expect(form.box.locator(".nb-heading")).to_contain_text("mtp 1: 1.85 tokens a step")
    form.page.wait_for_function(INSIDE, arg=form.box.locator(".nb-extras").element_handle())
    assert violations(form) == []
    form.keep("drafts")
    form.box.locator(".nb-model input").fill("qwen2.5-vl-7b-instruct")
    form.box.locator(".nb-model input").press("Enter")
    form.box.locator(".nb-phase button", has_text="prefill").click()
    form.type("seq_len", "2048")
    form.type("image_size", "448x672")
    form.type("images", "2")
    expect(form.box.locator(".nb-heading")).to_contain_text("images 2 of 448x672")
    expect(form.box.locator("button.nb-beside")).to_have_text("▾ beside tokens: images=2, image_size=448x672")
    form.page.wait_for_function(INSIDE, arg=form.box.locator(".nb-extras").element_handle())
    form.keep("images")
    form.type("images", "9")
    expect(form.box.locator(".nb-error")).to_contain_text("which alone are 3,456")
    form.type("images", "0")
    expect(form.box.locator(".nb-error")).to_have_text("")
    form.box.locator("button.nb-beside").click()


def test_pin_shows_what_changed(form: Form) -> None:
    form.box.locator("button.nb-pin").click()
    form.choose("w_bit", "4")
    change = form.box.locator(".nb-figure-memory .nb-change, .nb-figure-time .nb-change")
    expect(change.first).to_contain_text("×0.2")
    expect(form.box.locator(".nb-changes")).to_contain_text("down_proj")
    form.keep("pinned")
    form.box.locator("button.nb-unpin").click()
    expect(form.box.locator(".nb-change")).to_have_count(0)
    expect(form.box.locator("button.nb-unpin")).to_be_hidden()  # a moment later: the next test looks whether it is


def test_lines_are_copied(form: Form) -> None:
    form.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    words = "llama-3.1-8b --hardware h100-sxm --seq_len 1 --cache_len 2048"
    for magic in ("%populate", "%whatif"):
        form.box.locator(".nb-lines button", has_text=f"Copy {magic}").click()
        expect(form.box.locator(".nb-copied")).to_have_text(f"{magic} copied: {magic} {words}")
        assert form.page.evaluate("navigator.clipboard.readText()") == f"{magic} {words}"
    form.type("batch_size", "2")
    expect(form.box.locator(".nb-copied")).to_have_text("")  # what was copied is not this
    form.box.locator(".nb-phase button", has_text="request").click()
    form.box.locator(".nb-lines button", has_text="Copy %request").click()
    expect(form.box.locator(".nb-copied")).to_contain_text("%request llama-3.1-8b --hardware h100-sxm --batch_size 2")


@pytest.mark.parametrize("suffix", ["csv", "json", "html", "png"])
def test_downloads(form: Form, tmp_path: Path, suffix: str) -> None:
    form.choose("format", suffix)
    with form.page.expect_download() as found:
        form.box.locator("button.nb-download").click()
    assert found.value.suggested_filename == f"Llama-3.1-8B-decode.{suffix}"
    beside = nbanalyzer.whatif("llama-3.1-8b", hardware="h100-sxm", phase="decode")
    beside.save(tmp_path / f"a.{suffix}")
    assert Path(found.value.path()).read_bytes() == (tmp_path / f"a.{suffix}").read_bytes()


def test_undo_and_reset(form: Form) -> None:
    form.choose("kv_bit", "8")
    form.wait_for("kv_cache_bytes", si(131_072 * 2049 / 2, "B"))
    form.box.locator("button.nb-undo").click()
    expect(form.box.locator(".nb-kv_bit select")).to_have_value("as activations")
    form.wait_for("kv_cache_bytes", si(131_072 * 2049, "B"))
    form.choose("w_bit", "4")
    form.box.locator("button.nb-reset_all").click()
    expect(form.box.locator(".nb-w_bit select")).to_have_value("as stored, 16 bits")


def test_the_largest_and_a_plot_along(form: Form) -> None:
    form.box.locator(".nb-batch_size .nb-do-max").click()
    expect(form.entry("batch_size")).not_to_have_value("1")
    largest = int(form.entry("batch_size").input_value())
    form.type("batch_size", str(largest + 1))
    expect(form.box.locator(".nb-figure-fits .nb-value")).to_contain_text("short")
    form.box.locator(".nb-cache_len button", has_text="∿").click()
    expect(form.box.locator(".nb-along svg[role=img]")).to_have_count(2)
    form.box.locator("button.nb-close_along").click()
    expect(form.box.locator(".nb-along svg")).to_have_count(0)


def test_two_models_side_by_side(form: Form) -> None:
    form.box.locator(".nb-beside input").fill("mixtral-8x7b-v0.1")
    form.box.locator(".nb-beside input").press("Enter")
    expect(form.box.locator(".nb-compared th")).to_have_text(
        ["side by side", "Llama-3.1-8B", "Mixtral-8x7B-v0.1", "change"]
    )
    form.keep("beside")
    form.box.locator(".nb-beside input").fill("")
    form.box.locator(".nb-beside input").press("Enter")
    expect(form.box.locator(".nb-compared")).not_to_be_visible()


def test_a_name_is_chosen_from_the_whole_list(form: Form) -> None:
    """A browser offers the names that match what stands in the field: it is empty while one chooses."""
    field = form.box.locator(".nb-model input")
    field.click()
    expect(field).to_have_value("")
    expect(field).to_have_attribute("placeholder", "llama-3.1-8b")
    field.blur()
    expect(field).to_have_value("llama-3.1-8b")
    form.wait_for("kv_cache_bytes", si(131_072 * 2049, "B"))


def test_what_the_form_began_with_is_not_seen_beside_it(form: Form) -> None:
    began = form.page.locator(".nb-began")
    expect(began.first).to_be_attached()
    expect(began.first).to_be_hidden()


def test_sliders_say_their_names_and_values(form: Form) -> None:
    handle = form.handle("cache_len")
    expect(handle).to_have_attribute("aria-label", "cache")
    expect(handle).to_have_attribute("aria-valuetext", "2,048")
    handle.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuetext", "3,072")
    expect(form.entry("cache_len")).to_have_value(re.compile("3,?072"))  # what is written after that stays
    form.type("cache_len", "3000")  # between two stops
    expect(handle).to_have_attribute("aria-valuetext", "3,000")
    expect(form.box.locator(".nb-phase button", has_text="decode")).to_have_attribute("aria-pressed", "true")
    expect(form.box.locator("button.nb-devices")).to_have_attribute("aria-expanded", "false")
    expect(form.box.locator(".nb-batch_size .nb-do-max")).to_have_attribute(
        "aria-label", "max batch: the largest that fits the memory"
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("batch_size", "0", "from 1"), ("cache_len", "-1", "-1"), ("batch_size", "many", "many")],
)
def test_a_mistake_is_one_line_and_the_last_state_stays(form: Form, name: str, text: str, says: str) -> None:
    before = form.figure("kv_cache_bytes").inner_text()
    form.type(name, text)
    expect(form.box.locator(".nb-error")).to_contain_text(says)
    assert form.figure("kv_cache_bytes").inner_text() == before
    expect(form.box.locator(".nb-headline")).to_have_css("opacity", "0.65")  # dimmed, and read all the same
    if says == "many":
        assert violations(form) == []
    form.keep("mistake")
    form.type(name, {"batch_size": "2", "cache_len": "1024"}[name])
    expect(form.box.locator(".nb-error")).to_have_text("")
    expect(form.box.locator(".nb-headline")).to_have_css("opacity", "1")


def test_a_model_that_does_not_exist(form: Form) -> None:
    form.box.locator(".nb-model input").fill("llama-3.1-9b")
    form.box.locator(".nb-model input").press("Enter")
    expect(form.box.locator(".nb-error")).to_contain_text("Did you mean")


def test_a_batch_that_cannot_fit_says_by_how_much(form: Form) -> None:
    form.type("batch_size", "1024")
    expect(form.box.locator(".nb-memory")).to_contain_text("short")
    form.keep("too-large")


def test_the_dark_theme(form: Form) -> None:
    form.page.evaluate(THEME, "JupyterLab Dark")
    form.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    for part in (".nb-figure-time .nb-value", ".nb-heading b", ".nb-bars div", ".nb-memory div", ".nb-roofline b"):
        form.stands_out(part)
    form.keep("dark")
    assert violations(form) == []
    form.page.evaluate(THEME, "JupyterLab Light")
    form.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'true'")
    form.stands_out(".nb-figure-time .nb-value")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_theme_of_the_settings(form: Form, theme: str) -> None:
    """As `%config NBAnalyzer.theme` dresses it, on a page of the other one."""
    page = "Light" if theme == "dark" else "Dark"
    form.page.evaluate(THEME, f"JupyterLab {page}")
    form.page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{str(page == 'Light').lower()}'")
    form.box.evaluate(f"box => box.classList.add('nb-theme-{theme}')")
    try:
        for part in (".nb-figure-time .nb-value", ".nb-heading b", ".nb-model input", ".nb-batch_size .widget-label"):
            form.stands_out(part)
        assert violations(form) == []
        form.keep(f"theme-{theme}")
    finally:
        form.box.evaluate(f"box => box.classList.remove('nb-theme-{theme}')")
        form.page.evaluate(THEME, "JupyterLab Light")
        form.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'true'")


@pytest.mark.parametrize("width", [700, 1000, 1440, 1800])  # of which Lab's side bar leaves 300 less
def test_nothing_sticks_out(form: Form, width: int) -> None:
    form.page.set_viewport_size({"width": width, "height": 1000})
    try:
        form.page.wait_for_function(INSIDE, arg=form.box.element_handle())
        columns = {700: 1, 1000: 1, 1440: 2, 1800: 2}[width]
        boxes = [
            form.box.locator(f".nb-{part}").bounding_box() for part in ("controls", "heading", "headline", "roofline")
        ]
        controls, heading, figures, roofline = [(box["x"], box["y"]) for box in boxes if box]
        assert (abs(controls[1] - heading[1]) < 5) == (columns == 2)
        assert (roofline[0] > figures[0]) == (width == 1800)
        form.keep(f"width-{width}")
    finally:
        form.page.set_viewport_size({"width": 1280, "height": 1000})


def test_no_rule_of_accessibility_is_broken(form: Form) -> None:
    assert violations(form) == []
    folds = [form.box.locator(f"button.nb-{name}") for name in ("efficiency", "devices", "architecture")]
    for fold in folds:
        fold.click()
        expect(fold).to_have_attribute("aria-expanded", "true")
    form.box.locator("button.nb-pin").click()
    form.choose("w_bit", "8")
    form.box.locator(".nb-batch_size button", has_text="∿").click()
    form.box.locator(".nb-beside input").fill("gpt2")
    form.box.locator(".nb-beside input").press("Enter")
    expect(form.box.locator(".nb-compared th")).to_have_count(4)
    expect(form.box.locator(".nb-along svg[role=img]")).to_have_count(2)
    expect(form.box.locator(".nb-overlap .noUi-handle")).to_have_attribute("aria-label", "overlap")
    assert violations(form) == []
    form.keep("everything")
    form.box.locator(".nb-beside input").fill("")
    form.box.locator(".nb-beside input").press("Enter")
    form.box.locator("button.nb-close_along").click()
    for fold in folds:
        fold.click()


def test_every_control_has_a_label(form: Form) -> None:
    unlabelled = form.box.evaluate(
        """box => [...box.querySelectorAll('input, select, button')].filter(one => one.offsetParent !== null
        && !(one.labels && one.labels.length) && !one.textContent.trim() && !one.title && !one.getAttribute('aria-label')
        && !one.closest('[title]') && one.type !== 'checkbox').map(one => one.outerHTML.slice(0, 120))"""
    )
    assert unlabelled == []


def test_after_a_reload_the_form_is_there_again(form: Form) -> None:
    page = form.page
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.evaluate(READY)
    again = Form(page)
    again.box.wait_for()
    again.type("cache_len", "4096")
    again.wait_for("kv_cache_bytes", si(131_072 * 4097, "B"))


def test_nothing_left_the_machine(lab: tuple[Page, list[str]]) -> None:
    assert lab[1] == []


@pytest.fixture(scope="module")
def served_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page as `make app` does."""
    folder = tmp_path_factory.mktemp("page")
    port = free_port()
    words = ["voila", str(APP / "whatif.ipynb"), "--template=whatif", "--no-browser", f"--port={port}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", os.pathsep.join(filter(None, (str(APP), os.environ.get("JUPYTER_PATH")))))
        with served([*words, "--Voila.ip=127.0.0.1"], f"http://127.0.0.1:{port}/voila/static/voila.js", folder):
            yield f"http://127.0.0.1:{port}/"


def test_make_app_serves_that_page() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\napp:")[2].partition("\n\n")[0]
    assert "JUPYTER_PATH=$(CURDIR)/notebooks/app" in recipe
    assert "notebooks/app/whatif.ipynb --template=whatif" in recipe


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(browser: Browser, served_page: str, scheme: Literal["light", "dark"]) -> None:
    page, outside = open_page(browser, scheme)
    page.goto(served_page)
    form = Form(page)
    form.box.wait_for()
    assert page.title() == "What does a token cost?"
    expect(page.locator(".nb-began, .jp-InputArea:visible, pre:visible")).to_have_count(0)  # the form, nothing else
    form.type("cache_len", "4096")
    form.wait_for("kv_cache_bytes", si(131_072 * 4097, "B"))
    form.handle("cache_len").press("ArrowRight")
    form.wait_for("kv_cache_bytes", si(131_072 * 6145, "B"))
    form.box.locator(".nb-model input").fill("gpt2")
    form.box.locator(".nb-model input").press("Enter")
    expect(form.box.locator(".nb-heading")).to_contain_text("openai-community/gpt2")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 3 * 64) == (scheme == "dark")
    form.stands_out(".nb-figure-time .nb-value")
    assert violations(form) == []
    with page.expect_download() as found:
        form.box.locator("button.nb-download").click()
    assert found.value.suggested_filename == "gpt2-decode.html"
    form.box.locator(".nb-model input").fill(str(APP / "voila" / "templates" / "whatif" / "conf.json"))
    form.box.locator(".nb-model input").press("Enter")
    expect(form.box.locator(".nb-error")).to_contain_text("no model named")
    expect(form.box.locator(".nb-error")).not_to_contain_text("The path of a file")
    for width in (700, 1000, 1440, 1800):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_function(INSIDE, arg=form.box.element_handle())
        form.keep(f"page-{scheme}-{width}")
    assert outside == []
    page.close()
