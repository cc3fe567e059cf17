"""IOMMU hardware as declared data, and the running model that reads it."""
