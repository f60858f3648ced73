"""Feature flags for OpenFeature's providers, by its remote evaluation protocol (OFREP 0.3)."""
