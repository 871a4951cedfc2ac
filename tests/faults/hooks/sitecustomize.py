"""Python imports this when a process of a disturbed run starts: the process dies at a chosen rename below a folder.

All processes count renames together, in a file that grows by a byte for each. Without GANFLEET_FAULT_RENAMES nothing
happens here.
"""

import os
import signal
import sys

_counter = os.environ.get("GANFLEET_FAULT_RENAMES")
if _counter:
    _below = os.environ["GANFLEET_FAULT_BELOW"]
    _fatal = int(os.environ.get("GANFLEET_FAULT_AT", "0"))

    def _watch(event: str, arguments: tuple) -> None:
        if event not in ("os.rename", "os.link") or not os.fsdecode(arguments[1]).startswith(_below):
            return
        descriptor = os.open(_counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(descriptor, b".")
        count = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.close(descriptor)
        if count == _fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(_watch)
