"""``python -m hitless.cli``."""

from hitless.cli.main import main

main()
