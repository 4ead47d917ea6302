"""What the audit's parts say of examples. `make audit` runs them first."""

import tempfile
import unittest
from pathlib import Path

import advisories
import spdx

ALLOWED = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Zlib"}


class Licences(unittest.TestCase):
    def test_one_of_several_is_enough(self):
        for expression in ["MIT", "GPL-3.0 OR MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(MIT)"]:
            self.assertEqual(spdx.accepted(expression, ALLOWED), {"MIT"}, expression)

    def test_all_of_several_are_needed(self):
        self.assertEqual(spdx.accepted("(GPL-3.0 OR MIT) AND Zlib", ALLOWED), {"MIT", "Zlib"})
        self.assertIsNone(spdx.accepted("MIT AND GPL-3.0", ALLOWED))
        self.assertIsNone(spdx.accepted("GPL-3.0 AND MIT", ALLOWED))

    def test_and_binds_more_than_or(self):
        self.assertEqual(spdx.accepted("GPL-3.0 AND Zlib OR MIT", ALLOWED), {"MIT"})

    def test_an_exception_makes_another_licence(self):
        self.assertIsNone(spdx.accepted("Apache-2.0 WITH other-exception", ALLOWED))
        name = "Apache-2.0 WITH LLVM-exception"
        self.assertEqual(spdx.accepted(name, ALLOWED), {name})

    def test_what_is_no_expression_is_an_error(self):
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT Zlib"]:
            with self.assertRaises(ValueError, msg=expression):
                spdx.accepted(expression, ALLOWED)


class Versions(unittest.TestCase):
    def test_ranges(self):
        for version, range, expected in [
            ("1.2.3", ">= 1.2.3", True),
            ("1.2.2", ">=1.2.3", False),
            ("1.10.0", "> 1.9.9", True),
            ("1.2.3", "< 1.2.3", False),
            ("1.2.3", "<= 1.2.3", True),
            ("1.9.0", "^1.2", True),
            ("2.0.0", "^1.2", False),
            ("0.3.9", "^0.3.2", True),
            ("0.4.0", "^0.3.2", False),
            ("0.0.4", "^0.0.3", False),
            ("1.2.9", "~1.2.3", True),
            ("1.3.0", "~1.2.3", False),
            ("1.9.0", "1.2", True),
            ("1.2.3", "= 1.2.3", True),
            ("1.2.4", "= 1.2.3", False),
            ("1.5.0", ">= 1.0, < 2", True),
            ("2.0.0", ">= 1.0, < 2", False),
            ("1.0.0-rc.1", ">= 1.0.0", False),
            ("1.2.2+spec-1.1.0", ">= 1.2.2", True),
        ]:
            self.assertEqual(advisories.matches(version, range), expected, f"{version} {range}")

    def test_a_range_that_nobody_understands_is_an_error(self):
        with self.assertRaises(ValueError):
            advisories.matches("1.0.0", "about 1")


class Advisories(unittest.TestCase):
    def test_those_that_concern_a_version(self):
        with tempfile.TemporaryDirectory() as folder:
            crate = Path(folder) / "crates" / "leaky"
            crate.mkdir(parents=True)
            for number, more in [(1, ""), (2, 'withdrawn = "2026-01-02"'),
                                 (3, 'informational = "unmaintained"')]:
                (crate / f"{number}.md").write_text(
                    f'```toml\n[advisory]\nid = "RUSTSEC-{number}"\n{more}\n'
                    '[versions]\npatched = [">= 1.1"]\nunaffected = ["< 0.9"]\n```\n\n# It leaks\n')
            found = list(advisories.of_package(Path(folder), "leaky", "1.0.0"))
            self.assertEqual(found, [("RUSTSEC-1", "It leaks", None),
                                     ("RUSTSEC-3", "It leaks", "unmaintained")])
            for version in ["1.1.0", "0.8.0"]:
                self.assertEqual(
                    list(advisories.of_package(Path(folder), "leaky", version)), [], version)
            self.assertEqual(list(advisories.of_package(Path(folder), "other", "1.0.0")), [])


if __name__ == "__main__":
    unittest.main()
