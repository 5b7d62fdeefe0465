"""The program `lsd-nb`: Ctrl-C, at whatever moment, is one line and status 130."""

import os
import signal
import sys

_STOPPED = b"\ninterrupted: what was finished is kept; the same command goes on from there\n"
_asked: list = []  # filled by Ctrl-C


def _leave(*_):
    "End at once: nothing has begun that would have to be put away."
    os.write(2, _STOPPED)
    os._exit(130)


def _stop(_, frame):
    "Leave at once from an import, which may swallow what is raised in it; remember it otherwise."
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave()
        frame = frame.f_back
    _asked.append(True)
    raise KeyboardInterrupt


def main() -> None:
    "Start the command line; commands import their heavy parts when they run."
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _leave)
    from lsd_nb.cli import main as program

    try:
        if ours:
            signal.signal(signal.SIGINT, _stop)
        program()
    except BaseException as e:
        status = e.code if isinstance(e, SystemExit) else 1
        stopped = _asked or isinstance(e, KeyboardInterrupt) or status == 130
        if not status or not stopped:
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(2, _STOPPED)
        sys.exit(130)


if __name__ == "__main__":
    main()
