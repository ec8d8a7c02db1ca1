"""The names of what a case is timed as, in records and everywhere; loads without torch."""

from typing import Final

COMPUTE: Final = "compute"
COMMUNICATION: Final = "communication"
SERIAL: Final = "serial"
FULL: Final = "full"
PARTS: Final = "parts"
CONTENDED_COMPUTE: Final = "contended compute"
CONTENDED_COMMUNICATION: Final = "contended communication"
DELAYED: Final = "delayed "
"""Before the name of the variant that one rank comes late to."""
