"""litmus, the WebDAV test suite, with mod_dav of apache2."""

import re
import shutil

from case import case, equal, holds, run


def litmus(site, port: int) -> tuple[int, int, set[str]]:
    """Tests passed, tests run, and the warnings."""
    folder = site.path(f"litmus-{port}")
    folder.mkdir()
    told = run("litmus", f"http://127.0.0.1:{port}/dav/", cwd=folder).stdout.decode()
    told = re.sub(r"[^\n]*\r", "", told)
    sums = re.findall(r"of (\d+) tests run: (\d+) passed", told)
    warnings = set(re.findall(r"WARNING: ([^\n]*)", told))
    shutil.rmtree(folder)
    return sum(int(passed) for _, passed in sums), sum(int(ran) for ran, _ in sums), warnings


@case("litmus: all tests pass, and no warning that apache2 alone does not give")
def _(site):
    _, alone, warnings = litmus(site, site.apache)
    passed, ran, through = litmus(site, site.port)
    holds(ran > 90, ran)
    equal((passed, ran), (alone, alone), "passed, run")
    equal(through - warnings, set(), "warnings")
