"""A module for each kind of client; they are asked in this order."""

from cases import curl, python, programs, git, apt, webdav, browser, log, load, fronts  # noqa: F401
