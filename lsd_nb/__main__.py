"""The program `lsd-nb`: Ctrl-C, at whatever moment, is one line and status 130."""

import os
import signal
import sys

_STOPPED = b"\ninterrupted: what was finished is kept; the same command goes on from there\n"
_asked: list = []  # filled by Ctrl-C


def _leave(*_):
    "End at once: whatever has begun goes on from its last checkpoint, as after a kill."
    os.write(2, _STOPPED)
    os._exit(130)


def _stop(_, frame):
    "Leave at once from what may swallow an error: an import or `__del__`; remember it otherwise."
    while frame:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib") or code.co_name == "__del__":
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
