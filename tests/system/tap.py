# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Functions as TAP tests."""

import sys
import traceback


class Skip(Exception):
    """Raised by a test that cannot run here, with the reason."""


def tap(tests):
    """Run functions as TAP tests; exit."""
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for number, test in enumerate(tests, 1):
        name = test.__name__.removeprefix("test_").replace("_", " ")
        try:
            test()
            print(f"ok {number} - {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception:  # noqa: whatever went wrong is the test's result
            failed += 1
            traceback.print_exc()
            print(f"not ok {number} - {name}", flush=True)
    sys.exit(1 if failed else 0)
