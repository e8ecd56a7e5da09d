"""A group as a criterion sees it."""

import numpy as np
import pytest
from networks import Net

from onnxprune.calibration.activation_statistics import ActivationStatistics
from onnxprune.groups.analysis import analyze
from onnxprune.importance.group_weights import weights_of
from onnxprune.types import Axis


@pytest.fixture(scope="module")
def small():
    n = Net(x=(1, 3, 8, 8))
    y = n.bn(n.conv("x", 3, 6), 6)
    y = n.op("GlobalAveragePool", n.conv(n.relu(y), 6, 5))
    return analyze(n.model(n.gemm(n.op("Flatten", y), 5, 4)))


def by_channels(groups, channels):
    (found,) = [group for group in groups if group.group.channels == channels]
    return found


def test_filters_readers_and_scales(small):
    first = by_channels(weights_of(small, 0), 6)
    makes, reads, scale = (small.read(small.nodes[k].inputs[1].name) for k in (0, 3, 1))
    (rows,) = list(first.rows)
    np.testing.assert_array_equal(rows, makes.reshape(6, -1))
    (columns,) = list(first.columns)
    by_reader = np.swapaxes(reads, 0, 1).reshape(6, -1)
    np.testing.assert_array_equal(np.sort(columns, 1), np.sort(by_reader, 1))
    (scales,) = list(first.scales)
    np.testing.assert_array_equal(scales[:, 0], scale)


def test_without_samples_there_are_no_profiles(small):
    first = by_channels(weights_of(small, 0), 6)
    assert not list(first.profiles) and not list(first.fan_out)


def test_fan_out_comes_with_the_statistics_of_what_it_reads(small):
    data = small.nodes[3].inputs[0].name
    known = ActivationStatistics(1, *(np.arange(6.0) + k for k in range(4)))
    first = by_channels(weights_of(small, 0, activations={Axis(data, 1): known}), 6)
    (found,) = list(first.fan_out)
    assert found.weight.shape == (6, 1, 45) and found.matching
    np.testing.assert_array_equal(found.at_channels(known.mean)[:, 0], np.arange(6.0))
    assert [profile for profile, _ in first.profiles] == [known]
    assert len(list(first.readings)) == 1  # the name of earlier versions


def test_random_numbers_depend_on_seed_and_group(small):
    draws = [[g.rng.random() for g in weights_of(small, seed)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2] and len(set(draws[0])) == len(draws[0])
