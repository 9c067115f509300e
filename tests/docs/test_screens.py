"""The page of screens is what the commands print, and no line of it is wider than it says."""

from __future__ import annotations

import re

from docs.screens import PAGE, make_page


def test_page_of_screens_is_up_to_date() -> None:
    """Made again, from a store with fixed times, it is what is committed: else ``make docs``."""
    page = make_page()
    blocks = re.findall(r"At (\d+) columns:\n\n```\n(.*?)```", page, re.DOTALL)

    assert PAGE.read_bytes() == page.encode()
    assert len(blocks) == 10
    for columns, block in blocks:
        tables = [
            line for line in block.splitlines() if not line.startswith(("owner", "        by "))
        ]
        assert max(map(len, tables)) <= int(columns)
