"""Take pictures of the report's page. Run: python docs/shoot_report.py PAGE.html OUT

Needs selenium (the dev extra), chromium and chromedriver.
"""

import shutil
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

#: Name, width, does the system prefer the dark.
VIEWS = (("wide", 1400, False), ("narrow", 400, False), ("dark", 1400, True))
HEIGHT = 1000


def main(page: Path, out: Path) -> None:
    """A picture for each screenful, and one of a run's configuration."""
    out.mkdir(parents=True, exist_ok=True)
    options = webdriver.ChromeOptions()
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(switch)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    for name, width, dark in VIEWS:
        size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        prefers = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [prefers]})
        browser.get("about:blank")
        browser.get(page.resolve().as_uri())
        for number, top in enumerate(
            range(0, browser.execute_script("return document.body.scrollHeight"), HEIGHT)
        ):
            browser.execute_script(f"scrollTo(0, {top})")
            browser.save_screenshot(str(out / f"{name}_{number:02d}.png"))
        browser.execute_async_script(
            """const link = document.querySelector("#board a[href^='#run']"), done = arguments[0];
            link.click(); setTimeout(done, 1000)"""
        )
        browser.save_screenshot(str(out / f"{name}_run.png"))
    browser.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
