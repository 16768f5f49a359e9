"""The report's page in a real browser: sorting, filtering, following a row to its configuration; keys, dark, narrow."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advprune.report.build import build
from benchmarks.report import Synthetic, options_of

SHAPES = {"conv1.weight": (4, 1, 3, 3), "linear.weight": (10, 16)}
RIGHT = {("hydra", 0.9): 100, ("hydra", 0.99): 40, ("magnitude", 0.9): 90, ("magnitude", 0.99): 5}


@pytest.fixture(scope="module")
def page(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("page")
    store = Synthetic(folder / "stages", SHAPES)
    options = {name: options_of(f"pruner={name}") for name in ("hydra", "magnitude")}
    for (name, ratio), count in RIGHT.items():
        store.job(
            options[name] | {"ratio": ratio},
            robust=[i < count for i in range(120)],
            dense=[True] * 120,
        )
    stronger = options_of("pruner=hydra", "attack=autoattack") | {"ratio": 0.9}
    store.job(stronger, robust=[i < 90 for i in range(120)], dense=[True] * 120)
    report = build(folder / "stages", folder / "report", [])
    return report.folder / "index.html"


def test_the_page_needs_no_other_file(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"<link|\ssrc=|@import|url\((?!#)", text)
    assert not re.search(r"(fetch|XMLHttpRequest|import)\s*\(", text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; skips, saying why, where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the dev extra")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    opened.set_script_timeout(600)
    yield opened
    opened.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    browser.get("about:blank")
    browser.get(page.as_uri())
    return browser


def column(browser: Any, heading: str) -> list[str]:
    """The cells under a heading of the leaderboard, of the rows that are shown."""
    return browser.execute_script(
        """const t = document.querySelector("#board"), h = [...t.tHead.rows[0].cells];
        const at = h.findIndex((cell) => cell.textContent.trim() === arguments[0]);
        const rows = [...t.tBodies[0].rows].filter((row) => !row.hidden);
        return rows.map((row) => row.cells[at].firstChild?.textContent.trim() ?? "");""",
        heading,
    )


def press(browser: Any, selector: str, key: str) -> None:
    """Focus an element as the keyboard does, and press a key."""
    from selenium.webdriver.common.by import By

    found = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].focus()", found)
    found.send_keys(key)


def header(browser: Any, heading: str) -> Any:
    from selenium.webdriver.common.by import By

    return browser.find_element(
        By.XPATH, f"//table[@id='board']//th[normalize-space()='{heading}']/button"
    )


def test_a_heading_sorts_up_then_down_with_the_empty_last(opened: Any) -> None:
    header(opened, "robust %").click()
    assert column(opened, "robust %") == ["4.2", "33.3", "75.0", "75.0", "100.0"]
    header(opened, "robust %").send_keys("\n")  # the keyboard's way
    assert column(opened, "robust %") == ["100.0", "75.0", "75.0", "33.3", "4.2"]
    marked = opened.execute_script(
        "return [...document.querySelectorAll('#board [aria-sort]')].map((h) => h.ariaSort)"
    )
    assert marked == ["descending"]
    for order in (["0.9", "0.9", "0.99", "0.99", ""], ["0.99", "0.99", "0.9", "0.9", ""]):
        header(opened, "ratio").click()
        assert column(opened, "ratio") == order


def test_words_and_lists_filter_and_the_count_is_said(opened: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    box = opened.find_element(By.CSS_SELECTOR, "#leaderboard input[type=search]")
    box.send_keys("magnitude 0.99")
    assert column(opened, "robust %") == ["4.2"]
    said = opened.find_element(By.CSS_SELECTOR, "#leaderboard output")
    assert said.text == "1 of 7 rows"
    assert said.get_attribute("aria-live") == "polite"
    box.clear()
    box.send_keys("9")
    opened.execute_script(
        "arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
        box,
    )
    assert said.text == "5 of 7 rows"
    Select(opened.find_element(By.CSS_SELECTOR, "#leaderboard select")).select_by_visible_text(
        "magnitude"
    )
    assert sorted(column(opened, "robust %")) == ["4.2", "75.0"]


def test_weaker_attacks_are_folded_away_until_they_are_asked_for(opened: Any) -> None:
    """HYDRA's 83.3 % under PGD is 75.0 % under AutoAttack, and the dense parent has both, too."""
    from selenium.webdriver.common.by import By

    assert "83.3" not in column(opened, "robust %")
    box = opened.find_element(By.CSS_SELECTOR, "#leaderboard input[data-weaker]")
    assert "(2)" in box.find_element(By.XPATH, "..").text
    box.click()
    assert column(opened, "robust %").count("83.3") == 1
    assert len(column(opened, "robust %")) == 7


