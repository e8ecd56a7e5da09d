"""Score channels, and measure how much the outputs suffer when a group gets narrower.

Stands above `compensation`, though it comes first in time: the sensitivity of a group is measured
with the layers behind it refitted.
"""
