"""The QEMU machine: emulated IOMMUs that nobody here wrote, as independent witnesses."""