def test_columns_are_shown_and_hidden_by_keys(opened: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def shown(text: str) -> bool:
        return bool(header(opened, text).is_displayed())

    assert not shown("doubts in words")
    press(opened, "#leaderboard details.columns summary", Keys.ENTER)
    for name, before in (("doubts in words", False), ("images", True)):
        box = opened.find_element(By.XPATH, f"//label[normalize-space()='{name}']/input")
        assert box.is_selected() == before
        box.send_keys(" ")
        assert shown(name) != before


def test_the_accuracies_stay_in_sight_when_the_others_are_scrolled(opened: Any) -> None:
    size = {"width": 800, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.execute_script("dispatchEvent(new Event('resize'))")
    edges = """const t = document.querySelector("#board"); t.parentNode.scrollLeft = arguments[0];
        return [...t.tBodies[0].rows[0].cells].slice(0, 6).map((c) => c.getBoundingClientRect().left)"""
    before, after = (opened.execute_script(edges, by) for by in (0, 300))
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert after == pytest.approx(before, abs=1.5)


def test_a_phone_shows_every_accuracy(opened: Any) -> None:
    size = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    outside = opened.execute_script(
        """return [...document.querySelectorAll("#board tbody tr:not([hidden]) td")].filter((cell) => {
        const box = cell.getBoundingClientRect();
        return / %$/.test(cell.dataset.heading) && cell.checkVisibility() && cell.textContent && (!box.width || box.left < 0 || box.right > 400);
        }).length"""
    )
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert outside == 0


def test_the_flag_says_its_doubts_to_whoever_reads_it_aloud(opened: Any) -> None:
    flags = opened.execute_script(
        "return [...document.querySelectorAll('#board tr:not([hidden]) a.flag')].map((a) => {"
        "a.dispatchEvent(new PointerEvent('pointerover', {bubbles: true})); return [a.ariaLabel, a.title, a.innerText]; })"
    )
    assert len(flags) == 5
    for words, hovered, text in flags:
        assert text == "⚠ 1"
        assert words == hovered
        assert words.startswith("doubts: PGD and its like overstate")


def test_a_row_leads_to_its_configuration_and_back_by_keys_alone(opened: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    link = opened.find_element(
        By.XPATH,
        "//table[@id='board']//tr[td='magnitude'][td='0.99']//a[starts-with(@href, '#run')]",
    )
    opened.execute_script("arguments[0].focus()", link)
    link.send_keys(Keys.ENTER)
    dialog = opened.find_element(By.ID, "run")
    WebDriverWait(opened, 30).until(
        lambda _: dialog.is_displayed() and "stage: evaluated" in dialog.text
    )
    tables = [table.text for table in dialog.find_elements(By.TAG_NAME, "table")]
    (by_class,) = tables
    assert by_class.splitlines()[0] == "Accuracy by class, %"
    assert len(by_class.splitlines()) == 12
    kinds = [summary.text.split()[0] for summary in dialog.find_elements(By.TAG_NAME, "summary")]
    assert kinds == ["dense", "pruned", "finetuned", "evaluated"]
    pruned = dialog.find_elements(By.TAG_NAME, "pre")[1].get_attribute("textContent")
    assert "ratio: 0.99" in pruned
    assert "advprune.pruners.magnitude.magnitude" in pruned
    folder = dialog.find_elements(By.TAG_NAME, "a")[-1].get_attribute("href")
    assert Path(folder.removeprefix("file://"), "records.parquet").exists()
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    WebDriverWait(opened, 10).until(lambda _: not dialog.is_displayed())
    assert opened.switch_to.active_element == link
    assert "#run" not in opened.current_url


def test_dark_is_the_systems_choice_or_the_readers(opened: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By

    def colours() -> tuple[str, str]:
        return tuple(
            opened.execute_script(
                """const svg = document.querySelector("figure svg text, td"), of = (e, p) => getComputedStyle(e)[p];
            return [of(document.body, "backgroundColor"), of(svg, svg.tagName === "TD" ? "color" : "fill")]"""
            )
        )

    light = colours()
    opened.find_element(By.ID, "theme").click()
    dark = colours()
    assert light[0] != dark[0]
    assert light[1] != dark[1]  # the plots' words, too
    opened.execute_script("localStorage.clear()")
    prefers = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", prefers)
    opened.get(page.as_uri())
    assert colours() == dark
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("width", [380, 1400])
def test_no_width_makes_the_page_scroll_sideways(opened: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [
        entry["message"] for entry in opened.get_log("browser") if entry["level"] == "SEVERE"
    ] == []
