"""What a program of `programs/` printed."""

import subprocess


def printed(process: subprocess.Popen[str]) -> str:
    """The last line that a program printed, once it ended well."""
    out, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    return out.strip().splitlines()[-1]
