"""What tests of reports share."""

from command_line import hitless

__all__ = ["hitless"]
