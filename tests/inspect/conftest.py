"""What tests of images share."""

import sys
from pathlib import Path

from command_line import hitless

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "kernel_images")]

__all__ = ["hitless"]
