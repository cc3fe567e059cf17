"""Pictures: address spaces, costs, plans and counterexamples as one self-contained page, or as single SVG figures."""
