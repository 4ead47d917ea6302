"""apt, which sends up to 10 requests at once on a connection, and goes on with what broke off."""

import hashlib
import os

from case import ENVIRONMENT, Missing, case, equal, run

HELPER = "/usr/lib/apt/apt-helper"


@case("apt: 50 files, many requests at once, and the rest of one")
def _(site):
    if not os.path.exists(HELPER):
        raise Missing("apt-helper")
    files = [os.urandom(size * 5_000) for size in range(50)]
    # What has no checksum it asks for one by one.
    wanted = []
    for index, content in enumerate(files):
        site.path("files").joinpath(f"apt-{index}").write_bytes(content)
        wanted += [site.url(f"/files/apt-{index}"), site.path(f"apt-{index}"),
                   f"SHA256:{hashlib.sha256(content).hexdigest()}"]
    part = site.path("apt-49")
    part.write_bytes(files[49][:100_000])
    # Its own user, who would fetch for root, may not write here.
    run(HELPER, "-o", "APT::Sandbox::User=root", "download-file", *wanted,
        env={**ENVIRONMENT, "HOME": str(site.root)})
    for index, content in enumerate(files):
        equal(site.path(f"apt-{index}").read_bytes() == content, True, f"file {index}")
