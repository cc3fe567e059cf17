"""Replays: one interleaving of a plan with a device's requests, done on memory. See :class:`Replay`."""

from hitless.check.replay.cached import Outcome
from hitless.check.replay.replaying import Line, Replay, configured, resolve
from hitless.check.replay.scene import Scene

__all__ = ["Line", "Outcome", "Replay", "Scene", "configured", "resolve"]
