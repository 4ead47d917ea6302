"""testssl.sh against fusebox that speaks TLS: nothing that it finds is worse than low."""

import json

from case import case, run

# What it says of the certificate that is made for the cases.
OF_THE_CERTIFICATE = {"cert_validityPeriod", "cert_revocation"}

# A warning is of what it could not look at.
HARMLESS = {"OK", "INFO", "LOW", "WARN", "DEBUG"}


@case("testssl.sh: no finding above low")
def _(site):
    told = site.path("testssl.json")
    # Not the clients that it can play: there are real ones here.
    run("testssl", "--quiet", "--color", "0", "--warnings", "off", "--connect-timeout", "5",
        "--openssl-timeout", "5", "--add-ca", site.authority, "--jsonfile", told,
        "--protocols", "--std", "--fs", "--server-preference", "--server-defaults",
        "--vulnerable", f"localhost:{site.secured_port}", timeout=170)
    findings = json.loads(told.read_text("utf-8"))
    worse = [f"{it['id']}: {it['severity']}: {it['finding']}" for it in findings
             if it["severity"] not in HARMLESS and it["id"] not in OF_THE_CERTIFICATE]
    if worse or len(findings) < 70:
        raise AssertionError("\n".join([f"{len(findings)} findings", *worse]))
