"""The program `lsd-nb`: Ctrl-C, at whatever moment, is one line and status 130."""

import os
import signal
import sys

_STOPPED = b"\ninterrupted: what was finished is kept; the same command goes on from there\n"


def _leave(*_):
    "End at once: nothing has begun that would have to be put away."
    os.write(2, _STOPPED)
    os._exit(130)


def main() -> None:
    "Start the command line; commands import their heavy parts when they run."
    asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if asked:
        signal.signal(signal.SIGINT, _leave)
    from lsd_nb.cli import main as program

    try:
        if asked:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        program()
    except (KeyboardInterrupt, SystemExit) as e:
        if isinstance(e, SystemExit) and e.code != 130:
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(2, _STOPPED)
        sys.exit(130)


if __name__ == "__main__":
    main()
