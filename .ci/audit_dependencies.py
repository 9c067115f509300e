"""Asks for known vulnerabilities of what the lock names, and says how much could be asked.

Exit status: 0 all were asked and none has one, 1 some have, 2 some could not be asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["judge"]

LOCK = Path(__file__).parents[1] / "requirements-dev.lock"


def judge(report: Any) -> tuple[int, list[str]]:
    """The exit status and the lines for a report of pip-audit in JSON; ``None`` for no report."""
    if report is None:
        return 2, ["Nothing was audited: the source of the advisories cannot be reached."]
    packages = report["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {', '.join([flaw['id'], *flaw['aliases']])}; "
        f"mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    lines = [*found, f"{len(packages) - len(skipped)} of {len(packages)} packages were audited."]
    if skipped:
        lines.append(f"Of the others no advisory could be read: {skipped[0]['skip_reason']}")
    return (1 if found else 2 if skipped else 0), lines


def main() -> int:
    """Run pip-audit over the lock."""
    command = ["-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    lock = ["--disable-pip", "--require-hashes", "--requirement", str(LOCK)]
    done = subprocess.run([sys.executable, *command, *lock], capture_output=True, check=False)
    status, lines = judge(json.loads(done.stdout) if done.stdout.strip() else None)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
