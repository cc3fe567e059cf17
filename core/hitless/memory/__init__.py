"""Physical memory: the interface, an arena that is committed lazily, and memory for page tables."""

from hitless.memory.allocator import AllocatorState, BadFree, PageAllocator
from hitless.memory.arena import Arena
from hitless.memory.joined import JoinedMemory
from hitless.memory.physical import PhysicalMemory

__all__ = ["AllocatorState", "Arena", "BadFree", "JoinedMemory", "PageAllocator", "PhysicalMemory"]
