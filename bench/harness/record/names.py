"""The names of what a case is timed as, in records and everywhere; loads without torch."""

from typing import Final

COMPUTE: Final = "compute"
COMMUNICATION: Final = "communication"
SERIAL: Final = "serial"
FULL: Final = "full"
PARTS: Final = "parts"
CONTENDED_COMPUTE: Final = "contended compute"
CONTENDED_COMMUNICATION: Final = "contended communication"
IN_PASS: Final = "in a pass "
"""Before the name of an op that is timed after a product."""
OVERLAPPED: Final = "overlapped "
"""Before the name of a send that goes on while a product is computed."""
PROBE_MODEL: Final = "launch-probe"
"""The model of the layer that `bench/gemm.py` times for the host's share."""
DELAYED: Final = "delayed "
"""Before the name of the variant that one rank comes late to."""
