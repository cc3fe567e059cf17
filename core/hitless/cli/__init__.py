"""The command line. Importing it imports nothing heavy; each subcommand imports what it needs."""

from hitless.cli.main import main

__all__ = ["main"]
