"""Writes docs/mistakes.md to standard output: the mistakes that mutants of vendors make.

``python -m hitless.check.mutants VENDOR...``; without a name those of all that are installed.
"""

import sys

from hitless.check.mutants.mistakes import page
from hitless.plugin import VendorRegistry

if __name__ == "__main__":
    registry = VendorRegistry.installed(sys.argv[1:] or None)
    sys.stdout.write(page(registry, sorted(registry.vendors)))
