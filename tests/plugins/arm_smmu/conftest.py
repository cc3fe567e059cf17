"""The sheet of bit positions is shared by this folder's tests; importlib mode puts no folder on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
