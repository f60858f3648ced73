"""What gateways ask, each in its own dialect, and the decision they get."""
