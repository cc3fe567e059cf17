"""IOAS, domains and attachments, in iommufd's words."""

from hitless.iommufd.domain import Domain, DomainSettings
from hitless.iommufd.ioas import Area, Ioas
from hitless.iommufd.nested import GuestPages, GuestStage, build_stage

__all__ = ["Area", "Domain", "DomainSettings", "GuestPages", "GuestStage", "Ioas", "build_stage"]
