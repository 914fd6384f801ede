"""The validation suite: published measurements, what the model says of each, how constants were fitted, error bars."""

from __future__ import annotations

from supernode_dataplane.suite.report import RowReport, SuiteReport, Variant, validate
from supernode_dataplane.suite.rows import Row, load_rows

__all__ = ["Row", "RowReport", "SuiteReport", "Variant", "load_rows", "validate"]
