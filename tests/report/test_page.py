"""The page in a real browser, offline."""

import shutil

import pytest

from rebuttal.report.page import page
from rebuttal.report.results import find_results
from tests.parameters import some_slow

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
EVIL = "</script><script>window.broken = true</script><img src=x onerror='window.broken = true'>"


@pytest.fixture
def browser():
    if BROWSER is None or DRIVER is None:
        pytest.skip("Chromium and its driver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["http://*", "https://*"]})
    yield driver
    driver.quit()


def wait(browser, until):
    """Wait until the JavaScript expression `until` is true: tables are sorted and filtered asynchronously."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda b: b.execute_script(f"return {until}"))


def open_page(browser, results, tmp_path, width=1280):
    path = tmp_path / "index.html"
    path.write_text(page(results), encoding="utf-8")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get(path.as_uri())
    drawn = "window.Bokeh?.documents.length > 0 && Bokeh.documents.every(drawn => drawn.is_idle)"  # layout is complete
    wait(browser, f"document.documentElement.dataset.ready === 'tables' && {drawn}")
    return path


@pytest.mark.parametrize("width", some_slow([1280, 400], 1280))
def test_the_page_has_no_errors_makes_no_requests_and_fits_the_screen(width, browser, study, tmp_path):
    path = open_page(browser, find_results([study()]), tmp_path, width)
    assert path.stat().st_size < 5_000_000
    assert [line for line in browser.get_log("browser") if line["level"] != "INFO"] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('.bk-Figure').length") >= 10


def test_tables_are_sorted_by_number_and_filtered(browser, study, tmp_path):
    results = find_results([study(experiments=["baseline", "smoothness", "two_stage"])])
    medians = [v.median for v in results.verdicts if v.median is not None]
    open_page(browser, results, tmp_path)
    column = "return [...document.querySelectorAll('#verdict-table tbody tr')].map(row => row.cells[2].dataset.order)"
    browser.find_element("xpath", "//table[@id='verdict-table']//th[3]").click()
    wait(browser, "document.querySelector('#verdict-table th:nth-child(3)').ariaSort === 'ascending'")
    ascending = [float(value) for value in browser.execute_script(column)]
    assert ascending == sorted(medians) != medians
    search = browser.find_element("css selector", "#verdicts ~ .wide input[type=search]")
    search.send_keys("smoother_than_hash")
    wait(browser, "document.querySelectorAll('#verdict-table tbody tr').length === 1")
    (row,) = browser.find_elements("css selector", "#verdict-table tbody tr")
    assert "smoother_than_hash" in row.text


def test_text_from_a_run_is_escaped(browser, make_run, study, tmp_path):
    folder = study(experiments=["baseline", "two_stage"], note=EVIL)
    bad = make_run("failed", {}, experiment=EVIL)
    (bad / "metrics.json").unlink()
    (bad / "error.txt").write_text(EVIL)
    open_page(browser, find_results([folder]), tmp_path)
    assert browser.execute_script("return window.broken") is None
    assert EVIL in browser.find_element("css selector", "#problems ~ .wide").text
    settings = browser.execute_script("return [...document.querySelectorAll('pre')].map(one => one.textContent).join()")
    assert "<script>" in settings


def test_a_link_opens_the_runs_behind_a_number_and_dark_mode_recolours_the_plots(browser, study, tmp_path):
    open_page(browser, find_results([study(experiments=["baseline", "two_stage"])]), tmp_path)
    link = browser.find_element("css selector", "#verdict-table a")
    target = link.get_attribute("href").rpartition("#")[2]
    browser.execute_script("arguments[0].click()", link)
    command = "python -m rebuttal.train experiment=baseline"
    assert command in browser.find_element("id", target).text
    axis = "[...Bokeh.documents[0]._all_models.values()].find(model => 'axis_label_text_color' in model.properties)"
    colours = []
    for _ in range(2):
        browser.find_element("id", "theme").click()
        colours.append(browser.execute_script(f"return {axis}.axis_label_text_color"))
    assert len(set(colours)) == 2
