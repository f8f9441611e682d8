"""The engine: training and drawing, in the trainer's own process and environment."""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns of optional kernels that nothing here uses
