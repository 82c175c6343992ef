"""Results made visible. `show` and `report` choose the pictures; the modules beside this file make one kind each."""

from unweave.views.blocks import Fact
from unweave.views.circuit_drawing import circuit_drawing
from unweave.views.report import report
from unweave.views.show import View, show

__all__ = ["Fact", "Report", "View", "circuit_drawing", "report", "show"]
