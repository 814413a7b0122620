# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Malformed images of every format, made from sound ones.

A case is a base image and what is changed in it. Most come from a table of fields: each of the header and of the first
entries of each table gets every value that is worth a try, and where the format has checksums, they are made right
again, or nothing behind them would ever be looked at. The rest are made by hand: cycles, overlaps, decompression bombs,
references to other files.
"""

from malformed import luks, qcow2, raw, readonly, tables, vmdk
from malformed.case import PASSPHRASE  # noqa: for whoever opens them

# By format, what gives its cases; it may write to the folder.
FORMATS = {name.removeprefix("all_"): make for module in (qcow2, vmdk, tables, readonly, luks, raw)
           for name, make in vars(module).items() if name.startswith("all_")}
