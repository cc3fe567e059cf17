"""Counterexamples: a violation as a timeline, and as a program that replays it."""

from hitless.check.story.telling import Story, tell, tell_plainly
from hitless.check.story.witness import Script, find_script

__all__ = ["Script", "Story", "find_script", "tell", "tell_plainly"]
