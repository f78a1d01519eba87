"""Run the Python tests of a directory: `python3 tests/run.py DIR [PATTERN..]`.

`KILN=path python3 tests/run.py tests/e2e registry` runs the end-to-end tests with "registry" in
their names. Prints each test, the failures, and last one line: `N passed, N failed, N skipped`.
"""

import sys
import unittest
from pathlib import Path


class CountingResult(unittest.TextTestResult):
    """Counts what passed: a class that fails in its set-up runs no test at all."""

    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    directory = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(directory))
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{pattern}*" for pattern in sys.argv[2:]] or None
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=CountingResult)
    result = runner.run(loader.discover(str(directory)))
    failed = len({test for test, _ in result.failures + result.errors})
    for test, why in result.skipped:
        print(f"skipped: {test}: {why}")
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped", flush=True)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
