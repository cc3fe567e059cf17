"""Memory images of hosts, guests and emulators: what a file holds, as physical memory that is only read."""

from hitless.memory.images.image import ImageMemory, Segment
from hitless.memory.images.opening import open_image, parse_segment

__all__ = ["ImageMemory", "Segment", "open_image", "parse_segment"]
