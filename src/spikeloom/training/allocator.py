"""Where `keep_freed_memory` was before `spikeloom.run` had it."""

from spikeloom.run.device import keep_freed_memory as keep_freed_memory
