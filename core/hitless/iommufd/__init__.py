"""IOAS, domains and attachments, in iommufd's words."""

from hitless.iommufd.domain import Domain, DomainSettings

__all__ = ["Domain", "DomainSettings"]
