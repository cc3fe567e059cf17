"""Writes docs/mistakes.md to standard output: the mistakes that mutants of the installed vendors make."""

import sys

from hitless.check.mutants.mistakes import page
from hitless.plugin import VendorRegistry

if __name__ == "__main__":
    registry = VendorRegistry.installed()
    sys.stdout.write(page(registry, sorted(registry.vendors)))
