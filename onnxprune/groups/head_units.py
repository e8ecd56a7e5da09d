"""Groups whose heads choose for themselves: single units, and their order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxprune.types import Group, Ints

__all__ = ["order_of", "reordered", "single_units"]


def order_of(units: Ints, group: Group) -> Ints:
    """(n_channels, heads) the best channel of each head first, from units ordered worst first."""
    rank = np.empty(len(units), np.int64)
    rank[units] = np.arange(len(units))
    table = rank.reshape(group.channels, group.heads)
    return np.argsort(-table, axis=0, kind="stable")


def single_units(group: Group) -> Group:
    """The group with every head's part of a channel as a channel of its own, head by head inside.

    Channel c of head h becomes channel c · heads + h; nominal sites are left out.
    """
    n = group.channels * group.heads
    sites = tuple(
        replace(site, positions=site.positions.reshape(n, -1))
        for site in group.sites
        if not site.nominal
    )
    return replace(group, channels=n, sites=sites, heads=1)


def reordered(group: Group, order: Ints) -> Group:
    """Channel c takes, in head h, the place of channel `order[c, h]` (n_channels, heads)."""
    head = np.arange(group.heads)
    sites = []
    for site in group.sites:
        if not site.nominal:
            blocks = site.positions.reshape(group.channels, group.heads, -1)
            site = replace(site, positions=blocks[order, head].reshape(group.channels, -1))
        sites.append(site)
    return replace(group, sites=tuple(sites))
