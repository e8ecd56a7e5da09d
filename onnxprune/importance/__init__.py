"""How much every channel and group matters: scores, and measured sensitivities.

Stands above `compensation`, though it comes first in time: the sensitivity of a group is measured
with the layers behind it refitted.
"""
