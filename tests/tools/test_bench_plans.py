"""The table of plans: one cell under each heading."""

import sys

from paths import TOOLS

sys.path.insert(0, str(TOOLS))
from bench_plans import HEADER, row_of


def test_every_number_has_its_column():
    values = {"case": "resnet20_cifar10", "target": "macs=0.5", "plan": "chosen", "macs": 0.498,
              "predicted": 0.734, "time": 0.75, "error": 0.2855, "divergence": 0.51,
              "agreement": 0.875}  # fmt: skip
    row = dict(zip(HEADER, row_of(values), strict=True))
    assert row["predicted time"] == "0.734" and row["measured time"] == "0.750"
    assert row["held-out agreement"] == "87.50" and row["predicted error"] == "0.2855"
