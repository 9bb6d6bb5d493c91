"""The former place of `processes.launch`, for programs that import it from here."""

from spikeloom.processes.launch import processes as processes
