"""guest_memfd: slots, hunks, owners, conversions, and the protocol towards its notifiers."""
