"""Capabilities: what a vendor's hardware has not, and may therefore be left out of a test of conformance."""

from attrs import frozen


@frozen
class Capability:
    """One thing that this hardware cannot do, or does not have; the conformance kit skips what it waives.

    Args:
        name: stable; where a conversion is refused, the ``reason`` of the :class:`hitless.errors.Refused`.
        clause: the register field, or the clause of the specification, that says so.
        why: one sentence.
        rules: ids of rules that do not apply because of it; empty: it only stands for refusals.
        formats: the page formats that it is about; empty: all.
    """

    name: str
    clause: str
    why: str
    rules: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()

    def concerns(self, page_format: str) -> bool:
        """Whether it is about a page format."""
        return not self.formats or page_format in self.formats
