"""chromium, without a window."""

import os
import subprocess

from case import ENVIRONMENT, case, equal, holds
from wait import until


@case("chromium: a page with 30 assets, events, a form and an upload")
def _(site):
    command = ["chromium", "--headless", "--disable-gpu", "--disable-dev-shm-usage",
               "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0",
               f"--user-data-dir={site.path('chromium')}", site.url("/page")]
    if os.getuid() == 0:
        command.insert(1, "--no-sandbox")
    with open(site.path("chromium.log"), "wb") as log:
        browser = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)

    def done():
        holds(browser.poll() is None, site.path("chromium.log").read_bytes()[-1500:])
        return next((request for request in site.origin.requests
                     if request.target.startswith("/echo/done")), None)
    try:
        told = until("the page has done everything", done, 60)
    finally:
        browser.terminate()
        browser.wait(10)
    equal(told.target, "/echo/done?assets=30&events=5&form=form&upload=3000000&early=413")
