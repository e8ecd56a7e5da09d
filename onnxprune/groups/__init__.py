"""Which channels live and die together: dependencies, groups, roles of weights, cost."""
