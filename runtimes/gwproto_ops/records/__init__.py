"""Records of finished requests: what they hold, where they are kept, what is asked of them."""

from gwproto_ops.records.lines import Line, Record
from gwproto_ops.records.record import line
from gwproto_ops.records.recorder import Recorder

__all__ = ["Line", "Record", "Recorder", "line"]
