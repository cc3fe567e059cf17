"""The conformance kit: ``pytest --pyargs hitless.conformance --iommu NAME``. See docs/authors-guide.md."""
